"""The six quarks of tt̄H with one lepton and what became of each: a jet of its own, or none."""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.tensors import Columns, momenta, transverse

__all__ = ["QUARKS", "QuarkJets", "from_records"]

QUARKS = ("b of t_lep", "b of t_had", "down-type", "up-type", "b of H, harder", "b of H, softer")
_INCOMING, _TOP, _W, _HIGGS, _BOTTOM, _NEUTRINOS = 2, 6, 24, 25, 5, (12, 14, 16)
_FINAL = 1


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


def from_records(records: ak.Array) -> QuarkJets:
    """Return quarks and their jets of event records (`rewind.events.samples.load`).

    Raises InputError for an event that is not tt̄H with one lepton, in truth or as measured.
    """
    if ak.any(ak.num(records.Lepton) != 1):
        event = int(np.flatnonzero(ak.num(records.Lepton) != 1)[0])
        raise InputError(f"event {event}: {ak.num(records.Lepton)[event]} leptons; exactly one is needed")
    hard = records.LHEPart
    sizes = ak.to_numpy(ak.num(hard))
    if (sizes != sizes[0]).any():
        raise InputError("records: hard processes of different lengths; one process is needed")
    kind, mother, status = (ak.to_numpy(hard[name]) for name in ("pdgId", "mother", "status"))
    p = momenta(hard).reshape(*kind.shape, 4)
    rank = _ranks(kind, np.take_along_axis(kind, np.maximum(mother, 0), 1), status == _FINAL)
    chosen = rank.argsort(1, kind="stable")[:, : len(QUARKS)]

    up = np.take_along_axis(mother, chosen, 1)
    of_w = np.abs(np.take_along_axis(kind, up, 1)) == _W
    resonance = np.where(of_w, np.take_along_axis(mother, up, 1), up)
    copies = momenta(records.GenPart).reshape(len(kind), -1, 4)
    boost = (_at(p, chosen), _at(p, resonance), _at(copies, resonance - _INCOMING))
    quarks = kinematics.boost_between(*boost)
    first = quarks[:, -2:, 0].argmax(1)[:, None]
    order = np.concatenate([np.tile(np.arange(4), (len(kind), 1)), 4 + first, 5 - first], 1)
    quarks, chosen = _at(quarks, order), np.take_along_axis(chosen, order, 1)

    is_neutrino = np.isin(np.abs(kind), _NEUTRINOS)
    jets, found = _jets(records.Jet, chosen - _INCOMING)
    return QuarkJets(
        torch.from_numpy(quarks),
        torch.from_numpy(jets),
        torch.from_numpy(found),
        torch.from_numpy(momenta(records.Lepton)),
        torch.from_numpy(p[is_neutrino]),
        torch.from_numpy(transverse(records.MET)),
    )


def _at(p: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.take_along_axis(p, places[..., None], 1)


def _ranks(kind: np.ndarray, of: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Return each particle's place among ``QUARKS`` ``(B, n)``, both of the Higgs boson's 4, large for all others."""
    is_neutrino = np.isin(np.abs(kind), _NEUTRINOS) & final
    light = final & (np.abs(kind) <= _BOTTOM) & (np.abs(of) == _W)
    of_top = final & (np.abs(kind) <= _BOTTOM) & (np.abs(of) == _TOP)  # seldom of another generation
    of_higgs = final & (np.abs(kind) == _BOTTOM) & (of == _HIGGS)
    numbers = [x.sum(1) for x in (is_neutrino, light, of_top, of_higgs)]
    if not (np.stack(numbers, 1) == (1, 2, 2, 2)).all():
        raise InputError("records: tt̄H with H → bb̄, one neutrino and two light quarks is needed")
    leptonic = np.sign((kind * is_neutrino).sum(1, keepdims=True))  # ν comes with W⁺ and t
    rank = np.full(kind.shape, 99)
    rank[of_top & (np.sign(of) == leptonic)] = 0
    rank[of_top & (np.sign(of) != leptonic)] = 1
    rank[light & (np.abs(kind) % 2 == 1)] = 2
    rank[light & (np.abs(kind) % 2 == 0)] = 3
    rank[of_higgs] = 4
    return rank


def _jets(jets: ak.Array, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the jet ``(B, 6, 4)`` matched to each wanted parton ``(B, 6)``, zero where none is, and where one is."""
    counts = ak.to_numpy(ak.num(jets))
    event = np.repeat(np.arange(len(counts)), counts)
    same = ak.to_numpy(ak.flatten(jets.partonIdx))[:, None] == wanted[event]
    jet, quark = np.nonzero(same)
    out, found = np.zeros((*wanted.shape, 4)), np.zeros(wanted.shape, bool)
    out[event[jet], quark], found[event[jet], quark] = momenta(jets)[jet], True
    return out, found
