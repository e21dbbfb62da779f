"""Events of several topologies from the same collisions: one detector, and what left a jet decides which is which.

>>> none = torch.zeros(2, 0)
>>> events = {name: Category(none, none, none, torch.tensor(place)) for name, place in (("a", [3, 0]), ("b", [1, 2]))}
>>> in_order(events, {"a": torch.tensor([30, 0]), "b": torch.tensor([10, 20])}).tolist()
[0, 10, 20, 30]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.mem import event_integrals
from rewind.mem.event_integrals import EventIntegrals
from rewind.mem.measured import rows, true_hypothesis
from rewind.mem.proposal import EventFlow

__all__ = ["Category", "in_order", "integrated", "measured", "selected"]

_SMALLEST_PILOT, _FEWEST = 20, 5  # draws of a pilot, and how many of their weights must differ from zero


class Category(NamedTuple):
    """Hold the events of a topology: ``rows`` ``(B, H, R)``, true ``partons`` ``(B, n, 4)``, the true hypothesis
    ``which`` ``(B,)``, and the events' ``place`` ``(B,)`` among those generated.
    """

    rows: Tensor
    partons: Tensor
    which: Tensor
    place: Tensor


def measured(flows: Mapping[str, EventFlow], outgoing: Tensor, seed: int) -> dict[str, Category]:
    """Return by name what is measured of leading-order momenta ``(B, n, 4)``, of each topology the accepted events.

    All topologies see the same random numbers, so that none of the events is in two. Raises InputError for flows of
    different detectors.
    """
    detectors = [flow.integrand.detector.to_dict() for flow in flows.values()]
    if any(detector != detectors[0] for detector in detectors):
        raise InputError("flows of different detectors: one detector is needed")
    out = {}
    for name, flow in flows.items():
        topology, detector = flow.integrand.topology, flow.integrand.detector
        partons, event, kept = detector.simulate(outgoing, topology, torch.Generator().manual_seed(seed))
        which, partons = true_hypothesis(event, partons, topology)
        out[name] = Category(rows(event, topology), partons, which, kept.nonzero()[:, 0])
    return out


def selected(events: Mapping[str, Category], n: int) -> Tensor:
    """Return which of ``n`` generated events ``(n,)`` are in one of the categories."""
    out = torch.zeros(n, dtype=torch.bool)
    for category in events.values():
        out[category.place] = True
    return out


def in_order(events: Mapping[str, Category], values: Mapping[str, Tensor]) -> Tensor:
    """Return ``values`` ``(B, ...)`` of all categories as one, in the order in which events were generated."""
    return torch.cat([values[name] for name in events])[_order(events)]


def _order(events: Mapping[str, Category]) -> Tensor:
    """Return which of the concatenated events ``(B,)`` comes next in the order in which they were generated."""
    return torch.cat([category.place for category in events.values()]).argsort()


def integrated(
    flows: Mapping[str, EventFlow], events: Mapping[str, Category], n: int, generator: torch.Generator
) -> EventIntegrals:
    """Return the integrals of all events by ``n`` draws each, in the order in which they were generated.

    Where weights seldom differ from zero it is 10 or 100 times as many. A pilot, whose draws are discarded, decides
    that before: to draw again where an estimate is zero would bias it upwards.
    """
    parts = [_integrals(flows[name], category.rows, n, generator) for name, category in events.items()]
    return EventIntegrals.concatenate(parts)[_order(events)]


def _integrals(flow: EventFlow, rows: Tensor, n: int, generator: torch.Generator) -> EventIntegrals:
    """Return the integrals of events ``(B, H, R)`` by as many draws as their pilots ask for."""
    draws, parts, places = _numbers_of_draws(flow, rows, n, generator), [], []
    for number in draws.unique().tolist():
        (place,) = (draws == number).nonzero(as_tuple=True)
        weights = event_integrals.draw(flow.integrand, flow, rows[place], number, generator).weights
        parts.append(event_integrals.summarize(weights))
        places.append(place)
    return EventIntegrals.concatenate(parts)[torch.cat(places).argsort()]


def _numbers_of_draws(flow: EventFlow, rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return the first of ``n``, 10 n and 100 n ``(B,)`` of which a tenth has five weights that differ from zero."""
    draws = torch.full((len(rows),), n)
    for number in (n, 10 * n):
        (undecided,) = (draws == number).nonzero(as_tuple=True)
        if len(undecided):
            pilot = max(_SMALLEST_PILOT, number // 10)
            weights = event_integrals.draw(flow.integrand, flow, rows[undecided], pilot, generator).weights[..., 0]
            draws[undecided[weights.count_nonzero(1) < _FEWEST]] = 10 * number
    return draws
