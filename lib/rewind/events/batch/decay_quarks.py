"""Quarks of the hard process as a detector sees them: of the decay before radiation, but in what recoiled."""

from __future__ import annotations

import awkward as ak
import numpy as np

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.tensors import momenta

__all__ = ["INCOMING", "NEUTRINOS", "before_radiation", "ranks"]

INCOMING = 2
"""Incoming partons, which stand first in ``LHEPart`` and are not in ``GenPart``."""

NEUTRINOS = (12, 14, 16)

_TOP, _W, _HIGGS, _BOTTOM = 6, 24, 25, 5
_RESONANCES = (_TOP, -_TOP, _HIGGS)
_FINAL = 1


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


def ranks(hard: ak.Array) -> np.ndarray:
    """Return what each particle of the hard process, ``LHEPart``, is to tt̄H with one lepton, ``(B, n)``.

    0 is the b quark of the top with the lepton, 1 that of the other, 2 and 3 are the W boson's quarks of down and up
    type, 4 both of the Higgs boson; all else is 99. Raises InputError for another process.
    """
    sizes = ak.to_numpy(ak.num(hard))
    if len(sizes) == 0 or (sizes != sizes[0]).any():
        raise InputError("records: no events, or hard processes of different lengths; one process is needed")
    kind, mother, status = (ak.to_numpy(hard[name]) for name in ("pdgId", "mother", "status"))
    of, final = np.take_along_axis(kind, np.maximum(mother, 0), 1), status == _FINAL
    neutrino = np.isin(np.abs(kind), NEUTRINOS) & final
    light = final & (np.abs(kind) <= _BOTTOM) & (np.abs(of) == _W)
    of_top = final & (np.abs(kind) <= _BOTTOM) & (np.abs(of) == _TOP)  # seldom of another generation
    of_higgs = final & (np.abs(kind) == _BOTTOM) & (of == _HIGGS)
    numbers = np.stack([x.sum(1) for x in (neutrino, light, of_top, of_higgs)], 1)
    wrong = (numbers != (1, 2, 2, 2)).any(1)
    if wrong.any():
        raise InputError(f"event {int(wrong.argmax())}: tt̄H with H → bb̄, one neutrino and two light quarks is needed")
    leptonic = np.sign((kind * neutrino).sum(1, keepdims=True))  # ν comes with W⁺ and t
    rank = np.full(kind.shape, 99)
    rank[of_top & (np.sign(of) == leptonic)] = 0
    rank[of_top & (np.sign(of) != leptonic)] = 1
    rank[light & (np.abs(kind) % 2 == 1)] = 2
    rank[light & (np.abs(kind) % 2 == 0)] = 3
    rank[of_higgs] = 4
    return rank
