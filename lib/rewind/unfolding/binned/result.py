"""The result of a binned unfolding, and what its covariances are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned.problem import Problem

__all__ = ["Derivatives", "Unfolded", "finish", "global_correlation"]

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Derivatives:
    """Hold how y = x / truth follows data and simulation, to first order.

    ``data`` ``(T, R)`` and ``fakes`` ``(T, R)``; that by the yield of cell (r, s) is
    Σ_a ``left[a, r]`` ``right[a, t, s]`` + Σ_b ``left_by_true[b, t, r]`` ``right_of_all[b, s]`` (few terms, where a
    full array would have R T² entries), and ``truth`` ``(T, T)`` that by the simulated truth at fixed yields.
    """

    data: Array
    fakes: Array
    left: Array
    right: Array
    left_by_true: Array
    right_of_all: Array
    truth: Array

    def by_cell(self, column: int) -> Array:
        """Return the derivative ``(T, R)`` by the yields of a true bin."""
        first = self.right[:, :, column].T @ self.left
        return first + np.tensordot(self.right_of_all[:, column], self.left_by_true, 1)


@dataclass(frozen=True)
class Unfolded:
    """Hold an unfolded spectrum ``values`` ``(T,)``: absolute yields of true bins, corrected for efficiency.

    ``covariance`` ``(T, T)`` is the data's: in an empty Poisson bin iterative Bayes and the likelihood take the data's
    variance 0, least-squares methods the expected one. ``simulation_covariance`` is that of the simulation's finite
    sample, None where its variances are not known. ``jacobian`` ``(T, R)`` is ∂values/∂data, ``folded`` ``(R,)`` the
    data that the values make one expect, ``folded_chi2`` their χ². NaN stands in true bins that are not ``determined``,
    as they are never reconstructed, and in rows of ``folded`` that are not ``reachable``. ``problem`` is what was
    unfolded.
    """

    values: Array
    covariance: Array
    simulation_covariance: Array | None
    jacobian: Array
    folded: Array
    folded_chi2: float
    determined: NDArray[np.bool_]
    reachable: NDArray[np.bool_]
    problem: Problem = field(repr=False)

    @property
    def errors(self) -> Array:
        """Return the data's standard errors ``(T,)``."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def total_covariance(self) -> Array:
        """Return the covariance of data and simulation together ``(T, T)``; raise InputError where one is unknown."""
        if self.simulation_covariance is None:
            raise InputError("simulation_covariance: not known from bare arrays; unfold with a response record")
        return self.covariance + self.simulation_covariance

    @property
    def correlation(self) -> Array:
        """Return the data's correlations ``(T, T)``."""
        with np.errstate(invalid="ignore"):
            return self.covariance / np.outer(self.errors, self.errors)

    def to_hist(self) -> hist.Hist:
        """Return values and the data's variances as a histogram over the true axes of the response record.

        NaN stands in bins that are not determined or not kept, and in flow bins: so it does in projections over them,
        whose variances would lack the bins' correlations. Raises InputError for a result of bare arrays.
        """
        record = self.problem.record
        if record is None:
            raise InputError("histogram: bare arrays have no axes; unfold with a response record")
        filled = hist.Hist(*record.true, storage=hist.storage.Weight())
        content = np.full((2, len(record.inside[1])), np.nan)
        content[:, record.inside[1]] = self.values, np.diag(self.covariance)
        filled.view(flow=True).value, filled.view(flow=True).variance = content.reshape(2, *filled.axes.extent)
        return filled

    def expected_data(self, spectrum: ArrayLike) -> Array:
        """Return the data ``(R,)`` that true yields ``(T,)`` make one expect, background included.

        Bins that are not determined or not reachable bring nothing. Raises InputError for yields that are not finite.
        """
        spectrum, problem = np.asarray(spectrum, dtype=np.float64), self.problem
        if spectrum.shape != self.determined.shape or not np.isfinite(spectrum[self.determined]).all():
            raise InputError(f"spectrum of shape {spectrum.shape}: {len(self.determined)} finite yields are needed")
        data, known = np.zeros(len(self.reachable)), problem.purity > 0
        data[np.flatnonzero(self.reachable)[known]] = (
            problem.folded(spectrum[self.determined])[known] / problem.purity[known]
        )
        return data


