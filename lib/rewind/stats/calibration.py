"""Is a posterior calibrated? Ranks, intervals and random regions against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.random_numbers import require_rng
from rewind.stats.bootstrap import as_samples, as_weights

__all__ = [
    "Coverage",
    "RankTest",
    "Tarp",
    "coverage",
    "mean_in_bins",
    "rank_deviation",
    "rank_uniformity",
    "reliability",
    "sbc_ranks",
    "tarp",
]

_FEWEST = 10


def _posterior(samples: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    samples, truth = as_samples(samples, "posterior samples"), as_samples(truth, "truth")
    if samples.ndim != 3 or truth.shape != (samples.shape[0], samples.shape[2]):
        raise InputError(f"posterior samples {samples.shape} and truth {truth.shape}: expected (N, L, D) and (N, D)")
    return samples, truth


def sbc_ranks(samples: ArrayLike, truth: ArrayLike, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the rank of each true value among its ``L`` posterior samples, ``(N, D)`` integers in 0 … L.

    Uniform for a calibrated posterior (1804.06788). Ties are broken at random.
    """
    samples, truth = _posterior(samples, truth)
    below = (samples < truth[:, None]).sum(1)
    ties = (samples == truth[:, None]).sum(1)
    return below + require_rng(rng).integers(ties + 1)


@dataclass(frozen=True)
class RankTest:
    """Hold for each dimension the p-value (χ² in equal bins) and the largest deviation of the rank distribution."""

    p_value: np.ndarray
    max_deviation: np.ndarray


def rank_uniformity(ranks: ArrayLike, n_samples: int, *, bins: int = 20, weights: ArrayLike | None = None) -> RankTest:
    """Test ranks ``(N, D)`` in 0 … ``n_samples`` of events with ``weights`` ``(N,)`` for uniformity.

    The effect size is the largest distance between the empirical distribution function of the ranks and that of
    the discrete uniform distribution; its 95 % point for a calibrated posterior is about 1.36/√N. In a bin of
    probability p the sum of weights has the mean p Σw and the variance p Σw², of which χ² is made.
    """
    ranks = as_samples(ranks, "ranks").astype(np.int64)
    if ranks.min() < 0 or ranks.max() > n_samples:
        raise InputError(f"ranks between {ranks.min()} and {ranks.max()}: expected 0 to {n_samples}")
    weights = as_weights(weights, len(ranks))
    shares = np.stack([np.bincount(column, weights, n_samples + 1) for column in ranks.T], axis=1)
    expected = np.arange(1, n_samples + 2) / (n_samples + 1)
    deviation = np.abs(shares.cumsum(0) - expected[:, None]).max(0)
    edges = np.linspace(0, n_samples + 1, min(bins, n_samples + 1) + 1).round().astype(int)
    binned = np.add.reduceat(shares, edges[:-1], axis=0)
    mean = np.diff(edges)[:, None] / (n_samples + 1)
    chi2 = ((binned - mean) ** 2 / (mean * (weights @ weights))).sum(0)
    from scipy.special import chdtrc  # takes a quarter of a second

    return RankTest(chdtrc(len(edges) - 2, chi2), deviation)


def rank_deviation(fractions: ArrayLike, levels: ArrayLike) -> tuple[NDArray, float]:
    """Return the distribution function of ranks minus that of the uniform distribution, ``(K, D)``, and its 95 % band.

    ``fractions`` ``(N, D)`` are ranks over the number of samples, between 0 and 1; ``levels`` ``(K,)`` lie there too.
    A calibrated dimension stays inside the band, ± 1.36/√N (Kolmogorov), at all levels in 95 % of trials.
    """
    fractions, levels = as_samples(fractions, "rank fractions"), np.asarray(levels, dtype=float)
    below = [np.searchsorted(np.sort(column), levels, side="right") for column in fractions.T]
    return np.stack(below, axis=1) / len(fractions) - levels[:, None], 1.36 / len(fractions) ** 0.5


@dataclass(frozen=True)
class Coverage:
    """Hold nominal ``levels`` and, by level and dimension, the measured ``coverage`` and its standard ``error``.

    The error is binomial where all events weigh alike.
    """

    levels: np.ndarray
    coverage: np.ndarray
    error: np.ndarray


def coverage(
    samples: ArrayLike, truth: ArrayLike, levels: ArrayLike = (0.68, 0.95), *, weights: ArrayLike | None = None
) -> Coverage:
    """Return how often the central interval of each level holds the truth, of events with ``weights`` ``(N,)``."""
    samples, truth = _posterior(samples, truth)
    weights = as_weights(weights, len(truth))
    levels = np.asarray(levels, dtype=float)
    tails = np.concatenate([(1 - levels) / 2, (1 + levels) / 2])
    # of L exchangeable draws the k-th smallest has expected probability k/(L + 1) below it
    bounds = np.quantile(samples, tails, axis=1, method="weibull")
    low, high = np.split(bounds, 2)
    inside = (low <= truth) & (truth <= high)
    share = np.einsum("n,lnd->ld", weights, inside)
    error = np.sqrt(np.einsum("n,lnd->ld", weights**2, (inside - share[:, None]) ** 2))
    return Coverage(levels, share, error)


