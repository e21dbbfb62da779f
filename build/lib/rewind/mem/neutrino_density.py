"""What is known of neutrinos before any amplitude: how they fit p_T^miss and the recoil, and how masses fall."""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.mem.detector_model import Response
from rewind.physics.recoil import recoil_peaks

__all__ = ["LEAST", "log_guess", "log_guess_of_first"]

LEAST = 100.0
"""GeV² below which no mass squared counts."""

_FALL = 5  # power of the mass by which the cross-section falls
_SMALLEST = -80.0  # ln of the smallest share of a sum in single precision that is no slow denormal number


def log_guess(
    response: Response, visible: Tensor, met: Tensor, one: Tensor, two: Tensor | None = None, *, softness: float = 1.0
) -> Tensor:
    """Return a guessed log-density ``(B, n, m)`` of all pairs of neutrinos' momenta ``(B, 3, n)`` and ``(B, 3, m)``.

    Without ``two`` there is one neutrino, and m is 1. ``visible`` ``(B, 4)`` is the sum of all else, ``met`` ``(B, 2)``
    what was measured; ``softness`` divides the part of p_T^miss. Up to a constant.
    """
    exponent, narrower, mass2 = _forms(response, visible, met, one, two, softness)
    narrow, wide = recoil_peaks(*response.recoil)
    return exponent + (narrow * narrower.exp() + wide).log() - _FALL / 2 * mass2.log()


def log_guess_of_first(response: Response, visible: Tensor, met: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """Return the guessed log-density ``(B, n)`` of the first neutrino's momentum ``(B, 3, n)`` alone.

    That is :func:`log_guess` summed over the second's ``(B, 3, m)``, up to a constant of each event. Logarithms of
    pairs are never taken: those are most of its time.
    """
    exponent, narrower, mass2 = _forms(response, visible, met, one, two)
    narrow, wide = recoil_peaks(*response.recoil)
    weight = exponent.sub_(exponent.amax((1, 2), keepdim=True)).clip_(_SMALLEST).exp_()
    weight = weight.mul_(narrower.exp_().mul_(narrow).add_(wide))
    inverse = mass2.rsqrt_()  # to the power _FALL by products: a general power is slow
    return weight.mul_(inverse).mul_(inverse.square_().square_()).sum(2).log()


def _forms(
    response: Response, visible: Tensor, met: Tensor, one: Tensor, two: Tensor | None, softness: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what weighs pairs, each ``(B, n, m)``: the exponent of p_T^miss and of the wide recoil, what the narrow
    recoil adds to it, and the mass squared. All are linear in the numbers 1, E, p_x, p_y, p_z and p_T² of the second.
    """
    first = _massless(one) + visible[..., None]
    second = _massless(torch.zeros_like(one[..., :1]) if two is None else two)
    narrow, wide = (-1 / (2 * sigma**2) for sigma in response.recoil[1:])
    of_met = -1 / (2 * softness * response.met_sigma**2)
    recoil, missed = first[:, 1:3], one[:, :2] - met[..., None]
    lowered = torch.cat([first[:, :1], -first[:, 1:]], 1)
    forms = (
        _squares((recoil, wide), (missed, of_met)),
        _squares((recoil, narrow - wide)),
        torch.cat([(lowered * first).sum(1, keepdim=True), 2 * lowered, torch.zeros_like(first[:, :1])], 1),
    )
    numbers = torch.cat([torch.ones_like(second[:, :1]), second, second[:, 1:3].square().sum(1, keepdim=True)], 1)
    exponent, narrower, mass2 = torch.bmm(torch.cat(forms, 2).mT, numbers).split(one.shape[2], 1)
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
