"""Unfolding by singular values: the data in directions of falling significance, the later ones damped.

>>> svd([[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], [700.0, 300.0], k=2).values.round(1).tolist()
[626.7, 293.3]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned import penalties
from rewind.unfolding.binned.problem import Problem, read
from rewind.unfolding.binned.quadratic import derivatives, minimise
from rewind.unfolding.binned.result import Derivatives, Unfolded, finish

__all__ = ["SpectralAnalysis", "svd"]

Array = NDArray[np.float64]


class SpectralAnalysis:
    """Take whitened data apart along the singular vectors of the response (hep-ph/9509307).

    The unknown is w = x / prior, bent as little as its ``differences`` C allow; with the whitening W of the data the
    singular values of W N C⁻¹ are ``sizes`` ``(T,)``, falling, and ``significances`` the data's components, each with
    unit variance. Arguments as of :func:`svd`.
    """

    def __init__(self, problem: Problem, differences: ArrayLike | None = None):
        self.problem = problem
        n_rows, n_columns = problem.yields.shape
        if n_rows < n_columns:
            raise InputError(
                f"response of {n_rows} by {n_columns} bins: fewer reconstructed than true ones; merge true bins"
            )
        if (problem.prior <= 0).any():
            raise InputError("prior: zero in a bin, where x / prior has no meaning; give every bin something")
        self.differences = _differences(problem, differences)
        self._per_truth = problem.truth / problem.prior
        self._root = np.linalg.qr(self.differences, mode="r")
        if np.linalg.matrix_rank(self._root) < n_columns:
            raise InputError("differences: they must hold something against every spectrum; add to their diagonal")
        self._whitening = problem.whitening()
        whitened = np.linalg.solve(self._root.T, (self._whitening @ problem.yields / self._per_truth).T).T
        self._left, self.sizes, self._right = np.linalg.svd(whitened, full_matrices=False)
        self.significances = self._left.T @ (self._whitening @ (problem.data - problem.background))

    def unfold(self, k: int) -> Unfolded:
        """Return the result with component i damped by s_i²/(s_i² + s_k²), k = 1 the first; s_k follows the simulation.

        Component k itself is halved: with k = 1 so is the total. Raises InputError for a k that is none of the
        components.
        """
        problem = self.problem
        if not (isinstance(k, int | np.integer) and not isinstance(k, bool) and 1 <= k <= len(self.sizes)):
            raise InputError(f"k = {k}: a whole number from 1 to {len(self.sizes)} is needed, one of the components")
        size = self.sizes[k - 1]
        penalty = size * self.differences * self._per_truth
        minimum = minimise(problem, penalty, np.zeros(len(penalty)))
        bend = self.differences.T @ (self.differences @ (self._per_truth * minimum.ratio))
        square = self.differences.T @ self.differences
        if problem.prior_is_truth:
            by_truth = np.zeros((len(bend), len(bend)))
        else:
            by_truth = size**2 * (np.diag(bend) + self._per_truth[:, None] * square * minimum.ratio) / problem.prior
        by = derivatives(problem, minimum, by_truth)
        by_size = -2 * size * minimum.inverse @ (self._per_truth * bend)
        return finish(problem, minimum.ratio, self._with_moving_strength(by, by_size, k - 1), problem.weight)

    def _with_moving_strength(self, by: Derivatives, by_size: Array, k: int) -> Derivatives:
        """Add how y follows s_k, a singular value of the simulation: ∂s_k = u_kᵀ ∂(W N C⁻¹) v_k."""
        along_rows = self._whitening.T @ self._left[:, k]
        along_columns = np.linalg.solve(self._root, self._right[k]) / self._per_truth
        left = np.vstack([by.left, along_rows])
        right = np.concatenate([by.right, np.outer(by_size, along_columns)[None]])
        truth = by.truth
        if not self.problem.prior_is_truth:
            moved = self.problem.yields.T @ along_rows * along_columns / self.problem.truth
            truth = truth - np.outer(by_size, moved)
        return Derivatives(by.data, by.fakes, left, right, by.left_by_true, by.right_of_all, truth)


def _differences(problem: Problem, given: ArrayLike | None) -> Array:
    known = problem.determined
    if given is not None:
        return penalties.within(problem, given, "differences")
    if problem.record is None:
        return penalties.flat_differences(len(known), known)
    return penalties.differences(problem.record, known)


def svd(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    k: int,
    differences: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
    purity: ArrayLike | None = None,
    data_covariance: ArrayLike | None = None,
) -> Unfolded:
    """Return the spectrum of which k components are hardly damped, the others ever more (hep-ph/9509307).

    ``differences`` ``(P, T)`` act on x / prior: second differences within slices of the response record by default,
    of flat bins for bare arrays. Other arguments as of :func:`~rewind.unfolding.binned.bayes.iterative_bayes`. Raises
    InputError as :func:`~rewind.unfolding.binned.problem.read` does, for fewer reconstructed than true bins and for a k
    that is no component.
    """
    problem = read(
        response,
        truth,
        data,
        prior=prior,
        fakes=fakes,
        background=background,
        purity=purity,
        data_covariance=data_covariance,
    )
    return SpectralAnalysis(problem, differences).unfold(k)
