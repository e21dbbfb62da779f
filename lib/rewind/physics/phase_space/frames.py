"""Two-body kinematics, boosts and directions that all phase-space maps share, and the checks of what enters them.

>>> direction(torch.tensor([1.0]), torch.tensor([0.0])).tolist()
[[1.0, 0.0, 0.0]]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.physics.constraints import refuse

__all__ = [
    "angles",
    "checked_energy",
    "checked_final_state",
    "checked_unit",
    "direction",
    "momentum_at_rest",
]

_ROUNDING = 1e-6  # of the total energy: single-precision inputs


def momentum_at_rest(mass: Tensor, first: Tensor, second: Tensor, excess: Tensor) -> Tensor:
    """Return ``|p|`` of ``mass`` → ``first`` + ``second`` in its rest frame; ``excess`` is mass − first − second."""
    squared = excess * (mass + first + second) * (excess + 2 * first) * (excess + 2 * second)
    return squared.clip(0.0).sqrt() / (2 * mass)


def _basis(axis: Tensor) -> tuple[Tensor, Tensor]:
    """Return two unit vectors that make a right-handed basis with the unit vector ``axis`` ``(..., 3)``."""
    x, y, z = axis.unbind(-1)
    sign = torch.where(z < 0, -1.0, 1.0).to(axis)
    scale = -1 / (sign + z)
    first = torch.stack([1 + sign * x * x * scale, sign * x * y * scale, -sign * x], -1)
    return first, torch.stack([x * y * scale, sign + y * y * scale, -y], -1)


def direction(opening: Tensor, turn: Tensor, axis: Tensor | None = None) -> Tensor:
    """Return unit vectors ``(..., 3)`` at 1 − cos θ = ``opening`` and azimuth 2π ``turn`` about ``axis``.

    The axis is the third by default. An opening keeps its digits close to the axis, where cos θ loses them.
    """
    sin, cos, phi = (opening * (2 - opening)).clip(0.0).sqrt(), 1 - opening, 2 * math.pi * turn
    x, y = sin * phi.cos(), sin * phi.sin()
    if axis is None:
        return torch.stack([x, y, cos], -1)
    first, second = _basis(axis)
    return x[..., None] * first + y[..., None] * second + cos[..., None] * axis


def angles(vector: Tensor, axis: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return 1 − cos θ and the azimuth in turns, in [0, 1], of ``vector`` ``(..., 3)``: the inverse of direction."""
    if axis is None:
        x, y, z = vector.unbind(-1)
    else:
        x, y, z = ((vector * one).sum(-1) for one in (*_basis(axis), axis))
    size = vector.norm(dim=-1).clip(torch.finfo(vector.dtype).tiny)
    opening = torch.where(z > 0, (x * x + y * y) / (size + z.clip(0.0)) / size, 1 - z / size)
    return opening.clip(0.0, 2.0), (torch.atan2(y, x) / (2 * math.pi)) % 1.0


def checked_unit(r: Tensor, dims: int) -> Tensor:
    """Return variables ``(B, dims)`` in float64; raise InputError for other shapes and outside the unit hypercube."""
    r = torch.as_tensor(r, dtype=torch.float64)
    if r.ndim != 2 or r.shape[1] != dims:
        raise InputError(f"r: shape {tuple(r.shape)}; (events, {dims}) is needed")
    refuse(~((r >= 0) & (r <= 1)), "r", "lies outside [0, 1]")
    return r


def checked_energy(sqrt_s: Tensor | float, threshold: Tensor, n_events: int) -> Tensor:
    """Return the energy ``(B,)`` in float64; raise InputError unless it is finite and above ``threshold``."""
    sqrt_s = torch.as_tensor(sqrt_s, dtype=torch.float64)
    if threshold.shape not in ((), (n_events,)):
        raise InputError(f"masses: given for {len(threshold)} events, but there are {n_events}")
    if sqrt_s.shape not in ((), (n_events,)):
        raise InputError(f"sqrt_s: shape {tuple(sqrt_s.shape)}; a number or ({n_events},) is needed")
    sqrt_s = sqrt_s.expand(n_events)
    bad = ~(sqrt_s.isfinite() & (sqrt_s > threshold))
    if bad.any():
        i = int(bad.nonzero()[0])
        masses = float(threshold.expand(n_events)[i])
        raise InputError(
            f"sqrt_s: event {i} has {float(sqrt_s[i]):g} GeV; it must be finite and above the masses' sum, {masses:g}"
        )
    return sqrt_s


def checked_final_state(momenta: Tensor, masses: Tensor) -> tuple[Tensor, Tensor]:
    """Return four-momenta ``(B, n, 4)`` and their total energy ``(B,)`` in float64.

    Raises InputError unless they are finite, on the shells of ``masses`` ``(n,)`` or ``(B, n)``, balance to zero
    momentum, all within 10⁻⁶ of the total energy, and are above threshold.
    """
    momenta = torch.as_tensor(momenta, dtype=torch.float64)
    if momenta.ndim != 3 or momenta.shape[1:] != (masses.shape[-1], 4):
        raise InputError(f"momenta: shape {tuple(momenta.shape)}; (events, {masses.shape[-1]}, 4) is needed")
    if masses.ndim == 2 and len(masses) != len(momenta):
        raise InputError(f"masses: given for {len(masses)} events, but there are {len(momenta)}")
    refuse(~momenta.isfinite(), "momenta", "is not finite")
    total = momenta.sum(1)
    slack = _ROUNDING * total[:, 0]
    shell = (momenta[..., 1:].square().sum(-1) + masses**2).sqrt()
    refuse((momenta[..., 0] - shell).abs() > slack[:, None], "momenta", f"is off the mass shells {_said(masses)}")
    refuse(total[:, 1:].norm(dim=-1) > slack, "momenta", "is not at rest: boost it to where the momenta balance")
    energy = checked_energy(total[:, 0], masses.sum(-1), len(momenta))
    return momenta, energy


def _said(masses: Tensor) -> str:
    return ", ".join(f"{m:g}" for m in masses.tolist()) + " GeV" if masses.ndim == 1 else "given for it"
