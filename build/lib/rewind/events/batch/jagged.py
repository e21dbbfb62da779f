"""Index arithmetic for jagged arrays kept flat: ranges, pairs within an event, nearest partners.

>>> which, index = expand(first=np.array([0, 5]), count=np.array([2, 3]))
>>> which.tolist(), index.tolist()
([0, 0, 1, 1, 1], [0, 1, 5, 6, 7])
"""

from __future__ import annotations

import awkward as ak
import numpy as np

__all__ = ["expand", "jagged", "pairs", "unique_matches"]


def jagged(fields: dict[str, np.ndarray], counts: np.ndarray) -> ak.Array:
    """Return records with ``counts[i]`` entries in event i from flat columns ordered by event."""
    return ak.zip({name: ak.unflatten(values, counts) for name, values in fields.items()})


def expand(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (which range, index) for every index of the ranges ``first[i] … first[i] + count[i] − 1``."""
    which = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return which, first[which] + within


def pairs(event_a: np.ndarray, event_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (a, b) of all pairs that share an event; ``event_b`` must be sorted."""
    first = np.searchsorted(event_b, event_a, side="left")
    return expand(first, np.searchsorted(event_b, event_a, side="right") - first)


def unique_matches(a: np.ndarray, b: np.ndarray, distance: np.ndarray, n_a: int, *, within: float) -> np.ndarray:
    """Return for each of ``n_a`` objects the index of its partner, −1 for none, each partner taken once.

    Candidate pairs ``(a, b)`` are taken in the order of their distance, as long as it is below ``within``
    and both are free.
    """
    match = np.full(n_a, -1)
    candidate = np.flatnonzero(distance < within)
    while len(candidate):
        best_a = _is_smallest(a[candidate], distance[candidate])
        best_b = _is_smallest(b[candidate], distance[candidate])
        taken = candidate[best_a & best_b]
        match[a[taken]] = b[taken]
        free = ~np.isin(a[candidate], a[taken]) & ~np.isin(b[candidate], b[taken])
        candidate = candidate[free]
    return match


def _is_smallest(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Say which entries have the smallest value of their group (the first of equals)."""
    order = np.lexsort((value, group))
    is_first = np.r_[True, np.diff(group[order]) != 0]
    smallest = np.zeros(len(group), dtype=bool)
    smallest[order[is_first]] = True
    return smallest
