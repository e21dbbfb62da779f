"""Measured events of a topology, the rows that integrals read, and which hypothesis of their jets is true.

>>> from rewind.mem.topologies import DILEPTON
>>> lepton = torch.tensor([[40.0, 40.0, 0.0, 0.0], [30.0, 0.0, 30.0, 0.0]])
>>> jets = torch.tensor([[60.0, -60.0, 0.0, 0.0], [50.0, 0.0, -50.0, 0.0]])
>>> event = Measured(lepton[None], jets[None], jets[None, :0], torch.tensor([[20.0, 20.0]]))
>>> row = rows(event, DILEPTON)[:, 1]
>>> row.shape, split(row, DILEPTON).bottoms[0, :, 0].tolist()
(torch.Size([1, 18]), [50.0, 60.0])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.layout import Block, Layout
from rewind.events.chain.processes import Selection
from rewind.mem.topologies import Topology
from rewind.physics.leg_kinematics import unit_vector

__all__ = ["Measured", "accepted", "in_acceptance", "row_layout", "rows", "split", "true_hypothesis"]


@dataclass(frozen=True)
class Measured(Columns):
    """Hold measured events; four-momenta (E, px, py, pz) in GeV.

    ``leptons`` ``(B, L, 4)`` in the topology's order, ``bottoms`` ``(B, n_b, 4)`` and ``lights`` ``(B, n_q, 4)`` in
    falling p_T, ``met`` ``(B, 2)``.
    """

    leptons: Tensor
    bottoms: Tensor
    lights: Tensor
    met: Tensor

    def check(self, topology: Topology) -> Measured:
        """Return self; raise InputError for the first event that does not fit a topology, and say why."""
        for name in ("leptons", "bottoms", "lights"):
            given, wanted = getattr(self, name).shape[1], len(getattr(topology, name))
            if given != wanted:
                raise InputError(f"events with {given} {name}: {wanted} are needed, one for each parton")
        parts = [values.flatten(1) for values in (self.leptons, self.bottoms, self.lights, self.met)]
        return self.refuse(
            {
                "a momentum is not finite": ~torch.cat(parts, 1).isfinite().all(1),
                "it lies outside the acceptance": ~accepted(self, topology.selection),
            }
        )


@cache
def row_layout(topology: Topology) -> Layout:
    """Return the columns of a row: four-momenta of leptons, b jets and other jets, each in the partons' order, and met.

    >>> from rewind.mem.topologies import DILEPTON
    >>> row_layout(DILEPTON).width
    18
    """
    momentum = {"momentum": (4,)}
    objects = {name: Block(momentum, rows=len(getattr(topology, name))) for name in ("leptons", "bottoms", "lights")}
    return Layout(**objects, met=Block({"momentum": (2,)}))


def rows(event: Measured, topology: Topology) -> Tensor:
    """Return each event under each of H hypotheses, ``(B, H, R)``: columns as :func:`row_layout` names them.

    Raises InputError for events with another number of leptons or jets, and outside the acceptance.
    """
    event.check(topology)
    return torch.stack([_row(event, topology, *hypothesis) for hypothesis in topology.hypotheses], 1)


def _row(event: Measured, topology: Topology, bottoms: tuple[int, ...], lights: tuple[int, ...]) -> Tensor:
    momenta = {"leptons": event.leptons, "bottoms": event.bottoms[:, bottoms], "lights": event.lights[:, lights]}
    blocks = {name: {"momentum": p} for name, p in (momenta | {"met": event.met}).items()}
    return row_layout(topology).pack(blocks, event.met.dtype)


def split(row: Tensor, topology: Topology) -> Measured:
    """Return rows ``(B, R)`` as events whose jets stand in the order of the topology's quarks."""
    blocks = row_layout(topology).unpack(row)
    return Measured(**{name: fields["momentum"] for name, fields in blocks.items()})


def true_hypothesis(event: Measured, partons: Tensor, topology: Topology) -> tuple[Tensor, Tensor]:
    """Return the hypothesis ``(B,)`` that gives each quark of ``partons`` ``(B, n, 4)`` its own jet, and the partons.

    Both b quarks of a Higgs boson, which are alike, are put into the order of their jets.
    """
    jets = [(event.bottoms[:, b], event.lights[:, q]) for b, q in topology.hypotheses]
    orders = [list(range(partons.shape[1]))]
    if len(topology.bottoms) > 2:
        *_, one, two = topology.bottoms
        orders.append([{one: two, two: one}.get(i, i) for i in orders[0]])
    ordered = torch.stack([partons[:, order] for order in orders], 1)
    places = topology.bottoms + topology.lights
    wrong = [_angle(torch.cat(pair, 1)[:, None], ordered[:, :, places]).sum(-1) for pair in jets]
    best = torch.stack(wrong, 1).flatten(1).argmin(1)
    return best // len(orders), ordered[torch.arange(len(best)), best % len(orders)]


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """Return ``|n − n'|`` ``(...)`` of the directions of momenta ``(..., 4)``."""
    return (unit_vector(first) - unit_vector(second)).norm(dim=-1)


def _separations(first: Tensor, second: Tensor) -> Tensor:
    """Return ΔR ``(B, n, m)`` of all pairs."""
    return kinematics.delta_r(first[:, :, None], second[:, None])


def in_acceptance(jets: Tensor, selection: Selection) -> Tensor:
    """Say which jets ``(...)`` of momenta ``(..., 4)`` pass the cuts in p_T and η."""
    return (kinematics.pt(jets) > selection.jet_pt) & (kinematics.eta(jets).abs() < selection.jet_eta)


def accepted(event: Measured, selection: Selection) -> Tensor:
    """Return which events ``(B,)`` pass p_T, η and ΔR cuts: all jets from one another and from leptons."""
    jets = torch.cat([event.bottoms, event.lights], 1)
    apart = _separations(jets, jets) + torch.eye(jets.shape[1]).to(jets) * 1e3
    fine = [
        kinematics.pt(event.leptons) > selection.lepton_pt,
        kinematics.eta(event.leptons).abs() < selection.lepton_eta,
        in_acceptance(jets, selection),
        apart > selection.delta_r,
        _separations(jets, event.leptons) > selection.delta_r,
    ]
    return torch.stack([values.flatten(1).all(1) for values in fine]).all(0)
