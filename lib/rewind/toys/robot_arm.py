"""The robot arm: four joints, two observed coordinates, and the exact posterior (1808.04730, sec. 4.1).

A joint slides along a rail to height x1; three links of lengths 0.5, 0.5, 1.0 follow, turned by x2, x3, x4
(radians) against one another. The hand is at y = (Σ l cos θ, x1 + Σ l sin θ), θ the cumulated angles. Heights
and lengths share one unit.

>>> forward(torch.zeros(1, 4)).tolist()
[[2.0, 0.0]]
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.nn.flows import ConditionalFlow, spline_flow
from rewind.nn.preprocessing import Chart, fold, positive_part, unfold
from rewind.random_numbers import require_generator

__all__ = [
    "LENGTHS",
    "FoldChart",
    "HandFeatures",
    "ResidualChart",
    "abc_acceptance",
    "forward",
    "joints",
    "log_evidence",
    "log_joint",
    "posterior_flow",
    "sample_abc",
    "sample_posterior",
    "sample_prior",
    "simulate",
]

LENGTHS = torch.tensor([0.5, 0.5, 1.0])
RAIL_WIDTH, ANGLE_WIDTH = 0.25, 0.5

_PROPOSALS = 200_000
_TRIAL = 20_000_000
_SHORTEST_FOLDED_LEVER = 0.05


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
    widths = torch.tensor([RAIL_WIDTH, *[ANGLE_WIDTH] * 3])
    return torch.randn(n, 4, generator=require_generator(generator)) * widths


def simulate(n: int, generator: torch.Generator, *, noise: float) -> tuple[Tensor, Tensor]:
    """Return ``n`` arms from the prior and their measured hands."""
    x = sample_prior(n, generator)
    return x, forward(x) + noise * torch.randn(n, 2, generator=generator)


def sample_posterior(y: Tensor, n: int, generator: torch.Generator, noise: float = 0.0) -> Tensor:
    """Return ``n`` exact draws ``(n, 4)`` of the arm given its hand at ``y`` ``(2,)``.

    With ``noise`` the hand is measured with a Gaussian error of that width in each coordinate; without, the
    draws lie on the surface g(x) = y with the density prior/√det(J Jᵀ) of the co-area formula. Raises
    InputError for a position out of reach, or so unlikely that the draws would take minutes.

    The draws are independent, by rejection with a bounded weight. One exception: without noise, where a
    straight arm folded back on itself reaches y1 (0 or ±1), the weight is cut off close to it. A share below
    10⁻⁸ of the posterior lies there, for all y that are likely enough to be drawn at all.
    """
    y = torch.as_tensor(y, dtype=torch.float64)
    if y.shape != (2,) or not torch.isfinite(y).all():
        raise InputError(f"hand position {y.tolist()}: two finite numbers are needed")
    if noise < 0 or n < 1:
        raise InputError(f"n = {n}, noise = {noise}: n must be at least 1 and the noise not negative")
    generator = require_generator(generator)
    propose = _surface_proposal(y) if noise == 0 else _noisy_proposal(y, noise)
    accepted, n_accepted, n_proposed = [], 0, 0
    while n_accepted < n:
        accepted.append(propose(generator))
        n_accepted += len(accepted[-1])
        n_proposed += _PROPOSALS
        _give_up_if_hopeless(y, n, n_accepted, n_proposed)
    return torch.cat(accepted)[:n].to(torch.get_default_dtype())


def _give_up_if_hopeless(y: Tensor, n: int, n_accepted: int, n_proposed: int) -> None:
    if n_proposed >= _TRIAL and n_accepted * 10 * _TRIAL < n * n_proposed:
        raise InputError(f"hand position {y.tolist()}: {n_accepted} of {n_proposed:,} arms fit; choose a likelier one")


def _log_normal(x: Tensor, width: float) -> Tensor:
    return -0.5 * (x / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))


def _noisy_proposal(y: Tensor, noise: float):
    """Propose angles from the prior with x1 integrated out: the likelihood that is left is bounded."""
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

    Solving y1 for θ_k costs the Jacobian l_k |sin θ_k|, which vanishes where that link lies along the first
    axis. At each point of the surface only the chart with the largest Jacobian counts, and that one is
    bounded from below unless the arm may lie straight, so that the weight prior/Jacobian is bounded too and
    rejection is exact.
    """
    lengths = _lengths(y)
    if y[0].abs() >= lengths.sum():
        raise InputError(f"hand position {y.tolist()}: out of reach, |y1| must be below {lengths.sum():g}")
    shortest = _longest_lever_at_least(y[0], lengths)
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

    Levers of at most s move the hand by at most Σ (l − √(l² − s²)) from where it is with a straight arm. Arms
    folded back on themselves, which the prior all but excludes, count from ``_SHORTEST_FOLDED_LEVER`` on.
    """
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=y1.dtype)] * 3)
    lever = torch.linspace(0, 1, 100_001, dtype=y1.dtype) ** 2 * lengths.min()
    shift = (lengths - (lengths**2 - lever[:, None] ** 2).sqrt()).sum(1)
    shortest = lever[(torch.searchsorted(shift, (signs @ lengths - y1).abs()) - 1).clip(0)]
    return torch.minimum(shortest[0], shortest[1:].min().clip(_SHORTEST_FOLDED_LEVER))


def sample_abc(
    y: Tensor, n: int, generator: torch.Generator, tolerance: float, noise: float = 0.0
) -> tuple[Tensor, int]:
    """Return ``n`` arms whose simulated hands fall within ``tolerance`` of ``y``, and the simulations done.

    Approximate Bayesian computation by rejection. Raises InputError where next to no simulation comes so
    close.
    """
    if tolerance <= 0 or n < 1:
        raise InputError(f"n = {n}, tolerance = {tolerance}: n must be at least 1 and the tolerance positive")
    accepted, n_accepted, n_simulated = [], 0, 0
    while n_accepted < n:
        missing = (n - n_accepted) * (n_simulated + 10) / (n_accepted + 1)
        n_more = min(_PROPOSALS, math.ceil(1.1 * missing))
        x, hand = simulate(n_more, generator, noise=noise)
        accepted.append(x[(hand - y).norm(dim=-1) < tolerance])
        n_accepted += len(accepted[-1])
        n_simulated += n_more
        _give_up_if_hopeless(y, n, n_accepted, n_simulated)
    return torch.cat(accepted)[:n], n_simulated


def abc_acceptance(
    y: Tensor, tolerance: float, generator: torch.Generator, noise: float = 0.0, n: int = 2_000_000
) -> float:
    """Return the share of ``n`` simulations whose hands fall within ``tolerance`` of ``y``."""
    _, hand = simulate(n, generator, noise=noise)
    return float(((hand - y).norm(dim=-1) < tolerance).double().mean())


def log_joint(x: Tensor, y: Tensor, noise: float) -> Tensor:
    """Return log p(x) + log p(y | x) ``(n,)`` of arms ``(n, 4)``: the posterior up to the evidence."""
    prior = _log_normal(x[:, 0], RAIL_WIDTH) + _log_normal(x[:, 1:], ANGLE_WIDTH).sum(1)
    return prior + _log_normal(forward(x) - y, noise).sum(1)


def log_evidence(y: Tensor, noise: float, generator: torch.Generator, n: int = 2_000_000) -> tuple[float, float]:
    """Return log p(y) and its standard error: an average over ``n`` prior draws of the angles."""
    height_width = math.hypot(noise, RAIL_WIDTH)
    angles = sample_prior(n, generator).double()
    angles[:, 0] = 0.0
    missing = y - forward(angles)
    likelihood = (_log_normal(missing[:, 0], noise) + _log_normal(missing[:, 1], height_width)).exp()
    mean, error = likelihood.mean(), likelihood.std() / n**0.5
    return float(mean.log()), float(error / mean)


class ResidualChart(Chart):
    """Replace the rail height by the hand's vertical residual: (x2, x3, x4, (g2 − y2)/σ)."""

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


