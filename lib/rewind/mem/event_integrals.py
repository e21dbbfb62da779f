"""One integral for each event, with its error: by a proposal that was learnt once, or by VEGAS adapted to each event.

An integrand has ``dims`` unit-hypercube variables and a ``polynomial(u, row)``: values ``(B, K)``, coefficients of a
polynomial in the parameters, the first of which is positive and serves as the value. An event comes as rows
``(B, H, R)``, one for each hypothesis of which jet stems from which parton; hypotheses are summed.

>>> integrals = summarize(torch.tensor([[[2.0], [0.0], [2.0], [1.0]]], dtype=torch.float64))
>>> float(integrals.value), float(integrals.largest), bool(integrals.trusted)
(1.25, 0.4, False)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.integrate import VegasGrid, ZeroIntegrandError
from rewind.random_numbers import require_generator

__all__ = [
    "EventIntegrals",
    "EventSampler",
    "Integrand",
    "Weighted",
    "by_vegas",
    "draw",
    "hypotheses",
    "posterior",
    "summarize",
    "under",
]

_POINTS_AT_ONCE = 50_000
_LEAST_POINTS = 2
_FEWEST, _MAX_SHARE = 10.0, 0.2  # effective draws, and the share of the sum that one weight may carry


class Integrand(Protocol):
    """What is integrated: see the module."""

    dims: int

    def polynomial(self, u: Tensor, row: Tensor) -> Tensor:
        """Return coefficients ``(B, K)`` at unit-hypercube variables ``(B, dims)`` for rows ``(B, R)``."""


class EventSampler(Protocol):
    """What draws hypotheses and variables of events."""

    def sample_and_log_prob(self, rows: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return hypotheses ``(B, n)`` of events ``(B, H, R)``, variables ``(B, n, dims)``, ln of both's density."""


class Weighted(NamedTuple):
    """Hold draws of events: hypotheses ``which`` ``(B, n)``, variables ``points`` ``(B, n, dims)``, and ``weights``
    ``(B, n, K)``, the integrand over the density of both.
    """

    which: Tensor
    points: Tensor
    weights: Tensor


@dataclass(frozen=True)
class EventIntegrals(Columns):
    """Hold each event's integral: coefficients ``value`` ``(B, K)``, the first one's standard ``error`` ``(B,)``.

    ``effective`` ``(B,)`` is the effective share of the draws, (Σw)²/Σw² over their number, ``largest`` ``(B,)`` the
    largest weight's share of the sum; ``draws`` ``(B,)`` how many points there were.
    """

    value: Tensor
    error: Tensor
    effective: Tensor
    largest: Tensor
    draws: Tensor

    @property
    def trusted(self) -> Tensor:
        """Return ``(B,)``: not zero everywhere, at least 10 effective draws, no weight with a fifth of the sum."""
        return (self.value[:, 0] > 0) & (self.effective * self.draws >= _FEWEST) & (self.largest <= _MAX_SHARE)


