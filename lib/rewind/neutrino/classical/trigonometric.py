"""Extrema and zeros of f(t) = p·(cos 2t, sin 2t) + q·(cos t, sin t): the squared distance of an ellipse from a point.

>>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
>>> t = minimum(p, q)
>>> round(float(value(p, q, t.cos(), t.sin())), 6)
-2.0
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["extrema", "minimum", "monotone_root", "squared_distance", "value"]

_TINY = 1e-150


def squared_distance(A: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return p, q ``(..., 2)`` and k of ``|A (cos t, sin t) + b|²`` = p·(cos 2t, sin 2t) + q·(cos t, sin t) + k."""
    M = A.mT @ A
    p = torch.stack([(M[..., 0, 0] - M[..., 1, 1]) / 2, M[..., 0, 1]], -1)
    q = 2 * (A * b[..., :, None]).sum(-2)
    return p, q, (M[..., 0, 0] + M[..., 1, 1]) / 2 + b.square().sum(-1)


def value(p: Tensor, q: Tensor, c: Tensor, s: Tensor) -> Tensor:
    """Return p·(cos 2t, sin 2t) + q·(cos t, sin t) for ``c`` = cos t and ``s`` = sin t."""
    return p[..., 0] * (c - s) * (c + s) + 2 * p[..., 1] * c * s + q[..., 0] * c + q[..., 1] * s


def minimum(p: Tensor, q: Tensor) -> Tensor:
    """Return the angle of the global minimum of p·(cos 2t, sin 2t) + q·(cos t, sin t)."""
    turn, x, y = _turned(p, q)
    delta = _secular(y, x, +1.0)
    return turn + torch.atan2(_ratio(y, delta), -x / (2 + delta))


def extrema(p: Tensor, q: Tensor) -> Tensor:
    """Return four angles ``(..., 4)``, among them all extrema of p·(cos 2t, sin 2t) + q·(cos t, sin t).

    On the unit circle (u, v) and with a Lagrange multiplier λ, u = −x/(1 + λ) and v = −y/(1 − λ), so that
    x²/(1 + λ)² + y²/(1 − λ)² = 1: one λ on each side of [−1, 1], and two inside or none.
    """
    turn, x, y = _turned(p, q)
    outer, inner = (_secular(torch.stack([x, y]), torch.stack([y, x]), sign) for sign in (+1.0, -1.0))
    u = [_ratio(x, outer[0]), -x / (2 + outer[1]), -_ratio(x, inner[0]), -x / (2 - inner[1])]
    v = [-y / (2 + outer[0]), _ratio(y, outer[1]), -y / (2 - inner[0]), -_ratio(y, inner[1])]
    return turn[..., None] + torch.atan2(torch.stack(v, -1), torch.stack(u, -1))


def monotone_root(p: Tensor, q: Tensor, k: Tensor, low: Tensor, high: Tensor, f_low: Tensor, f_high: Tensor) -> Tensor:
    """Return the zero between ``low`` and ``high`` by Newton steps that fall back on bisection.

    Between two extrema f resembles half a wave; its zero is the start.
    """
    rising = f_high > f_low
    t = low + (high - low) / math.pi * ((f_low + f_high) / (f_high - f_low)).clip(-1, 1).arccos()
    for _ in range(60):
        c, s = t.cos(), t.sin()
        f = value(p, q, c, s) + k
        slope = 2 * (p[:, 1] * (c - s) * (c + s) - 2 * p[:, 0] * c * s) + q[:, 1] * c - q[:, 0] * s
        below = (f < 0) == rising
        low, high = torch.where(below, t, low), torch.where(below, high, t)
        step = t - f / slope
        new = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        moved, t = (new - t).abs(), new
        if not (moved > 1e-9).any():
            break
    return t


def _turned(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return φ, x, y: p·(cos 2t, sin 2t) + q·(cos t, sin t) is |p| (cos 2τ + 2x cos τ − 2y sin τ) with t = τ + φ."""
    turn = torch.atan2(p[..., 1], p[..., 0]) / 2
    size = 2 * torch.maximum(p.norm(dim=-1), 1e-15 * q.norm(dim=-1)).clip(_TINY)
    c, s = turn.cos(), turn.sin()
    return turn, (q[..., 0] * c + q[..., 1] * s) / size, (q[..., 0] * s - q[..., 1] * c) / size


def _secular(near: Tensor, far: Tensor, sign: float) -> Tensor:
    """Return the root δ > 0 of near²/δ² + far²/(2 ± δ)² = 1 next to its pole at zero.

    On its way down the left-hand side is convex, so that Newton steps from a lower bound approach the root from one
    side. Bounds are those of each term alone, and those of 1 − far²/(2 ± δ)² ≤ e + g δ. Where (sign −1) the left-hand
    side never falls to one, δ ends at its minimum.
    """
    near, far = near.abs().clip(_TINY), far.abs().clip(_TINY)
    g = (far / 2) ** 2
    e = (1 - far / 2) * (1 + far / 2)
    if sign > 0:
        limit = near.new_tensor(math.inf)
        start = torch.minimum(near / (2 * e.clip(0.0)).sqrt(), (near**2 / (2 * g)) ** (1 / 3))
        delta = torch.maximum(torch.maximum(near, far - 2), start)
    else:
        limit = 2 / (1 + (far / near) ** (2 / 3))
        delta = torch.minimum(torch.maximum(near, near / e.clip(0.0).sqrt()), limit)
    for _ in range(40):
        u, other = near / delta, 2 + sign * delta
        v = far / other
        slope = u * u / delta + sign * v * v / other
        step = ((u * u + v * v - 1) / (2 * slope)).clip(0.0).nan_to_num(0.0)
        new = torch.minimum(delta + step, limit)
        moved, delta = new - delta, new
        if not (moved > 1e-9 * delta).any():
            break
    return delta


def _ratio(near: Tensor, delta: Tensor) -> Tensor:
    """Return near/δ; next to zero a small number of that sign stands for one of the two mirrored extrema."""
    return torch.where(near.abs() < _TINY, near.sign().add(0.5).sign() * _TINY, near) / delta
