"""What every neutrino method reads: leptons, jets and missing momentum as tensors, and the truth beside them.

The legs of an event come in a fixed order. With two leptons it is (t → b ℓ⁺ν, t̄ → b̄ ℓ⁻ν̄); with one it is the
top that decays to the lepton, whichever its charge, and then the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.tensors import transverse
from rewind.events.chain.processes import find_process

__all__ = ["MAX_JETS", "Dataset", "from_records", "load", "simulated"]

MAX_JETS = 10
_LEPTONS, _NEUTRINOS, _BOTTOM, _TOP = (11, 13, 15), (12, 14, 16), 5, 6


@dataclass(frozen=True)
class Dataset(Columns):
    """Hold events with L = 1 or 2 leptons and as many neutrinos; momenta in GeV, four-momenta (E, px, py, pz).

    ``leptons`` ``(B, L, 4)`` by leg, ``is_muon`` ``(B, L)``, ``jets`` ``(B, J, 4)`` in falling pT, zero where
    ``jet_mask`` ``(B, J)`` is false, ``btag`` ``(B, J)``, ``met`` ``(B, 2)``. Truth, NaN and −1 where unknown:
    ``neutrinos`` ``(B, L, 3)`` and ``tops`` ``(B, 2, 4)`` after all radiation, before decay, by leg, ``true_leptons``
    ``(B, L, 4)`` of the decay chain, after their radiation of photons, and the jets ``b_jets`` ``(B, 2)`` that match
    the b quark of each leg. ``weight`` ``(B,)`` is the generator's.
    """

    leptons: Tensor
    is_muon: Tensor
    jets: Tensor
    jet_mask: Tensor
    btag: Tensor
    met: Tensor
    neutrinos: Tensor
    true_leptons: Tensor
    tops: Tensor
    b_jets: Tensor
    weight: Tensor

    @property
    def n_legs(self) -> int:
        """Return the number of leptons, and of neutrinos."""
        return self.leptons.shape[1]

    @property
    def has_truth(self) -> bool:
        """Say whether the true neutrinos of every event are known."""
        return bool(torch.isfinite(self.neutrinos).all())

    @property
    def matched(self) -> Tensor:
        """Say ``(B,)`` in which events b-tagged jets match the b quarks of both legs."""
        known = (self.b_jets >= 0).all(1)
        return known & self.btag.gather(1, self.b_jets.clip(0)).all(1)

    def check(self) -> Dataset:
        """Return self; raise InputError for the first event that no method can use, and say why."""
        if self.n_legs not in (1, 2) or self.jets.shape[1] != MAX_JETS:
            raise InputError(
                f"{self.n_legs} leptons, places for {self.jets.shape[1]} jets: 1 or 2 and {MAX_JETS} are needed"
            )
        jet_p = self.jets[..., 1:].norm(dim=-1)
        lepton_p = self.leptons[..., 1:].norm(dim=-1)
        n_tagged = (self.btag & self.jet_mask).sum(1)
        faults = {
            "a momentum or the missing momentum is not finite": ~(
                torch.isfinite(self.leptons).flatten(1).all(1)
                & torch.isfinite(self.jets).flatten(1).all(1)
                & torch.isfinite(self.met).all(1)
            ),
            "a lepton has no momentum": (lepton_p == 0).any(1),
            "a jet has no momentum": ((jet_p == 0) & self.jet_mask).any(1),
            "a lepton has E < |p|": _unphysical(self.leptons[..., 0], lepton_p).any(1),
            "a jet has E < |p|": (_unphysical(self.jets[..., 0], jet_p) & self.jet_mask).any(1),
            "a lepton or jet is along the beam": (kinematics.pt(self.leptons) == 0).any(1)
            | ((kinematics.pt(self.jets) == 0) & self.jet_mask).any(1),
            "an absent jet stands before a present one": (self.jet_mask[:, 1:] & ~self.jet_mask[:, :-1]).any(1),
            "there is no jet": ~self.jet_mask.any(1),
            "fewer than two jets are b-tagged": n_tagged < 2,
        }
        if self.n_legs == 2:
            faults["both leptons are identical"] = (self.leptons[:, 0] == self.leptons[:, 1]).all(1)
        return self.refuse(faults)

    def require_legs(self, n: int) -> Dataset:
        """Return self; raise InputError where events do not have ``n`` leptons."""
        if self.n_legs != n:
            raise InputError(f"events with {self.n_legs} leptons: {n} are needed here")
        return self

    def require_truth(self) -> Dataset:
        """Return self; raise InputError where the true neutrinos of an event are unknown."""
        if not self.has_truth:
            n_unknown = int((~torch.isfinite(self.neutrinos)).flatten(1).any(1).sum())
            raise InputError(
                f"{n_unknown} of {len(self)} events have no true neutrinos: training and scores need them, "
                "sampling does not"
            )
        return self


def _unphysical(energy: Tensor, momentum: Tensor) -> Tensor:
    return energy < momentum * (1 - 1e-6)


def _chosen(particles: ak.Array, event: np.ndarray, n: int, slots: np.ndarray, n_slots: int) -> np.ndarray:
    """Return four-momenta ``(n, n_slots, 4)`` of flat ``particles`` put into their event and slot, else NaN."""
    out = np.full((n, n_slots, 4), np.nan)
    columns = (particles[name].to_numpy().astype(float) for name in ("pt", "eta", "phi", "mass"))
    out[event, slots] = kinematics.from_pt_eta_phi_mass(*columns)
    return out


def _padded(values: ak.Array, fill) -> np.ndarray:
    return ak.to_numpy(ak.fill_none(ak.pad_none(values, MAX_JETS, clip=True), fill))


def from_records(records: ak.Array, n_leptons: int) -> Dataset:
    """Return the tensors of event records (:func:`rewind.events.load`) with ``n_leptons`` leptons, 1 or 2.

    Of more than ``MAX_JETS`` jets the b-tagged ones are kept, and of the others those of the highest pT. Raises
    InputError for an event with another number of leptons, with two of like charge, or that :meth:`Dataset.check`
    refuses.
    """
    if n_leptons not in (1, 2):
        raise InputError(f"n_leptons = {n_leptons}: the methods are for 1 or 2")
    n, leptons, jets, particles = len(records), records.Lepton, records.Jet, records.GenPart
    wrong = ak.num(leptons) != n_leptons
    if n_leptons == 2:
        wrong = wrong | (ak.sum(leptons.charge, axis=1) != 0)
    if ak.any(wrong):
        found = f"event {int(np.flatnonzero(wrong)[0])} ({int(ak.sum(wrong))} such events)"
        need = "one lepton is" if n_leptons == 1 else "two leptons of opposite charge are"
        raise InputError(f"{found}: {need} needed; select events first")

    leptons = leptons[ak.argsort(leptons.charge, ascending=False)]
    charge = ak.to_numpy(ak.flatten(leptons.charge)).reshape(n, n_leptons)
    swapped = np.zeros(n, bool)
    if n_leptons == 1:
        # the leg with the lepton comes first: that of the true neutrino, if known, for a b hadron's lepton may pass
        is_neutrino = np.isin(np.abs(ak.to_numpy(ak.flatten(particles.pdgId))), _NEUTRINOS)
        event = np.repeat(np.arange(n), ak.to_numpy(ak.num(particles)))[is_neutrino]
        swapped = charge[:, 0] < 0
        swapped[event] = ak.to_numpy(ak.flatten(particles.pdgId))[is_neutrino] < 0

    jets = jets[ak.argsort(jets.btag == 1, ascending=False, stable=True)][:, :MAX_JETS]
    jets = jets[ak.argsort(jets.pt, ascending=False, stable=True)]

    def by_leg(kinds, n_slots, sign_of_top=1):
        mask = np.isin(np.abs(ak.to_numpy(ak.flatten(particles.pdgId))), kinds)
        event = np.repeat(np.arange(n), ak.to_numpy(ak.num(particles)))[mask]
        chosen = ak.flatten(particles)[mask]
        sign = sign_of_top * np.sign(ak.to_numpy(chosen.pdgId))
        slots = (sign < 0) ^ swapped[event]
        keep = slots < n_slots
        return _chosen(chosen[keep], event[keep], n, slots[keep].astype(int), n_slots)

    parton = _padded(jets.partonIdx, -1)
    pdg_id, of_parton = _rectangular(particles.pdgId), np.clip(parton, 0, None)
    mother = np.take_along_axis(_rectangular(particles.genPartIdxMother), of_parton, 1)
    of_top = np.abs(np.take_along_axis(pdg_id, np.clip(mother, 0, None), 1)) == _TOP  # not of a Higgs boson
    known = (parton >= 0) & (of_top | (mother < 0))
    matched = np.where(known, np.take_along_axis(pdg_id, of_parton, 1), 0)
    b_jets = np.stack([_first(matched == _BOTTOM), _first(matched == -_BOTTOM)], 1)
    b_jets = np.where(swapped[:, None], b_jets[:, ::-1], b_jets)

    momenta = np.stack([_padded(jets[name], 0.0) for name in ("pt", "eta", "phi", "mass")], -1).astype(float)
    mask = np.arange(MAX_JETS) < ak.to_numpy(ak.num(jets))[:, None]
    four = kinematics.from_pt_eta_phi_mass(*np.moveaxis(momenta, -1, 0)) * mask[..., None]
    arrays = (
        events.momenta(leptons).reshape(n, n_leptons, 4),
        np.abs(ak.to_numpy(ak.flatten(leptons.pdgId))).reshape(n, n_leptons) == 13,
        four,
        mask,
        (_padded(jets.btag, 0) == 1) & mask,
        transverse(records.MET),
        by_leg(_NEUTRINOS, n_leptons)[..., 1:],
        by_leg(_LEPTONS, n_leptons, -1),
        by_leg((_TOP,), 2),
        b_jets,
        ak.to_numpy(records.genWeight).astype(float),
    )
    return Dataset(*(torch.from_numpy(np.ascontiguousarray(values)) for values in arrays)).check()


def _rectangular(values: ak.Array) -> np.ndarray:
    width = int(ak.max(ak.num(values), initial=1, mask_identity=False))
    return ak.to_numpy(ak.fill_none(ak.pad_none(values, width), 0))


def _first(flags: np.ndarray) -> np.ndarray:
    """Return the position of the first true flag in each row, −1 where there is none."""
    return np.where(flags.any(1), flags.argmax(1), -1)


def load(path: str | Path, n_leptons: int) -> Dataset:
    """Return the events of a sample that pass the detector-level selection; raises InputError as what it calls."""
    records = events.load(path)
    return from_records(records[records.pass_detector], n_leptons)


def simulated(process: str, n_events: int, seeds: Sequence[int], *, workers: int = 1, **options) -> Dataset:
    """Return at least ``n_events`` for each of ``seeds`` of a process with one or two leptons.

    Without the underlying event, hard processes of all events, and events that pass at particle level only;
    simulated now unless they lie in the cache. ``options`` go to :func:`rewind.events.simulate`. Raises
    InputError for an unknown process and without seeds.
    """
    if len(seeds) == 0:
        raise InputError("seeds: at least one is needed")
    n_leptons = find_process(process).selection.n_leptons
    options = {"underlying_event": False, "generated_fraction": 0.0, "levels": ("detector",)} | options
    paths = [events.sample(process, n_events, seed=seed, workers=workers, **options) for seed in seeds]
    return Dataset.concatenate([load(path, n_leptons) for path in paths])
