"""Coordinates for neutrinos in which their density is simple (Jacobians exact)."""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.neutrino.inputs import unpack
from rewind.nn.preprocessing import Chart, fold, positive_part, unfold
from rewind.physics.constants import M_W

__all__ = ["CHARTS", "CanonicalChart", "FoldedChart", "TransverseChart"]

_RELATIVE_WIDTH = 0.06
_SOFT = 30.0


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

    The longitudinal momentum is expressed by the difference of pseudorapidities of neutrino and lepton.
    """

    def _longitudinal(self, delta_eta: Tensor, transverse: Tensor, parts) -> tuple[Tensor, Tensor]:
        return delta_eta, torch.zeros_like(delta_eta[:, 0])

    def _longitudinal_inverse(self, coordinate: Tensor, transverse: Tensor, parts) -> Tensor:
        return coordinate

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates and log-Jacobian."""
        inside, _ = super().forward(target, event)
        parts, p = unpack(event, self.n_legs), inside.reshape(-1, self.n_legs, 3)
        transverse = p[..., :2]
        residual, log_det = _compress(transverse.sum(1) - parts.met, _SOFT)
        columns, log_det = [residual], log_det.sum(1)
        if self.n_legs == 2:
            difference, change = _compress((transverse[:, 0] - transverse[:, 1]) / 2, 2 * _SOFT)
            columns.append(difference)
            log_det = log_det + change.sum(1)
        pt = transverse.norm(dim=-1).clip(1e-6)
        delta_eta = torch.asinh(p[..., 2] / pt) - _lepton_eta(parts)
        log_det = log_det - 0.5 * (pt**2 + p[..., 2] ** 2).log().sum(1)
        longitudinal, change = self._longitudinal(delta_eta, transverse, parts)
        return torch.cat([*columns, longitudinal], 1), log_det + change

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return targets."""
        parts = unpack(event, self.n_legs)
        total = _SOFT * coordinates[:, :2].sinh() + parts.met
        if self.n_legs == 2:
            half = 2 * _SOFT * coordinates[:, 2:4].sinh()
            transverse = torch.stack([total / 2 + half, total / 2 - half], 1)
        else:
            transverse = total[:, None]
        delta_eta = self._longitudinal_inverse(coordinates[:, -self.n_legs :], transverse, parts)
        pt = transverse.norm(dim=-1).clip(1e-6)
        pz = pt * (delta_eta + _lepton_eta(parts)).clip(-12, 12).sinh()
        return super().inverse(torch.cat([transverse, pz[..., None]], -1).flatten(1), event)


def _lepton_eta(parts) -> Tensor:
    return torch.asinh(parts.leptons[..., 2] / parts.leptons[..., :2].norm(dim=-1))


class FoldedChart(TransverseChart):
    """As :class:`TransverseChart`, with Δη unfolded about the two values ±Δη* at which the W boson is on shell.

    cosh Δη* = m_W²/(2 pT^ℓ pT^ν) + cos Δφ. Where the right side falls below one there is no such value and both merge.
    """

    def _solution(self, transverse: Tensor, parts) -> tuple[Tensor, Tensor]:
        lepton = parts.leptons[..., :2]
        product = (lepton.norm(dim=-1) * transverse.norm(dim=-1)).clip(1e-3)
        ratio = M_W**2 / (2 * product)
        softness = _RELATIVE_WIDTH * ratio
        versine = positive_part(ratio + (lepton * transverse).sum(-1) / product - 1, softness)
        solution = 2 * torch.asinh((versine / 2).sqrt())
        return solution, softness / (versine * (versine + 2) + softness).sqrt()

    def _longitudinal(self, delta_eta: Tensor, transverse: Tensor, parts) -> tuple[Tensor, Tensor]:
        unfolded, log_slope = unfold(delta_eta, *self._solution(transverse, parts))
        return unfolded, log_slope.sum(1)

    def _longitudinal_inverse(self, coordinate: Tensor, transverse: Tensor, parts) -> Tensor:
        return fold(coordinate, *self._solution(transverse, parts))


CHARTS = {"canonical": CanonicalChart, "transverse": TransverseChart, "folded": FoldedChart}
