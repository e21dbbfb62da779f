"""Events of several topologies from the same collisions: one detector, and what left a jet decides which is which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.mem import event_integrals
from rewind.mem.detector_model import rows, truth
from rewind.mem.event_integrals import EventIntegrals
from rewind.mem.proposal import EventFlow

__all__ = ["Category", "in_order", "integrated", "measured", "selected"]


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
    different responses.
    """
    responses = [flow.unknowns.response.to_dict() for flow in flows.values()]
    if any(response != responses[0] for response in responses):
        raise InputError("flows of different responses: one detector is needed")
    out = {}
    for name, flow in flows.items():
        topology, response = flow.unknowns.topology, flow.unknowns.response
        partons, event, kept = response.simulate(outgoing, topology, torch.Generator().manual_seed(seed))
        which, partons = truth(event, partons, topology)
        out[name] = Category(rows(event, topology), partons, which, kept.nonzero()[:, 0])
    return out


def selected(found: Mapping[str, Category], n: int) -> Tensor:
    """Return which of ``n`` generated events ``(n,)`` are in one of the categories."""
    out = torch.zeros(n, dtype=torch.bool)
    for category in found.values():
        out[category.place] = True
    return out


def in_order(found: Mapping[str, Category], values: Mapping[str, Tensor]) -> Tensor:
    """Return ``values`` ``(B, ...)`` of all categories as one, in the order in which events were generated."""
    order = torch.cat([category.place for category in found.values()]).argsort()
    return torch.cat([values[name] for name in found])[order]


def integrated(
    flows: Mapping[str, EventFlow], found: Mapping[str, Category], n: int, generator: torch.Generator
) -> EventIntegrals:
    """Return the integrals of all events by ``n`` draws each, in the order in which they were generated.

    Where all weights vanish it is tried again with ten times as many draws, twice at most.
    """
    parts = {}
    for name, category in found.items():
        flow = flows[name]
        done = event_integrals.summarize(event_integrals.draw(flow.unknowns, flow, category.rows, n, generator).weights)
        for many in (10 * n, 100 * n):
            (empty,) = (done.value[:, 0] == 0).nonzero(as_tuple=True)
            if len(empty):
                again = event_integrals.draw(flow.unknowns, flow, category.rows[empty], many, generator).weights
                for column, values in vars(event_integrals.summarize(again)).items():
                    getattr(done, column)[empty] = values
        parts[name] = done
    columns = (field.name for field in fields(EventIntegrals))
    return EventIntegrals(*(in_order(found, {k: getattr(x, column) for k, x in parts.items()}) for column in columns))
