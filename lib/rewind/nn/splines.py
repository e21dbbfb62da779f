"""Monotone rational-quadratic splines (Gregory and Delbourgo, IMA J. Numer. Anal. 2 (1982) 123; 1906.04032).

>>> x = torch.tensor([0.1, 0.7], dtype=torch.float64)
>>> place, log_slope = unit_spline(x, torch.zeros(2, 13))
>>> torch.allclose(place, x), torch.allclose(log_slope, torch.zeros(2).double(), atol=1e-6)
(True, True)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["spline", "unit_spline"]

Ends = Sequence[Tensor]

_MIN_BIN, _MIN_SLOPE = 1e-3, 1e-3
_SLOPE_ONE = math.log(math.expm1(1 - _MIN_SLOPE))


def spline(x: Tensor, left: Tensor, bottom: Tensor, slope: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Return the spline through knots (``left``, ``bottom``) with their slopes at ``x``, and the log of its slope.

    ``x`` ``(...)`` lies between the first and the last knot, knots and slopes are ``(..., K + 1)``. With ``inverse``,
    ``x`` is a value of the spline; its place returns, with the log of the inverse's slope. Eqs. 4 to 8 of 1906.04032.
    """
    cell = _cell(x, bottom if inverse else left)
    return _between(x, *(_ends(values, cell) for values in (left, bottom, slope)), inverse)


def _cell(x: Tensor, edges: Tensor) -> Tensor:
    """Return in which of the bins between edges ``(..., K + 1)`` each ``x`` ``(...)`` lies."""
    inner = edges[..., 1:-1].detach().expand(*x.shape, -1).contiguous()
    return torch.searchsorted(inner, x.detach()[..., None].contiguous(), right=True)


def _ends(values: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``values`` ``(..., K + 1)`` at edges are at both ends of the bin ``cell`` ``(..., 1)``."""
    return values.expand(*cell.shape[:-1], -1).gather(-1, torch.cat([cell, cell + 1], -1)).unbind(-1)


def _between(x: Tensor, places: Ends, values: Ends, slopes: Ends, inverse: bool) -> tuple[Tensor, Tensor]:
    """Return what :func:`spline` does, from places, values and slopes at both ends of each number's bin."""
    (x0, x1), (y0, y1), (d0, d1) = places, values, slopes
    w, h = x1 - x0, y1 - y0
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
    left, bottom = _knots(parameters[..., :bins]), _knots(parameters[..., bins : 2 * bins])
    cell = _cell(x, bottom if inverse else left)
    raw = _ends(parameters[..., 2 * bins :], cell)
    slopes = [_MIN_SLOPE + functional.softplus(logit + _SLOPE_ONE) for logit in raw]
    return _between(x, _ends(left, cell), _ends(bottom, cell), slopes, inverse)
