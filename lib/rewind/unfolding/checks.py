"""Checks of an unfolding: fit, bottom line, closure, linearity, prior, condition number, effective sample sizes.

A method is a function from data ``(R,)`` to an :class:`~rewind.unfolding.binned.result.Unfolded`; ``result`` is what it
made of the data.

>>> from rewind.unfolding.binned import matrix_inversion
>>> data = [700.0, 300.0]
>>> result = matrix_inversion([[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], data)
>>> line = bottom_line(result, data, [800.0, 200.0])
>>> f"{line.unfolded:.3f} {line.folded:.3f}", line.holds
('1.905 1.905', True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned.problem import Problem
from rewind.unfolding.binned.result import Unfolded

__all__ = [
    "BottomLine",
    "Closure",
    "ConditionNumbers",
    "EffectiveSampleSizes",
    "FoldedFit",
    "Linearity",
    "PriorShift",
    "bottom_line",
    "closure",
    "condition_number",
    "effective_sample_sizes",
    "folded_fit",
    "linearity",
    "linearity_to_shape",
    "prior_shift",
]

Array = NDArray[np.float64]
_LOST = 1e-13  # of the largest singular value: a covariance with less has no inverse
_SIZES = (-0.2, -0.1, 0.1, 0.2)


class FoldedFit(NamedTuple):
    """Hold a folded χ², its degrees of freedom and p-value, and the effective number of ``parameters``."""

    chi2: float
    dof: float
    p_value: float
    parameters: float


def folded_fit(result: Unfolded) -> FoldedFit:
    """Return how well a result folds back to its data, allowing for what it took from them.

    With the hat matrix H = ∂folded/∂data in whitened data, parameters are tr H, and the degrees of freedom the mean of
    χ² without a bias, ‖1 − H‖²: R − T without regularisation. The p-value is that of the scaled χ² distribution with
    this mean and the variance 2 ‖(1 − H)(1 − H)ᵀ‖² (Satterthwaite); a bias lowers it. Fitted nuisances are not counted.
    """
    problem, jacobian = result.problem, _jacobian(result)
    hat = problem.yields / problem.truth @ jacobian
    root = _root(problem)
    left = problem.whitening() @ (np.eye(len(hat)) - hat) @ root
    square = left @ left.T
    dof, second = float(np.trace(square)), float(np.sum(square**2))
    if dof < 1e-12 * len(hat):
        return FoldedFit(result.folded_chi2, 0.0, 1.0, float(np.trace(hat)))
    p_value = float(chi2.sf(result.folded_chi2 * dof / second, dof**2 / second))
    return FoldedFit(result.folded_chi2, dof, p_value, float(np.trace(hat)))


def _jacobian(result: Unfolded) -> Array:
    """Return the derivative ``(T, R)`` of the determined values by the problem's data, those times the purity."""
    purity = result.problem.purity
    whole = result.jacobian[np.ix_(result.determined, result.reachable)]
    return np.divide(whole, purity, out=np.zeros_like(whole), where=purity > 0)


def _root(problem: Problem) -> Array:
    """Return a root ``(R, K)`` of the data's covariance, inverse to the whitening."""
    return problem.weight @ problem.whitening().T


@dataclass(frozen=True)
class BottomLine:
    """Hold the χ² of a prediction against the ``unfolded`` spectrum and, ``folded``, against the data."""

    unfolded: float
    folded: float
    unfolded_dof: int
    folded_dof: int

    @property
    def holds(self) -> bool:
        """Return whether the unfolded spectrum excludes a prediction no more than the data do (1607.07038)."""
        return self.unfolded <= self.folded * (1 + 1e-8) + 1e-8


