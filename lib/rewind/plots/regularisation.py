"""How a regularisation is chosen and what it does: components, L-curve, unfolded spectra.

>>> import numpy as np
>>> figure = components(np.array([30.0, 4.0, 1.2]), np.array([9.0, 3.0, 1.0]), 2)
>>> figure.axes[0].get_ylabel()
'$|g_i|$'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from rewind.plots.estimates import in_bins
from rewind.plots.style import columns, look

__all__ = ["components", "l_curve", "unfolded"]

Array = NDArray[np.float64]
_HEIGHT = 6  # errors of a typical bin


class _LCurve(Protocol):
    taus: Array
    misfit: Array
    bending: Array


class _Scan(Protocol):
    value: float
    settings: Array
    scores: Array


def components(significances: Array, sizes: Array, k: int) -> Figure:
    """Draw the strength of each component of the data, and the share of it that an SVD keeps at ``k``."""
    figure, (left, right) = columns(2, width=4.8)
    number = np.arange(1, len(sizes) + 1)
    left.bar(number, np.abs(significances), color="0.7")
    left.axhline(1, color="0.3", linewidth=0.8)
    left.axvline(k, label=f"k = {k}", **look("k", 1))
    left.set(xlabel="component $i$", ylabel="$|g_i|$", yscale="log", ylim=(0.03, None))
    left.legend()
    right.plot(number, sizes**2 / (sizes**2 + sizes[k - 1] ** 2), marker="o", **look("kept"))
    right.set(xlabel="component $i$", ylabel="share that is kept", ylim=(0, 1.05))
    return figure


def l_curve(curve: _LCurve, corner: float, correlation: _Scan) -> Figure:
    """Draw misfit against bending with the ``corner``, and the mean global correlation by strength."""
    figure, (left, right) = columns(2, width=4.8)
    left.plot(curve.misfit, curve.bending, **look("curve"))
    at = int(np.argmin(np.abs(np.log(curve.taus / corner))))
    left.plot(curve.misfit[at], curve.bending[at], "o", color=look("corner", 1)["color"], label="corner")
    left.set(xlabel=r"$\log_{10}\chi^2$", ylabel=r"$\log_{10}|L(x - x_0)|^2$")
    right.plot(correlation.settings, correlation.scores, **look("curve"))
    right.axvline(correlation.value, label="least", **look("least", 1))
    right.set(xscale="log", xlabel=r"$\tau$", ylabel=r"mean $\rho$")
    for ax in (left, right):
        ax.legend()
    return figure


def unfolded(
    ax: Axes,
    edges: ArrayLike,
    named: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    truth: ArrayLike,
    n_errors: float = 6,
) -> None:
    """Draw unfolded values and errors by method over the ``truth`` ``(T,)``, ``n_errors`` of a typical bin high."""
    truth = np.asarray(truth, dtype=np.float64)
    ratios = {name: tuple(np.asarray(part) / truth for part in parts) for name, parts in named.items()}
    in_bins(ax, edges, ratios)
    ax.axhline(1, **look("truth"))
    half = _HEIGHT * max(float(np.median(errors)) for _, errors in ratios.values())
    ax.set(ylim=(1 - half, 1 + half), ylabel="unfolded / true")
