"""Values with their errors: points, bands, efficiencies, rows of estimates, and the error of an integral in time.

>>> from rewind.plots import figure
>>> picture, ax = figure()
>>> points(ax, [1, 2], [0.5, 0.7], [0.1, 0.1], name="flow")
>>> ax.get_legend_handles_labels()[1]
['flow']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from rewind import stats
from rewind.plots.style import METHODS, look
from rewind.stats import histograms

__all__ = ["band", "efficiency", "errors_in_time", "in_bins", "ladder", "points", "resolution", "verdicts"]


class _Bands(Protocol):
    bias: NDArray
    bias_error: NDArray
    half_width: NDArray
    half_width_error: NDArray


class _Trial(Protocol):
    def error_after(self, seconds: NDArray) -> NDArray: ...


class _Contest(Protocol):
    trials: Mapping[str, Sequence[_Trial]]


def points(
    ax: Axes, x: ArrayLike, values: ArrayLike, errors: ArrayLike, *, name: str, index: int = 0, **options: Any
) -> None:
    """Draw values with error bars in the colour of ``name``."""
    style = look(name, index) | {"linestyle": "none"}
    ax.errorbar(x, values, yerr=errors, fmt="o", ms=4, capsize=2, label=name, **style, **options)


def in_bins(ax: Axes, edges: ArrayLike, named: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Draw values with errors of several methods by name, beside one another in each bin."""
    edges = np.asarray(edges, dtype=float)
    for index, (name, (values, errors)) in enumerate(named.items()):
        x = edges[:-1] + np.diff(edges) * (index + 1) / (len(named) + 1)
        points(ax, x, values, errors, name=name, index=index)


def band(ax: Axes, edges: ArrayLike, low: ArrayLike, middle: ArrayLike, high: ArrayLike, *, name: str) -> None:
    """Draw a median with its 68 % band in bins."""
    colour = look(name)["color"]
    ax.stairs(middle, edges, color=colour, label=f"{name}: median", linewidth=1.8, baseline=None)
    ax.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.25, label="central 68 %")


def efficiency(
    ax: Axes,
    values: ArrayLike,
    passed: ArrayLike,
    edges: ArrayLike,
    *,
    name: str,
    index: int = 0,
    weights: ArrayLike | None = None,
) -> None:
    """Draw the share of entries that ``passed`` (flags) in bins of ``values``, with 68 % Wilson intervals."""
    points(ax, *histograms.efficiency(values, passed, edges, weights), name=name, index=index)


def ladder(
    axes: Sequence[Axes],
    rows: Sequence[str],
    table: Mapping[str, Sequence],
    *,
    name: str,
    shift: float = 0.0,
    **options: Any,
) -> None:
    """Draw estimates, (value, error) or None, by row (the first on top) and by column, one axis a column.

    ``table`` holds the columns of those rows for which there are any; ``shift`` moves the points off the middle.
    """
    for column, ax in enumerate(axes):
        drawn = [(rows.index(row) + shift, *cells[column]) for row, cells in table.items() if cells[column] is not None]
        y, values, errors = np.array(drawn, dtype=float).T
        ax.errorbar(values, y, xerr=errors, **{"fmt": "o", "ms": 5, "capsize": 2, "label": name} | options)
        ax.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels(rows if column == 0 else [])
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)


def verdicts(ax: Axes, table: Mapping[str, ArrayLike], *, perfect: float) -> None:
    """Draw a figure of merit of each method, one row a method, one point a trial, and the mean with standard error."""
    for row, (name, values) in enumerate(table.items()):
        colour = look(name.split(",")[0] if name not in METHODS else name, row)["color"]
        value, error = stats.mean(values)
        ax.plot(values, np.full(len(np.asarray(values)), row), "o", color=colour, alpha=0.5)
        ax.errorbar(value, row - 0.2, xerr=error, fmt="|", color=colour, capsize=3, ms=12)
    ax.axvline(perfect, **look("exact"))
    ax.set(yticks=range(len(table)), yticklabels=list(table))


def resolution(panels: Mapping[str, tuple[Mapping[str, _Bands], ArrayLike]], *, xlabel: str, deviation: str) -> Figure:
    """Draw bias (top) and half the 68 % range (below) in bins: by title, Bands by method's name and the edges.

    Bands hold ``bias`` and ``half_width`` ``(K,)`` and the errors of both; ``deviation`` names what deviates.
    """
    figure, axes = plt.subplots(2, len(panels), figsize=(4.2 * len(panels), 5.4), sharex="col", squeeze=False)
    for column, (title, (named, bounds)) in enumerate(panels.items()):
        edges = np.asarray(bounds, dtype=float)
        for index, (name, bands) in enumerate(named.items()):
            x = (edges[1:] + edges[:-1]) / 2 + (index - (len(named) - 1) / 2) * 0.15 * np.diff(edges)
            points(axes[0, column], x, bands.bias, bands.bias_error, name=name, index=index)
            points(axes[1, column], x, bands.half_width, bands.half_width_error, name=name, index=index)
        axes[0, column].axhline(0, color="0.5", linewidth=0.8)
        axes[0, column].set_title(title)
        axes[1, column].set(xlabel=xlabel, ylim=(0, None))
    axes[0, 0].set_ylabel(f"median of {deviation}")
    axes[1, 0].set_ylabel("half of 68 % range")
    axes[0, 0].legend()
    return figure


def errors_in_time(ax: Axes, contest: _Contest, seconds: NDArray, *, title: str) -> None:
    """Draw the relative error of each sampler's integral against ``seconds`` spent, a band spanning the trials."""
    for index, (name, trials) in enumerate(contest.trials.items()):
        errors = np.array([trial.error_after(seconds) for trial in trials])
        ax.plot(seconds, errors.mean(0), label=name, **look(name, index))
        ax.fill_between(seconds, errors.min(0), errors.max(0), color=look(name, index)["color"], alpha=0.2, linewidth=0)
    ax.set(title=title, xlabel="seconds, training included", xscale="log", yscale="log")
