"""Chiral spinors and their products with four-vectors, component by component, the batch on the last axis.

In the Weyl representation a row of spinors is four complex tensors, the first two multiply the left-handed
components. A real four-vector is a tensor ``(4, ..., B)``, its matrix p̸ is held as the light-cone components
(E − p_z, E + p_z, p_x + i p_y, p_x − i p_y). Leading axes number spins and polarisations, and broadcast.

>>> p = torch.tensor([[5.0], [0.0], [3.0], [4.0]], dtype=torch.float64)
>>> dot(p, p).tolist(), square(p).tolist()
([0.0], [0.0])
"""

from __future__ import annotations

import torch
from torch import Tensor, addcmul

__all__ = [
    "Spinor",
    "antiparticle",
    "chiral_field",
    "commutator",
    "contract",
    "dot",
    "light_cone",
    "massive_spinors",
    "massless_spinor",
    "projected",
    "scale",
    "slash",
    "square",
]

Spinor = tuple[Tensor, Tensor, Tensor, Tensor]


def dot(p: Tensor, q: Tensor) -> Tensor:
    """Return p·q ``(..., B)``."""
    return p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3]


def square(p: Tensor) -> Tensor:
    """Return p² ``(..., B)`` from E² − p_z² = (E − p_z)(E + p_z), which keeps digits at high energy."""
    along = p[3].abs()
    return (p[0] - along) * (p[0] + along) - p[1] * p[1] - p[2] * p[2]


def light_cone(p: Tensor) -> Spinor:
    """Return the complex light-cone components of real vectors ``(4, ..., B)``."""
    zero = torch.zeros_like(p[0])
    pairs = (p[0] - p[3], zero), (p[0] + p[3], zero), (p[1], p[2]), (p[1], -p[2])
    return tuple(torch.complex(*pair) for pair in pairs)


def slash(row: Spinor, vector: Spinor, start: Spinor | None = None) -> Spinor:
    """Return row·v̸, added to ``start``; ``vector`` in light-cone components."""
    a0, a1, b0, b1 = row
    minus, plus, perp, conj = vector
    first = (b0, plus), (b0, conj), (a0, minus), (a1, plus)
    second = (b1, perp, 1), (b1, minus, 1), (a1, perp, -1), (a0, conj, -1)
    return _sum_of_products(first, second, start)


def chiral_field(k: Tensor, a: Tensor) -> Tensor:
    """Return E − iB of the field strength k_μ a_ν − k_ν a_μ as f = (f_z, f_x + i f_y, f_x − i f_y), ``(3, ..., B)``.

    ``k``, ``a`` real ``(4, ..., B)``. The commutator [k̸, a̸] is 2 f·σ on left-handed, −2 f*·σ on right-handed rows.
    """
    ex, ey, ez = (k[0] * a[i] - k[i] * a[0] for i in (1, 2, 3))
    bx, by, bz = (k[i] * a[j] - k[j] * a[i] for i, j in ((2, 3), (3, 1), (1, 2)))
    return torch.complex(torch.stack([ez, ex + by, ex - by]), torch.stack([-bz, ey - bx, -ey - bx]))


def commutator(row: Spinor, field: Tensor, start: Spinor | None = None) -> Spinor:
    """Return row·[k̸, a̸]/2, added to ``start``; ``field`` from `chiral_field`."""
    a0, a1, b0, b1 = row
    z, plus, minus = field
    z_, minus_, plus_ = field.conj_physical()
    first = (a0, z), (a0, minus), (b1, -plus_), (b1, z_)
    second = (a1, plus, 1), (a1, z, -1), (b0, z_, -1), (b0, minus_, -1)
    return _sum_of_products(first, second, start)


def _sum_of_products(first, second, start):
    if start is None:
        sums = [x * y for x, y in first]
    else:
        sums = [addcmul(z, x, y) for z, (x, y) in zip(start, first, strict=True)]
    return tuple(addcmul(z, x, y, value=sign) for z, (x, y, sign) in zip(sums, second, strict=True))


def scale(row: Spinor, left: Tensor | complex, right: Tensor | complex, start: Spinor | None = None) -> Spinor:
    """Return the row with its first two components times ``left``, its others times ``right``, added to ``start``."""
    factors = (left, left, right, right)
    if start is None:
        return tuple(x * factor for x, factor in zip(row, factors, strict=True))
    return tuple(addcmul(z, x, factor) for z, x, factor in zip(start, row, factors, strict=True))


def massless_spinor(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return both components ``(..., B)`` of the row r with r†r = p·σ̄; only the larger of E ± p_z counts."""
    along = p[0] + p[3].abs()
    zero, up = torch.zeros_like(along), p[3] > 0
    root = along.sqrt()
    x, y = p[1] / root, p[2] / root
    first = torch.complex(torch.where(up, root, x), torch.where(up, zero, y))
    return first, torch.complex(torch.where(up, x, root), torch.where(up, -y, zero))


def projected(row: Spinor, p: Spinor, mass: Tensor | float) -> Spinor:
    """Return row·(p̸ + m)."""
    return slash(row, p, scale(row, mass, mass))


def massive_spinors(p: Tensor, mass: Tensor | float) -> Spinor:
    """Return ū of both spin states along a light-like axis, ``(2, ..., B)``: Σ u ū = p̸ + m on the mass shell.

    The states are ⟨n|(p̸ + m) and [n|(p̸ + m) over √(2 p·n), n along the z axis and opposite to p.
    """
    zero = torch.zeros_like(p[0])
    n = torch.stack([zero + 1, zero, zero, torch.where(p[3] > 0, zero - 1, zero + 1)])
    first, second = massless_spinor(n)
    none = torch.zeros_like(first)
    rows = (first, none), (second, none), (none, -second.conj_physical()), (none, first.conj_physical())
    factor = (2 * dot(p, n)).rsqrt()
    return projected(tuple(torch.stack(pair) * factor for pair in rows), light_cone(p), mass)


def antiparticle(row: Spinor) -> Spinor:
    """Return the column v that belongs to the antiparticle where ``row`` is the particle's ū: Σ v v̄ = p̸ − m."""
    a0, a1, b0, b1 = (x.conj_physical() for x in row)
    return -b0, -b1, a0, a1


def contract(row: Spinor, column: Spinor) -> Tensor:
    """Return row·column ``(..., B)``."""
    total = row[0] * column[0]
    for x, y in zip(row[1:], column[1:], strict=True):
        total = addcmul(total, x, y)
    return total