class HandFeatures(nn.Module):
    """Encode a hand as (y1, y2, log of the slack 2 − y1): near full reach the posterior changes fast."""

    def __init__(self, noise: float):
        super().__init__()
        self.noise = noise

    def forward(self, event: Tensor) -> Tensor:
        """Return ``(n, 3)`` features of order one."""
        slack = positive_part(LENGTHS.sum() - event[:, 0], self.noise)
        return torch.stack([2 * event[:, 0] - 3, event[:, 1], slack.log() / 2 + 1], 1)


class FoldChart(ResidualChart):
    """Unfold the two solutions for the last link as well, and scale the first two angles by the slack.

    With θ1, θ2 and the hand's y1 the last link points up or down, θ3 = ±θ*, where 1 − cos θ* is what the
    first two links leave of the slack 2 − y1; :func:`~rewind.nn.preprocessing.unfold` stretches both to a like
    width, δ = σ/√(sin² θ* + σ²), and joins them where they merge.
    """

    def _slack_scale(self, event: Tensor) -> Tensor:
        slack = positive_part(LENGTHS.sum() - event[:, 0], self.noise)
        return (slack / (1 + slack)).sqrt()

    def _fold(self, angles: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        theta = angles.cumsum(1)
        versine = 1 - event[:, 0] + theta.cos() @ _lengths(theta)[:2]
        half = (positive_part(versine, self.noise) / 2).clip(max=1.0).sqrt()
        solution = 2 * half.arcsin()
        return solution, self.noise / (solution.sin() ** 2 + self.noise**2).sqrt()

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates and log-Jacobian."""
        coordinates, log_det = super().forward(target, event)
        angles, residual, scale = coordinates[:, :2], coordinates[:, 3], self._slack_scale(event)
        unfolded, log_slope = unfold(coordinates[:, :3].sum(1), *self._fold(angles, event))
        out = torch.cat([angles / scale[:, None], unfolded[:, None], residual[:, None]], 1)
        return out, log_det + log_slope - 2 * scale.log()

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return arms."""
        angles = coordinates[:, :2] * self._slack_scale(event)[:, None]
        theta3 = fold(coordinates[:, 2], *self._fold(angles, event))
        last = theta3 - angles.sum(1)
        return super().inverse(torch.cat([angles, last[:, None], coordinates[:, 3:]], 1), event)


_CHARTS = {"plain": lambda noise: Chart(), "residual": ResidualChart, "unfolded": FoldChart}


def posterior_flow(
    *, noise: float, coordinates: str = "unfolded", layers: int = 2, bins: int = 16, hidden: int = 96
) -> ConditionalFlow:
    """Build an untrained model of p(arm | hand); ``coordinates`` is ``plain``, ``residual`` or ``unfolded``."""
    if coordinates not in _CHARTS:
        raise InputError(f"coordinates '{coordinates}': choose one of {', '.join(_CHARTS)}")
    flow = spline_flow(4, 3, layers=layers, bins=bins, hidden=hidden)
    return ConditionalFlow(flow, 4, 3, encoder=HandFeatures(noise), chart=_CHARTS[coordinates](noise))
