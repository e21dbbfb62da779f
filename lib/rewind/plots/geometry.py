"""Pictures in a plane: robot arms, ellipses of transverse momenta, draws of momenta and partons.

>>> from rewind.plots import figure
>>> picture, ax = figure()
>>> arms(ax, np.zeros((3, 5, 2)), [1.0, 0.5], title="three arms")
>>> ax.get_title()
'three arms'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from rewind.plots.style import METHODS, look, shared_legend

__all__ = ["arms", "parton_planes", "posterior_plane", "transverse_ellipses"]


def arms(ax: Axes, joints: ArrayLike, hand: ArrayLike, *, title: str, n: int = 150) -> None:
    """Draw robot arms, ``joints`` ``(N, 4, 2)``, ``n`` of them, with their hands at ``hand``; one arm stands out."""
    joints = np.asarray(joints[:n])
    ax.plot(*np.moveaxis(joints, -1, 0).swapaxes(1, 2), color="#0072B2", alpha=0.06, linewidth=1)
    ax.plot(*joints[0].T, color="#D55E00", marker="o", ms=4)
    ax.plot(*np.asarray(hand), marker="X", color="black", ms=9)
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.set(title=title, xlim=(-0.4, 2.1), ylim=(-1.6, 1.6), xlabel="first coordinate", aspect="equal")


def transverse_ellipses(
    ax: Axes,
    neutrino: ArrayLike,
    mirrored: ArrayLike,
    *,
    solutions: ArrayLike,
    closest: ArrayLike,
    truth: ArrayLike,
    title: str,
) -> None:
    """Draw in the plane of p_T(ν) the curves ``(k, 2)`` of the neutrino and of p_T^miss − p_T(ν̄), GeV.

    ``solutions`` ``(n, 2)`` are their common points, ``truth`` ``(2,)`` is the true neutrino; where they do not meet,
    the pair ``closest`` ``(2, 2)``, one point on each curve, is joined.
    """
    ax.plot(*np.asarray(neutrino).T, color="#0072B2", linestyle="-", label="neutrino")
    ax.plot(*np.asarray(mirrored).T, color="#E69F00", linestyle="--", label="$p_T^{miss}$ − antineutrino")
    if len(np.asarray(solutions)):
        ax.plot(*np.asarray(solutions).T, "o", color="#D55E00", ms=7, label="solutions")
    else:
        ax.plot(*np.asarray(closest).T, "o-", color="#CC79A7", ms=6, label="closest approach")
    ax.plot(*np.asarray(truth), "X", color="black", ms=9, label="truth")
    ax.set(xlabel="$p_x(\\nu)$ [GeV]", ylabel="$p_y(\\nu)$ [GeV]", title=title, aspect="equal", adjustable="datalim")


def posterior_plane(ax: Axes, draws: ArrayLike, *, truth: ArrayLike, solutions: ArrayLike) -> None:
    """Draw a posterior in two quantities by its draws ``(n, 2)``, with the truth and analytic ``solutions`` on top.

    The frame holds the central 99 % of the draws and the truth.
    """
    draws = np.asarray(draws)
    ax.plot(*draws.T, ".", ms=2, alpha=0.25, rasterized=True, label="flow: draws", color=METHODS["flow"][0])
    ax.plot(*np.asarray(solutions).T, "o", mfc="none", mew=1.8, ms=9, label="solutions", color=METHODS["ellipse"][0])
    ax.plot(*np.asarray(truth), "X", color="black", mec="white", ms=11, label="truth")
    low, high = _frame(draws, np.asarray(truth)[None], tail=0.005, margin=0.06)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def _frame(draws: NDArray, marks: NDArray, *, tail: float, margin: float) -> tuple[NDArray, NDArray]:
    """Return the lower and upper ends ``(2,)`` of a frame around the draws but for their tails, and all marks."""
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    low, high = np.minimum(low, marks.min(0)), np.maximum(high, marks.max(0))
    return low - margin * (high - low), high + margin * (high - low)


def parton_planes(
    rows: Sequence[str], columns: Sequence[str], draws: ArrayLike, marks: Mapping[str, ArrayLike], *, bins: int = 40
) -> Figure:
    """Draw posterior draws of partons in η and pT, one row an event and one column a parton.

    ``draws`` ``(R, n, C, 2)`` are (η, pT/GeV); ``marks`` are points ``(R, C, 2)`` by name, four at most. A frame holds
    the central 98 % of the draws and all marks, the first of them on top.
    """
    draws = np.asarray(draws)
    shape = len(rows), len(columns)
    figure, axes = plt.subplots(*shape, figsize=(3.6 * shape[1], 2.9 * shape[0]), squeeze=False)
    for i, j in np.ndindex(*shape):
        ax, marked = axes[i, j], np.array([points[i][j] for points in marks.values()])
        edges = np.linspace(*_frame(draws[i, :, j], marked, tail=0.01, margin=0.08), bins + 1).T
        counts = np.histogram2d(*draws[i, :, j].T, bins=list(edges))[0]
        ax.pcolormesh(*edges, counts.T, cmap="Oranges", rasterized=True)
        for k, (name, marker, point) in enumerate(zip(marks, "XosD", marked, strict=False)):
            ax.plot(*point, marker, color=look(name)["color"], mec="white", ms=10, ls="none", label=name, zorder=9 - k)
        ax.set(xlabel="η" if i == shape[0] - 1 else "", ylabel="$p_T$ [GeV]" if j == 0 else "")
        ax.set_title(columns[j] if i == 0 else "", fontsize=11)
        ax.text(0.03, 0.9, rows[i] if j == 0 else "", transform=ax.transAxes, fontsize=9)
    shared_legend(figure, axes[:1, 0])
    return figure
