"""Weighted estimates and their bootstrap errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.random_numbers import require_rng

__all__ = [
    "Estimate",
    "as_samples",
    "as_weights",
    "bootstrap",
    "effective_sample_size",
    "mean",
    "median",
    "quantile",
    "share",
    "width68",
]


class Estimate(NamedTuple):
    """Hold a value and its standard error; ``f"{estimate:.3f}"`` prints both, each in the given format.

    >>> f"{Estimate(0.5, 0.0123):.3f}"
    '0.500 ± 0.012'
    """

    value: float
    error: float

    def __format__(self, format_spec: str) -> str:
        """Format value and error alike, but for a sign asked for; without a format, say so as ``str`` does."""
        if not format_spec:
            return str(self)
        return f"{self.value:{format_spec}} ± {self.error:{format_spec.lstrip('+')}}"


def as_samples(values: ArrayLike, name: str = "samples") -> NDArray[np.float64]:
    """Return ``values`` (array or tensor) as float64; raise InputError where it is empty or not finite."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise InputError(f"{name}: empty; at least one entry is needed")
    if not np.isfinite(values).all():
        raise InputError(f"{name}: {np.count_nonzero(~np.isfinite(values))} entries are not finite; remove them")
    return values


def as_weights(weights: ArrayLike | None, n: int, name: str = "weights") -> NDArray[np.float64]:
    """Return ``n`` weights that sum to 1, equal where ``weights`` is None; single weights may be negative."""
    if weights is None:
        return np.full(n, 1.0 / n)
    weights = as_samples(weights, name)
    if weights.shape != (n,):
        raise InputError(f"{name}: shape {weights.shape}, but there are {n} samples")
    if weights.sum() <= 0:
        raise InputError(f"{name}: the sum is {weights.sum():g}; it must be positive")
    return weights / weights.sum()


def effective_sample_size(weights: ArrayLike) -> float:
    """Return (Σw)² / Σw²."""
    weights = as_samples(weights, "weights")
    return float(weights.sum() ** 2 / (weights**2).sum())


def quantile(samples: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return weighted quantiles of one-dimensional ``samples``; weights must not be negative."""
    samples = as_samples(samples)
    weights = as_weights(weights, len(samples))
    if (weights < 0).any():
        raise InputError("weights: quantiles need weights that are not negative")
    return np.quantile(samples, levels, weights=weights, method="inverted_cdf")


def median(samples: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the weighted median."""
    return float(quantile(samples, 0.5, weights))


def width68(samples: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the full width between the 16 % and 84 % quantiles."""
    low, high = quantile(samples, [0.16, 0.84], weights)
    return float(high - low)


def mean(samples: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Return the weighted mean of at least two independent ``samples`` with its standard error."""
    samples = as_samples(samples).ravel()
    if samples.size < 2:
        raise InputError("samples: one entry has no standard error; at least two are needed")
    weights = as_weights(weights, samples.size)
    value = float(weights @ samples)
    unbiased = (samples.size / (samples.size - 1)) ** 0.5
    return Estimate(value, float(unbiased * np.linalg.norm(weights * (samples - value))))


def share(flags: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Return the weighted share of true ``flags`` with its standard error (zero where all agree).

    Without weights the error is binomial; single weights may be negative.

    >>> f"{share([True, True, False, True]):.2f}"
    '0.75 ± 0.22'
    """
    flags = as_samples(flags, "flags").ravel()
    weights = as_weights(weights, flags.size)
    value = float(weights @ flags)
    return Estimate(value, float(np.linalg.norm(weights * (flags - value))))


def bootstrap(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    rng: np.random.Generator,
    n_replicas: int = 200,
    weights: ArrayLike | Sequence[ArrayLike | None] | None = None,
) -> Estimate:
    """Return ``statistic(*samples)`` with the standard deviation over resampled events as its error.

    Every array is resampled along its first axis on its own. ``weights``, an array for a single sample and a sequence
    with one array (or None) a sample for several, are resampled with it and passed on as ``weights=``.
    """
    require_rng(rng)
    samples = [as_samples(values, f"samples {i}") for i, values in enumerate(samples)]
    single = len(samples) == 1
    if weights is not None:
        weights = [None if w is None else as_samples(w, "weights") for w in ([weights] if single else weights)]

    def evaluate(chosen):
        arrays = [values[index] for values, index in zip(samples, chosen, strict=True)]
        if weights is None:
            return statistic(*arrays)
        taken = [None if w is None else w[index] for w, index in zip(weights, chosen, strict=True)]
        return statistic(*arrays, weights=taken[0] if single else taken)

    replicas = [
        evaluate([rng.integers(len(values), size=len(values)) for values in samples]) for _ in range(n_replicas)
    ]
    value = evaluate([slice(None)] * len(samples))
    return Estimate(float(value), float(np.std(replicas, ddof=1)))
