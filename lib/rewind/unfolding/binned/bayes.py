"""Iterative Bayes: d'Agostini's unfolding, which is expectation maximisation, with its errors through all iterations.

>>> result = iterative_bayes([[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], [700.0, 300.0], iterations=1)
>>> result.values.round(1).tolist(), result.folded.round(1).tolist()
([620.0, 380.0], [572.0, 428.0])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned.problem import Problem, read
from rewind.unfolding.binned.result import Derivatives, Unfolded, finish

__all__ = ["iterative_bayes"]

Array = NDArray[np.float64]
_LOST = 1e-13  # of the largest singular value: directions of the history that are dropped


def iterative_bayes(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    prior: ArrayLike | None = None,
    iterations: int = 4,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
    purity: ArrayLike | None = None,
    data_covariance: ArrayLike | None = None,
) -> Unfolded:
    """Return x after so many iterations x_t ← x_t/ε_t Σ_r A_rt d_r / (A x + b)_r, begun at the prior.

    ``response`` ``[reconstructed, true]`` and ``truth`` are simulated yields, or a response record (then ``truth`` may
    be None); ``data``, ``fakes``, ``background`` absolute yields ``(R,)``, ``purity`` the share of signal instead of
    fakes; with a record each may be a histogram or an array of its axes. Covariances hold the derivative through every
    iteration (1105.1160, whose first term alone is d'Agostini's of 1995); the number of iterations counts as fixed.
    Raises InputError as :func:`~rewind.unfolding.binned.problem.read` does, for negative data and for a prior that is
    zero somewhere.
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
    if not isinstance(iterations, int | np.integer) or isinstance(iterations, bool) or iterations < 1:
        raise InputError(f"iterations = {iterations}: a whole number is needed, at least one")
    if (problem.data < 0).any():
        raise InputError("data: negative; leave the background in the data and give it as background=")
    if (problem.prior <= 0).any():
        raise InputError("prior: zero in a bin, which no iteration leaves; give every bin something")
    history = _iterate(problem, iterations)
    return finish(problem, history.ratios[-1], _derivatives(problem, history), problem.data_covariance)


@dataclass(frozen=True)
class _History:
    """Hold y before each iteration and after the last ``(n + 1, T)``, and of each μ, d/μ ``(n, R)`` and y'/y."""

    ratios: Array
    folded: Array
    pulls: Array
    growth: Array


def _iterate(problem: Problem, n: int) -> _History:
    yields, simulated = problem.yields, problem.yields.sum(0)
    ratios, folded, pulls, growth = ([problem.prior / problem.truth], [], [], [])
    for _ in range(n):
        mean = yields @ ratios[-1] + problem.background
        if (mean <= 0).any():
            raise InputError(f"response: {mean.min():g} expected in a reconstructed bin; merge bins of negative weight")
        folded.append(mean)
        pulls.append(problem.data / mean)
        growth.append(yields.T @ pulls[-1] / simulated)
        ratios.append(ratios[-1] * growth[-1])
    return _History(*map(np.array, (ratios, folded, pulls, growth)))


def _derivatives(problem: Problem, history: _History) -> Derivatives:
    """Return how y follows its inputs; the loop runs back from the last iteration, as every step acts through later."""
    yields, simulated = problem.yields, problem.yields.sum(0)
    n_rows, n_columns = yields.shape
    left, in_left = _compressed(np.vstack([np.ones(n_rows), history.pulls]))
    right, in_right = _compressed(history.ratios[:-1])
    by_data, by_fakes = np.zeros((2, n_columns, n_rows))
    through = np.eye(n_columns)
    right_by_true = np.zeros((len(left), n_columns, n_columns))
    left_by_true = np.zeros((len(right), n_columns, n_rows))
    wanted = problem.record is not None
    for k in reversed(range(len(history.growth))):
        ratio, pull, growth = history.ratios[k], history.pulls[k], history.growth[k]
        lever = through * (ratio / simulated)
        by_mean = (lever @ yields.T) * (pull / history.folded[k])
        by_data += (lever @ yields.T) / history.folded[k]
        by_fakes -= by_mean
        if wanted:
            direct = in_left[k + 1][:, None, None] * lever - in_left[0][:, None, None] * (lever * growth)
            right_by_true += direct
            left_by_true -= in_right[k][:, None, None] * by_mean
        through = through * growth - by_mean @ yields
    by_truth = np.zeros_like(through) if problem.prior_is_truth else -through * (problem.prior / problem.truth**2)
    return Derivatives(by_data, by_fakes, left, right_by_true, left_by_true, right, by_truth)


def _compressed(rows: Array) -> tuple[Array, Array]:
    """Return few orthogonal rows and the coefficients ``(n, few)`` that make ``rows`` ``(n, K)`` of them."""
    first, sizes, second = np.linalg.svd(rows, full_matrices=False)
    kept = sizes > _LOST * sizes[0]
    return second[kept], first[:, kept] * sizes[kept]
