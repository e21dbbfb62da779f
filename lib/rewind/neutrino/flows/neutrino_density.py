"""The density of two neutrinos that the masses and p_T^miss suggest, in the coordinates of the ν²-Flow.

Given the masses, the neutrinos lie on two curves, and p_T^miss says which points of them belong together. Tables on
grids of top masses and of angles hold this density; splines learn the rest.

>>> density, features = top_mass_density(torch.zeros(5, N_MASSES, N_MASSES), torch.zeros(5, 2))
>>> features.shape
torch.Size([5, 9])
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rewind.neutrino.flows.hypotheses import Hypotheses
from rewind.neutrino.flows.mass_coordinates import masses
from rewind.nn.piecewise import PiecewiseDensity, normal_quantile
from rewind.physics.circles import equal_directions

__all__ = [
    "N_DIRECTIONS",
    "N_MASSES",
    "angle_features",
    "compressed",
    "first_angle_density",
    "second_angle_density",
    "top_mass_density",
    "top_mass_fits",
]

N_MASSES = 9
"""Top masses of a table, at equal shares of a standard normal distribution."""

N_DIRECTIONS = 12
"""Directions of an angle whose fits a network is shown."""

_WIDE_SIGMA = 20.0  # of p_T^miss where an angle's grid is coarse, GeV
_FREEDOM = 6.0  # degrees of freedom of p_T^miss' distribution: its tails
_FIRST, _SECOND, _COARSE = 64, 64, 24  # angles
_LEAST_M_TT = 200.0
_RARITY, _TYPICAL_PT = 2.0, 85.0  # how large p_T of both neutrinos become rare, GeV
_TABLES_AT_ONCE = 128

Recoil = tuple[Tensor, Tensor, Tensor]
"""Transverse parts of the curves in units of the resolution of p_T^miss ``(R, 2, 2, 2)``, what the sum of their centres
misses of its expectation ``(R, 2)``, and the power by which the density falls with m_tt ``(R, 1)``."""


def compressed(log_weight: Tensor) -> Tensor:
    """Return logarithms in a range that a network likes."""
    return torch.asinh(log_weight) / 2


def _log_student(squared: Tensor) -> Tensor:
    """Return the logarithm of a bivariate Student's density at a squared distance, up to a constant."""
    return -(_FREEDOM + 2) / 2 * torch.log1p(squared / _FREEDOM)


def _squared_sums(first: Tensor, second: Tensor) -> Tensor:
    """Return |a + b|² ``(R, n, m)`` of vectors ``(R, 2, n)`` and ``(R, 2, m)``."""
    squares = first.square().sum(1)[:, :, None] + second.square().sum(1)[:, None]
    return (squares + 2 * first.mT @ second).clip(0.0)


def _log_m_tt(first: Tensor, second: Tensor, visible: Tensor) -> Tensor:
    """Return ln(m_tt/400 GeV) ``(R, n, m)`` with neutrinos at ``(R, 3, n)`` and ``(R, 3, m)``."""
    metric = first.new_tensor([1.0, -1.0, -1.0, -1.0])
    one, two = (torch.cat([p.norm(dim=1, keepdim=True), p], 1) for p in (first, second))
    lowered = metric * visible
    one, two = (p + visible[..., None] for p in (one, two))
    constant = (lowered * visible).sum(1)[:, None, None]
    squares = 2 * ((metric[:, None] * one).mT @ two) - constant
    return squares.clip(_LEAST_M_TT**2).log() / 2 - 6


