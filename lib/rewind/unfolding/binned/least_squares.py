"""Unfolding by least squares: matrix inversion, and Tikhonov's regularisation with a constraint on the area.

>>> response, truth = [[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0]
>>> matrix_inversion(response, truth, [700.0, 300.0]).values.round(1).tolist()
[833.3, 166.7]
>>> tikhonov(response, truth, [700.0, 300.0], tau=0.0).values.round(1).tolist()
[833.3, 166.7]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned import penalties
from rewind.unfolding.binned.l_curve import corner
from rewind.unfolding.binned.problem import Problem, read
from rewind.unfolding.binned.quadratic import Minimum, derivatives, minimise, minimise_with_area
from rewind.unfolding.binned.result import Unfolded, finish

__all__ = ["Tikhonov", "matrix_inversion", "tikhonov"]

Array = NDArray[np.float64]


def matrix_inversion(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
    purity: ArrayLike | None = None,
    data_covariance: ArrayLike | None = None,
) -> Unfolded:
    """Return the spectrum that folds to the data, of the least χ² where there are more reconstructed than true bins.

    The data's variances, of an empty bin the expected one, are weights and count as fixed in the covariances. Arguments
    as of :func:`~rewind.unfolding.binned.bayes.iterative_bayes`. Raises InputError where the response has no inverse.
    """
    problem = read(
        response,
        truth,
        data,
        fakes=fakes,
        background=background,
        purity=purity,
        data_covariance=data_covariance,
    )
    n = len(problem.truth)
    minimum = minimise(problem, np.zeros((0, n)), np.zeros(0))
    return finish(problem, minimum.ratio, derivatives(problem, minimum, np.zeros((n, n))), problem.weight)


class Tikhonov:
    """State an unfolding by Tikhonov's regularisation, to be solved at any strength τ (1205.6201).

    Minimises χ² + τ²‖L(x − x₀)‖², x₀ the prior, with the folded total held to that of the data if ``area``. Arguments
    otherwise as of :func:`tikhonov`; x₀ is absolute, and ``unfold`` warns of one far from the data's total.
    """

    def __init__(self, problem: Problem, penalty: ArrayLike | None = None, *, area: bool = True):
        self.problem = problem
        self.penalty = penalties.on_yields(problem, penalty)
        self._minimise = minimise_with_area if area else minimise

    def minimum(self, tau: float) -> Minimum:
        """Return the minimum at a strength; raise InputError for one that is negative or not finite."""
        return self._minimise(self.problem, *penalties.scaled(self.problem, self.penalty, tau))

    def unfold(self, tau: float) -> Unfolded:
        """Return the result at a strength, which counts as fixed in its covariances."""
        problem, minimum = self.problem, self.minimum(tau)
        penalties.warn_of_scale(problem, self.penalty, tau)
        by_truth = penalties.by_truth(problem, self.penalty, tau, minimum.ratio)
        return finish(problem, minimum.ratio, derivatives(problem, minimum, by_truth), problem.weight)

    def strengths(self, n: int = 60) -> Array:
        """Return strengths ``(n,)``, evenly in ln τ, from hardly any effect on any direction to a full one on all."""
        whitened = self.problem.whitening() @ self.problem.yields / self.problem.truth
        sizes = np.linalg.svd(whitened, compute_uv=False)
        bends = np.linalg.svd(self.penalty, compute_uv=False)
        if not bends.size or bends.max() == 0:
            raise InputError("penalty: it holds nothing against any spectrum")
        low, high = sizes.min() / bends.max(), sizes.max() / bends[bends > 1e-9 * bends.max()].min()
        return np.geomspace(max(low, 1e-9 * high) / 30, 3 * high, n)


def tikhonov(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    tau: float | None = None,
    penalty: ArrayLike | None = None,
    area: bool = True,
    prior: ArrayLike | None = None,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
    purity: ArrayLike | None = None,
    data_covariance: ArrayLike | None = None,
) -> Unfolded:
    """Return the spectrum of least χ² + τ²‖L(x − x₀)‖², its folded total held to that of the data if ``area``.

    ``penalty`` L ``(P, T)`` acts on yields; by default the second derivative of the density within slices of the
    response record, and of flat bins for bare arrays. x₀ is the absolute prior, the simulated truth by default: that
    must be normalised to the data, and a folded total off by more than a factor 2 is warned of. Without ``tau`` the
    corner of the L-curve is taken. Other arguments as of :func:`~rewind.unfolding.binned.bayes.iterative_bayes`.
    Raises InputError as :func:`~rewind.unfolding.binned.problem.read` does and for fewer reconstructed than true bins.
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
    stated = Tikhonov(problem, penalty, area=area)
    return stated.unfold(corner(stated) if tau is None else tau)
