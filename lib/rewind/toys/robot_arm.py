"""The robot arm: four joints, two observed coordinates, and the exact posterior (1808.04730, sec. 4.1).

A joint slides along a rail to height x1; three links of lengths 0.5, 0.5, 1.0 follow, turned by x2, x3, x4 (radians)
against one another. The hand is at y = (Σ l cos θ, x1 + Σ l sin θ), θ the cumulated angles. Heights and lengths
share one unit.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.nn.flows import Chart

__all__ = [
    "LENGTHS",
    "FoldChart",
    "ResidualChart",
    "forward",
    "joints",
    "sample_abc",
    "sample_posterior",
    "sample_prior",
]

LENGTHS = torch.tensor([0.5, 0.5, 1.0])
RAIL_WIDTH, ANGLE_WIDTH = 0.25, 0.5

_PROPOSALS = 200_000
_HOPELESS = 20_000_000


def _lengths(like: Tensor) -> Tensor:
    return LENGTHS.to(like)


def joints(x: Tensor) -> Tensor:
    """Return the positions of rail joint, elbows and hand, ``(..., 4, 2)``, of arms ``x`` ``(..., 4)``."""
    theta = x[..., 1:].cumsum(-1)
    steps = _lengths(x)[:, None] * torch.stack([theta.cos(), theta.sin()], -1)
    base = torch.stack([torch.zeros_like(x[..., 0]), x[..., 0]], -1)[..., None, :]
    return torch.cat([base, base + steps.cumsum(-2)], -2)


def forward(x: Tensor) -> Tensor:
    """Return the hand positions ``(..., 2)`` of arms ``x`` ``(..., 4)``."""
    return joints(x)[..., -1, :]


def sample_prior(n: int, generator: torch.Generator) -> Tensor:
    """Return ``n`` arms from the prior x1 ~ N(0, 0.25²), x2, x3, x4 ~ N(0, 0.5²)."""
    return torch.randn(n, 4, generator=generator) * torch.tensor([RAIL_WIDTH, *[ANGLE_WIDTH] * 3])


def sample_posterior(y: Tensor, n: int, generator: torch.Generator, noise: float = 0.0) -> Tensor:
    """Return ``n`` exact draws ``(n, 4)`` of the arm given its hand at ``y`` ``(2,)``.

    With ``noise`` the hand is measured with a Gaussian error of that width in each coordinate; without, the draws
    lie on the surface g(x) = y with the density prior/√det(J Jᵀ) of the co-area formula. Raises InputError for a
    position out of reach, or so unlikely that no draw is found.
    """
    y = torch.as_tensor(y, dtype=torch.float64)
    if y.shape != (2,) or not torch.isfinite(y).all():
        raise InputError(f"hand position {y.tolist()}: two finite numbers are needed")
    if noise < 0 or n < 1:
        raise InputError(f"n = {n}, noise = {noise}: n must be at least 1 and the noise not negative")
    propose = _surface_proposal(y) if noise == 0 else _noisy_proposal(y, noise)
    accepted, n_accepted, n_proposed = [], 0, 0
    while n_accepted < n:
        accepted.append(propose(generator))
        n_accepted += len(accepted[-1])
        n_proposed += _PROPOSALS
        if n_proposed >= _HOPELESS and n_accepted == 0:
            raise InputError(
                f"hand position {y.tolist()}: none of {n_proposed:,} arms reaches it; choose a likelier one"
            )
    return torch.cat(accepted)[:n].to(torch.get_default_dtype())


def _log_normal(x: Tensor, width: float) -> Tensor:
    return -0.5 * (x / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))


def _noisy_proposal(y: Tensor, noise: float):
    """Propose angles from the prior with x1 integrated out; the likelihood is bounded, so rejection is exact."""
    height_width = math.hypot(noise, RAIL_WIDTH)
    narrow = noise * RAIL_WIDTH / height_width

    def propose(generator: torch.Generator) -> Tensor:
        x = torch.randn(_PROPOSALS, 4, generator=generator, dtype=torch.float64) * ANGLE_WIDTH
        x[:, 0] = 0.0
        missing = y - forward(x)
        log_weight = -0.5 * ((missing[:, 0] / noise) ** 2 + (missing[:, 1] / height_width) ** 2)
        keep = torch.rand(_PROPOSALS, generator=generator, dtype=torch.float64).log() < log_weight
        x, missing = x[keep], missing[keep, 1]
        x[:, 0] = missing * (RAIL_WIDTH / height_width) ** 2
        x[:, 0] += narrow * torch.randn(len(x), generator=generator, dtype=torch.float64)
        return x

    return propose


def _surface_proposal(y: Tensor):
    """Propose two angles from the prior and solve for the third, always the one with the longest lever.

    Solving y1 for θ_k costs the Jacobian l_k |sin θ_k|, which vanishes where that link lies along the first axis.
    At each point of the surface only the chart with the largest Jacobian counts, and that one is bounded from below
    unless the arm may lie straight, so that rejection is exact.
    """
    lengths = _lengths(y)
    if y[0].abs() > lengths.sum():
        raise InputError(f"hand position {y.tolist()}: |y1| exceeds the arm's length {lengths.sum():g}")
    shortest = _longest_lever_at_least(y[0], lengths)
    if shortest < 1e-3:
        raise InputError(f"hand position {y.tolist()}: a straight arm reaches it; move it, or add noise")
    steps = torch.arange(1.0, 4.0).to(y)
    covariance = ANGLE_WIDTH**2 * torch.minimum(steps[:, None], steps)
    precision = torch.linalg.inv(covariance)
    reach = (lengths.sum() ** 2 - y[0] ** 2).sqrt()
    log_height_bound = _log_normal((y[1].abs() - reach).clip(0.0), RAIL_WIDTH)
    log_bound = log_height_bound + 0.5 * (precision.diagonal().max() / (2 * math.pi)).log() - shortest.log()

    def solve(k: int, generator: torch.Generator) -> Tensor:
        others = [i for i in range(3) if i != k]
        uniform = partial(torch.rand, generator=generator, dtype=y.dtype)
        normal = torch.randn(_PROPOSALS // 3, 2, generator=generator, dtype=y.dtype)
        free = normal @ torch.linalg.cholesky(covariance[others][:, others]).T
        cosine = (y[0] - free.cos() @ lengths[others]) / lengths[k]
        free, cosine = free[cosine.abs() <= 1], cosine[cosine.abs() <= 1]
        sign = torch.where(uniform(len(free)) < 0.5, -1.0, 1.0)
        wound = (sign * cosine.arccos())[:, None] + 2 * math.pi * torch.arange(-1, 2)
        mean = -(free @ precision[others, k]) / precision[k, k]
        density = _log_normal(wound - mean[:, None], float(precision[k, k]) ** -0.5).exp()
        which = torch.multinomial(density + 1e-300, 1, generator=generator)
        theta = torch.empty(len(free), 3, dtype=y.dtype)
        theta[:, others], theta[:, k] = free, wound.gather(1, which)[:, 0]
        lever = (lengths * theta.sin()).abs()
        height = y[1] - theta.sin() @ lengths
        log_weight = density.sum(1).log() + _log_normal(height, RAIL_WIDTH) - lever[:, k].log()
        keep = (uniform(len(free)).log() < log_weight - log_bound) & (lever.argmax(1) == k)
        return torch.cat([height[:, None], theta[:, :1], theta.diff(dim=1)], 1)[keep]

    def propose(generator: torch.Generator) -> Tensor:
        arms = torch.cat([solve(k, generator) for k in range(3)])
        return arms[torch.randperm(len(arms), generator=generator)]

    return propose


def _longest_lever_at_least(y1: Tensor, lengths: Tensor) -> Tensor:
    """Return a lower bound on max l_k |sin θ_k| over all arms with Σ l cos θ = y1.

    Levers of at most s move the hand by at most Σ (l − √(l² − s²)) from where it is with a straight arm.
    """
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=y1.dtype)] * 3)
    distance = (signs @ lengths - y1).abs().min()
    low, high = torch.zeros_like(y1), lengths.min()
    for _ in range(60):
        middle = (low + high) / 2
        too_short = (lengths - (lengths**2 - middle**2).sqrt()).sum() < distance
        low, high = torch.where(too_short, middle, low), torch.where(too_short, high, middle)
    return low


def sample_abc(
    y: Tensor, n: int, generator: torch.Generator, tolerance: float, noise: float = 0.0
) -> tuple[Tensor, int]:
    """Return ``n`` arms whose simulated hands fall within ``tolerance`` of ``y``, and the simulations it took."""
    accepted, n_accepted, n_simulated = [], 0, 0
    while n_accepted < n:
        x = sample_prior(_PROPOSALS, generator)
        hand = forward(x) + noise * torch.randn(_PROPOSALS, 2, generator=generator)
        accepted.append(x[(hand - y).norm(dim=-1) < tolerance])
        n_accepted += len(accepted[-1])
        n_simulated += _PROPOSALS
        if n_simulated >= _HOPELESS and n_accepted == 0:
            raise InputError(
                f"hand position {list(map(float, y))}: no simulation of {n_simulated:,} falls within {tolerance}"
            )
    return torch.cat(accepted)[:n], n_simulated


class ResidualChart(Chart):
    """Replace the rail height by the hand's vertical residual in units of the noise: (x2, x3, x4, (g2 − y2)/σ)."""

    def __init__(self, noise: float):
        super().__init__()
        self.noise = noise

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates and log-Jacobian: a shear and a scale."""
        residual = (forward(target)[:, 1] - event[:, 1]) / self.noise
        log_det = torch.full_like(residual, -math.log(self.noise))
        return torch.cat([target[:, 1:], residual[:, None]], 1), log_det

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return arms."""
        angles, residual = coordinates[:, :3], coordinates[:, 3]
        lying = torch.cat([torch.zeros_like(residual)[:, None], angles], 1)
        height = event[:, 1] + self.noise * residual - forward(lying)[:, 1]
        return torch.cat([height[:, None], angles], 1)


