"""RAMBO on diet: n particles from 3n − 4 unit-hypercube variables, exactly flat without masses (1308.2922).

>>> _, weight = RamboOnDiet([0.0] * 3).forward(torch.full((1, 5), 0.3).double(), 100.0)
>>> bool(torch.isclose(weight, torch.tensor([massless_volume(3, 100.0)]).double()))
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.phase_space.frames import (
    angles,
    checked_energy,
    checked_final_state,
    checked_unit,
    direction,
    momentum_at_rest,
)

__all__ = ["RamboOnDiet", "massless_volume"]

_NEWTON_STEPS = 7


def massless_volume(n: int, sqrt_s: Tensor | float) -> Tensor | float:
    """Return ∫ Π d³p/(2E) δ⁴(P − Σp) = (π/2)ⁿ⁻¹ sⁿ⁻² / ((n−1)! (n−2)!) of ``n`` massless particles, GeV^(2n−4)."""
    return (math.pi / 2) ** (n - 1) * sqrt_s ** (2 * n - 4) / (math.factorial(n - 1) * math.factorial(n - 2))


def _cumulative(v: Tensor, p: int) -> Tensor:
    """Return (p + 1) vᵖ − p vᵖ⁺¹, the distribution function of Beta(p, 2)."""
    return v**p * (1 + p * (1 - v))


class _Quantile(torch.autograd.Function):
    """Solve (p + 1) vᵖ − p vᵖ⁺¹ = r for v, by Newton's method for the logit of r in the logit of v."""

    @staticmethod
    def forward(ctx, r: Tensor, p: int) -> Tensor:
        target, t = r.logit(), r.logit() / min(p, 2)
        for _ in range(_NEWTON_STEPS):
            v, rest = t.sigmoid(), (-t).sigmoid()
            series = sum(k * v ** (k - 1) for k in range(1, p + 1))
            log_odds = p * torch.nn.functional.logsigmoid(t) + (1 + p * rest).log() - 2 * rest.log() - series.log()
            t = t - (log_odds - target) * (1 + p * rest) * series / (p * (p + 1))
        v = t.sigmoid()
        ctx.save_for_backward(v)
        ctx.p = p
        return v

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return grad / (ctx.p * (ctx.p + 1) * v ** (ctx.p - 1) * (1 - v)), None


class RamboOnDiet:
    """Map 3n − 4 unit-hypercube variables to n momenta at rest, with constant weight where all are massless.

    ``masses`` ``(n,)``, or ``(B, n)`` for each event, in GeV. The variables: n − 2 that set the masses M_i of the
    particles i … n together, then cos θ and azimuth of particle i in their rest frame, for i = 1 … n − 1.
    Source: 1308.2922, algorithms 1 and 2, eqs. 5–9. Raises InputError for fewer than two particles and for
    masses that are negative or not finite.
    """

    def __init__(self, masses: Sequence[float] | Tensor):
        masses = torch.as_tensor(masses, dtype=torch.float64)
        if masses.ndim not in (1, 2) or masses.shape[-1] < 2:
            raise InputError(f"masses: shape {tuple(masses.shape)}; (n,) or (events, n) with n ≥ 2 is needed")
        if not (masses.isfinite() & (masses >= 0)).all():
            raise InputError("masses: some are negative or not finite")
        self.masses = masses
        self.n = masses.shape[-1]
        self.dims = 3 * self.n - 4
        self.threshold = float(masses.sum(-1).max())
        self._rest = masses.flip(-1).cumsum(-1).flip(-1)  # sum of the masses from each particle on

    def forward(self, r: Tensor, sqrt_s: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return momenta ``(B, n, 4)`` and weights ``(B,)`` at unit-hypercube variables ``(B, 3n − 4)``.

        ``sqrt_s`` is a number or ``(B,)``, GeV. Raises InputError outside [0, 1] and below threshold.
        """
        r = checked_unit(r, self.dims)
        masses, rest = self.masses.to(r.device), self._rest.to(r.device)
        sqrt_s = checked_energy(sqrt_s, rest[..., 0], len(r)).to(r.device)
        half = torch.finfo(r.dtype).eps / 2
        inside = r[:, : self.n - 2].clip(half, 1 - half)
        excess = [sqrt_s - rest[..., 0]]
        for i, unit in enumerate(inside.unbind(1), start=2):
            excess.append(excess[-1] * _Quantile.apply(unit, self.n - i).sqrt())
        excess = torch.stack([*excess, torch.zeros_like(sqrt_s)], 1)
        together = excess + rest  # M_i = K_i + Σ m
        size = momentum_at_rest(together[:, :-1], together[:, 1:], masses[..., :-1], excess[:, :-1] - excess[:, 1:])
        opening, turn = 2 - 2 * r[:, self.n - 2 :: 2], r[:, self.n - 1 :: 2]
        momentum = size[..., None] * direction(opening, turn)
        energy, energy_left = ((size**2 + mass**2).sqrt()[..., None] for mass in (masses[..., :-1], together[:, 1:]))
        left = torch.stack([sqrt_s, *[torch.zeros_like(sqrt_s)] * 3], 1)
        momenta = []
        for i in range(self.n - 1):
            own = torch.cat([energy[:, i], momentum[:, i]], 1)
            others = torch.cat([energy_left[:, i], -momentum[:, i]], 1)
            momenta.append(kinematics.from_rest(own, left, together[:, i]))
            left = kinematics.from_rest(others, left, together[:, i])
        return torch.stack([*momenta, left], 1), self._weight(together, excess, masses)

    def inverse(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit-hypercube variables ``(B, 3n − 4)`` and weights ``(B,)`` at momenta ``(B, n, 4)``.

        Raises InputError for momenta off their mass shells or not at rest together, beyond 10⁻⁶ of √s.
        """
        masses, rest = (m.to(momenta.device) for m in (self.masses, self._rest))
        momenta, sqrt_s = checked_final_state(momenta, masses)
        left = momenta.flip(1).cumsum(1).flip(1)
        together = torch.cat(
            [sqrt_s[:, None], kinematics.mass(left[:, 1:-1]), masses[..., -1:].expand(len(left), 1)], 1
        )
        excess = (together - rest).clip(0.0)
        ratio = (excess[:, 1:-1] / excess[:, :-2].clip(torch.finfo(momenta.dtype).tiny)).clip(0.0, 1.0) ** 2
        units = [_cumulative(v, self.n - i) for i, v in enumerate(ratio.unbind(1), start=2)]
        for i in range(self.n - 1):
            opening, turn = angles(kinematics.to_rest(momenta[:, i], left[:, i], together[:, i])[:, 1:])
            units += [1 - opening / 2, turn]
        return torch.stack(units, 1), self._weight(together, excess, masses)

    def _weight(self, together: Tensor, excess: Tensor, masses: Tensor) -> Tensor:
        """Return the massless volume at K_1 times Π (M_i/K_i) and the ratios of two-body factors, massive/massless."""
        total, left = together[:, :-1], together[:, 1:]
        tiny = torch.finfo(excess.dtype).tiny
        gap, reach = (excess[:, :-1] - excess[:, 1:]).clip(tiny), excess[:, :-1] + excess[:, 1:]
        mass = masses[..., :-1]
        widened = (gap + 2 * mass) / gap * (total + left + mass) / reach * (gap + 2 * left) / reach
        growth = excess[:, :-1].clip(tiny) / total
        return massless_volume(self.n, excess[:, 0]) * widened.sqrt().prod(1) * growth.prod(1) * growth[:, 0]
