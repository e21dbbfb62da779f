"""The six quarks of tt̄H with one lepton and what became of each: a jet of its own, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.tensors import momenta, transverse
from rewind.events.batch.truth_record import INCOMING, NEUTRINOS, before_radiation, tth_ranks
from rewind.events.chain.processes import PROCESSES

__all__ = ["LEAST_PT", "QUARKS", "LogDensity", "QuarkJets", "from_records"]

QUARKS = ("b of t_lep", "b of t_had", "down-type", "up-type", "b of H, harder", "b of H, softer")
LEAST_PT = PROCESSES["tth_semileptonic"].selection.jet_pt
"""GeV, below which the simulation stores no jet."""


@dataclass(frozen=True)
class QuarkJets(Columns):
    """Hold events; four-momenta (E, px, py, pz) in GeV.

    ``quarks`` ``(B, 6, 4)`` in the order of ``QUARKS`` are those of the decays before radiation, in the frames of the
    resonances' last copies; ``jets`` ``(B, 6, 4)`` those matched to them, zero where ``found`` ``(B, 6)`` is false.
    ``lepton`` ``(B, 4)`` and ``met`` ``(B, 2)`` are measured, ``neutrino`` ``(B, 4)`` is true.
    """

    quarks: Tensor
    jets: Tensor
    found: Tensor
    lepton: Tensor
    neutrino: Tensor
    met: Tensor


class LogDensity(NamedTuple):
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

    jets, found = _jets(records.Jet, chosen - INCOMING)
    return QuarkJets(
        torch.from_numpy(quarks),
        torch.from_numpy(jets),
        torch.from_numpy(found),
        torch.from_numpy(momenta(records.Lepton)),
        torch.from_numpy(momenta(hard)[np.isin(np.abs(kind), NEUTRINOS).ravel()]),
        torch.from_numpy(transverse(records.MET)),
    )


def _at(p: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.take_along_axis(p, places[..., None], 1)


def _jets(jets: ak.Array, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the jet ``(B, 6, 4)`` matched to each wanted parton ``(B, 6)``, zero where none is, and where one is."""
    counts = ak.to_numpy(ak.num(jets))
    event = np.repeat(np.arange(len(counts)), counts)
    same = ak.to_numpy(ak.flatten(jets.partonIdx))[:, None] == wanted[event]
    jet, quark = np.nonzero(same)
    out, found = np.zeros((*wanted.shape, 4)), np.zeros(wanted.shape, bool)
    out[event[jet], quark], found[event[jet], quark] = momenta(jets)[jet], True
    return out, found