def global_correlation(covariance: Array) -> Array:
    """Return ρ_i = √(1 − 1/(V_ii V⁻¹_ii)) ``(T,)``, the multiple correlation of a bin with all others (1205.6201).

    Raises InputError for a covariance without an inverse, which a pseudo-inverse would hide.

    >>> global_correlation(np.array([[1.0, 0.6], [0.6, 1.0]])).round(3).tolist()
    [0.6, 0.6]
    """
    scale = np.sqrt(np.diag(covariance))
    if not (np.isfinite(covariance).all() and (scale > 0).all()):
        raise InputError("covariance: finite entries and positive variances are needed")
    correlation = covariance / np.outer(scale, scale)
    if np.linalg.matrix_rank(correlation, hermitian=True) < len(scale):
        raise InputError("covariance: it has no inverse; there are fewer degrees of freedom than bins")
    inverse = np.linalg.inv(correlation)
    return np.sqrt(np.clip(1 - 1 / np.diag(inverse), 0, 1))


def finish(problem: Problem, ratio: Array, derivatives: Derivatives, data_covariance: Array) -> Unfolded:
    """Return the result of y = ``ratio`` ``(T,)`` with both covariances; all bins of the caller have their place."""
    truth = problem.truth
    values = truth * ratio
    jacobian = truth[:, None] * derivatives.data
    covariance = jacobian @ data_covariance @ jacobian.T
    n_rows, n_columns = len(problem.reachable), len(problem.determined)
    columns = np.flatnonzero(problem.determined)
    simulation = None
    if problem.record is not None:
        simulation = _square(_simulation(problem, ratio, derivatives), columns, n_columns)
    folded = np.full(n_rows, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        folded[problem.reachable] = problem.folded(values) / problem.purity
    whole = np.full((n_columns, n_rows), np.nan)
    whole[problem.determined] = 0.0
    whole[np.ix_(problem.determined, problem.reachable)] = jacobian * problem.purity
    spread = np.full(n_columns, np.nan)
    spread[columns] = values
    return Unfolded(
        values=spread,
        covariance=_square(covariance, columns, n_columns),
        simulation_covariance=simulation,
        jacobian=whole,
        folded=folded,
        folded_chi2=problem.folded_chi2(values),
        determined=problem.determined,
        reachable=problem.reachable,
        problem=problem,
    )


def _square(values: Array, columns: Places, n: int) -> Array:
    whole = np.full((n, n), np.nan)
    whole[np.ix_(columns, columns)] = (values + values.T) / 2
    return whole


def _simulation(problem: Problem, ratio: Array, by: Derivatives) -> Array:
    """Return Σ over simulated events of what each brings: cells, misses and fakes are told apart, draws are not."""
    record, truth = problem.record, problem.truth[:, None]
    by_truth = truth * by.truth + np.diag(ratio)  # of x: also what a miss changes
    total = np.zeros((len(ratio), len(ratio)))
    rows = _rows(record, problem)
    others = np.setdiff1d(np.arange(len(record.counts)), rows)
    for column, place in enumerate(np.flatnonzero(record.inside[1])[problem.determined]):
        lever = np.hstack([truth * by.by_cell(column) + by_truth[:, [column]], by_truth[:, [column]]])
        total += _propagated(lever, *_spread(record, place, rows, others))
    if problem.fakes_are_simulated:
        total += _propagated(truth * by.fakes, *_spread_of_fakes(record, problem))
    return total


def _propagated(lever: Array, variances: Array, shared: Array | None) -> Array:
    if shared is None:
        lever = lever * np.sqrt(variances)
        return lever @ lever.T
    return lever @ shared @ lever.T


def _rows(record: ResponseMatrix, problem: Problem) -> Places:
    """Return where the reachable bins stand among all reconstructed ones of a record."""
    return np.flatnonzero(record.inside[0])[problem.reachable]


def _spread(record: ResponseMatrix, place: int, rows: Places, others: Places) -> tuple[Array, Array | None]:
    """Return variances ``(R + 1,)`` of a true bin's cells and its misses, last, and their covariances if shared."""
    squares = record.squares[:, place]
    variances = np.r_[squares[rows], squares[others].sum()]
    if record.shared is None:
        return variances, None
    gather = np.zeros((len(rows) + 1, len(squares)))
    gather[np.arange(len(rows)), rows] = 1
    gather[-1, others] = 1
    return variances, gather @ record.shared[place] @ gather.T


def _spread_of_fakes(record: ResponseMatrix, problem: Problem) -> tuple[Array, Array | None]:
    rows = _rows(record, problem)
    outside = ~record.inside[1]
    variances = record.squares[rows][:, outside].sum(1)
    if record.shared is None:
        return variances, None
    return variances, record.shared[outside].sum(0)[np.ix_(rows, rows)]
