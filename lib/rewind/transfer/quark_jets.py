"""The six quarks of tt̄H with one lepton and what became of each: a jet of its own, or none.

>>> nothing = torch.zeros(2, 6, 4, dtype=torch.float64)
>>> there = torch.zeros(2, 6, dtype=torch.bool)
>>> one = torch.ones(2, dtype=torch.float64)
>>> events = QuarkJets(nothing, nothing, there, nothing[:, 0], nothing[:, 0], nothing[:, 0, :2], one)
>>> len(events), events.partons.quarks.shape, events.reconstruction.n_jets.tolist()
(2, torch.Size([2, 6, 4]), [0, 0])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.tensors import momenta, transverse
from rewind.events.batch.truth_record import INCOMING, NEUTRINOS, before_radiation, tth_ranks
from rewind.events.chain.processes import PROCESSES

__all__ = ["LEAST_PT", "QUARKS", "LogFactors", "Partons", "QuarkJets", "Reconstruction", "from_records"]

QUARKS = ("b of t_lep", "b of t_had", "down-type", "up-type", "b of H, harder", "b of H, softer")
LEAST_PT = PROCESSES["tth_semileptonic"].selection.jet_pt
"""GeV, below which the simulation stores no jet."""


@dataclass(frozen=True)
class Partons(Columns):
    """Hold what a transfer function is conditioned on; four-momenta (E, px, py, pz) in GeV.

    ``quarks`` ``(B, 6, 4)`` in the order of ``QUARKS`` are those of the decays before radiation, in the frames of the
    resonances' last copies; ``neutrino`` ``(B, 4)`` is true. The ``lepton`` ``(B, 4)`` is measured, and taken as exact.
    """

    quarks: Tensor
    lepton: Tensor
    neutrino: Tensor

    def repeated(self, n: int) -> Partons:
        """Return each event ``n`` times, one after the other."""
        return Partons(*(values.repeat_interleave(n, 0) for values in (self.quarks, self.lepton, self.neutrino)))


@dataclass(frozen=True)
class Reconstruction(Columns):
    """Hold what a transfer function is a density of: jets and p_T^miss.

    ``jets`` ``(B, 6, 4)``, (E, px, py, pz) in GeV, are those matched to the quarks, zero where ``has_jet`` ``(B, 6)``
    is false; ``met`` ``(B, 2)``. Draws have a second axis, ``(B, n, …)``.
    """

    jets: Tensor
    has_jet: Tensor
    met: Tensor

    @property
    def n_jets(self) -> Tensor:
        """Return how many of the six quarks have a jet ``(B,)``."""
        return self.has_jet.sum(-1)

    def by_event(self, n: int) -> Reconstruction:
        """Return ``B n`` rows as ``n`` draws of ``B`` events, ``(B, n, …)``."""
        return Reconstruction(*(values.unflatten(0, (-1, n)) for values in (self.jets, self.has_jet, self.met)))


@dataclass(frozen=True)
class QuarkJets(Columns):
    """Hold events: the fields of ``Partons`` and ``Reconstruction``, and the generator's ``weight`` ``(B,)``.

    ``has_jet`` says where a quark has a jet.
    """

    quarks: Tensor
    jets: Tensor
    has_jet: Tensor
    lepton: Tensor
    neutrino: Tensor
    met: Tensor
    weight: Tensor

    @property
    def partons(self) -> Partons:
        """Return what transfer functions are conditioned on."""
        return Partons(self.quarks, self.lepton, self.neutrino)

    @property
    def reconstruction(self) -> Reconstruction:
        """Return what transfer functions are densities of."""
        return Reconstruction(self.jets, self.has_jet, self.met)


class LogFactors(NamedTuple):
    """Hold ln of the factors of p(reco | partons): ``existence`` ``(B, 6)`` of what happened, ``energy`` ``(B, 6)`` in
    1/GeV and ``angles`` ``(B, 6)`` in η and φ, both zero without a jet, and ``met`` ``(B,)`` in 1/GeV².
    """

    existence: Tensor
    energy: Tensor
    angles: Tensor
    met: Tensor

    @property
    def total(self) -> Tensor:
        """Return their sum ``(B,)``."""
        return (self.existence + self.energy + self.angles).sum(1) + self.met


def from_records(records: ak.Array) -> QuarkJets:
    """Return quarks and their jets of event records (`rewind.events.readers.samples.load`).

    Raises InputError for an event that is not tt̄H with one lepton, in truth or as measured.
    """
    if ak.any(ak.num(records.Lepton) != 1):
        event = int(np.flatnonzero(ak.num(records.Lepton) != 1)[0])
        raise InputError(f"event {event}: {ak.num(records.Lepton)[event]} leptons; exactly one is needed")
    hard = records.LHEPart
    chosen = tth_ranks(hard).argsort(1, kind="stable")[:, : len(QUARKS)]
    kind = ak.to_numpy(hard.pdgId)

    event = np.repeat(np.arange(len(kind)), len(QUARKS))
    quarks = before_radiation(records, event, chosen.ravel())[0].reshape(*chosen.shape, 4)
    first = quarks[:, -2:, 0].argmax(1)[:, None]
    order = np.concatenate([np.tile(np.arange(4), (len(kind), 1)), 4 + first, 5 - first], 1)
    quarks, chosen = _at(quarks, order), np.take_along_axis(chosen, order, 1)

    jets, has_jet = _jets(records.Jet, chosen - INCOMING)
    return QuarkJets(
        quarks=torch.from_numpy(quarks),
        jets=torch.from_numpy(jets),
        has_jet=torch.from_numpy(has_jet),
        lepton=torch.from_numpy(momenta(records.Lepton)),
        neutrino=torch.from_numpy(momenta(hard)[np.isin(np.abs(kind), NEUTRINOS).ravel()]),
        met=torch.from_numpy(transverse(records.MET)),
        weight=torch.from_numpy(ak.to_numpy(records.genWeight).astype(float)),
    )


def _at(p: NDArray, places: NDArray) -> NDArray:
    return np.take_along_axis(p, places[..., None], 1)


def _jets(jets: ak.Array, wanted: NDArray) -> tuple[NDArray, NDArray]:
    """Return the jet ``(B, 6, 4)`` matched to each wanted parton ``(B, 6)``, zero where none is, and where one is."""
    counts = ak.to_numpy(ak.num(jets))
    event = np.repeat(np.arange(len(counts)), counts)
    same = ak.to_numpy(ak.flatten(jets.partonIdx))[:, None] == wanted[event]
    jet, quark = np.nonzero(same)
    out, has_jet = np.zeros((*wanted.shape, 4)), np.zeros(wanted.shape, bool)
    out[event[jet], quark], has_jet[event[jet], quark] = momenta(jets)[jet], True
    return out, has_jet
