"""Unweighted leading-order tt̄ and tt̄H events with full spin correlations, out of amplitudes and a learnt sampler.

>>> process, middle = hadronic_process("ttbar_dilepton"), torch.full((1, 16), 0.5).double()
>>> collision = process.collisions(middle)
>>> tuple(collision.momenta.shape), bool((collision.cross_section > 0).all())
((1, 8, 4), True)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events.batch.tensors import momenta
from rewind.events.chain.les_houches import PartonEvents, write
from rewind.events.chain.pdf_sets import proton_pdf
from rewind.integrate import Sampler, SplineFlow, Unweighted, adapted_grid, started_flow, unweight
from rewind.nn import checkpoints
from rewind.physics import constants
from rewind.physics.amplitudes import PROCESSES, Parameters, colour_flows
from rewind.physics.hadronic import INITIAL, HadronicProcess
from rewind.physics.spin import opening_cosine

__all__ = [
    "CHANNELS",
    "Channel",
    "events",
    "generate",
    "hadronic_process",
    "leading_order",
    "lepton_cosine",
    "load_sampler",
    "train_sampler",
]

_ELECTRON, _MUON = (-11, 12), (-13, 14)
_QUARKS = ((-1, 2), (-3, 4))
_STATUS = (-1, -1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 1)
_MOTHERS = (-1, -1, -1, 2, 2, 4, 4, -1, 7, 7, 9, 9, -1, 12, 12)
_LINES = (0, 0, 501, 501, 0, 504, 504, 502, 502, 0, 505, 505, 0, 506, 506)
_GLUON_LINES = np.array([[501, 503], [503, 502]])  # colour and anticolour of each, where the first is next to the top
_QUARK_LINES = np.array([[501, 0], [0, 502]])
_GRID_EVALUATIONS = 100_000


@dataclass(frozen=True)
class Channel:
    """Name a final state of the amplitudes, and what both W bosons go to, for W⁺: (down-type antiparticle, up-type).

    ``pairs`` lists the possible (W⁺, W⁻) in the same convention; all have the same ``|M|²``.
    """

    final: str
    pairs: tuple[tuple[tuple[int, int], tuple[int, int]], ...]


_LEPTONS = (_ELECTRON, _MUON)
_ONE_LEPTON = tuple(pair for lepton in _LEPTONS for quark in _QUARKS for pair in ((lepton, quark), (quark, lepton)))

CHANNELS = {
    "ttbar_dilepton": Channel("tt_dilep", tuple((one, two) for one in _LEPTONS for two in _LEPTONS)),
    "ttbar_semileptonic": Channel("tt_semilep", _ONE_LEPTON),
    "tth_semileptonic": Channel("tth_semilep_bb", _ONE_LEPTON),
}
"""By the name of the process that `rewind.events` showers them as."""


def hadronic_process(process: str, *, alpha: float = 0.0, c_tg: float = 0.0) -> HadronicProcess:
    """Return dσ of one assignment of flavours, at μ = m_t, with the constants that set Pythia.

    Resonances lie within 15 widths of their masses. Raises InputError for a process that is not in ``CHANNELS``.
    """
    if process not in CHANNELS:
        raise InputError(f"unknown process '{process}': choose one of {', '.join(CHANNELS)}")
    return HadronicProcess(
        CHANNELS[process].final,
        proton_pdf(),
        scale=constants.M_TOP,
        parameters=Parameters.from_constants(),
        alpha=alpha,
        c_tg=c_tg,
    )


def train_sampler(
    process: str,
    path: str | Path | None = None,
    *,
    evaluations: int = 2_000_000,
    seed: int = 0,
    alpha: float = 0.0,
    c_tg: float = 0.0,
    **size: int,
) -> SplineFlow:
    """Return a spline flow that draws almost as the cross-section does, after a VEGAS start; keep it at ``path``.

    ``size`` holds options of :class:`~rewind.integrate.flows.SplineFlow`. Raises InputError for an unknown process and
    as :func:`rewind.integrate.recipes.started_flow` does.
    """
    integrand = hadronic_process(process, alpha=alpha, c_tg=c_tg)
    generator = torch.Generator().manual_seed(seed)
    began = time.monotonic()
    flow = started_flow(integrand, integrand.dims, evaluations, generator, seed=seed, **size)
    seconds = time.monotonic() - began
    if path is not None:
        configuration = {"process": process, "alpha": alpha, "c_tg": c_tg, "dims": integrand.dims, **size}
        training = {"evaluations": evaluations, "seed": seed, "seconds": round(seconds, 1), "device": "cpu"}
        data = checkpoints.fingerprint(*(value for value in flow.state_dict().values()))
        checkpoints.save(path, flow, build_sampler, configuration=configuration, data=data, training=training)
    return flow


def load_sampler(path: str | Path, process: str, **expected: Any) -> SplineFlow:
    """Return the sampler of a checkpoint; raises InputError where it is another process' or damaged."""
    return checkpoints.load(path, build_sampler, process=process, **expected)


