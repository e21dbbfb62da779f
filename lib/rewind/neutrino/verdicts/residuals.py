"""How far reconstructed values lie from the truth: widths, RMSE, bias, with bootstrap errors.

What is not finite is left out, and every result says how many events that were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rewind.errors import InputError
from rewind.random_numbers import require_rng
from rewind.stats import Estimate

__all__ = [
    "ResidualMetrics",
    "as_array",
    "as_pair",
    "as_weights",
    "binned_residual_metrics",
    "bins_of",
    "residual_metrics",
]

Values = ArrayLike | Tensor


@dataclass(frozen=True)
class ResidualMetrics:
    """Hold metrics of residuals, reconstructed − true, in their unit, with bootstrap errors.

    ``width`` is the full distance between the 16 % and 84 % quantiles, ``rmse`` the root of the mean square. Of
    ``n_solved + n_unsolved`` events the former count; without any, all is NaN.
    """

    width: Estimate
    rmse: Estimate
    median: Estimate
    mean: Estimate
    n_solved: int
    n_unsolved: int


def residual_metrics(
    truth: Values,
    reconstructed: Values,
    rng: np.random.Generator,
    *,
    weights: Values | None = None,
    n_replicas: int = 200,
) -> ResidualMetrics:
    """Return metrics of the residuals of ``reconstructed`` against ``truth``, both ``(B,)`` or ``(B, K)``.

    The K values of an event (its neutrinos) enter together, are resampled together, and count only if all are
    finite. ``weights`` ``(B,)`` must not be negative. Raises InputError where shapes differ or a true value is not
    finite.
    """
    require_rng(rng)
    truth, reconstructed = as_pair(truth, reconstructed)
    solved = np.isfinite(reconstructed).all(1)
    residual, weights = (reconstructed - truth)[solved], as_weights(weights, len(truth))[solved]
    (n, k), n_unsolved = residual.shape, int((~solved).sum())
    if weights.sum() == 0:
        return ResidualMetrics(*[Estimate(np.nan, np.nan)] * 4, n, n_unsolved)
    order = residual.argsort(None)
    ordered, event = residual.ravel()[order], order // k

    def statistics(weight: NDArray[np.float64]) -> tuple[float, float, float, float]:
        weight = weight[event]
        cumulated = weight.cumsum()
        mean, square = (weight @ ordered) / cumulated[-1], (weight @ ordered**2) / cumulated[-1]
        at = np.searchsorted(cumulated, np.array([0.16, 0.5, 0.84]) * cumulated[-1])
        low, middle, high = ordered[at]
        return high - low, square**0.5, middle, mean

    drawn = (weights * np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(n_replicas))
    replicas = np.array([statistics(weight) for weight in drawn if weight.any()])
    errors = replicas.std(0, ddof=1) if len(replicas) > 1 else np.full(4, np.nan)
    estimates = (Estimate(float(v), float(e)) for v, e in zip(statistics(weights), errors, strict=True))
    return ResidualMetrics(*estimates, n, n_unsolved)


def binned_residual_metrics(
    truth: Values,
    reconstructed: Values,
    edges: ArrayLike,
    rng: np.random.Generator,
    *,
    weights: Values | None = None,
    n_replicas: int = 200,
) -> list[ResidualMetrics]:
    """Return the metrics in bins of the true value; ``truth`` and ``reconstructed`` are ``(B,)``.

    A bin holds its lower edge; events outside the ``edges`` are in no bin.
    """
    truth, reconstructed = as_pair(truth, reconstructed)
    if truth.shape[1] != 1:
        raise InputError(f"truth of shape {truth.shape}: one value an event is needed for bins")
    where, weights = bins_of(truth[:, 0], edges), as_weights(weights, len(truth))
    chosen = (where == i for i in range(len(np.asarray(edges)) - 1))
    return [
        residual_metrics(truth[here], reconstructed[here], rng, weights=weights[here], n_replicas=n_replicas)
        for here in chosen
    ]


def as_array(values: Values) -> NDArray[np.float64]:
    """Return float64 values."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def as_pair(truth: Values, reconstructed: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as ``(B, K)``; raise InputError where shapes differ or a true value is not finite."""
    truth, reconstructed = as_array(truth), as_array(reconstructed)
    if truth.shape != reconstructed.shape or truth.ndim not in (1, 2):
        raise InputError(f"truth {truth.shape} and reconstructed {reconstructed.shape}: equal, (B,) or (B, K), needed")
    if not np.isfinite(truth).all():
        raise InputError(f"truth: {np.count_nonzero(~np.isfinite(truth))} values are not finite; leave such events out")
    return (truth[:, None], reconstructed[:, None]) if truth.ndim == 1 else (truth, reconstructed)


def as_weights(weights: Values | None, n: int) -> NDArray[np.float64]:
    """Return ``n`` weights, 1 each for None; raise InputError where one is negative or not finite."""
    weights = np.ones(n) if weights is None else as_array(weights)
    if weights.shape != (n,) or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError(f"weights: {n} finite numbers that are not negative are needed")
    return weights


def bins_of(values: Values, edges: ArrayLike) -> NDArray[np.int64]:
    """Return the bin ``(B,)`` of ``values`` ``(B,)``, −1 outside the ``edges``; a bin holds its lower edge.

    Raises InputError for edges that do not rise.

    >>> bins_of([0.5, 2.0, 1.0], [0, 1, 2]).tolist()
    [0, -1, 1]
    """
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (edges[1:] > edges[:-1]).all():
        raise InputError("edges: at least two rising numbers are needed for each observable")
    at = np.searchsorted(edges, as_array(values), side="right") - 1
    return np.where(at < len(edges) - 1, at, -1)
