"""The contract of every conditional density p(target | event): evaluate it, draw from it, say what it reads."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

__all__ = ["ConditionalDensity"]


@runtime_checkable
class ConditionalDensity(Protocol):
    """Give a density over targets for each event; the event is what :meth:`featurize` makes of measured ones.

    Targets and events have one row an event; permuting the events permutes what returns.

    >>> from rewind.nn.flows import ConditionalFlow, spline_flow
    >>> isinstance(ConditionalFlow(spline_flow(2, 1, hidden=8), 2, 1), ConditionalDensity)
    True
    """

    def featurize(self, events: Any) -> Any:
        """Return the event that the other methods take, a row for each of the measured ``events``."""
        ...

    def log_prob(self, target: Any, event: Any) -> Any:
        """Return ln p(target | event) ``(n,)`` for ``n`` targets and as many events, in the target's own units."""
        ...

    def sample(self, event: Any, n: int = 1, generator: torch.Generator | None = None) -> Any:
        """Return ``n`` draws an event, ``(len(event), n, …)``, from ``generator``; None: torch's global one.

        Raises InputError for a ``generator`` of another type.
        """
        ...