def build_sampler(
    process: str,
    alpha: float,
    c_tg: float,
    dims: int,
    *,
    layers: int = 3,
    bins: int = 16,
    hidden: int = 64,
    blocks: int = 2,
    grid_bins: int = 32,
) -> SplineFlow:
    """Build an untrained sampler; process and couplings are only told to those who read the checkpoint."""
    return SplineFlow(dims, layers=layers, bins=bins, hidden=hidden, blocks=blocks, grid_bins=grid_bins)


def events(process: str, integrand: HadronicProcess, points: Tensor, rng: np.random.Generator) -> PartonEvents:
    """Return events at unit-hypercube variables ``(B, dims)``: flavours, mothers and colours are drawn, momenta follow.

    The initial state follows its share of the cross-section, the quark flavour its parton densities; the colour flow
    the squares of colour-ordered amplitudes.
    """
    channel, collisions = CHANNELS[process], integrand.collisions(points)
    quarks = rng.random(len(points)) * collisions.cross_section.sum(1).numpy() > collisions.cross_section[:, 0].numpy()
    incoming = np.where(quarks[:, None], _quark_pairs(integrand, collisions.x, rng), 21)
    flows = colour_flows(
        f"{INITIAL[0]}_{channel.final}",
        collisions.momenta,
        alpha=integrand.alpha,
        c_tg=integrand.c_tg,
        parameters=integrand.parameters,
        check=False,
    )
    first = rng.random(len(points)) < flows[:, 0].numpy()
    return _records(channel, collisions.momenta.numpy(), incoming, first, rng)


