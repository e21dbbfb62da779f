"""Coordinates for neutrinos in which their density is simple (Jacobians exact).

>>> sorted(CHARTS)
['canonical', 'folded', 'transverse']
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.neutrino.flows.inputs import EventParts, unpack
from rewind.nn.preprocessing import Chart, fold, positive_part, unfold
from rewind.physics.constants import M_W, SQRT_S

__all__ = ["CHARTS", "CanonicalChart", "FoldedChart", "TransverseChart"]

_RELATIVE_WIDTH = 0.06
_SOFT, _SOFT_DIFFERENCE = 60.0, 120.0
_BEAM = SQRT_S / 2
_INSIDE = 1 - 1e-6


def _compress(x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return torch.asinh(x / scale), -0.5 * (scale**2 + x**2).log()


class CanonicalChart(Chart):
    """Neutrino momenta in the event's canonical frame, leg by leg: a rotation, no Jacobian."""

    def __init__(self, n_legs: int):
        super().__init__()
        self.n_legs = n_legs

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(n, 3 L)`` canonical momenta and log-Jacobian 0."""
        frame = unpack(event, self.n_legs).frame
        inside = frame.by_leg(frame.enter(target.reshape(-1, self.n_legs, 3)))
        return inside.flatten(1), torch.zeros_like(target[:, 0])

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return targets."""
        frame = unpack(event, self.n_legs).frame
        return frame.leave(frame.by_leg(coordinates.reshape(-1, self.n_legs, 3))).flatten(1)


class TransverseChart(CanonicalChart):
    """What the missing momentum measures and what it leaves open: Σ pT − p_T^miss, (pT₁ − pT₂)/2, and Δη.

    The longitudinal momentum is expressed by the difference Δη of pseudorapidities of neutrino and lepton. Its range
    ends where the neutrino would take the whole of a proton's momentum; that range is stretched to the real line.
    """

    def _straight(self, delta_eta: Tensor, transverse: Tensor, parts: EventParts) -> tuple[Tensor, Tensor]:
        """Return a monotone function of Δη and its log-slope."""
        return delta_eta, torch.zeros_like(delta_eta)

    def _straight_inverse(self, straight: Tensor, transverse: Tensor, parts: EventParts) -> Tensor:
        return straight

    def _range(self, transverse: Tensor, parts: EventParts) -> tuple[Tensor, Tensor]:
        """Return middle and half width of what the function of Δη can be."""
        edge = torch.asinh(_BEAM / transverse.norm(dim=-1).clip(1e-3))
        eta = _lepton_eta(parts)
        high = self._straight(edge - eta, transverse, parts)[0]
        low = self._straight(-edge - eta, transverse, parts)[0]
        return (high + low) / 2, (high - low) / 2

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates and log-Jacobian."""
        inside, _ = super().forward(target, event)
        parts, p = unpack(event, self.n_legs), inside.reshape(-1, self.n_legs, 3)
        transverse = p[..., :2]
        residual, log_det = _compress(transverse.sum(1) - parts.met, _SOFT)
        columns, log_det = [residual], log_det.sum(1)
        if self.n_legs == 2:
            difference, change = _compress((transverse[:, 0] - transverse[:, 1]) / 2, _SOFT_DIFFERENCE)
            columns.append(difference)
            log_det = log_det + change.sum(1)
        pt = transverse.norm(dim=-1).clip(1e-3)
        delta_eta = torch.asinh(p[..., 2] / pt) - _lepton_eta(parts)
        straight, log_slope = self._straight(delta_eta, transverse, parts)
        middle, half = self._range(transverse, parts)
        inner = ((straight - middle) / half).clip(-_INSIDE, _INSIDE)
        change = log_slope - 0.5 * (pt**2 + p[..., 2] ** 2).log() - (1 - inner**2).log()
        return torch.cat([*columns, half * torch.atanh(inner) + middle], 1), log_det + change.sum(1)

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return targets."""
        parts = unpack(event, self.n_legs)
        total = _SOFT * coordinates[:, :2].sinh() + parts.met
        if self.n_legs == 2:
            half = _SOFT_DIFFERENCE * coordinates[:, 2:4].sinh()
            transverse = torch.stack([total / 2 + half, total / 2 - half], 1)
        else:
            transverse = total[:, None]
        middle, half = self._range(transverse, parts)
        straight = half * torch.tanh((coordinates[:, -self.n_legs :] - middle) / half) + middle
        delta_eta = self._straight_inverse(straight, transverse, parts)
        pt = transverse.norm(dim=-1).clip(1e-3)
        pz = pt * (delta_eta + _lepton_eta(parts)).sinh()
        return super().inverse(torch.cat([transverse, pz[..., None]], -1).flatten(1), event)


def _lepton_eta(parts: EventParts) -> Tensor:
    return kinematics.eta(parts.leptons)


class FoldedChart(TransverseChart):
    """As :class:`TransverseChart`, with Δη unfolded about the two values ±Δη* at which the W boson is on shell.

    cosh Δη* = m_W²/(2 pT^ℓ pT^ν) + cos Δφ. Where the right side falls below one there is no such value and both merge.
    """

    def _solution(self, transverse: Tensor, parts: EventParts) -> tuple[Tensor, Tensor]:
        lepton = parts.leptons[..., 1:3]
        product = (lepton.norm(dim=-1) * transverse.norm(dim=-1)).clip(1e-3)
        ratio = M_W**2 / (2 * product)
        softness = _RELATIVE_WIDTH * ratio
        versine = positive_part(ratio + (lepton * transverse).sum(-1) / product - 1, softness)
        solution = 2 * torch.asinh((versine / 2).sqrt())
        return solution, softness / (versine * (versine + 2) + softness).sqrt()

    def _straight(self, delta_eta: Tensor, transverse: Tensor, parts: EventParts) -> tuple[Tensor, Tensor]:
        return unfold(delta_eta, *self._solution(transverse, parts))

    def _straight_inverse(self, straight: Tensor, transverse: Tensor, parts: EventParts) -> Tensor:
        return fold(straight, *self._solution(transverse, parts))


CHARTS = {"canonical": CanonicalChart, "transverse": TransverseChart, "folded": FoldedChart}
