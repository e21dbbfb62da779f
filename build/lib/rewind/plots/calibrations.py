"""Is a posterior calibrated? Ranks of the truth and coverage of random regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rewind import stats
from rewind.errors import InputError
from rewind.plots.style import MOST_ENTRIES, look
from rewind.stats.calibration import Tarp

__all__ = ["calibration"]


def calibration(
    axes: Sequence[Axes], name: str, rank_fractions: ArrayLike, tarp: Tarp, *, labels: Sequence[Sequence[str]]
) -> None:
    """Draw the rank distribution minus uniform, by dimension, and the TARP coverage minus its level, with bands.

    ``labels`` names the dimensions of ``rank_fractions`` ``(N, D)`` in order, in one group of at most eight for each
    axis but the last, which is TARP's. The grey band holds a calibrated dimension in 95 % of trials. Raises InputError
    for groups that do not fit the axes or the dimensions.
    """
    *panels, last = axes
    n_dimensions = np.shape(rank_fractions)[1]
    if len(labels) != len(panels) or sum(map(len, labels)) != n_dimensions:
        groups = " + ".join(str(len(group)) for group in labels)
        raise InputError(f"labels: {groups} names; {len(panels)} groups for {n_dimensions} dimensions are needed")
    if max(map(len, labels)) > MOST_ENTRIES:
        raise InputError(f"labels: a group of {max(map(len, labels))}; at most {MOST_ENTRIES} curves can be told apart")
    levels = np.linspace(0, 1, 101)
    deviations, inside = stats.rank_deviation(rank_fractions, levels)
    columns = iter(deviations.T)
    for ax, group in zip(panels, labels, strict=True):
        for index, label in enumerate(group):
            ax.plot(levels, next(columns), label=label, linewidth=1.4, **look("", index))
        ax.axhspan(-inside, inside, color="0.9", zorder=0)
        ax.set(xlabel="rank of the truth", title=f"{name}: SBC")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("CDF − uniform")
        ax.legend(fontsize=8, ncols=2 if len(group) <= 6 else 4)
    last.errorbar(tarp.levels, tarp.coverage - tarp.levels, yerr=1.96 * tarp.error, **look(name))
    last.axhline(0, color="0.5", linewidth=0.8)
    last.set(xlabel="credibility level", ylabel="coverage − level", title=f"{name}: TARP")