def _quark_pairs(integrand: HadronicProcess, x: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Return a quark and its antiquark ``(B, 2)``, drawn by their densities."""
    flavours = np.array([1, 2, 3, 4, 5, -1, -2, -3, -4, -5])
    one, two = (integrand.pdf.xf(flavours.tolist(), x[:, side], integrand.scale).numpy() for side in (0, 1))
    steps = (one * np.roll(two, 5, axis=1)).clip(0).cumsum(1)
    which = (rng.random(len(x))[:, None] * steps[:, -1:] > steps).sum(1)
    return np.stack([flavours[which], -flavours[which]], 1)


def _records(channel: Channel, p: np.ndarray, incoming: np.ndarray, first: np.ndarray, rng) -> PartonEvents:
    """Return the decay chain in Les Houches' order: incoming, t → b W, W → two fermions, t̄ alike, H → b b̄."""
    top, antitop, higgs = (list(range(p.shape[1])[leg]) for leg in PROCESSES[f"gg_{channel.final}"].legs)
    plus, minus = np.array(channel.pairs)[rng.integers(len(channel.pairs), size=len(p))].transpose(1, 0, 2)
    places = [[0], [1]]
    for lepton, neutrino, bottom in (top, antitop):
        places += [[lepton, neutrino, bottom], [bottom], [lepton, neutrino], [lepton], [neutrino]]
    places += [higgs, *([place] for place in higgs)] if higgs else []
    n = len(places)
    kinds = (6, 5, 24, *plus.T), (-6, -5, -24, *-minus.T), (25, 5, -5) if higgs else ()
    pdg_id = np.stack(np.broadcast_arrays(*incoming.T, *(kind for leg in kinds for kind in leg)), 1)
    is_quark, line = np.abs(pdg_id) <= 6, np.array(_LINES[:n])
    colour = np.where(is_quark & (pdg_id > 0), line, 0)
    anticolour = np.where(is_quark & (pdg_id < 0), line, 0)
    gluons = np.where(first[:, None, None], _GLUON_LINES, _GLUON_LINES[::-1])
    quarks = np.where(incoming[:, :1, None] > 0, _QUARK_LINES, _QUARK_LINES[::-1])
    lines = np.where(incoming[:, :1, None] == 21, gluons, quarks)
    colour[:, :2], anticolour[:, :2] = lines[..., 0], lines[..., 1]
    momenta = np.stack([p[:, place].sum(1) for place in places], 1)
    return PartonEvents(pdg_id, np.array(_STATUS[:n]), np.array(_MOTHERS[:n]), colour, anticolour, momenta)


def generate(
    process: str,
    n: int,
    path: str | Path,
    *,
    seed: int = 0,
    sampler: Sampler | None = None,
    alpha: float = 0.0,
    c_tg: float = 0.0,
) -> Unweighted:
    """Write ``n`` unweighted events of a process to a Les Houches file, for ``rewind simulate --lhe``.

    ``sampler`` draws the unit-hypercube variables, a VEGAS grid adapted now by default. σ in the file is the chain's,
    with fixed widths, times the number of flavour assignments. Raises InputError for what does not exist or cannot be
    written.
    """
    integrand = hadronic_process(process, alpha=alpha, c_tg=c_tg)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed = {seed}: a whole number from 0 to 2^63 − 1 is needed")
    if not Path(path).name or not Path(path).parent.is_dir():
        raise InputError(f"{path}: cannot be written, there is no such folder or no name")
    generator = torch.Generator().manual_seed(seed)
    if sampler is None:
        sampler = adapted_grid(integrand, integrand.dims, _GRID_EVALUATIONS, generator)
    unweighted = unweight(integrand, sampler, n, generator)
    many = len(CHANNELS[process].pairs)
    write(
        path,
        events(process, integrand, unweighted.points, np.random.default_rng(seed)),
        cross_section=many * unweighted.integral.value,
        error=many * unweighted.integral.error,
        scale=integrand.scale,
        alpha_s=integrand.parameters.alpha_s,
        comment=f"{process}, leading order, spin correlations, alpha = {alpha:g}, c_tG = {c_tg:g}/TeV^2, seed {seed}",
        sqrt_s=integrand.sqrt_s,
    )
    return unweighted


def leading_order(
    process: str,
    n: int,
    generator: torch.Generator,
    *,
    sampler: Sampler | None = None,
    alpha: float = 0.0,
    c_tg: float = 0.0,
    at_once: int = 50_000,
) -> Tensor:
    """Return the outgoing momenta ``(n, particles, 4)`` of unweighted events, in the laboratory and in GeV.

    Arguments and errors as for `generate`; ``at_once`` events are made at a time.
    """
    integrand, parts = hadronic_process(process, alpha=alpha, c_tg=c_tg), []
    if sampler is None:
        sampler = adapted_grid(integrand, integrand.dims, _GRID_EVALUATIONS, generator)
    for start in range(0, n, at_once):
        points = unweight(integrand, sampler, min(at_once, n - start), generator).points
        parts.append(integrand.collisions(points).momenta[:, 2:])
    return torch.cat(parts)


def lepton_cosine(records: ak.Array) -> np.ndarray:
    """Return cos φ between both leptons, each in its top's rest frame, of dilepton events' ``LHEPart``.

    As `rewind.physics.spin.opening_cosine`. Raises InputError where an event has not one of each: t, t̄, ℓ⁺ and ℓ⁻.
    """
    particles = []
    for kinds in ((6,), (-6,), (-11, -13), (11, 13)):
        chosen = records[sum(records.pdgId == kind for kind in kinds) > 0]
        count = ak.to_numpy(ak.num(chosen))
        if (count != 1).any():
            event = int((count != 1).argmax())
            raise InputError(f"event {event} has {count[event]} particles of the kinds {kinds}: one is needed")
        particles.append(torch.from_numpy(momenta(chosen)))
    return opening_cosine(*particles).numpy()
