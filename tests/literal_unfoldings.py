"""Binned unfoldings as their formulas read, for many simulations at once, beside the library's of one.

A simulation is given by ``yields`` ``(n, R, T)``, ``truth`` ``(n, T)`` and ``fakes`` ``(n, R)``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rewind.stats import response_matrix
from rewind.stats.response import response_of_draws
from rewind.unfolding.binned import iterative_bayes, matrix_inversion, svd, tikhonov

TRUE, RECONSTRUCTED = np.linspace(-2, 2, 6), np.linspace(-2.4, 2.4, 9)
PRIOR = np.array([1.1, 2.0, 3.1, 2.6, 0.9]) * 3_000
MANY = 60  # of each distinct event


def distinct_events(n_draws=1, n=400, seed=1):
    """Return draws ``(n, n_draws)``, truth and weights, some negative; some events are unsolved, or outside."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.2, n)
    draws = truth[:, None] + rng.normal(0.1, 0.3, n)[:, None] + rng.normal(0, 0.25, (n, n_draws))
    return np.where(rng.random((n, 1)) < 0.15, np.nan, draws), truth, rng.choice([1.0, 2.0, -0.4], n, p=[0.5, 0.3, 0.2])


def simulated(n_draws=1):
    """Return the response of every distinct event many times over."""
    draws, truth, weights = (np.repeat(values, MANY, 0) for values in distinct_events(n_draws))
    if n_draws == 1:
        return response_matrix(draws[:, 0], truth, RECONSTRUCTED, TRUE, weights=weights)
    return response_of_draws(draws, truth, RECONSTRUCTED, TRUE, weights=weights)


def resimulated(n_toys, rng, n_draws=1):
    """Return counts ``(n_toys, R + 1, T)`` of simulations in which each event has a Poisson number of copies."""
    each = [
        response_of_draws(draw[None], [at], RECONSTRUCTED, TRUE, weights=[weight]).counts
        for draw, at, weight in zip(*distinct_events(n_draws), strict=True)
    ]
    copies = rng.poisson(MANY, (n_toys, len(each))).astype(float)
    return np.tensordot(copies, np.array(each), 1)


def observed(response):
    """Return Poisson data of a spectrum that is not the simulated one."""
    parts = response.parts
    ratio = 1 + 0.25 * np.sin(2.0 * np.arange(parts.yields.shape[1]))
    return np.random.default_rng(2).poisson(parts.yields @ ratio + parts.fakes).astype(float)


def split(response, counts):
    """Return yields, truth and fakes of many counts ``(n, R + 1, T)`` binned as a response is."""
    rows, columns = response.inside
    yields = counts[:, :-1][:, rows][:, :, columns]
    return yields, counts[:, :, columns].sum(1), counts[:, :-1][:, rows][:, :, ~columns].sum(2)


def by_bayes(yields, truth, fakes, data, *, iterations, prior=None):
    """Iterate x_t ← x_t/ε_t Σ_r A_rt d_r / (A x + b)_r."""
    folding = yields / truth[:, None]
    values = truth if prior is None else np.broadcast_to(prior, truth.shape)
    for _ in range(iterations):
        expected = np.einsum("nrt,nt->nr", folding, values) + fakes
        values = values / folding.sum(1) * np.einsum("nrt,nr->nt", folding, data / expected)
    return values


def by_least_squares(yields, truth, fakes, data, *, variances, tau=0.0, prior=None, area=False):
    """Solve the normal equations of χ² + τ²|L(x − x₀)|², with the multiplier of the area beside x."""
    folding, n = yields / truth[:, None], truth.shape[1]
    penalty = tau**2 * np.diff(np.eye(n), 2, axis=0).T @ np.diff(np.eye(n), 2, axis=0)
    weighted = np.swapaxes(folding, 1, 2) / variances
    matrix, right = weighted @ folding + penalty, np.einsum("ntr,nr->nt", weighted, data - fakes)
    right = right + (truth if prior is None else np.broadcast_to(prior, truth.shape)) @ penalty
    if area:
        efficiency = folding.sum(1)
        matrix = np.concatenate([matrix, efficiency[:, None]], 1)
        side = np.concatenate([efficiency, np.zeros((len(truth), 1))], 1)
        matrix = np.concatenate([matrix, side[:, :, None]], 2)
        right = np.concatenate([right, (data - fakes).sum(1, keepdims=True)], 1)
    return np.linalg.solve(matrix, right[..., None])[:, :n, 0]


def by_singular_values(yields, truth, fakes, data, *, variances, k, prior=None):
    """Damp the components of the whitened data by s²/(s² + s_k²) (hep-ph/9509307)."""
    n = truth.shape[1]
    prior = truth if prior is None else np.broadcast_to(prior, truth.shape)
    differences = np.diag(np.r_[-1.0, np.full(n - 2, -2.0), -1.0]) + np.eye(n, k=1) + np.eye(n, k=-1) + 1e-5 * np.eye(n)
    inverse = np.linalg.inv(differences)
    whitened = yields * (prior / truth)[:, None] / np.sqrt(variances)[:, :, None] @ inverse
    left, sizes, right = np.linalg.svd(whitened, full_matrices=False)
    components = np.einsum("nrk,nr->nk", left, (data - fakes) / np.sqrt(variances))
    damped = components * sizes / (sizes**2 + sizes[:, [k - 1]] ** 2)
    return prior * (np.einsum("nkt,nk->nt", right, damped) @ inverse.T)


class Method(NamedTuple):
    """Hold an unfolding of the library, of a response and data, and the formula of ``split``'s parts and data."""

    unfold: Callable
    formula: Callable
    has_prior: bool


def _pair(unfold, formula, *, needs_variances=True, **options):
    def literal(yields, truth, fakes, data, variances):
        known = {"variances": variances} if needs_variances else {}
        return formula(yields, truth, fakes, data, **known, **options)

    def ours(response, data, **others):
        return unfold(response, None, data, **options | others)

    return Method(ours, literal, "prior" in options)


METHODS = {
    "inversion": _pair(matrix_inversion, by_least_squares),
    "Bayes, 1": _pair(iterative_bayes, by_bayes, needs_variances=False, iterations=1),
    "Bayes, 5": _pair(iterative_bayes, by_bayes, needs_variances=False, iterations=5),
    "Bayes, prior": _pair(iterative_bayes, by_bayes, needs_variances=False, iterations=3, prior=PRIOR),
    "SVD": _pair(svd, by_singular_values, k=3),
    "SVD, prior": _pair(svd, by_singular_values, k=4, prior=PRIOR),
    "Tikhonov": _pair(tikhonov, by_least_squares, tau=0.01, area=True),
    "Tikhonov, prior": _pair(tikhonov, by_least_squares, tau=0.01, area=True, prior=PRIOR),
    "Tikhonov, free area": _pair(tikhonov, by_least_squares, tau=0.03, area=False),
}
