"""The partons of tt̄H(bb) events with one lepton: H, both tops, and the recoil, which is called the gluon.

Momenta (E, px, py, pz), GeV. H and tops are the last copies, after all radiation and before decay. The tops are told
apart by their decays: the one to quarks is t_had, the one to the lepton t_lep.

>>> heavy = torch.tensor([[[130.0, 30.0, 0.0, 20.0], [190.0, 0.0, 40.0, 0.0], [180.0, 10.0, 0.0, -10.0]]])
>>> partons = with_recoil(heavy)
>>> partons.shape, partons.sum(1)[0, 1:3].tolist(), boost(partons).shape
(torch.Size([1, 4, 4]), [0.0, 0.0], torch.Size([1]))
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.events import EventBatch

__all__ = ["N_QUARKS", "PARTONS", "ROLES", "boost", "recoil", "require_usable", "true_partons", "with_recoil"]

PARTONS = ("H", "t_had", "t_lep", "gluon")
ROLES = ("b of t_lep", "b of t_had", "W", "H")
"""Roles of jets, those of `rewind.events.ROLES` where the leg of the lepton comes first."""

N_QUARKS = 6
"""Quarks of the hard process, and the fewest jets of an event."""


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


def with_recoil(heavy: Tensor) -> Tensor:
    """Return ``PARTONS`` ``(B, 4, 4)``: H, t_had and t_lep ``(B, 3, 4)``, and their :func:`recoil`."""
    return torch.cat([heavy, recoil(heavy.sum(1))[:, None]], 1)


def boost(partons: Tensor) -> Tensor:
    """Return the p_z ``(...)`` of all ``partons`` ``(..., 4, 4)`` together, the gluon included, GeV.

    Of :func:`true_partons` it is a function of the heavy ones alone.
    """
    return partons[..., 3].sum(-1)


def true_partons(batch: EventBatch) -> Tensor:
    """Return ``PARTONS`` ``(B, 4, 4)``; raise InputError for events with two leptons or without the truth."""
    truth = batch.require_legs(1).require_truth("higgs", "tops")
    leptonic, hadronic = truth.tops.unbind(1)
    return with_recoil(torch.stack([truth.higgs, hadronic, leptonic], 1))


def require_usable(batch: EventBatch) -> EventBatch:
    """Return the ``batch``; raise InputError for the first event that no method can use: with fewer jets than quarks,
    another number of leptons than one, or momenta that ``EventBatch.check`` refuses.
    """
    return batch.require_legs(1).check().require_jets(N_QUARKS)
