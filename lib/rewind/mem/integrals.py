"""One integral for each event, with its error: by a proposal that was learnt once, or by VEGAS adapted to each event.

An integrand has ``dims`` unknowns and a ``polynomial(u, row)``: values ``(B, K)``, coefficients of a polynomial in the
parameters, the first of which is its value where they vanish. An event comes as rows ``(B, H, R)``, one for each
hypothesis of which jet stems from which parton; hypotheses are summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events.tensors import Columns
from rewind.integrate import VegasGrid, ZeroIntegrandError

__all__ = ["EventIntegrals", "Integrand", "Weighted", "by_vegas", "draw", "posterior", "summarize"]

_POINTS_AT_ONCE = 50_000
_FEWEST, _MAX_SHARE = 10.0, 0.2  # effective draws, and the share of the sum that one weight may carry


class Integrand(Protocol):
    """What is integrated: see the module."""

    dims: int

    def polynomial(self, u: Tensor, row: Tensor) -> Tensor:
        """Return coefficients ``(B, K)`` at unit numbers ``(B, dims)`` for rows ``(B, R)``."""


class Weighted(NamedTuple):
    """Hold draws of events: unit numbers ``(B, H, n, dims)``, weights ``(B, H, n, K)``, the integrand over density."""

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
def draw(integrand: Integrand, proposal, rows: Tensor, n: int, generator: torch.Generator) -> Weighted:
    """Return ``n`` weighted draws for each hypothesis of events ``(B, H, R)``.

    ``proposal`` has ``sample(rows, n, generator)``, which returns unit numbers ``(B, n, dims)`` and the logarithm of
    their density ``(B, n)``. Raises InputError for fewer than two draws.
    """
    if n < 2:
        raise InputError(f"n = {n}: at least two draws are needed")
    flat, parts = rows.flatten(0, 1), []
    for chunk in flat.split(max(1, _POINTS_AT_ONCE // n)):
        points, log_density = proposal.sample(chunk, n, generator)
        values = integrand.polynomial(points.flatten(0, 1), chunk.repeat_interleave(n, 0))
        weights = values.unflatten(0, (-1, n)) * (-log_density.double())[..., None].exp()
        parts.append((points, weights))
    return Weighted(*(torch.cat(values).unflatten(0, rows.shape[:2]) for values in zip(*parts, strict=True)))


def summarize(weights: Tensor) -> EventIntegrals:
    """Return the integrals that weights ``(B, H, n, K)`` estimate."""
    n, first = weights.shape[2], weights[..., 0]
    total, squares = first.sum((1, 2)), first.square().sum((1, 2))
    scale = torch.where(total > 0, total, 1.0)
    draws = torch.full_like(total, first[0].numel())
    return EventIntegrals(
        value=weights.mean(2).sum(1),
        error=(first.var(2) / n).sum(1).sqrt(),
        effective=torch.where(squares > 0, scale**2 / torch.where(squares > 0, squares, 1.0), 0.0) / draws,
        largest=first.flatten(1).amax(1) / scale,
        draws=draws,
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

    The share ``adapting`` of them moves the grids, in so many ``iterations``. A hypothesis that is zero at all
    points of an iteration is integrated with an even grid. Raises InputError for less than a point an iteration.
    """
    each = evaluations // rows.shape[1]
    start, rest = int(adapting * each) // iterations, each - int(adapting * each)
    if start < 1 or rest < 2:
        raise InputError(
            f"evaluations = {evaluations}: too few for {rows.shape[1]} hypotheses, {iterations} iterations"
        )
    parts = []
    for event in rows:
        found = [_one(integrand, row, start, rest, iterations, bins, generator) for row in event]
        parts.append(summarize(torch.stack(found)[None]))
    return EventIntegrals(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _one(integrand, row, start, rest, iterations, bins, generator) -> Tensor:
    """Return weights ``(rest, K)`` of one hypothesis."""

    def first(u: Tensor) -> Tensor:
        return integrand.polynomial(u, row.expand(len(u), -1))[:, 0]

    grid = VegasGrid(integrand.dims, bins)
    try:
        grid.adapt(first, generator, points=start, iterations=iterations)
    except ZeroIntegrandError:
        grid = VegasGrid(integrand.dims, bins)
    points, log_density = grid.sample(rest, generator)
    return integrand.polynomial(points, row.expand(rest, -1)) * (-log_density)[:, None].exp()


def posterior(found: Weighted, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ``n`` draws an event from the posterior: hypotheses ``(B, n)`` and unit numbers ``(B, n, dims)``.

    By resampling in proportion to weights, so that draws repeat where effective draws are few. Raises InputError for
    an event whose weights are all zero.
    """
    weights = found.weights[..., 0].flatten(1)
    empty = ~(weights > 0).any(1)
    if empty.any():
        raise InputError(f"event {int(empty.nonzero()[0])}: all weights are zero; draw more or drop the event")
    chosen = torch.multinomial(weights / weights.amax(1, keepdim=True), n, replacement=True, generator=generator)
    points = found.points.flatten(1, 2)
    each = found.points.shape[2]
    return chosen // each, points.gather(1, chosen[..., None].expand(-1, -1, points.shape[2]))
