"""What benchmarks share: durations of calls, and their ratio with its error."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Row(NamedTuple):
    """Hold one line of the table: a ratio within one run, or a share, with its error (nan: not measured)."""

    what: str
    value: float
    error: float = float("nan")


def durations(call: Callable, repeat: int, clock: Callable[[], float] = time.perf_counter) -> NDArray:
    """Return the seconds of several calls after a first one, by the wall or by ``time.process_time``."""
    call()
    spent = []
    for _ in range(repeat):
        began = clock()
        call()
        spent.append(clock() - began)
    return np.array(spent)


def alternating(calls: dict[str, Callable], repeat: int, clock: Callable[[], float] = time.perf_counter) -> dict:
    """Return the seconds of several calls by name, one of each in turn, so that other work falls on all alike."""
    for call in calls.values():
        call()
    spent = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            began = clock()
            call()
            spent[name].append(clock() - began)
    return {name: np.array(values) for name, values in spent.items()}


def ratio(what: str, numerator: ArrayLike, denominator: ArrayLike) -> Row:
    """Return the mean of ratios taken pair by pair, with its standard error."""
    pairs = np.asarray(numerator) / np.asarray(denominator)
    return Row(what, float(pairs.mean()), float(pairs.std(ddof=1) / len(pairs) ** 0.5))
