"""From event records, as files hold them, to the one batch of tensors that all methods read.

>>> from rewind import paths
>>> from rewind.events.readers import samples
>>> records = samples.load(paths.locate("data/samples/tth_semileptonic.root"))[:100]
>>> batch = from_records(records[records.pass_detector], 1)
>>> batch.n_legs, tuple(batch.truth.tops.shape[1:])
(1, (2, 4))
"""

from __future__ import annotations

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.event_batch import EventBatch, Truth
from rewind.events.batch.tensors import momenta, to_tensors, transverse
from rewind.events.batch.truth_record import NEUTRINOS, UNRANKED, by_charge, by_leg, lepton_of, quark_ranks

__all__ = ["from_records"]

_BOTTOM, _TOP, _W, _HIGGS, _MUON = 5, 6, 24, 25, 13
_ROLE_OF_RANK = np.array([0, 1, 2, 2, 3])


def from_records(records: ak.Array, n_leptons: int) -> EventBatch:
    """Return the events of records (``rewind.events.load``) with ``n_leptons`` leptons, 1 or 2, and all their jets.

    The truth comes from ``GenPart``; what that does not tell is NaN or −1, and records without it have no truth.
    Raises InputError for an event with another number of leptons, with two of like charge, or that
    ``EventBatch.check`` refuses.
    """
    if n_leptons not in (1, 2):
        raise InputError(f"n_leptons = {n_leptons}: the methods are for 1 or 2")
    wrong = ak.num(records.Lepton) != n_leptons
    if n_leptons == 2:
        wrong = wrong | (ak.sum(records.Lepton.charge, axis=1) != 0)
    if ak.any(wrong):
        where = f"event {int(np.flatnonzero(wrong)[0])} ({int(ak.sum(wrong))} such events)"
        need = "one lepton is" if n_leptons == 1 else "two leptons of opposite charge are"
        raise InputError(f"{where}: {need} needed; select events first")

    shape = len(records), n_leptons
    leptons = records.Lepton[ak.argsort(records.Lepton.charge, ascending=False)]
    charge = ak.to_numpy(ak.flatten(leptons.charge)).reshape(shape)
    jets = records.Jet[ak.argsort(records.Jet.pt, ascending=False, stable=True)]
    columns, mask = to_tensors(jets, ("pt", "eta", "phi", "mass", "btag", "partonIdx"), dtype=torch.float64)
    four = kinematics.from_pt_eta_phi_mass(*np.moveaxis(columns[..., :4].numpy(), -1, 0))
    return EventBatch(
        leptons=torch.from_numpy(momenta(leptons).reshape(*shape, 4)),
        is_muon=torch.from_numpy(np.abs(ak.to_numpy(ak.flatten(leptons.pdgId))).reshape(shape) == _MUON),
        charge=torch.from_numpy(charge.astype(float)),
        jets=torch.from_numpy(four) * mask[..., None],
        jet_mask=mask,
        btag=(columns[..., 4] == 1) & mask,
        met=torch.from_numpy(transverse(records.MET)),
        weight=torch.from_numpy(ak.to_numpy(records.genWeight).astype(float)),
        truth=_truth(records.GenPart, charge, columns[..., 5].long(), mask) if "GenPart" in records.fields else None,
    ).check()


def _truth(particles: ak.Array, charge: np.ndarray, parton: Tensor, mask: Tensor) -> Truth:
    """Return the truth beside leptons of ``charge`` ``(B, L)`` and jets that match ``parton`` ``(B, J)``, −1 for none.

    A lone lepton's leg is that of the true neutrino, if there is one: the lepton may be that of a b hadron.
    """
    n_leptons = charge.shape[1]
    neutrinos, w_bosons, tops, higgs = by_charge(particles, NEUTRINOS, (_W,), (_TOP,), (_HIGGS,))
    known = np.isfinite(neutrinos[..., 0])
    only_one = known[:, 0] != known[:, 1]
    first = np.where(only_one & (n_leptons == 1), np.where(known[:, 0], 1, -1), np.sign(charge[:, 0]))
    first = first.astype(int)
    neutrinos, w_bosons = (torch.from_numpy(by_leg(p, first)[:, :n_leptons].copy()) for p in (neutrinos, w_bosons))
    parton = np.where(mask, parton, -1)
    kind, mother = _rectangular(particles.pdgId), _rectangular(particles.genPartIdxMother)
    for name, index in (("Jet.partonIdx", parton), ("GenPart.genPartIdxMother", mother)):
        _require_within(name, index, ak.to_numpy(ak.num(particles)))
    return Truth(
        neutrinos=neutrinos[..., 1:].contiguous(),
        leptons=lepton_of(w_bosons, neutrinos),
        tops=torch.from_numpy(by_leg(tops, first)),
        higgs=torch.from_numpy(higgs[:, 0]),
        b_jets=_b_jets(kind, mother, parton, first),
        jet_roles=_jet_roles(kind, mother, parton, first),
    )


def _rectangular(values: ak.Array) -> np.ndarray:
    width = int(ak.max(ak.num(values), initial=1, mask_identity=False))
    return ak.to_numpy(ak.fill_none(ak.pad_none(values, width), 0))


def _require_within(name: str, index: np.ndarray, sizes: np.ndarray) -> None:
    beyond = (index >= sizes[:, None]) & (index > 0)  # padding is 0
    if beyond.any():
        event = int(beyond.any(1).argmax())
        wrong = index[event, beyond[event].argmax()]
        raise InputError(f"event {event}: {name} is {wrong}, but GenPart has {sizes[event]} entries")


def _b_jets(kind: np.ndarray, mother: np.ndarray, parton: np.ndarray, first: np.ndarray) -> Tensor:
    """Return the jets ``(B, 2)`` that match a b quark that is a top's, or nobody's where no mother is told."""
    place = np.clip(parton, 0, None)
    mother = np.take_along_axis(mother, place, 1)
    of_top = np.abs(np.take_along_axis(kind, np.clip(mother, 0, None), 1)) == _TOP  # not of a Higgs boson
    known = (parton >= 0) & (of_top | (mother < 0))
    flavour = np.where(known, np.take_along_axis(kind, place, 1), 0)
    flags = np.stack([flavour == sign * _BOTTOM * first[:, None] for sign in (1, -1)], 1)
    if flags.shape[2] == 0:
        return torch.full(flags.shape[:2], -1)
    return torch.from_numpy(np.where(flags.any(2), flags.argmax(2), -1))


def _jet_roles(kind: np.ndarray, mother: np.ndarray, parton: np.ndarray, first: np.ndarray) -> Tensor:
    """Return the places in ``ROLES`` ``(B, J)`` of the quarks that jets match."""
    of = np.where(mother >= 0, np.take_along_axis(kind, np.clip(mother, 0, None), 1), 0)
    rank = quark_ranks(kind, of, first)
    role = np.where(rank == UNRANKED, -1, _ROLE_OF_RANK[np.minimum(rank, len(_ROLE_OF_RANK) - 1)])
    return torch.from_numpy(np.where(parton >= 0, np.take_along_axis(role, np.clip(parton, 0, None), 1), -1))