def bottom_line(result: Unfolded, data: ArrayLike, prediction: ArrayLike) -> BottomLine:
    """Return the bottom-line test of a predicted true spectrum ``(T,)`` with full covariances (1607.07038).

    ``data`` ``(R,)`` are those that were unfolded. The two χ² are equal where a square response was inverted. Raises
    InputError for other data, and where regularisation left the covariance without an inverse.
    """
    problem = result.problem
    if not np.array_equal(np.asarray(data, dtype=np.float64)[result.reachable] * problem.purity, problem.data):
        raise InputError("data: not those of the result; the bottom line compares a result with its own data")
    folded = problem.whitening() @ (problem.data - _folded(result, prediction))
    root = _jacobian(result) @ _root(problem)
    scale = np.linalg.norm(root, axis=1)
    if root.shape[0] > root.shape[1] or not (scale > 0).all():
        raise InputError("covariance: it has no inverse; there are fewer degrees of freedom than bins")
    triangle = np.linalg.qr((root / scale[:, None]).T, mode="r")
    sizes = np.linalg.svd(triangle, compute_uv=False)
    if sizes[-1] < _LOST * sizes[0]:
        raise InputError("covariance: it has no inverse; the regularisation left fewer degrees of freedom than bins")
    apart = (result.values - np.asarray(prediction, dtype=np.float64))[result.determined] / scale
    pulls = np.linalg.solve(triangle.T, apart)
    return BottomLine(float(pulls @ pulls), float(folded @ folded), len(pulls), len(folded))


def _folded(result: Unfolded, spectrum: ArrayLike) -> Array:
    return result.expected_data(spectrum)[result.reachable] * result.problem.purity


def _whole(result: Unfolded, values: Array) -> Array:
    spread = np.full(len(result.determined), np.nan)
    spread[result.determined] = values
    return spread


@dataclass(frozen=True)
class Closure:
    """Hold the ``residual`` ``(T,)`` of an unfolded expectation, the ``errors`` that such data have, and its χ²."""

    residual: Array
    errors: Array
    folded_chi2: float

    @property
    def pulls(self) -> Array:
        """Return residuals in units of errors ``(T,)``."""
        return self.residual / self.errors

    @property
    def worst(self) -> float:
        """Return the pull farthest from zero."""
        return float(self.pulls[np.nanargmax(np.abs(self.pulls))])


def closure(result: Unfolded, unfold: Callable[[Array], Unfolded], truth: ArrayLike | None = None) -> Closure:
    """Return how the folded ``truth`` ``(T,)``, the simulated one by default, comes back without any fluctuation.

    Zero without regularisation; regularisation towards the simulation closes on it by construction.
    """
    truth = _whole(result, result.problem.truth) if truth is None else np.asarray(truth, dtype=np.float64)
    again = unfold(result.expected_data(truth))
    return Closure(again.values - truth, again.errors, again.folded_chi2)


@dataclass(frozen=True)
class Linearity:
    """Hold straight lines x̂ = intercept + slope x of each true bin ``(T,)``, NaN where it was not moved."""

    slopes: Array
    intercepts: Array


def linearity(
    result: Unfolded,
    unfold: Callable[[Array], Unfolded],
    truth: ArrayLike | None = None,
    *,
    sizes: Sequence[float] = _SIZES,
) -> Linearity:
    """Return how each unfolded bin follows a bump of relative ``sizes`` in it alone, in data without fluctuation.

    Bumps stand on ``truth`` ``(T,)``, the simulated one by default. Without regularisation slopes are 1 and intercepts
    0. It takes T unfoldings a size.
    """
    whole = np.where(result.determined, 1.0, np.nan)
    lines = [
        linearity_to_shape(result, unfold, np.where(np.arange(len(whole)) == i, 1.0, 0.0), truth, sizes=sizes)
        for i in np.flatnonzero(result.determined)
    ]
    slopes = _whole(result, np.array([line.slopes for line in lines])[:, result.determined].diagonal())
    intercepts = _whole(result, np.array([line.intercepts for line in lines])[:, result.determined].diagonal())
    return Linearity(slopes * whole, intercepts * whole)


