"""What every method of these chapters reads: tt̄H(bb) events with one lepton as tensors, and the partons beside them.

The partons of an event are, in this order, the Higgs boson, the top that decays to quarks, the top that decays to the
lepton, and the recoil, called the gluon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import awkward as ak
import numpy as np
import torch
from torch import Tensor, nn

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.tensors import to_tensors, transverse
from rewind.events.batch.truth_record import INCOMING, NEUTRINOS, tth_ranks
from rewind.physics.phase_space import momentum_fractions

__all__ = [
    "PARTONS",
    "ROLES",
    "Dataset",
    "concatenate",
    "from_records",
    "load",
    "momentum_fractions",
    "recoil",
    "simulated",
]

PARTONS = ("H", "t_had", "t_lep", "gluon")
ROLES = ("b of t_lep", "b of t_had", "W", "H")
"""What a jet may stem from; both quarks of the W boson are one role, and so are those of the Higgs boson."""

_N_QUARKS = 6
_TOP, _HIGGS = 6, 25
_ROLE_BY_RANK = np.array([0, 1, 2, 2, 3])


def recoil(system: Tensor) -> Tensor:
    """Return the massless four-momentum ``(..., 4)`` against which a ``system`` ``(..., 4)`` recoils, GeV.

    Its transverse momentum is minus the system's, and its rapidity is the system's own: of all massless recoils it is
    the one that makes the total invariant mass least. So it is transverse where the system has no p_z, and the boost
    of the whole is the boost of the system.
    """
    pt = kinematics.pt(system)
    transverse_mass = (kinematics.mass_squared(system).clip(0) + pt**2).sqrt()
    energy, along = (pt * system[..., i] / transverse_mass for i in (0, 3))
    return torch.stack([energy, -system[..., 1], -system[..., 2], along], -1)


@dataclass(frozen=True)
class Dataset(Columns):
    """Hold events with one lepton; four-momenta (E, px, py, pz) in GeV.

    ``jets`` ``(B, J, 4)`` in falling pT, zero where ``jet_mask`` ``(B, J)`` is false, ``btag`` ``(B, J)``, ``lepton``
    ``(B, 4)``, ``is_muon`` and ``charge`` ``(B,)``, ``met`` ``(B, 2)``. Truth: ``partons`` ``(B, 4, 4)`` in the order
    of ``PARTONS``: H and tops are the last copies, after all radiation and before decay; the gluon is their
    :func:`recoil`. ``fractions`` ``(B, 2)`` are the :func:`momentum_fractions` of the four together, so that
    momentum is conserved. ``roles`` ``(B, J)`` are places in ``ROLES`` of the quarks that jets are matched to, −1
    where none is. ``weight`` ``(B,)`` is the generator's.
    """

    jets: Tensor
    jet_mask: Tensor
    btag: Tensor
    lepton: Tensor
    is_muon: Tensor
    charge: Tensor
    met: Tensor
    partons: Tensor
    fractions: Tensor
    roles: Tensor
    weight: Tensor

    @property
    def boost(self) -> Tensor:
        """Return the p_z ``(B,)`` of the whole system, gluon included, GeV."""
        return self.partons[..., 3].sum(1)

    def padded(self, n_jets: int) -> Dataset:
        """Return the events with places for ``n_jets`` jets; raise InputError where an event has more."""
        self.require_at_most(n_jets)
        if self.jets.shape[1] >= n_jets:
            first = self.jet_mask.long().argsort(dim=1, descending=True, stable=True)[:, :n_jets]
            jets = self.jets.gather(1, first[..., None].expand(-1, -1, 4))
            jets = (jets, *(values.gather(1, first) for values in (self.jet_mask, self.btag, self.roles)))
        else:
            more = n_jets - self.jets.shape[1]
            flat = (nn.functional.pad(values, (0, more)) for values in (self.jet_mask, self.btag))
            roles = nn.functional.pad(self.roles, (0, more), value=-1)
            jets = (nn.functional.pad(self.jets, (0, 0, 0, more)), *flat, roles)
        return replace(self, jets=jets[0], jet_mask=jets[1], btag=jets[2], roles=jets[3])

    def require_at_most(self, n_jets: int) -> Dataset:
        """Return self; raise InputError where an event has more than ``n_jets`` jets."""
        counts = self.jet_mask.sum(1)
        if (counts > n_jets).any():
            event = int((counts > n_jets).nonzero()[0])
            raise InputError(
                f"event {event}: {int(counts[event])} jets, more than the {n_jets} that were seen in training; "
                "drop the event or train with more"
            )
        return self

    def check(self) -> Dataset:
        """Return self; raise InputError for the first event that no method can use, and say why."""
        parts = (self.jets, self.lepton, self.met, self.partons, self.fractions)
        finite = torch.stack([torch.isfinite(values).flatten(1).all(1) for values in parts]).all(0)
        faults = {
            "a momentum is not finite": ~finite,
            f"fewer jets than the {_N_QUARKS} quarks of the hard process": self.jet_mask.sum(1) < _N_QUARKS,
            "the lepton has no transverse momentum": kinematics.pt(self.lepton) == 0,
            "a jet has no transverse momentum": ((kinematics.pt(self.jets) == 0) & self.jet_mask).any(1),
        }
        return self.refuse(faults)


def concatenate(parts: Sequence[Dataset]) -> Dataset:
    """Return the events of all ``parts``, one after the other, with places for the most jets of any."""
    most = max(part.jets.shape[1] for part in parts)
    return Dataset.concatenate([part.padded(most) for part in parts])


def _only(particles: ak.Array, chosen: ak.Array, name: str) -> ak.Array:
    """Return the one chosen particle of each event; raise InputError where there is none or several."""
    counts = ak.num(particles[chosen])
    if ak.any(counts != 1):
        event = int(np.flatnonzero(counts != 1)[0])
        raise InputError(f"event {event}: {int(counts[event])} {name} in the truth; exactly one is needed")
    return particles[chosen]


def _momenta(objects: ak.Array) -> Tensor:
    return torch.from_numpy(events.momenta(objects))


def from_records(records: ak.Array) -> Dataset:
    """Return the tensors of event records (:func:`rewind.events.readers.samples.load`).

    Raises InputError for an event without exactly one lepton, without the truth (one Higgs boson, one top, one
    antitop, one neutrino), or that :meth:`Dataset.check` refuses.
    """
    if ak.any(ak.num(records.Lepton) != 1):
        event = int(np.flatnonzero(ak.num(records.Lepton) != 1)[0])
        raise InputError(f"event {event}: exactly one lepton is needed; select events first")
    particles, lepton = records.GenPart, ak.flatten(records.Lepton)
    kind = particles.pdgId
    is_neutrino = (abs(kind) == NEUTRINOS[0]) | (abs(kind) == NEUTRINOS[1]) | (abs(kind) == NEUTRINOS[2])
    neutrino = _only(particles, is_neutrino, "neutrinos")
    higgs = _momenta(_only(particles, kind == _HIGGS, "Higgs bosons"))
    top = _momenta(_only(particles, kind == _TOP, "tops"))
    antitop = _momenta(_only(particles, kind == -_TOP, "antitops"))
    of_top = torch.from_numpy(ak.to_numpy(ak.flatten(neutrino.pdgId)) > 0)[:, None]
    hard = torch.stack([higgs, torch.where(of_top, antitop, top), torch.where(of_top, top, antitop)], 1)
    partons = torch.cat([hard, recoil(hard.sum(1))[:, None]], 1)

    names = ("pt", "eta", "phi", "mass", "btag", "partonIdx")
    columns, mask = to_tensors(records.Jet, names, dtype=torch.float64)
    return Dataset(
        jets=kinematics.from_pt_eta_phi_mass(*columns[..., :4].unbind(-1)) * mask[..., None],
        jet_mask=mask,
        btag=(columns[..., 4] == 1) & mask,
        lepton=_momenta(records.Lepton),
        is_muon=torch.from_numpy(np.abs(ak.to_numpy(lepton.pdgId)) == 13),
        charge=torch.from_numpy(ak.to_numpy(lepton.charge).astype(float)),
        met=torch.from_numpy(transverse(records.MET)),
        partons=partons,
        fractions=momentum_fractions(partons.sum(1)),
        roles=_roles(records.LHEPart, columns[..., 5].long(), mask),
        weight=torch.from_numpy(ak.to_numpy(records.genWeight).astype(float)),
    ).check()


def _roles(hard: ak.Array, parton: Tensor, mask: Tensor) -> Tensor:
    """Return roles ``(B, J)`` of jets matched to ``parton`` ``(B, J)``, a place behind the incoming ones."""
    by_place = torch.from_numpy(np.append(_ROLE_BY_RANK, -1)[np.minimum(tth_ranks(hard), len(_ROLE_BY_RANK))])
    role = by_place.gather(1, (parton + INCOMING).clip(0))
    return torch.where(mask & (parton >= 0), role, -1)


def load(path: str | Path) -> Dataset:
    """Return the events of a sample that pass the detector-level selection; raises InputError as what it calls."""
    records = events.load(path)
    return from_records(records[records.pass_detector])


def simulated(n_events: int, seeds: Sequence[int], *, workers: int = 1, **options) -> Dataset:
    """Return at least ``n_events`` of tt̄H with one lepton for each of ``seeds``.

    Without the underlying event, simulated now unless they lie in the cache. ``options`` go to
    :func:`rewind.events.chain.simulation.simulate`. Raises InputError without seeds.
    """
    if len(seeds) == 0:
        raise InputError("seeds: at least one is needed")
    options = {"underlying_event": False, "generated_fraction": 0.0, "levels": ("detector",)} | options
    paths = [events.sample("tth_semileptonic", n_events, seed=seed, workers=workers, **options) for seed in seeds]
    return concatenate([load(path) for path in paths])
