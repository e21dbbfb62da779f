"""What is known of neutrinos before any amplitude: how they fit p_T^miss and the recoil, and how masses fall."""

from __future__ import annotations

from torch import Tensor

from rewind.mem.response import Response, log_recoil

__all__ = ["LEAST", "log_guess"]

LEAST = 100.0
"""GeV² below which no mass squared counts."""

_FALL = 5.0  # power of the mass by which the cross-section falls


def log_guess(
    response: Response, visible: Tensor, met: Tensor, one: Tensor, two: Tensor | None = None, *, softness: float = 1.0
) -> Tensor:
    """Return a guessed log-density ``(B, n, m)`` of all pairs of neutrinos' momenta ``(B, 3, n)`` and ``(B, 3, m)``.

    Without ``two`` there is one neutrino, and m is 1. ``visible`` ``(B, 4)`` is the sum of all else, ``met`` ``(B, 2)``
    what was measured; ``softness`` divides the part of p_T^miss. Up to a constant.
    """
    energy, x, y, z = _components(one[..., None])
    if two is not None:
        others = _components(two[:, :, None])
        energy, x, y, z = (values + other for values, other in zip((energy, x, y, z), others, strict=True))
    e0, x0, y0, z0 = visible[..., None, None].unbind(1)
    x_met, y_met = met[..., None, None].unbind(1)
    recoil2 = (x + x0).square() + (y + y0).square()
    mass2 = (energy + e0).square() - (z + z0).square() - recoil2
    missed2 = (x - x_met).square() + (y - y_met).square()
    fit = log_recoil(recoil2, *response.recoil) - missed2 / (2 * softness * response.met_sigma**2)
    return fit - _FALL / 2 * mass2.clip(LEAST).log()


def _components(momentum: Tensor) -> tuple[Tensor, ...]:
    """Return E, p_x, p_y and p_z of massless momenta ``(B, 3, ...)``."""
    x, y, z = momentum.unbind(1)
    return (x.square() + y.square() + z.square()).sqrt(), x, y, z
