"""What a proposal reads of a measured event under one hypothesis: turning it about the beam changes nothing.

Momenta are those seen from the first lepton's azimuth. Neutrinos on their circles, with W and top on shell, tell more:
how well each angle, or pair of angles, fits p_T^miss, the recoil and the fall of the cross-section with the mass.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rewind import kinematics
from rewind.mem.detector_model import DILEPTON, TTH, Measured, Response, Topology, split
from rewind.mem.integrand import SHIFT
from rewind.mem.neutrino_density import LEAST, log_guess
from rewind.physics.circles import Circles, equal_directions
from rewind.physics.constants import M_B, M_TOP, M_W
from rewind.physics.leg_kinematics import along, unit_vector

__all__ = ["read"]

_ANGLES = {DILEPTON.final: 12, TTH.final: 24}


def read(row: Tensor, topology: Topology, response: Response, *, rows_at_once: int = 4096) -> Tensor:
    """Return features ``(B, F)``, float32, of rows ``(B, R)`` of `rewind.mem.detector_model.rows`."""
    return torch.cat([_read(split(part, topology), topology, response) for part in row.split(rows_at_once)]).float()


def _read(event: Measured, topology: Topology, response: Response) -> Tensor:
    jets = torch.cat([event.bottoms, event.lights], 1)
    first, others = event.leptons[:, 0], torch.cat([event.leptons[:, 1:], jets], 1)
    bottoms = _typical(event.bottoms[:, : len(topology.leptons)], M_B)
    circles = Circles.of(event.leptons, bottoms)
    columns = [
        _size(first[:, None]),
        _size(others),
        _turned(others[..., 1], others[..., 2], first) / kinematics.pt(others)[..., None],
        (circles.visible_mass_squared / 1e4).log(),
        (circles.b_minus / 30).log(),
        torch.asinh(circles.b_across / 50),
        torch.asinh(_turned(event.met[:, :1], event.met[:, 1:], first) / 30),
        _resonances(event, topology),
        _fits(event, bottoms, topology, response),
    ]
    return torch.cat([column.flatten(1) for column in columns], 1)


def _size(p: Tensor) -> Tensor:
    return torch.stack([(kinematics.pt(p) / 50).log(), kinematics.eta(p)], -1)


def _turned(x: Tensor, y: Tensor, reference: Tensor) -> Tensor:
    """Return vectors ``(B, n, 2)`` in the system whose first axis is the azimuth of ``reference`` ``(B, 4)``."""
    pt = kinematics.pt(reference)
    c, s = reference[:, 1, None] / pt[:, None], reference[:, 2, None] / pt[:, None]
    return torch.stack([c * x + s * y, c * y - s * x], -1)


def _typical(jets: Tensor, mass: float) -> Tensor:
    """Return quarks ``(B, n, 4)`` of jets at the energy about which unit numbers are spread."""
    return along((jets[..., 0] * math.exp(SHIFT)).clip(mass), unit_vector(jets), mass)


def _resonances(event: Measured, topology: Topology) -> Tensor:
    """Return ln m ``(B, 3)`` of W, top and Higgs boson of the jets that are theirs, for topologies that have them."""
    if topology.final != TTH.final:
        return event.met[:, :0]
    q, b = _typical(event.lights, 0.0), _typical(event.bottoms, M_B)
    w = q.sum(1)
    return torch.stack([kinematics.mass(p).clip(1.0).log() - 4.8 for p in (w, w + b[:, 1], b[:, 2] + b[:, 3])], 1)


def _fits(event: Measured, bottoms: Tensor, topology: Topology, response: Response) -> Tensor:
    """Return compressed log-weights ``(B, n + 1)`` of angles, or pairs of them, relative to the best, and its own."""
    circles = Circles.of(event.leptons, bottoms)
    w = torch.full_like(circles.b_minus, M_W**2)
    excess = (M_TOP**2 - circles.least_m_top_squared(w)).clip(LEAST)
    points = circles.curve(w, excess) @ equal_directions(_ANGLES[topology.final], event.leptons)
    second = points[:, 1] if len(topology.leptons) == 2 else None
    quarks = torch.cat([_typical(event.bottoms, M_B), _typical(event.lights, 0.0)], 1)
    visible = torch.cat([event.leptons, quarks], 1).sum(1)
    weight = log_guess(response, visible, event.met, points[:, 0], second, softness=2.0).flatten(1)
    best = weight.amax(1, keepdim=True)
    return torch.cat([-torch.asinh(best - weight) / 2, best / 10 + 4], 1)
