"""Where two ellipses in the transverse plane meet, one mirrored at p_T^miss, and where they come closest.

Both questions are about a function of one angle, f(t), the squared length of A (cos t, sin t) + b. With A and b of the
map that carries one ellipse to the circle of the other, f = 1 where they meet; with A an ellipse and −b a point, f is a
squared distance. The extrema of f follow from a safe root search. Between neighbours f is monotone, so that every sign
change of f − 1 is exactly one solution. Ellipses are ``(B, 2, 3, 3)`` by leg, with half-axes and centre as columns.

>>> determinant(torch.tensor([[2.0, 1.0], [0.0, 3.0]])).item()
6.0
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rewind.neutrino.classical.trigonometric import extrema, minimum, monotone_root, squared_distance, value

__all__ = ["closest_approach", "determinant", "intersections"]

_EDGE_ON = 1e-6  # ratio of axes below which a projected ellipse counts as a segment
_MEET = 1e-6  # GeV by which a solution may miss p_T^miss
_GRID = 48  # angles of the first ellipse from which the closest approach starts


def intersections(H: Tensor, met: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return event ``(n,)``, slot ``(n,)`` and both angles ``(n, 2)`` of all n solutions."""
    to_angle = _inverse(H[:, 1, :2, :2])
    A = -to_angle @ H[:, 0, :2, :2]
    b = (to_angle @ (met - H[:, :, :2, 2].sum(1))[..., None])[..., 0]
    p, q, k = squared_distance(A, b)
    edges = extrema(p, q).remainder(2 * math.pi).sort(-1).values
    above = value(p[:, None], q[:, None], edges.cos(), edges.sin()) + k[:, None] - 1
    event, slot = ((above > 0) != (above.roll(-1, -1) > 0)).nonzero(as_tuple=True)
    low, high = edges[event, slot], edges.roll(-1, -1)[event, slot]
    high = torch.where(slot == 3, high + 2 * math.pi, high)
    f_low, f_high = above[event, slot], above.roll(-1, -1)[event, slot]

    t = monotone_root(p[event], q[event], k[event] - 1, low, high, f_low, f_high)
    circle = torch.stack([t.cos(), t.sin()], -1)
    other = (A[event] @ circle[..., None])[..., 0] + b[event]
    angles = torch.stack([t, torch.atan2(other[:, 1], other[:, 0])], -1)
    angles, miss = _polished(H[event, :, :2], met[event], angles)
    meet = miss < _MEET  # tangent ellipses that are seen edge-on can seem to
    return event[meet], slot[meet], angles[meet]


