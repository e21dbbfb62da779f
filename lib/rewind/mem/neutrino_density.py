"""What is known of neutrinos before any amplitude: how they fit p_T^miss and the recoil, and how masses fall.

>>> coefficients = _squares((torch.tensor([[[3.0], [4.0]]]), 2.0))
>>> p = torch.tensor([1.0, 0.0, 1.0, 2.0, 0.0, 5.0])  # 1, E, p_x, p_y, p_z and p_T²
>>> float(p @ coefficients[0, :, 0]), 2.0 * ((3 + 1) ** 2 + (4 + 2) ** 2)
(104.0, 104.0)
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.mem.detector_model import DetectorModel
from rewind.physics.recoil import recoil_peaks

__all__ = ["LEAST", "log_density", "log_density_of_first"]

LEAST = 100.0
"""GeV² below which no mass squared counts."""

_FALL = 5  # power of the mass by which the cross-section falls
_SMALLEST = -80.0  # ln of the smallest share of a sum in single precision that is no slow denormal number


def log_density(
    detector: DetectorModel,
    visible: Tensor,
    met: Tensor,
    one: Tensor,
    two: Tensor | None = None,
    *,
    softness: float = 1.0,
) -> Tensor:
    """Return the log-density ``(B, n, m)`` of all pairs of neutrinos' momenta ``(B, 3, n)`` and ``(B, 3, m)``.

    Without ``two`` there is one neutrino, and m is 1. ``visible`` ``(B, 4)`` is the sum of all else, ``met`` ``(B, 2)``
    what was measured; ``softness`` divides the part of p_T^miss. Up to a constant.
    """
    exponent, narrower, mass2 = _forms(detector, visible, met, one, two, softness)
    narrow, wide = recoil_peaks(*detector.recoil)
    return exponent + (narrow * narrower.exp() + wide).log() - _FALL / 2 * mass2.log()


def log_density_of_first(detector: DetectorModel, visible: Tensor, met: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """Return the log-density ``(B, n)`` of the first neutrino's momentum ``(B, 3, n)`` alone.

    That is :func:`log_density` summed over the second's ``(B, 3, m)``, up to a constant of each event. Logarithms of
    pairs are never taken: those are most of its time.
    """
    exponent, narrower, mass2 = _forms(detector, visible, met, one, two)
    narrow, wide = recoil_peaks(*detector.recoil)
    weight = exponent.sub_(exponent.amax((1, 2), keepdim=True)).clip_(_SMALLEST).exp_()
    weight = weight.mul_(narrower.exp_().mul_(narrow).add_(wide))
    inverse = mass2.rsqrt_()  # to the power _FALL by products: a general power is slow
    return weight.mul_(inverse).mul_(inverse.square_().square_()).sum(2).log()


def _forms(
    detector: DetectorModel, visible: Tensor, met: Tensor, one: Tensor, two: Tensor | None, softness: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what weighs pairs, each ``(B, n, m)``: the exponent of p_T^miss and of the wide recoil, what the narrow
    recoil adds to it, and the mass squared. All are linear in the numbers 1, E, p_x, p_y, p_z and p_T² of the second.
    """
    first = _massless(one) + visible[..., None]
    second = _massless(torch.zeros_like(one[..., :1]) if two is None else two)
    narrow, wide = (-1 / (2 * sigma**2) for sigma in detector.recoil[1:])
    of_met = -1 / (2 * softness * detector.met_sigma**2)
    recoil, missed = first[:, 1:3], one[:, :2] - met[..., None]
    lowered = torch.cat([first[:, :1], -first[:, 1:]], 1)
    forms = (
        _squares((recoil, wide), (missed, of_met)),
        _squares((recoil, narrow - wide)),
        torch.cat([(lowered * first).sum(1, keepdim=True), 2 * lowered, torch.zeros_like(first[:, :1])], 1),
    )
    monomials = torch.cat([torch.ones_like(second[:, :1]), second, second[:, 1:3].square().sum(1, keepdim=True)], 1)
    exponent, narrower, mass2 = torch.bmm(torch.cat(forms, 2).mT, monomials).split(one.shape[2], 1)
    return exponent, narrower, mass2.clip_(LEAST)


def _squares(*terms: tuple[Tensor, float]) -> Tensor:
    """Return the coefficients ``(B, 6, n)`` of Σ factor |vector + p_T|² for vectors ``(B, 2, n)`` and their factors."""
    own = sum(factor * vector.square().sum(1) for vector, factor in terms)
    x, y = sum(2 * factor * vector for vector, factor in terms).unbind(1)
    zero = torch.zeros_like(own)
    return torch.stack([own, zero, x, y, zero, zero + sum(factor for _, factor in terms)], 1)


def _massless(momentum: Tensor) -> Tensor:
    """Return four-momenta ``(B, 4, n)`` of massless momenta ``(B, 3, n)``."""
    return torch.cat([momentum.square().sum(1, keepdim=True).sqrt(), momentum], 1)
