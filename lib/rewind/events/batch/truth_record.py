"""The truth record of events: its particles by leg, what its quarks stem from, and their momenta before radiation.

>>> particles = ak.Array([{"pt": 40.0, "eta": 0.0, "phi": 0.0, "mass": 0.0, "pdgId": -12}])[None]
>>> by_leg(*by_charge(particles, NEUTRINOS), np.array([-1]))[0, :, :2].tolist()
[[40.0, 40.0], [nan, nan]]
"""

from __future__ import annotations

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.tensors import momenta

__all__ = [
    "INCOMING",
    "NEUTRINOS",
    "UNRANKED",
    "before_radiation",
    "by_charge",
    "by_leg",
    "lepton_of",
    "quark_ranks",
    "tth_ranks",
]

INCOMING = 2
"""Incoming partons, which stand first in ``LHEPart`` and are not in ``GenPart``."""

NEUTRINOS = (12, 14, 16)

_TOP, _W, _HIGGS, _BOTTOM = 6, 24, 25, 5
_RESONANCES = (_TOP, -_TOP, _HIGGS)
_FINAL = 1
_TTH = (1, 2, 2, 2)  # neutrinos, light quarks, quarks of tops and of the Higgs boson

UNRANKED = 99
"""The rank of what is no quark of a top, W or Higgs boson."""


def by_charge(particles: ak.Array, *groups: tuple[int, ...]) -> list[np.ndarray]:
    """Return, for each group of PDG codes, momenta ``(B, 2, 4)``, GeV, of the one particle and the one antiparticle.

    NaN where an event has none or several.
    """
    kind, p = ak.to_numpy(ak.flatten(particles.pdgId)), momenta(particles)
    event = np.repeat(np.arange(len(particles)), ak.to_numpy(ak.num(particles)))
    both = []
    for codes in groups:
        chosen = np.isin(np.abs(kind), codes)
        place = event[chosen], (kind[chosen] < 0).astype(int)
        out, counts = np.full((len(particles), 2, 4), np.nan), np.zeros((len(particles), 2), int)
        out[place] = p[chosen]
        np.add.at(counts, place, 1)
        out[counts != 1] = np.nan
        both.append(out)
    return both


def by_leg(both: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return what :func:`by_charge` does ``(B, 2, 4)`` with the charge ``first`` ``(B,)``, 1 or −1, in front."""
    return np.where(first[:, None, None] == 1, both, both[:, ::-1])


def lepton_of(w_bosons: Tensor, neutrinos: Tensor) -> Tensor:
    """Return the leptons ``(..., 4)`` that W bosons decay to beside ``neutrinos``, with all photons they then radiate.

    E is at least ``|p|``, below which rounding may leave it.
    """
    lepton = w_bosons - neutrinos
    light = kinematics.massless(lepton[..., 1:])
    return torch.cat([torch.maximum(lepton[..., :1], light[..., :1]), lepton[..., 1:]], -1)


def quark_ranks(kind: np.ndarray, mother: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return what particles of PDG codes ``kind`` ``(B, n)`` with a ``mother`` of such a code are, ``(B, n)``.

    0 is a quark of the top, or antitop, with the sign ``first`` ``(B,)``, 1 one of the other, 2 and 3 are a W boson's
    quarks of down and up type, 4 is a b quark of a Higgs boson; all else is ``UNRANKED``.
    """
    quark, first = (np.abs(kind) <= _BOTTOM) & (kind != 0), np.asarray(first)[:, None]
    of_top, of_w = quark & (np.abs(mother) == _TOP), quark & (np.abs(mother) == _W)  # a top's is seldom no b quark
    of_higgs = (np.abs(kind) == _BOTTOM) & (mother == _HIGGS)
    which = [of_top & (np.sign(mother) == first), of_top, of_w & (np.abs(kind) % 2 == 1), of_w, of_higgs]
    return np.select(which, range(len(which)), UNRANKED)


def before_radiation(records: ak.Array, event: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return momenta ``(J, 4)``, GeV, and PDG codes ``(J,)`` of particles at ``place`` in ``LHEPart`` of an ``event``.

    Each is moved from the frame of the top or Higgs boson that it stems from to that of its last copy. Raises
    InputError where it stems from none.
    """
    hard = records.LHEPart
    starts, first = (_starts(particles) for particles in (hard, records.GenPart))
    flat, p = ak.flatten(hard), momenta(hard)
    mothers, kinds = ak.to_numpy(flat.mother), ak.to_numpy(flat.pdgId)
    parton = starts[event] + place
    resonance = parton.copy()
    while not (done := np.isin(kinds[resonance], _RESONANCES)).all():
        up = mothers[resonance]
        if (up[~done] < INCOMING).any():
            bad = int(event[~done][up[~done] < INCOMING][0])
            raise InputError(f"event {bad}: a quark descends from no top or Higgs boson; other processes do not fit")
        resonance = np.where(done, resonance, starts[event] + up)
    last = momenta(records.GenPart)[first[event] + resonance - starts[event] - INCOMING]
    return kinematics.boost_between(p[parton], p[resonance], last), kinds[parton]


def _starts(particles: ak.Array) -> np.ndarray:
    """Return where each event's particles begin in the flat list."""
    counts = ak.to_numpy(ak.num(particles))
    return np.cumsum(counts) - counts


def tth_ranks(hard: ak.Array) -> np.ndarray:
    """Return the :func:`quark_ranks` ``(B, n)`` of tt̄H with one lepton, whose leg comes first, by place in ``LHEPart``.

    Raises InputError for another process.
    """
    sizes = ak.to_numpy(ak.num(hard))
    if len(sizes) == 0 or (sizes != sizes[0]).any():
        raise InputError("records: no events, or hard processes of different lengths; one process is needed")
    kind, mother, status = (ak.to_numpy(hard[name]) for name in ("pdgId", "mother", "status"))
    final = status == _FINAL
    neutrino = np.isin(np.abs(kind), NEUTRINOS) & final
    leptonic = np.sign((kind * neutrino).sum(1))  # ν comes with W⁺ and t
    ranks = quark_ranks(np.where(final, kind, 0), np.take_along_axis(kind, np.maximum(mother, 0), 1), leptonic)
    counts = np.stack([neutrino.sum(1), *(np.isin(ranks, which).sum(1) for which in ((2, 3), (0, 1), (4,)))], 1)
    wrong = (counts != _TTH).any(1)
    if wrong.any():
        raise InputError(f"event {int(wrong.argmax())}: tt̄H with H → bb̄, one neutrino and two light quarks is needed")
    return ranks