def closest_approach(H: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles ``(B, 2)`` of the smallest ``|ν_T + ν̄_T − met|``, and that distance ``(B,)``.

    On a grid of angles of the first ellipse the second angle is the global minimum; all local minima along the grid
    are refined in both angles and compared.
    """
    P = H[:, :, :2]
    grid = torch.arange(_GRID).to(met) * (2 * math.pi / _GRID)
    circle = torch.stack([grid.cos(), grid.sin(), torch.ones_like(grid)])
    b = (P[:, 0] @ circle).mT + (P[:, 1, :, 2] - met)[:, None]
    p, q, k = squared_distance(P[:, None, 1, :, :2], b)
    other = minimum(p, q)
    distance2 = value(p, q, other.cos(), other.sin()) + k
    is_dip = (distance2 <= distance2.roll(1, -1)) & (distance2 <= distance2.roll(-1, -1))
    event, slot = is_dip.nonzero(as_tuple=True)
    t = torch.stack([grid[slot], other[event, slot]], -1)
    t, minima = _descend(P[event], met[event], t)
    angles, distance2 = t.new_zeros(*is_dip.shape, 2), torch.full_like(distance2, math.inf)
    angles[event, slot], distance2[event, slot] = t, minima
    least, best = distance2.min(-1)
    return angles[torch.arange(len(met)), best], least.sqrt()


def _polished(P: Tensor, met: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles ``(n, 2)`` after four Newton steps on ν_T + ν̄_T = met, taken only where they help, and what is
    still missing ``(n,)``.
    """
    r, J, _ = _residual(P, met, t)
    for _ in range(4):
        x = torch.stack([r[:, 0] * J[:, 1, 1] - r[:, 1] * J[:, 0, 1], r[:, 1] * J[:, 0, 0] - r[:, 0] * J[:, 1, 0]], -1)
        new = t - x / determinant(J)[:, None]
        new_r, new_J, _ = _residual(P, met, new)
        better = new_r.norm(dim=-1) < r.norm(dim=-1)
        t, r = torch.where(better[:, None], new, t), torch.where(better[:, None], new_r, r)
        J = torch.where(better[:, None, None], new_J, J)
    return t, r.norm(dim=-1)


def _descend(P: Tensor, met: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the local minima of |r|², r = ν_T + ν̄_T − met, near the angles ``t``, and |r|² there.

    Newton steps, with the Hessian shifted to be positive and damped until they descend.
    """
    r, J, arm = _residual(P, met, t)
    F = r.square().sum(-1)
    damping = torch.full_like(F, 1e-3)
    for _ in range(25):
        g = (r[..., None] * J).sum(-2)
        bend = J.square().sum(-2) - (r[..., None] * arm).sum(-2)
        mixed = (J[..., 0] * J[..., 1]).sum(-1)
        size = J.square().sum((-2, -1)) + F
        lowest = bend.mean(-1) - torch.hypot((bend[..., 0] - bend[..., 1]) / 2, mixed)
        shift = (-2 * lowest).clip(0.0) + damping * size
        h0, h1 = bend[..., 0] + shift, bend[..., 1] + shift
        step = torch.stack([g[..., 0] * h1 - g[..., 1] * mixed, g[..., 1] * h0 - g[..., 0] * mixed], -1)
        step = step / (h0 * h1 - mixed**2)[..., None]
        new = t - step
        new_r, new_J, new_arm = _residual(P, met, new)
        new_F = new_r.square().sum(-1)
        better = new_F < F
        t, r, F = torch.where(better[..., None], new, t), torch.where(better[..., None], new_r, r), new_F.minimum(F)
        J, arm = (torch.where(better[..., None, None], *x) for x in ((new_J, J), (new_arm, arm)))
        damping = torch.where(better, damping * 0.03, damping * 10)
        if not (step.abs() > 1e-8).any():
            break
    return t, F


def _residual(P: Tensor, met: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ν_T + ν̄_T − met, its Jacobian ``(..., 2, 2)`` by the angles, and the ellipses' offsets ``(..., 2, 2)``.

    ``P`` ``(..., 2, 2, 3)`` by leg, component and column. Jacobian and offsets are by component and leg.
    """
    c, s = t.cos()[..., None], t.sin()[..., None]
    arm = (c * P[..., 0] + s * P[..., 1]).mT
    return arm.sum(-1) + P[..., 2].sum(-2) - met, (c * P[..., 1] - s * P[..., 0]).mT, arm


def determinant(P: Tensor) -> Tensor:
    """Return the determinants of 2×2 matrices ``(..., 2, 2)``."""
    return P[..., 0, 0] * P[..., 1, 1] - P[..., 0, 1] * P[..., 1, 0]


def _inverse(P: Tensor) -> Tensor:
    """Return the inverses of 2×2 matrices; singular ones get a little of their nearest rotation."""
    cofactor = torch.stack([P[:, 1].flip(-1), P[:, 0].flip(-1)], 1) * P.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
    near = P + torch.where(determinant(P) < 0, -1.0, 1.0)[:, None, None] * cofactor
    flat = determinant(P).abs() < _EDGE_ON * P.square().sum((1, 2))
    P = torch.where(flat[:, None, None], P + _EDGE_ON * near, P)
    adjugate = torch.stack([P[:, 1].flip(-1), P[:, 0].flip(-1)], 1).mT * P.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
    return adjugate / determinant(P)[:, None, None]
