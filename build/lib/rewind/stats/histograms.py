"""Weighted histograms: densities with their errors, and shares that pass with Wilson intervals."""

from __future__ import annotations

import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["density", "efficiency", "weighted_histogram"]


def weighted_histogram(values: ArrayLike, edges: ArrayLike, weights: ArrayLike | None = None) -> hist.Hist:
    """Return a histogram of ``values`` ``(N,)`` with Σw and Σw² in every bin, under- and overflow included."""
    histogram = hist.Hist(hist.axis.Variable(np.asarray(edges, dtype=float)), storage=hist.storage.Weight())
    return histogram.fill(np.asarray(values, dtype=float), weight=None if weights is None else np.asarray(weights))


def density(values: ArrayLike, edges: ArrayLike, weights: ArrayLike | None = None) -> tuple[NDArray, NDArray]:
    """Return the density ``(K,)`` of ``values`` in bins, normalised with all of them, and its statistical error.

    The error is √Σw² of the bin; that of the normalisation is left out.

    >>> density([0.1, 0.2, 0.8, 7.0], [0.0, 0.5, 1.0])[0]
    array([1. , 0.5])
    """
    histogram = weighted_histogram(values, edges, weights)
    scale = 1 / (histogram.values(flow=True).sum() * np.diff(np.asarray(edges, dtype=float)))
    return histogram.values() * scale, np.sqrt(histogram.variances()) * scale


def efficiency(
    values: ArrayLike, passed: ArrayLike, edges: ArrayLike, weights: ArrayLike | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the centres ``(K,)`` of the bins with entries, the share that ``passed``, and 68 % intervals ``(2, K)``.

    The intervals are Wilson's, as distances below and above the share. With ``weights`` the number of entries of a
    bin is its effective one, (Σw)²/Σw².
    """
    values, passed = np.asarray(values, dtype=float), np.asarray(passed, dtype=bool)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    total = weighted_histogram(values, edges, weights)
    kept = weighted_histogram(values[passed], edges, weights[passed])
    keep = total.values() > 0
    n = total.values()[keep] ** 2 / total.variances()[keep]
    share = kept.values()[keep] / total.values()[keep]
    centre = (n * share + 0.5) / (n + 1)
    half = np.sqrt(n * share * (1 - share) + 0.25) / (n + 1)
    return total.axes[0].centers[keep], share, np.abs(np.stack([share - centre + half, centre + half - share]))