class FoldChart(ResidualChart):
    """Unfold the two solutions for the last link as well, given the first two.

    With θ1, θ2 and the hand's y1 the last link can point up or down, at θ3 = ±θ*, where cos θ* = y1 − Σ l cos θ over
    the first two. The coordinate for x4 is q = [asinh((θ3 − θ*)/δ) + asinh((θ3 + θ*)/δ)] / (2 A), with δ the
    width σ/sin θ* of a solution (σ^½ where they merge): it stretches both solutions to a like width about ±1.
    """

    def _fold(self, angles: Tensor, event: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta = angles[:, :2].cumsum(1)
        cosine = event[:, 0] - theta.cos() @ _lengths(theta)[:2]
        solution = cosine.clip(-1.0, 1.0).arccos()
        width = self.noise / (solution.sin() ** 2 + self.noise).sqrt()
        stretch = (1 + torch.asinh(2 * solution / width) ** 2 / 4).sqrt()
        return solution, width, stretch

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates and log-Jacobian."""
        coordinates, log_det = super().forward(target, event)
        solution, width, stretch = self._fold(coordinates, event)
        theta3 = coordinates[:, :3].sum(1)
        below, above = (theta3 - solution) / width, (theta3 + solution) / width
        unfolded = (torch.asinh(below) + torch.asinh(above)) / (2 * stretch)
        slope = ((1 + below**2) ** -0.5 + (1 + above**2) ** -0.5) / (2 * stretch * width)
        out = torch.stack([coordinates[:, 0], coordinates[:, 1], unfolded, coordinates[:, 3]], 1)
        return out, log_det + slope.log()

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return arms; sinh of a sum of two asinh leaves a quadratic equation for θ3²."""
        solution, width, stretch = self._fold(coordinates, event)
        total = 2 * stretch * coordinates[:, 2]
        # (below, above) = (t − s, t + s): cosh(total) = √((1+below²)(1+above²)) + below·above
        half = torch.sinh(total / 2).double()
        ratio = (solution / width).double()
        theta3 = width * (half * (1 + ratio**2 / (1 + half**2)).sqrt()).to(width)
        last = theta3 - coordinates[:, :2].sum(1)
        return super().inverse(torch.stack([coordinates[:, 0], coordinates[:, 1], last, coordinates[:, 3]], 1), event)
