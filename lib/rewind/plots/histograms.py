"""Histograms with their errors and ratios, matrices, and posteriors of one quantity.

>>> from rewind.plots import figure
>>> picture, ax = figure()
>>> matrix(ax, [[0.8, 0.2], [0.3, 0.7]], [0, 1, 2], [0, 1, 2], xlabel="true bin", ylabel="bin", label="share")
>>> ax.get_xlabel()
'true bin'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rewind.plots.style import METHODS, look
from rewind.stats import histograms
from rewind.stats.templates import Template

__all__ = ["compare", "matrix", "posterior", "spectra", "templates"]


def compare(
    samples: Mapping[str, ArrayLike],
    edges: ArrayLike,
    *,
    xlabel: str,
    reference: str | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    ratio_range: tuple[float, float] = (0.5, 1.5),
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes:
    """Draw normalised histograms of ``samples`` by name with statistical errors, and their ratio to ``reference``.

    ``ax`` is an axis, or a pair of them, the lower one for the ratio; by default both are made. Returns the upper one.
    """
    upper, lower = _upper_and_lower(ax, reference is not None)
    edges = np.asarray(edges, dtype=float)
    densities = {n: histograms.density(values, edges, (weights or {}).get(n)) for n, values in samples.items()}
    for index, (name, (density, error)) in enumerate(densities.items()):
        mplhep.histplot(density, edges, yerr=error, ax=upper, label=name, **look(name, index))
    upper.set_ylabel("density")
    upper.legend()
    if lower is not None and reference is not None:
        _draw_ratios(lower, densities, edges, reference, ratio_range)
    (upper if lower is None else lower).set_xlabel(xlabel)
    return upper


def _upper_and_lower(ax: Axes | Sequence[Axes] | None, ratio: bool) -> tuple[Axes, Axes | None]:
    if ax is None:
        shape = {"height_ratios": [3, 1]} if ratio else {}
        _, axes = plt.subplots(2 if ratio else 1, 1, sharex=True, squeeze=False, gridspec_kw=shape)
        return axes[0, 0], axes[-1, 0] if ratio else None
    return (ax[0], ax[1]) if np.ndim(ax) else (ax, None)


def _draw_ratios(lower: Axes, densities: Mapping, edges: np.ndarray, reference: str, limits: tuple) -> None:
    base, base_error = densities[reference]
    for index, (name, (density, error)) in enumerate(densities.items()):
        with np.errstate(divide="ignore", invalid="ignore"):
            if name == reference:
                relative = base_error / base
                lower.bar(edges[:-1], 2 * relative, np.diff(edges), 1 - relative, align="edge", color="0.85")
            else:
                mplhep.histplot(density / base, edges, yerr=error / base, ax=lower, **look(name, index))
    lower.axhline(1, color="0.5", linewidth=0.8)
    lower.set(ylim=limits, ylabel=f"/ {reference}")


def spectra(
    panels: Mapping[str, tuple[Mapping[str, ArrayLike], ArrayLike]],
    *,
    reference: str,
    weights: Mapping[str, ArrayLike] | None = None,
    ratio_range: tuple[float, float] = (0.5, 1.5),
) -> Figure:
    """Draw :func:`compare` with ratios side by side: by label of the axis, samples by name and their edges."""
    size, shape = (4.6 * len(panels), 4.6), {"height_ratios": [3, 1]}
    figure, axes = plt.subplots(2, len(panels), figsize=size, sharex="col", squeeze=False, gridspec_kw=shape)
    options = {"reference": reference, "weights": weights, "ratio_range": ratio_range}
    for column, (xlabel, (samples, edges)) in enumerate(panels.items()):
        compare(samples, edges, xlabel=xlabel, ax=axes[:, column], **options)
        if column:
            axes[0, column].get_legend().remove()
            axes[0, column].set_ylabel("")
            axes[1, column].set_ylabel("")
    return figure


def templates(
    named: Mapping[str, Template], *, xlabel: str, reference: str, ratio_range: tuple[float, float] = (0.8, 1.2)
) -> Figure:
    """Draw templates (:mod:`rewind.stats.templates`) by name with their errors, and their ratio to ``reference``.

    Bins without an end are not drawn.
    """
    figure, (ax, lower) = plt.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2]})
    base = named[reference]
    inside = np.isfinite(base.edges[:-1]) & np.isfinite(base.edges[1:])
    edges = base.edges[np.isfinite(base.edges)]
    for index, (name, one) in enumerate(named.items()):
        share, error, style = one.shares[inside], one.errors[inside], look(name, index)
        mplhep.histplot(share / np.diff(edges), edges, yerr=error / np.diff(edges), ax=ax, label=name, **style)
        middle = share / base.shares[inside]
        mplhep.histplot(middle, edges, yerr=error / base.shares[inside], ax=lower, **style)
    ax.set_ylabel("density")
    ax.legend()
    lower.set(xlabel=xlabel, ylabel=f"/ {reference}", ylim=ratio_range)
    return figure


def matrix(
    ax: Axes, values: ArrayLike, edges_x: ArrayLike, edges_y: ArrayLike, *, xlabel: str, ylabel: str, label: str
) -> None:
    """Draw a matrix, ``values[x, y]``, with a colour bar."""
    drawn = mplhep.hist2dplot(np.asarray(values), edges_x, edges_y, ax=ax, cbar=False, cmap="cividis", cmin=None)
    ax.figure.colorbar(drawn[0], ax=ax, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)


def posterior(
    ax: Axes, draws: ArrayLike, edges: ArrayLike, *, truth: float, solutions: Sequence[float], title: str
) -> None:
    """Draw a posterior in one quantity by its draws ``(n,)``, with the truth and the analytic ``solutions`` on top."""
    colour = METHODS["flow"][0]
    density, _ = histograms.density(draws, edges)
    ax.stairs(density, edges, fill=True, color=colour, alpha=0.25)
    ax.stairs(density, edges, color=colour, label="flow: posterior", linewidth=1.6)
    for value in solutions:
        ax.axvline(value, **look("ellipse"), label="analytic solutions")
    ax.axvline(truth, **look("truth"), label="truth")
    ax.set(title=title, xlim=(edges[0], edges[-1]), yticks=[])
