"""What is known of neutrinos before any amplitude: how they fit p_T^miss and the recoil, and how masses fall."""

from __future__ import annotations

from torch import Tensor

from rewind.mem.response import Response

__all__ = ["LEAST", "log_guess", "summed"]

LEAST = 100.0
"""GeV² below which no mass squared counts."""

_FALL = 5.0  # power of the mass by which the cross-section falls


def log_guess(
    response: Response, visible: Tensor, met: Tensor, energy: Tensor, neutrinos: Tensor, *, softness: float = 1.0
) -> Tensor:
    """Return a guessed log-density ``(...)`` of neutrinos with summed ``energy`` ``(...)`` and momentum ``(..., 3)``.

    ``visible`` ``(..., 4)`` is the sum of all else, ``met`` ``(..., 2)`` what was measured; ``softness`` divides the
    part of p_T^miss. Up to a constant.
    """
    total = visible[..., 1:] + neutrinos
    mass2 = (visible[..., 0] + energy) ** 2 - total.square().sum(-1)
    fit = response.log_met(met, neutrinos[..., :2]) / softness + response.log_recoil(total[..., :2])
    return fit - _FALL / 2 * mass2.clip(LEAST).log()


def summed(one: Tensor, two: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return energy ``(B, n, m)`` and momentum ``(B, n, m, 3)`` of all pairs of neutrinos.

    They are ``(B, 3, n)`` and ``(B, 3, m)``; without a second one m is 1.
    """
    energy, momentum = one.norm(dim=1)[..., None], one[..., None]
    if two is not None:
        energy, momentum = energy + two.norm(dim=1)[:, None], momentum + two[:, :, None]
    return energy, momentum.movedim(1, -1)
