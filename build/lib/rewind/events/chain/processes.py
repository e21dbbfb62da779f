"""Processes and their selections, as data: what Pythia is asked for and which events are kept.

>>> find_process("ttbar_dilepton").selection.changed(jet_pt=30.0).jet_pt
30.0
>>> find_process("tt")
Traceback (most recent call last):
    ...
rewind.errors.InputError: unknown process 'tt': choose one of ttbar_dilepton, ttbar_semileptonic, tth_semileptonic, ...
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from rewind.errors import InputError
from rewind.physics import constants as c

__all__ = ["PROCESSES", "VARIANTS", "Process", "Selection", "base_settings", "find_process", "find_variant"]

_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number"}


@dataclass(frozen=True)
class Selection:
    """State which objects count and how many of them an event needs; applied alike at every level.

    Momenta in GeV. Leptons are electrons and muons. A jet within ``delta_r`` of a selected lepton is dropped.
    ``same_flavour`` also asks two leptons to be a pair of one flavour.
    """

    n_leptons: int
    n_jets: int
    n_bjets: int
    lepton_pt: float = 15.0
    lepton_eta: float = 2.5
    jet_pt: float = 25.0
    jet_eta: float = 2.5
    delta_r: float = 0.4
    same_flavour: bool = False

    def changed(self, **cuts: float | bool) -> Selection:
        """Return a copy with some cuts changed; raise InputError for a name that is none and for unfit values."""
        known = asdict(self)
        for name, value in cuts.items():
            if name not in known:
                raise InputError(f"unknown cut '{name}': the selection knows {', '.join(known)}")
            kind = type(known[name])
            fits = isinstance(value, (int, float) if kind is float else kind) and math.isfinite(value)
            if not fits or isinstance(value, bool) != (kind is bool):
                raise InputError(f"cut {name} = {value}: must be {_KINDS[kind]}")
        return replace(self, **cuts)


@dataclass(frozen=True)
class Process:
    """Describe a process: Pythia settings common to all its channels, one tuple of settings a channel, cuts.

    An event sample holds the channels in equal numbers of generated events, as their equal branching
    ratios ask. ``pt_hat_min`` is the default threshold of processes that need one (GeV).
    """

    title: str
    settings: tuple[str, ...]
    selection: Selection
    channels: tuple[tuple[str, ...], ...] = ((),)
    pt_hat_min: float | None = None
    keep_constituents: bool = False


_LEPTONIC_W = ("24:onMode = off", "24:onIfAny = 11 13")
_ONE_LEPTONIC_W = tuple(
    ("24:onMode = off", f"24:on{leptonic}IfAny = 11 13", f"24:on{hadronic}IfAny = 1 2 3 4 5")
    for leptonic, hadronic in (("Pos", "Neg"), ("Neg", "Pos"))
)
_TTBAR = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")
_Z_TO_MUONS = ("WeakZ0:gmZmode = 2", "23:onMode = off", "23:onIfAny = 13")

PROCESSES = {
    "ttbar_dilepton": Process("pp → tt̄ → b ℓ⁺ν b̄ ℓ⁻ν̄, ℓ = e, μ", (*_TTBAR, *_LEPTONIC_W), Selection(2, 2, 2)),
    "ttbar_semileptonic": Process(
        "pp → tt̄ → bℓν bqq̄', ℓ = e, μ of either charge", _TTBAR, Selection(1, 4, 2), _ONE_LEPTONIC_W
    ),
    "tth_semileptonic": Process(
        "pp → tt̄H → bℓν bqq̄' bb̄, ℓ = e, μ of either charge",
        ("HiggsSM:gg2Httbar = on", "HiggsSM:qqbar2Httbar = on", "25:onMode = off", "25:onIfAny = 5"),
        Selection(1, 6, 3),
        _ONE_LEPTONIC_W,
    ),
    "z_jets": Process(
        "pp → Z + jet, Z → μμ",
        ("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on", *_Z_TO_MUONS),
        Selection(2, 1, 0, same_flavour=True),
        pt_hat_min=20.0,
        keep_constituents=True,
    ),
    "wz_semileptonic": Process(
        "pp → WZ → qq̄' ℓ⁺ℓ⁻, ℓ = e, μ",
        (
            "WeakDoubleBoson:ffbar2ZW = on",
            "24:onMode = off",
            "24:onIfAny = 1 2 3 4 5",
            "23:onMode = off",
            "23:onIfAny = 11 13",
        ),
        Selection(2, 2, 0, same_flavour=True),
    ),
}

VARIANTS = {
    "nominal": (),
    "isr_up": ("SpaceShower:renormMultFac = 0.25",),
    "isr_down": ("SpaceShower:renormMultFac = 4.0",),
    "tune_a14": ("Tune:pp = 21",),
    "vincia": ("PartonShowers:model = 2",),
}


def _resonance(pdg_id: int, mass: float, width: float) -> tuple[str, ...]:
    return f"{pdg_id}:m0 = {mass}", f"{pdg_id}:mWidth = {width}", f"{pdg_id}:doForceWidth = on"


def base_settings(m_top: float | None = None) -> tuple[str, ...]:
    """Return the Pythia settings that every sample shares, from the one table of constants.

    Particles with cτ > 10 mm count as stable, so K⁰s and Λ reach the detector.
    """
    return (
        f"Beams:eCM = {c.SQRT_S}",
        *_resonance(6, c.M_TOP if m_top is None else m_top, c.W_TOP),
        *_resonance(23, c.M_Z, c.W_Z),
        *_resonance(24, c.M_W, c.W_W),
        *_resonance(25, c.M_H, c.W_H),
        f"5:m0 = {c.M_B}",
        f"SigmaProcess:alphaSvalue = {c.ALPHA_S}",
        f"StandardModel:GF = {c.G_F}",
        f"StandardModel:alphaEMmZ = {c.ALPHA_EM}",
        f"StandardModel:sin2thetaW = {c.SIN2_THETA_W}",
        "ParticleDecays:limitTau0 = on",
        "ParticleDecays:tau0Max = 10.0",
    )


def find_process(name: str) -> Process:
    """Return a process by name; raise InputError where there is none."""
    return _look_up(PROCESSES, name, "process")


def find_variant(name: str) -> tuple[str, ...]:
    """Return the Pythia settings of a named variant; raise InputError where there is none."""
    return _look_up(VARIANTS, name, "variant")


def _look_up(table, name, what):
    if name not in table:
        raise InputError(f"unknown {what} '{name}': choose one of {', '.join(table)}")
    return table[name]