@dataclass(frozen=True)
class Tarp:
    """Hold expected coverage against credibility ``levels``, its bootstrap ``error`` and the worst deviation."""

    levels: np.ndarray
    coverage: np.ndarray
    error: np.ndarray
    max_deviation: float


def tarp(
    samples: ArrayLike,
    truth: ArrayLike,
    rng: np.random.Generator,
    *,
    n_levels: int = 50,
    n_replicas: int = 100,
    weights: ArrayLike | None = None,
) -> Tarp:
    """Test coverage with random points (2302.03026): regions are balls about a random reference.

    Necessary, not sufficient: references that know nothing of the observation let a model pass that returns the prior.

    Dimensions are standardised by the spread of the truth. The reference of each event is the truth of another one
    that is drawn at random, so it does not know its own event's posterior. ``weights`` ``(N,)`` are those of events.
    """
    samples, truth = _posterior(samples, truth)
    scale = truth.std(0) + 1e-300
    shift = require_rng(rng).integers(1, len(truth), size=len(truth))
    reference = truth[(np.arange(len(truth)) + shift) % len(truth)]
    distance = np.linalg.norm((samples - reference[:, None]) / scale, axis=2)
    true_distance = np.linalg.norm((truth - reference) / scale, axis=1)
    n_below = (distance < true_distance[:, None]).sum(1)
    credibility = (n_below + rng.random(len(truth))) / (samples.shape[1] + 1)
    levels = np.linspace(0, 1, n_levels + 1)

    weights = as_weights(weights, len(truth))
    above = np.searchsorted(levels, credibility, side="left")

    def empirical(chosen: NDArray | slice) -> NDArray:
        shares = np.bincount(above[chosen], weights[chosen], n_levels + 2)[:-1]
        return shares.cumsum() / weights[chosen].sum()

    replicas = [empirical(rng.integers(len(truth), size=len(truth))) for _ in range(n_replicas)]
    measured = empirical(slice(None))
    return Tarp(levels, measured, np.std(replicas, axis=0, ddof=1), float(np.abs(measured - levels).max()))


def mean_in_bins(
    values: ArrayLike, x: ArrayLike, edges: ArrayLike, *, weights: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means ``(K,)`` of ``values`` ``(N,)`` in bins of ``x`` ``(N,)``, and their standard errors.

    A calibrated posterior's mean does not deviate from the truth on average in bins of *itself*; in bins of the truth
    it does. A bin holds its lower edge. Raises InputError for a bin with fewer than 10 entries, and for one whose
    ``weights`` ``(N,)`` do not sum to something positive.

    >>> mean_in_bins(np.r_[np.zeros(10), np.ones(10)], np.arange(20.0), [0, 10, 20])[0]
    array([0., 1.])
    """
    values, where = as_samples(values, "values"), np.digitize(as_samples(x, "x"), edges) - 1
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    means, errors = [], []
    for i in range(len(edges) - 1):
        inside = values[where == i]
        if len(inside) < _FEWEST:
            raise InputError(f"bin {edges[i]:g} to {edges[i + 1]:g}: {len(inside)} entries; at least {_FEWEST} needed")
        share = as_weights(weights[where == i], len(inside), f"weights of bin {edges[i]:g} to {edges[i + 1]:g}")
        means.append(share @ inside)
        unbiased = len(inside) / (len(inside) - 1)
        errors.append((unbiased * share**2 @ (inside - means[-1]) ** 2) ** 0.5)
    return np.array(means), np.array(errors)


def reliability(
    said: ArrayLike,
    true: ArrayLike,
    edges: ArrayLike,
    rng: np.random.Generator,
    *,
    n_replicas: int = 100,
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return mean probability, share that came true, and that share's error ``(3, K)`` in bins of the probability.

    ``said`` ``(N, H)`` are probabilities of an event's classes, ``true`` ``(N,)`` the right one. Errors are from a
    bootstrap of events, whose classes go together; ``weights`` ``(N,)`` are theirs. Bins with fewer than 10 entries
    are NaN.
    """
    said, true, rng = as_samples(said, "probabilities"), np.asarray(true), require_rng(rng)
    happened = np.arange(said.shape[1]) == true[:, None]
    n_bins = len(edges) - 1
    place = np.clip(np.digitize(said, edges) - 1, 0, n_bins - 1)

    weight = np.ones(len(said)) if weights is None else len(said) * as_weights(weights, len(said))

    def means(chosen: NDArray | slice) -> NDArray:
        where, each = place[chosen].ravel(), weight[chosen, None]
        summed = (np.ones_like(said[chosen]), said[chosen], happened[chosen])
        total, *sums = (np.bincount(where, (each * values).ravel(), n_bins) for values in summed)
        few = np.bincount(where, minlength=n_bins) < _FEWEST
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(few, np.nan, np.array(sums) / total)

    replicas = [means(rng.integers(len(said), size=len(said)))[1] for _ in range(n_replicas)]
    return np.stack([*means(slice(None)), np.ma.masked_invalid(replicas).std(0).filled(np.nan)])
