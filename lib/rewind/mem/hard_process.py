"""Quarks of the hard process as a detector sees them: of the decay before radiation, but in what recoiled."""

from __future__ import annotations

import awkward as ak
import numpy as np

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.tensors import momenta

__all__ = ["INCOMING", "before_radiation"]

INCOMING = 2
"""Incoming partons, which stand first in ``LHEPart`` and are not in ``GenPart``."""

_RESONANCES = (6, -6, 25)


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