@torch.no_grad()
def draw(integrand: Integrand, proposal: EventSampler, rows: Tensor, n: int, generator: torch.Generator) -> Weighted:
    """Return ``n`` weighted draws for each of events ``(B, H, R)``, hypotheses included.

    Raises InputError for fewer than two draws.
    """
    if n < 2:
        raise InputError(f"n = {n}: at least two draws are needed")
    generator, parts = require_generator(generator), []
    for chunk in rows.split(max(1, _POINTS_AT_ONCE // n)):
        which, points, log_density = proposal.sample_and_log_prob(chunk, n, generator)
        values = integrand.polynomial(points.flatten(0, 1), under(chunk, which)).unflatten(0, which.shape)
        parts.append((which, points, values * (-log_density.double())[..., None].exp()))
    return Weighted(*(torch.cat(values) for values in zip(*parts, strict=True)))


def under(rows: Tensor, which: Tensor) -> Tensor:
    """Return events' ``rows`` ``(B, H, R)`` under hypotheses ``which`` ``(B, n)``, as ``(B n, R)``."""
    return rows[torch.arange(len(rows))[:, None], which].flatten(0, 1)


def summarize(weights: Tensor, error: Tensor | None = None) -> EventIntegrals:
    """Return the integrals whose means are those of weights ``(B, n, K)``.

    ``error`` ``(B,)`` is their standard error, by default that of independent draws.
    """
    n, first = weights.shape[1], weights[..., 0]
    total, squares = first.sum(1), first.square().sum(1)
    scale = torch.where(total > 0, total, 1.0)
    return EventIntegrals(
        value=weights.mean(1),
        error=(first.var(1) / n).sqrt() if error is None else error,
        effective=torch.where(squares > 0, scale**2 / torch.where(squares > 0, squares, 1.0), 0.0) / n,
        largest=first.amax(1) / scale,
        draws=torch.full_like(total, n),
    )


@torch.no_grad()
def by_vegas(
    integrand: Integrand,
    rows: Tensor,
    evaluations: int,
    generator: torch.Generator,
    *,
    iterations: int = 3,
    bins: int = 12,
    adapting: float = 0.5,
) -> EventIntegrals:
    """Return events' integrals by a VEGAS grid for each hypothesis, ``evaluations`` an event in all.

    The share ``adapting`` of them moves the grids, in so many ``iterations``, and the rest goes to hypotheses in
    proportion to their standard deviations, as the last iteration tells them (Neyman's allocation), but a tenth of it
    evenly: ``effective`` and ``draws`` are of this rest. A hypothesis that is zero at all points of an iteration is
    integrated with an even grid. Raises InputError for less than a point an iteration, and without events.
    """
    generator = require_generator(generator)
    if len(rows) == 0:
        raise InputError("rows: no event to integrate")
    each = int(adapting * evaluations) // (rows.shape[1] * iterations)
    rest = evaluations - each * iterations * rows.shape[1]
    if each < 1 or rest < _LEAST_POINTS * rows.shape[1]:
        raise InputError(
            f"evaluations = {evaluations}: too few for {rows.shape[1]} hypotheses, {iterations} iterations"
        )
    integrals = [
        one
        for events in rows.split(max(1, _POINTS_AT_ONCE // evaluations))
        for one in _stratified(integrand, events, each, rest, iterations, bins, generator)
    ]
    return EventIntegrals.concatenate(integrals)


def _stratified(
    integrand: Integrand,
    rows: Tensor,
    each: int,
    rest: int,
    iterations: int,
    bins: int,
    generator: torch.Generator,
) -> list[EventIntegrals]:
    """Return the integrals of some events ``(B, H, R)``, each the sum of its hypotheses'."""
    flat, n_strata = rows.flatten(0, 1), rows.shape[1]
    grids = [VegasGrid(integrand.dims, bins) for _ in flat]
    spread = torch.zeros(len(flat), dtype=torch.float64)
    for _ in range(iterations):
        for i, (y, weights) in enumerate(_weighted(integrand, flat, grids, [each] * len(flat), generator)):
            spread[i] = weights[:, 0].std(correction=0)
            try:
                grids[i].refine(y, weights[:, 0])
            except ZeroIntegrandError:
                grids[i] = VegasGrid(integrand.dims, bins)
    counts = [n for event in spread.unflatten(0, rows.shape[:2]) for n in _counts(event, rest)]
    strata = [weights for _, weights in _weighted(integrand, flat, grids, counts, generator)]
    integrals = []
    for start in range(0, len(strata), n_strata):
        parts = strata[start : start + n_strata]
        variance = sum(part[:, 0].var() / len(part) for part in parts)
        weights = torch.cat([part * (rest / len(part)) for part in parts])
        integrals.append(summarize(weights[None], variance.sqrt()[None]))
    return integrals


def _weighted(
    integrand: Integrand, rows: Tensor, grids: list[VegasGrid], counts: list[int], generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give for each of ``rows`` ``(S, R)`` ``counts`` uniform numbers ``(n, dims)`` and weights ``(n, K)``."""
    y = torch.rand(sum(counts), integrand.dims, generator=generator, dtype=torch.float64).split(counts)
    points, log_jacobian = zip(*(grid.forward(part) for grid, part in zip(grids, y, strict=True)), strict=True)
    values = integrand.polynomial(torch.cat(points), rows.repeat_interleave(torch.tensor(counts), 0))
    return zip(y, (values * torch.cat(log_jacobian).exp()[:, None]).split(counts), strict=True)


def _counts(spread: Tensor, n: int) -> list[int]:
    """Return how many of ``n`` points each stratum gets, by its standard deviation ``(H,)``."""
    even = torch.full_like(spread, 1 / len(spread))
    share = spread / spread.sum() if spread.any() else even
    spare = n - _LEAST_POINTS * len(spread)
    steps = ((0.9 * share + 0.1 * even).cumsum(0) * spare).round().long()
    steps[-1] = spare
    return [_LEAST_POINTS + k for k in steps.diff(prepend=steps.new_zeros(1)).tolist()]


def posterior(drawn: Weighted, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ``n`` draws an event from the posterior: hypotheses ``(B, n)`` and variables ``(B, n, dims)``.

    By resampling in proportion to weights, so that draws repeat where effective draws are few. Raises InputError for
    an event whose weights are all zero.
    """
    generator, weights = require_generator(generator), drawn.weights[..., 0]
    empty = ~(weights > 0).any(1)
    if empty.any():
        raise InputError(f"event {int(empty.nonzero()[0])}: all weights are zero; draw more or drop the event")
    chosen = torch.multinomial(weights / weights.amax(1, keepdim=True), n, replacement=True, generator=generator)
    place = chosen[..., None].expand(-1, -1, drawn.points.shape[2])
    return drawn.which.gather(1, chosen), drawn.points.gather(1, place)


def hypotheses(drawn: Weighted, n: int) -> Tensor:
    """Return the posterior's probabilities ``(B, n)`` of ``n`` hypotheses, NaN where all weights are zero."""
    weights = drawn.weights[..., 0]
    return weights.new_zeros(len(weights), n).scatter_add(1, drawn.which, weights) / weights.sum(1, keepdim=True)
