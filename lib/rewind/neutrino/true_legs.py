"""What a perfect detector would hand to a dilepton method: the true members of each leg, level by level.

Legs come in the order of an ``EventBatch``, (t → b ℓ⁺ν, t̄ → b̄ ℓ⁻ν̄). Four-momenta
(E, px, py, pz), GeV, float64.

>>> from rewind import events, paths
>>> records = events.load(paths.locate("data/samples/ttbar_dilepton.root"))[:5]
>>> before_shower(records).tops.shape
torch.Size([5, 2, 4])
"""

from __future__ import annotations

from typing import NamedTuple

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.truth_record import NEUTRINOS, by_charge, lepton_of

__all__ = ["Legs", "after_radiation", "before_shower", "particle_b_jets"]

_TOP, _W, _BOTTOM = (6,), (24,), 5


class Legs(NamedTuple):
    """Hold the members of both legs, ``(B, 2, 4)`` each, with t = W + b and W = ℓ + ν by construction."""

    tops: Tensor
    w_bosons: Tensor
    bottoms: Tensor
    leptons: Tensor
    neutrinos: Tensor

    @property
    def met(self) -> Tensor:
        """Return the sum ``(B, 2)`` of the neutrinos' transverse momenta."""
        return self.neutrinos[..., 1:3].sum(1)

    @property
    def masses(self) -> dict[str, Tensor]:
        """Return the masses ``(B, 2)`` that tops and Ws have in each event, as arguments of the solvers."""
        return {"m_top": kinematics.mass(self.tops), "m_w": kinematics.mass(self.w_bosons)}

    def distance(self, neutrino: Tensor, antineutrino: Tensor) -> Tensor:
        """Return how far pairs of neutrinos ``(B, n, 3)`` are off, ``(B, n)`` GeV, in all six components."""
        pairs = torch.stack([neutrino, antineutrino], 2)
        return (pairs - self.neutrinos[:, None, :, 1:]).flatten(2).norm(dim=-1)


def before_shower(records: ak.Array) -> Legs:
    """Return the hard process, in double precision; its pair of tops has no transverse momentum.

    Raises InputError unless each event (:func:`rewind.events.readers.samples.load`) has two leptonic tops.
    """
    return _legs(records.LHEPart)


def after_radiation(records: ak.Array) -> Legs:
    """Return last copies, in single precision: b = t − W with all that it radiates, ℓ = W − ν with all its photons.

    Raises InputError unless each event (:func:`rewind.events.readers.samples.load`) has two leptonic tops.
    """
    return _legs(records.GenPart)


def _legs(particles: ak.Array) -> Legs:
    groups = (_TOP, _W, NEUTRINOS)
    top, w, neutrino = (_known(both, kinds) for both, kinds in zip(by_charge(particles, *groups), groups, strict=True))
    lepton = lepton_of(w, neutrino)
    w = lepton + neutrino
    return Legs(top, w, top - w, lepton, neutrino)


def _known(both: np.ndarray, kinds: tuple[int, ...]) -> Tensor:
    """Return the one particle of ``kinds`` and the one antiparticle of each event, ``(B, 2, 4)``, all of them known."""
    unknown = np.isnan(both[..., 0])
    if unknown.any():
        event, leg = np.argwhere(unknown)[0]
        names = ", ".join(str((1, -1)[leg] * kind) for kind in kinds)
        raise InputError(f"event {event}: not exactly one particle of PDG code {names}; two leptonic tops needed")
    return torch.from_numpy(both)


def particle_b_jets(records: ak.Array) -> Tensor:
    """Return the jets of stable particles that match the b quarks of the legs, ``(B, 2, 4)``, NaN where none does."""
    jets, particles = records.GenJet, records.GenPart
    mother = particles.genPartIdxMother
    of_top = (mother >= 0) & (abs(particles.pdgId[mother]) == _TOP[0])
    sides = []
    for sign in (1, -1):
        quark = ak.local_index(mother)[of_top & (particles.pdgId == sign * _BOTTOM)]
        jet = ak.firsts(jets[jets.partonIdx == ak.fill_none(ak.firsts(quark), -2)])
        columns = (ak.to_numpy(ak.fill_none(jet[name], np.nan)).astype(float) for name in ("pt", "eta", "phi", "mass"))
        sides.append(kinematics.from_pt_eta_phi_mass(*columns))
    return torch.from_numpy(np.stack(sides, 1))
