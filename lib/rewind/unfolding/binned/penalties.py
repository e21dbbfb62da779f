"""What a regularisation holds against a spectrum: curvature, in slices of one observable or in flat bins.

A penalty is a matrix ``(P, T)``; what it makes of a spectrum, squared and summed, is added to χ².
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from hist.axis import AxesMixin
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned.problem import Problem

__all__ = [
    "by_truth",
    "curvature",
    "differences",
    "flat_curvature",
    "flat_differences",
    "on_yields",
    "scaled",
    "warn_of_scale",
    "within",
]

Array = NDArray[np.float64]
_CORNER = 1e-5  # on the diagonal of second differences, so that they have an inverse (hep-ph/9509307, section 4)
_STRAIGHT = 1e-9  # of its terms: where a penalty's sum over a prior is rounding


def on_yields(problem: Problem, given: ArrayLike | None) -> Array:
    """Return a caller's penalty ``(P, T)`` on yields, or the curvature, without the rows that need bins left out.

    Raises InputError for another number of true bins and entries that are not finite.
    """
    n = len(problem.determined)
    if given is None:
        given = flat_curvature(n) if problem.record is None else curvature(problem.record)
    return within(problem, given, "penalty")


def within(problem: Problem, given: ArrayLike, name: str) -> Array:
    """Return the rows of a caller's matrix ``(P, T)`` that need no bin left out, over the bins that are not.

    Raises InputError for another number of true bins and entries that are not finite.
    """
    matrix, n = np.array(given, dtype=np.float64), len(problem.determined)
    if matrix.ndim != 2 or matrix.shape[1] != n or not np.isfinite(matrix).all():
        raise InputError(f"{name} of shape {matrix.shape}: finite rows over {n} true bins are needed")
    return matrix[~matrix[:, ~problem.determined].any(1)][:, problem.determined]


def scaled(problem: Problem, penalty: Array, tau: float) -> tuple[Array, Array]:
    """Return M ``(P, T)`` and m ``(P,)`` with τ²‖L(x − x₀)‖² = ‖M y − m‖², x₀ the prior.

    Raises InputError for a strength τ that is negative or not finite.
    """
    if not (np.isfinite(tau) and tau >= 0):
        raise InputError(f"tau = {tau}: a finite strength that is not negative is needed")
    stronger = tau * penalty
    return stronger * problem.truth, stronger @ problem.prior


def warn_of_scale(problem: Problem, penalty: Array, tau: float) -> None:
    """Warn where a spectrum is held at a prior that folds to less than half or more than twice the data's total.

    Nothing is said without regularisation, or of a prior that the penalty holds nothing against, whatever its size.
    """
    aim, size = np.abs(penalty @ problem.prior), np.abs(penalty) @ np.abs(problem.prior)
    expected, observed = problem.folded(problem.prior).sum(), problem.data.sum()
    if tau > 0 and (aim > _STRAIGHT * size).any() and not observed / 2 <= expected <= 2 * observed:
        warnings.warn(
            f"prior: it makes one expect {expected:g} events, the data are {observed:g}, and it is held as it stands; "
            "normalise the simulation by ResponseMatrix.scaled or give prior=",
            stacklevel=3,
        )


def by_truth(problem: Problem, penalty: Array, tau: float, ratio: Array) -> Array:
    """Return how half the gradient of τ²‖L(x − x₀)‖² by y follows the simulated truth ``(T, T)``, at fixed y."""
    square = tau**2 * penalty.T @ penalty
    moved = ratio - 1 if problem.prior_is_truth else ratio
    return np.diag(square @ (problem.truth * ratio - problem.prior)) + problem.truth[:, None] * square * moved


def flat_curvature(n: int) -> Array:
    """Return second differences ``(n − 2, n)`` of neighbouring bins, whatever these are.

    >>> flat_curvature(4).tolist()
    [[1.0, -2.0, 1.0, 0.0], [0.0, 1.0, -2.0, 1.0]]
    """
    return np.diff(np.eye(n), 2, axis=0)


def flat_differences(n: int, known: NDArray[np.bool_] | None = None) -> Array:
    """Return the second differences ``(n, n)`` of hep-ph/9509307: −1 in the corners, 1e-5 more on the diagonal.

    With ``known`` ``(n,)`` they are those of the flagged bins alone, each run of which has corners of its own.

    >>> flat_differences(3).round(1).tolist()
    [[-1.0, 1.0, 0.0], [1.0, -2.0, 1.0], [0.0, 1.0, -1.0]]
    """
    known = np.ones(n, dtype=bool) if known is None else known
    if known.sum() < 2:
        raise InputError(f"second differences of {known.sum()} bins: at least two are needed")
    first = np.diff(np.eye(n), axis=0)
    first = first[~first[:, ~known].any(1)][:, known]
    return -first.T @ first + _CORNER * np.eye(int(known.sum()))


def curvature(response: ResponseMatrix) -> Array:
    """Return second derivatives ``(P, T)`` of a spectrum's density along each true axis, within slices.

    They go by bin widths and centres, in units in which bins of equal width have 1, −2, 1. No derivative crosses the
    edge of a slice, or a bin that is left out or has no end.
    """
    axes, kept = response.true, response.inside[1]
    rows: list[Array] = []
    volumes = _volumes(axes)
    for which, axis in enumerate(axes):
        centres = axis.centers
        scale = _mean_width(axis) ** 2
        for bins, places in _neighbours(axes, kept, which, 3):
            before, after = np.diff(centres[places])
            if not np.isfinite([before, after, *volumes[bins]]).all():
                continue
            steps = np.array([1 / before, -1 / before - 1 / after, 1 / after]) * 2 / (before + after)
            row = np.zeros(len(kept))
            row[bins] = steps * scale / volumes[bins]
            rows.append(row[kept])
    return np.array(rows).reshape(-1, int(kept.sum()))


def differences(response: ResponseMatrix, known: NDArray[np.bool_] | None = None) -> Array:
    """Return second differences ``(P, T)`` along each true axis, within slices, with :func:`flat_differences`' corners.

    With one axis these are the flat ones. A bin that is left out, or not ``known`` ``(T,)``, ends a slice.
    """
    axes, kept = response.true, response.inside[1]
    if known is not None:
        kept = response.restricted(true=known).inside[1]
    total = []
    for which in range(len(axes)):
        laplacian = np.zeros((len(kept), len(kept)))
        for bins, _ in _neighbours(axes, kept, which, 2):
            laplacian[np.ix_(bins, bins)] -= np.array([[1, -1], [-1, 1]])
        total.append((laplacian + _CORNER * np.eye(len(kept)))[np.ix_(kept, kept)])
    return np.vstack(total)


def _volumes(axes: Sequence[AxesMixin]) -> Array:
    """Return the product of a bin's widths over their means ``(T,)``, flow bins infinite."""
    volume = np.ones(1)
    for axis in axes:
        volume = np.multiply.outer(volume, np.r_[np.inf, axis.widths / _mean_width(axis), np.inf]).ravel()
    return volume


def _mean_width(axis: AxesMixin) -> float:
    """Return the mean width of the bins that end, 1 where none does."""
    widths = axis.widths[np.isfinite(axis.widths)]
    return float(widths.mean()) if len(widths) else 1.0


def _neighbours(
    axes: Sequence[AxesMixin], kept: NDArray[np.bool_], which: int, n: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield flat bins and places on an axis of ``n`` kept bins in a row along it."""
    shape = [axis.extent for axis in axes]
    flat = np.moveaxis(np.arange(len(kept)).reshape(shape), which, -1).reshape(-1, shape[which])
    for line in flat:
        for start in range(1, shape[which] - n):
            bins = line[start : start + n]
            if kept[bins].all():
                yield bins, np.arange(start - 1, start - 1 + n)
