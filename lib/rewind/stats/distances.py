"""Distances between two samples, with weights where they make sense; errors by bootstrap.

>>> round(wasserstein1([0.0, 1.0], [1.0, 2.0]), 3), round(energy_distance([0.0], [1.0]), 3)
(1.0, 2.0)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rewind.errors import InputError
from rewind.stats.bootstrap import as_samples, as_weights

__all__ = ["C2ST", "c2st", "energy_distance", "mmd", "mmd_loss", "triangular_discriminator", "wasserstein1"]


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, q = as_samples(p, "first sample"), as_samples(q, "second sample")
    if p.shape[1:] != q.shape[1:]:
        raise InputError(f"samples of shapes {p.shape} and {q.shape}: the features must agree")
    return p, q


def _two(weights: tuple | None) -> tuple:
    return (None, None) if weights is None else weights


def wasserstein1(p: ArrayLike, q: ArrayLike, weights: tuple[ArrayLike | None, ArrayLike | None] | None = None) -> float:
    """Return the Wasserstein-1 distance of two one-dimensional samples; ``weights`` is a pair, not negative."""
    p, q = _pair(p, q)
    p_weights, q_weights = _two(weights)
    from scipy.stats import wasserstein_distance  # takes half a second

    return float(wasserstein_distance(p, q, p_weights, q_weights))


def energy_distance(
    p: ArrayLike, q: ArrayLike, weights: tuple[ArrayLike | None, ArrayLike | None] | None = None
) -> float:
    """Return 2 E|X − Y| − E|X − X'| − E|Y − Y'| of samples ``(n,)`` or ``(n, d)`` (Euclidean; not its root)."""
    p, q = (values.reshape(len(values), -1) for values in _pair(p, q))
    w, v = (as_weights(given, len(values)) for given, values in zip(_two(weights), (p, q), strict=True))
    from scipy.spatial.distance import cdist  # takes a third of a second

    return float(2 * w @ cdist(p, q) @ v - w @ cdist(p, p) @ w - v @ cdist(q, q) @ v)


def mmd(
    p: ArrayLike,
    q: ArrayLike,
    *,
    bandwidths: Sequence[float] = (0.1, 0.3, 1.0, 3.0),
    weights: tuple[ArrayLike | None, ArrayLike | None] | None = None,
) -> float:
    """Return the squared maximum mean discrepancy of two samples, as :func:`mmd_loss` does, in double precision.

    ``weights`` is a pair; single weights may be negative.
    """
    p, q = (values.reshape(len(values), -1) for values in _pair(p, q))
    w, v = (as_weights(given, len(values)) for given, values in zip(_two(weights), (p, q), strict=True))
    tensors = (torch.from_numpy(np.ascontiguousarray(values)) for values in (p, q, w, v))
    return float(_mmd(*tensors, bandwidths))


def mmd_loss(
    p: Tensor,
    q: Tensor,
    *,
    bandwidths: Sequence[float] = (0.1, 0.3, 1.0, 3.0),
    weights: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the squared maximum mean discrepancy as a differentiable scalar of tensors ``(n, d)`` and ``(m, d)``.

    The kernel is a sum of Gaussians exp(−|x − y|²/2h²) with widths h in units of the features, which the caller
    standardises. Pairs of a point with itself are left out: the estimator is unbiased, zero on average for equal
    distributions whatever the sizes, and sometimes negative (Gretton et al., JMLR 13 (2012) 723). ``weights``
    ``(n,)`` and ``(m,)`` need not sum to one. Raises InputError for other shapes, for fewer than two points and for
    negative weights, of which a batch may have too many.
    """
    if p.ndim != 2 or q.ndim != 2 or p.shape[1] != q.shape[1] or min(len(p), len(q)) < 2:
        raise InputError(f"samples of shapes {tuple(p.shape)} and {tuple(q.shape)}: (n, d) and (m, d), n, m ≥ 2 needed")
    if weights is None:
        w, v = (values.new_full((len(values),), 1 / len(values)) for values in (p, q))
    else:
        if any((weight < 0).any() for weight in weights):
            raise InputError("weights: some are negative; the mean discrepancy of a batch needs positive ones")
        w, v = ((weight / weight.sum()).to(p) for weight in weights)
    return _mmd(p, q, w, v, bandwidths)


def _mmd(p: Tensor, q: Tensor, w: Tensor, v: Tensor, bandwidths: Sequence[float]) -> Tensor:
    """Return the unbiased estimate for weights ``w`` ``(n,)`` and ``v`` ``(m,)`` that sum to one."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T).clip(0)
        return sum((squared / (-2 * h * h)).exp() for h in bandwidths)

    def within(values: Tensor, weight: Tensor) -> Tensor:
        own = weight @ weight
        return (weight @ kernel(values, values) @ weight - len(bandwidths) * own) / (1 - own)

    return within(p, w) + within(q, v) - 2 * w @ kernel(p, q) @ v


def triangular_discriminator(p_counts: ArrayLike, q_counts: ArrayLike) -> float:
    """Return ½ Σ (p − q)²/(p + q) of two histograms, each normalised to 1: 0 if equal, 1 if disjoint."""
    p, q = _pair(p_counts, q_counts)
    p, q = p / p.sum(), q / q.sum()
    total = p + q
    return float(0.5 * np.sum(np.divide((p - q) ** 2, total, out=np.zeros_like(total), where=total > 0)))


@dataclass(frozen=True)
class C2ST:
    """Hold a classifier's cross-validated accuracy with its binomial error, and its AUC.

    The scatter of the classifier's own training is not in that error: repeat over seeds, or over cases, to see it.
    """

    accuracy: float
    error: float
    auc: float


def c2st(
    p: ArrayLike, q: ArrayLike, *, seed: int, folds: int = 5, hidden: Sequence[int] = (64, 64), epochs: int = 20
) -> C2ST:
    """Return the classifier two-sample test (1610.06545) of samples ``(n, d)`` of equal length.

    A neural network, standardised on its training folds, tells the samples apart on held-out folds: accuracy ½ means
    that it can't. The features are the caller's choice and decide what can be seen.
    """
    from sklearn.exceptions import ConvergenceWarning  # takes a second
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    p, q = _pair(p, q)
    if len(p) != len(q):
        raise InputError(f"samples of {len(p)} and {len(q)} entries: c2st needs equal numbers")
    features = np.concatenate([p, q]).reshape(len(p) + len(q), -1)
    label = np.repeat([0, 1], len(p))
    network = MLPClassifier(hidden, max_iter=epochs, learning_rate_init=3e-3, random_state=seed)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
        answers = cross_val_predict(
            make_pipeline(StandardScaler(), network), features, label, cv=split, method="predict_proba"
        )[:, 1]
    accuracy = float(((answers > 0.5) == label).mean())
    error = float(np.sqrt(accuracy * (1 - accuracy) / len(label)))
    return C2ST(accuracy, error, float(roc_auc_score(label, answers)))