def top_mass_fits(rows: Hypotheses, mean: Tensor, scale: Tensor) -> Tensor:
    """Return how well pairs of top masses fit p_T^miss, ``(R, N_MASSES, N_MASSES)``, both W bosons on shell.

    Their coordinates lie at equal shares of normal distributions with ``mean`` and ``scale``, ``(2,)`` by leg. For each
    point of the first curve the distance to the second one is that of first order.
    """
    shares = torch.linspace(0.01, 0.99, N_MASSES).to(rows.met)
    nodes = normal_quantile(shares)
    circles, curves = rows.circles.float(), []
    for leg in range(2):
        one = circles[:, leg, None]
        top = (nodes * scale[leg] + mean[leg]).float()
        top = top.expand(len(rows.met), -1)
        curves.append(one.curve(*masses(one, torch.zeros_like(top), top))[:, :, :2])
    points = (curves[0] @ equal_directions(_COARSE, curves[0])).movedim(2, 1).flatten(2)
    squares = points.square().sum(1) + (points - rows.met.float()[..., None]).square().sum(1)
    rare = _RARITY * torch.log1p(squares / _TYPICAL_PT**2)
    (a, b, x), (c, d, y) = (row.unbind(-1) for row in curves[1].unbind(-2))
    det = a * d - b * c
    det = torch.where(det < 0, -1.0, 1.0) * det.abs().maximum(0.02 * (a**2 + b**2 + c**2 + d**2))
    x, y = rows.met[:, :1].float() - x, rows.met[:, 1:].float() - y
    a, b, c, d = (value[:, None] for value in (a / det, b / det, c / det, d / det))
    u = (d[:, 0] * x - b[:, 0] * y)[:, None] - points.mT @ torch.cat([d, -b], 1)
    v = (a[:, 0] * y - c[:, 0] * x)[:, None] - points.mT @ torch.cat([-c, a], 1)
    radius = (u**2 + v**2).sqrt()
    slope = ((d * u - c * v) ** 2 + (a * v - b * u) ** 2).sqrt().clip(1e-9)
    distance = (radius - 1) * radius / slope / _WIDE_SIGMA
    fits = (_log_student(distance**2) - rare[..., None]).unflatten(1, (N_MASSES, _COARSE)).logsumexp(2)
    return (fits - 0.5 * det.abs().log()[:, None]).to(rows.met)


def top_mass_density(fits: Tensor, before: Tensor) -> tuple[PiecewiseDensity, Tensor]:
    """Return the density of a top mass given the masses ``before`` it, and its logarithm as features."""
    if before.shape[1] == 2:
        log_values = fits.logsumexp(2)
    else:
        place = torch.special.ndtr(before[:, 2]) * (N_MASSES - 1)
        cell = place.long().clip(0, N_MASSES - 2)
        part = (place - cell)[:, None]
        rows = fits.gather(1, torch.stack([cell, cell + 1], 1)[..., None].expand(-1, -1, N_MASSES))
        log_values = (1 - part) * rows[:, 0] + part * rows[:, 1]
    log_values = log_values - log_values.logsumexp(1, keepdim=True)
    return PiecewiseDensity(log_values), compressed(log_values)


def first_angle_density(recoil: Recoil, curves: Tensor, rows: Hypotheses) -> PiecewiseDensity:
    """Return the density of the first angle, the second one integrated out."""
    first, second = (equal_directions(n, curves) for n in (_FIRST, _SECOND))
    log_values = []
    for (arms, centre, fall), curve, visible in _few(recoil, curves, rows.visible):
        missing = _squared_sums(arms[:, 0] @ first[:2] + centre[..., None], arms[:, 1] @ second[:2])
        log_mass = _log_m_tt(curve[:, 0] @ first, curve[:, 1] @ second, visible)
        log_values.append((_log_student(missing) - fall[..., None] * log_mass).logsumexp(2))
    return PiecewiseDensity.on_circle(torch.cat(log_values))


def second_angle_density(recoil: Recoil, curves: Tensor, rows: Hypotheses, at: Tensor) -> PiecewiseDensity:
    """Return the density of the second angle, the first one's direction ``at`` ``(R, 3)`` given."""
    arms, centre, fall = recoil
    second = equal_directions(_SECOND, centre)
    point = arms[:, 0] @ at[:, :2, None] + centre[..., None]
    missing = (point + arms[:, 1] @ second[:2]).square().sum(1)
    log_mass = _log_m_tt(curves[:, 0] @ at[..., None], curves[:, 1] @ second, rows.visible)[:, 0]
    return PiecewiseDensity.on_circle(_log_student(missing) - fall * log_mass)


def angle_features(first: Tensor, curves: Tensor, rows: Hypotheses) -> Tensor:
    """Return features of an angle's choices: fits to p_T^miss and ln m_tt, for points ``first`` ``(R, 3, n)``."""
    second = curves[:, 1] @ equal_directions(N_DIRECTIONS, first)
    missing = _squared_sums(first[:, :2] - rows.met[..., None], second[:, :2])
    fits = _log_student(missing / _WIDE_SIGMA**2)
    log_mass = _log_m_tt(first, second, rows.visible)
    if first.shape[2] == 1:
        return torch.cat([compressed(fits[:, 0]), log_mass[:, 0]], 1)
    return torch.cat([compressed(fits.logsumexp(2)), (fits.softmax(2) * log_mass).sum(2)], 1)


def _few(recoil: Recoil, *values: Tensor) -> Iterator[tuple[Any, ...]]:
    """Give a few rows at a time, so that tables of all pairs of angles stay in the cache."""
    parts = zip(*(value.split(_TABLES_AT_ONCE) for value in recoil), strict=True)
    yield from zip(parts, *(value.split(_TABLES_AT_ONCE) for value in values), strict=True)