def linearity_to_shape(
    result: Unfolded,
    unfold: Callable[[Array], Unfolded],
    shape: ArrayLike,
    truth: ArrayLike | None = None,
    *,
    sizes: Sequence[float] = _SIZES,
) -> Linearity:
    """Return how the unfolded bins follow truth · (1 + size · ``shape`` ``(T,)``); otherwise as :func:`linearity`."""
    truth = _whole(result, result.problem.truth) if truth is None else np.asarray(truth, dtype=np.float64)
    shape, sizes = np.asarray(shape, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if shape.shape != truth.shape or not np.isfinite(shape).all():
        raise InputError(f"shape {shape.shape}: a finite relative change of each of {len(truth)} true bins is needed")
    if sizes.ndim != 1 or len(np.unique(sizes)) < 2:
        raise InputError("sizes: a straight line needs two of them")
    true = truth * (1 + sizes[:, None] * shape)
    unfolded = np.array([unfold(result.expected_data(spectrum)).values for spectrum in true])
    off = true - true.mean(0)
    squares = (off**2).sum(0)
    slopes = np.divide((off * unfolded).sum(0), squares, out=np.full_like(truth, np.nan), where=squares > 0)
    return Linearity(slopes, unfolded.mean(0) - slopes * true.mean(0))


@dataclass(frozen=True)
class PriorShift:
    """Hold how other priors move a result ``(P, T)``, in units of its statistical errors."""

    shifts: Array

    @property
    def worst(self) -> float:
        """Return the largest shift of a bin by any prior."""
        return float(np.nanmax(np.abs(self.shifts)))


def prior_shift(unfold: Callable[[Array], Unfolded], priors: Sequence[ArrayLike]) -> PriorShift:
    """Return how ``unfold(prior)`` moves from the first of ``priors`` to each other, in units of the first's errors."""
    if len(priors) < 2:
        raise InputError("priors: two at least are needed, the one in use first")
    first, *others = (unfold(np.array(prior, dtype=np.float64)) for prior in priors)
    return PriorShift(np.array([(other.values - first.values) / first.errors for other in others]))


class ConditionNumbers(NamedTuple):
    """Hold the ratio of largest to smallest singular value of the ``response`` and of the ``whitened`` problem."""

    response: float
    whitened: float


def condition_number(problem: Problem) -> ConditionNumbers:
    """Return both condition numbers, infinite without an inverse.

    ``response`` is of the probabilities p(reconstructed bin | true bin), ``whitened`` of the same for yields relative
    to the simulated truth, and with data of unit variances: how much worse the worst direction is known than the best.
    """
    whitened = problem.whitening() @ problem.yields
    return ConditionNumbers(_condition(problem.yields / problem.truth), _condition(whitened))


def _condition(matrix: Array) -> float:
    sizes = np.linalg.svd(matrix, compute_uv=False)
    singular = matrix.shape[0] < matrix.shape[1] or sizes[-1] < _LOST * sizes[0]
    return float(np.inf) if singular else float(sizes[0] / sizes[-1])


@dataclass(frozen=True)
class EffectiveSampleSizes:
    """Hold (Σw)²/Σw² of each true bin ``(T,)``, and of the ``smallest_cell`` that matters, at ``cell`` (r, t)."""

    bins: Array
    smallest_cell: float
    cell: tuple[int, int]


def effective_sample_sizes(record: ResponseMatrix, *, share: float = 0.01) -> EffectiveSampleSizes:
    """Return how many unweighted events the simulation is worth, by true bin and in its poorest cell.

    A cell of the response matters if it holds at least ``share`` of its true bin. Bins are within the edges; draws of
    one event count as one.
    """
    inside, parts, squares = record.inside[1], record.parts, record.variances
    if record.shared is None:
        variances = squares.yields.sum(0) + squares.misses
    else:
        variances = record.shared[inside].sum((1, 2))
    bins = np.divide(parts.truth**2, variances, out=np.zeros_like(variances), where=variances > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cells = np.where(np.abs(parts.yields) >= share * parts.truth, parts.yields**2 / squares.yields, np.nan)
    if not np.isfinite(cells).any():
        raise InputError(f"response: no cell holds {share:g} of its true bin")
    row, column = np.unravel_index(np.nanargmin(cells), cells.shape)
    return EffectiveSampleSizes(bins, float(cells[row, column]), (int(row), int(column)))
