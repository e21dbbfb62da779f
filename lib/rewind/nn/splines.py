"""Monotone rational-quadratic splines (Gregory and Delbourgo, IMA J. Numer. Anal. 2 (1982) 123; 1906.04032)."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

__all__ = ["spline", "unit_spline"]

_MIN_BIN, _MIN_SLOPE = 1e-3, 1e-3
_SLOPE_ONE = math.log(math.expm1(1 - _MIN_SLOPE))


def spline(x: Tensor, left: Tensor, bottom: Tensor, slope: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Return the spline through knots (``left``, ``bottom``) with their slopes at ``x``, and the log of its slope.

    ``x`` ``(...)`` lies between the first and the last knot, knots and slopes are ``(..., K + 1)``. With ``inverse``,
    ``x`` is a value of the spline; its place returns, with the log of the inverse's slope. Eqs. 4 to 8 of 1906.04032.
    """
    edges = bottom if inverse else left
    k = (x[..., None] >= edges[..., 1:-1]).sum(-1, keepdim=True)

    def at(values, shift=0):
        return values.expand(*x.shape, -1).gather(-1, k + shift)[..., 0]

    x0, y0, d0, d1 = at(left), at(bottom), at(slope), at(slope, 1)
    w, h = at(left, 1) - x0, at(bottom, 1) - y0
    s = h / w
    bend = d0 + d1 - 2 * s
    if inverse:
        up = x - y0
        a, b, c = h * (s - d0) + up * bend, h * d0 - up * bend, -s * up
        t = -2 * c / (b + (b * b - 4 * a * c).clip(0.0).sqrt())
    else:
        t = (x - x0) / w
    t = t.clip(0.0, 1.0)
    mixed = t * (1 - t)
    below = s + bend * mixed
    log_slope = 2 * (s / below).log() + (d1 * t * t + 2 * s * mixed + d0 * (1 - t) ** 2).log()
    if inverse:
        return x0 + w * t, -log_slope
    return y0 + h * (s * t * t + d0 * mixed) / below, log_slope


def _knots(logits: Tensor) -> Tensor:
    """Return positions ``(..., K + 1)`` from 0 to 1, no closer than the smallest bin."""
    size = _MIN_BIN + (1 - _MIN_BIN * logits.shape[-1]) * logits.softmax(-1)
    return functional.pad(functional.pad(size[..., :-1].cumsum(-1), (1, 0)), (0, 1), value=1.0)


def unit_spline(x: Tensor, parameters: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Return :func:`spline` from the unit interval onto itself, at ``x`` ``(...)``, set by free ``parameters``.

    These are ``(..., 3K + 1)``: logits of K widths, logits of K heights, K + 1 slopes before a softplus. Zeros give
    the identity; slopes at both ends are free.
    """
    bins = parameters.shape[-1] // 3
    slope = _MIN_SLOPE + functional.softplus(parameters[..., 2 * bins :] + _SLOPE_ONE)
    left, bottom = _knots(parameters[..., :bins]), _knots(parameters[..., bins : 2 * bins])
    return spline(x, left, bottom, slope, inverse=inverse)
