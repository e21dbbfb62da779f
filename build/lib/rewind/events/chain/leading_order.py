"""Pythia's leading order: cross-sections of tt̄ and tt̄H at fixed scale and couplings, and events before the shower.

>>> hard_processes("ttbar_dilepton", 2, seed=1).pdgId[0].tolist()
[21, 21, 6, -6, 24, 5, -24, -5, -11, 12, 13, -14]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import awkward as ak
import numpy as np

from rewind.errors import InputError
from rewind.events.chain.generator import generate, start
from rewind.events.chain.hard_process import find_hard_process
from rewind.events.chain.processes import base_settings, find_process
from rewind.physics import constants as c

__all__ = ["SUBPROCESSES", "LeadingOrder", "cross_section", "hard_processes"]

SUBPROCESSES = {
    "gg_tt": "Top:gg2ttbar",
    "qq_tt": "Top:qqbar2ttbar",
    "gg_tth": "HiggsSM:gg2Httbar",
    "qq_tth": "HiggsSM:qqbar2Httbar",
}
"""Pythia's switch of each subprocess; qq stands for u, d, s, c and b with their antiquarks, from either side."""

_TREE_LEVEL = (
    "PartonLevel:all = off",
    "ProcessLevel:resonanceDecays = off",
    "PhaseSpace:useBreitWigners = off",
    "SigmaProcess:alphaSorder = 0",
    "SigmaProcess:alphaEMorder = -1",
    *(f"SigmaProcess:{kind}Scale{scale}" for kind in ("renorm", "factor") for scale in ("2 = 5", "3 = 6")),
)

_NO_SHOWER = (
    *(f"PartonLevel:{part} = off" for part in ("ISR", "FSR", "MPI", "Remnants")),
    "HadronLevel:all = off",
    "Check:event = off",
)

_SEARCH_SEED = 1  # of Pythia's search for the largest weight, which its speed depends on


@dataclass(frozen=True)
class LeadingOrder:
    """Hold σ and its standard error in pb, with what it was computed from.

    Masses and ``scale`` (μ_R = μ_F) in GeV. ``higgs_vev`` v in GeV is (sin²θ_W m_W²/πα)^½; the top's Yukawa coupling
    is √2 m_t/v. ``running_yukawa`` is Pythia's own σ, whose Yukawa coupling has the running m_t(√ŝ) in place of m_t.
    """

    value: float
    error: float
    running_yukawa: float
    alpha_s: float
    scale: float
    m_top: float
    m_h: float
    higgs_vev: float


def cross_section(
    subprocess: str,
    *,
    seed: int,
    n_events: int = 100_000,
    sqrt_s: float = c.SQRT_S,
    scale: float = c.M_TOP,
    alpha_s: float = c.ALPHA_S,
    m_top: float = c.M_TOP,
    m_h: float = c.M_H,
    pdf_set: int = 13,
) -> LeadingOrder:
    """Return Pythia's σ(pp → tt̄ or tt̄H) of one of the ``SUBPROCESSES``: stable on-shell tops, no cuts.

    Scales and α_s are frozen. Pythia's tt̄H has y_t = √2 m_t(√ŝ)/v, running at one loop from m_t(165 GeV) = 165 GeV
    (2203.11601); each event's weight (m_t/m_t(√ŝ))² turns that into the fixed √2 m_t/v. The error falls with
    the root of ``n_events``: at 100,000 it is 0.18 % for tt̄, 0.15 % for gg → tt̄H. Raises InputError for an unknown
    subprocess and for values that Pythia rejects.
    """
    if subprocess not in SUBPROCESSES:
        raise InputError(f"unknown subprocess '{subprocess}': choose one of {', '.join(SUBPROCESSES)}")
    if n_events < 2 or not 1 <= seed <= 900_000_000:
        raise InputError(f"n_events = {n_events}, seed = {seed}: at least 2 events and a seed from 1 to 9e8 are needed")
    settings = (
        *base_settings(m_top),
        f"Beams:eCM = {sqrt_s}",
        f"25:m0 = {m_h}",
        f"PDF:pSet = {pdf_set}",
        f"SigmaProcess:alphaSvalue = {alpha_s}",
        f"SigmaProcess:renormFixScale = {scale**2}",
        f"SigmaProcess:factorFixScale = {scale**2}",
        f"{SUBPROCESSES[subprocess]} = on",
    )
    pythia = start((*settings, *_TREE_LEVEL), _SEARCH_SEED)
    batch, sigma = generate(pythia, n_events, seed)
    if len(batch) < n_events:
        raise InputError(f"Pythia gives up on {n_events - len(batch)} of {n_events} events; change the settings")
    ratio, ratio_error = 1.0, 0.0
    if subprocess.endswith("tth"):
        running = np.array([pythia.particleData.mRun(6, m_hat) for m_hat in ak.to_list(batch.info.mHat)])
        weight = (pythia.particleData.m0(6) / running) ** 2
        ratio, ratio_error = weight.mean(), weight.std() / math.sqrt(n_events)
    used = batch.info[0]
    value = sigma.value * ratio
    return LeadingOrder(
        value=float(value),
        error=float(value * math.hypot(sigma.error / sigma.value, ratio_error / ratio)),
        running_yukawa=sigma.value,
        alpha_s=float(used.alphaS),
        scale=math.sqrt(used.Q2Ren),
        m_top=pythia.particleData.m0(6),
        m_h=pythia.particleData.m0(25),
        higgs_vev=pythia.particleData.m0(24) * math.sqrt(c.SIN2_THETA_W / (math.pi * used.alphaEM)),
    )


def hard_processes(process: str, n_events: int, *, seed: int) -> ak.Array:
    """Return the records ``LHEPart`` of Pythia's own events, decays included, without shower and hadrons.

    Of the first decay channel of a process of `rewind.events.chain.processes`; some 10,000 events a second. Raises
    InputError for an unknown process and where Pythia gives up on events.
    """
    chosen = find_process(process)
    settings = (*base_settings(), *chosen.settings, *chosen.channels[0], *_NO_SHOWER)
    batch, _ = generate(start(settings, _SEARCH_SEED), n_events, seed)
    if len(batch) < n_events:
        raise InputError(f"Pythia gives up on {n_events - len(batch)} of {n_events} events; change the settings")
    return find_hard_process(batch).les_houches(n_events)
