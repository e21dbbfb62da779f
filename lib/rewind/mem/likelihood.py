"""From events' integrals to likelihoods, fits and optimal observables.

An event's density is a polynomial over another, P(y | θ) = Σ_k c_k(y) b_k(θ) / Σ_k s_k b_k(θ): c from its integral, s
from the visible cross-section, b the monomials. So one set of integrals gives the likelihood at every θ.

>>> theta = np.linspace(-4, 4, 81)
>>> maximum = fit(-((theta - 1) ** 2) / 2, theta)
>>> round(float(maximum.value[0]), 6), round(float(maximum.error[0]), 6)
(1.0, 1.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rewind.errors import InputError
from rewind.random_numbers import require_rng
from rewind.stats import Estimate, bootstrap

__all__ = [
    "Fit",
    "VisibleCrossSection",
    "fit",
    "information",
    "log_likelihood",
    "optimal_observables",
    "powers",
    "pull_moments",
    "score_information",
    "visible",
]

_STEEP = 0.4  # fall of ln L beside its maximum, beyond which a scan misses where it falls by ½
_PRECISION = 0.05  # of the visible cross-section, beyond which it counts as unknown


def powers(theta: ArrayLike | Tensor, degree: int = 2) -> Tensor:
    """Return 1, θ, … θ^degree ``(T, degree + 1)`` of values ``(T,)``: the monomials of one parameter."""
    return torch.as_tensor(theta, dtype=torch.float64)[:, None] ** torch.arange(degree + 1)


@dataclass(frozen=True)
class VisibleCrossSection:
    """Hold σ_vis(θ) = Σ_k s_k b_k(θ), in its input's units: ``coefficients`` ``(K,)``, ``covariance`` ``(K, K)``."""

    coefficients: Tensor
    covariance: Tensor

    def _with_errors(self, monomials: Tensor) -> tuple[Tensor, Tensor]:
        error = (monomials @ self.covariance * monomials).sum(1).clip(0).sqrt()
        return monomials @ self.coefficients, error

    def known(self, monomials: Tensor) -> Tensor:
        """Return at which ``monomials`` ``(T, K)`` σ_vis is known to 5 %, ``(T,)``."""
        value, error = self._with_errors(monomials)
        return error < _PRECISION * value

    def at(self, monomials: Tensor) -> Tensor:
        """Return σ_vis ``(T,)`` at ``monomials`` ``(T, K)``; raise InputError where it is not :meth:`known`."""
        value, error = self._with_errors(monomials)
        unknown = ~self.known(monomials)
        if unknown.any():
            i = int(unknown.nonzero()[0])
            raise InputError(
                f"σ_vis is {float(value[i]):.3g} ± {float(error[i]):.2g} at row {i} of the monomials: unknown to 5 %; "
                "simulate more events, or nearer to it"
            )
        return value

    def log_slope(self, monomials: Tensor, derivatives: Tensor) -> Estimate:
        """Return d ln σ_vis/dθ with its error, at ``monomials`` ``(K,)`` and their ``derivatives`` by θ ``(K,)``."""
        value, slope = monomials @ self.coefficients, derivatives @ self.coefficients
        gradient = derivatives / value - slope * monomials / value**2
        return Estimate(float(slope / value), float((gradient @ self.covariance @ gradient).sqrt()))


def visible(
    coefficients: Tensor, accepted: Tensor, cross_section: float, *, generated_at: Tensor | None = None
) -> VisibleCrossSection:
    """Return the visible cross-section from simulated events.

    ``coefficients`` ``(B, K)`` are those of the density at the events' partons, ``accepted`` ``(B,)`` tells the
    selected ones. Events follow the density at the monomials ``generated_at`` ``(K,)``, whose total is
    ``cross_section``: by default the first coefficient. Weights stay small where that density covers all others. The
    covariance is that of the ratio to the cross-section at ``generated_at``, whose own error no likelihood sees.
    """
    followed = coefficients[:, :1] if generated_at is None else (coefficients @ generated_at)[:, None]
    weights = (coefficients / followed)[accepted]
    total = cross_section * accepted.double().mean()
    return VisibleCrossSection(total * weights.mean(0), total**2 * torch.cov(weights.T) / len(weights))


def log_likelihood(coefficients: Tensor, visible: VisibleCrossSection, monomials: Tensor) -> Tensor:
    """Return ln P(y | θ) ``(B, T)`` of events' ``coefficients`` ``(B, K)``, up to what no θ changes.

    Raises InputError for an event whose density is not positive everywhere, and where σ_vis is unknown.
    """
    density = coefficients @ monomials.T
    bad = ~(density > 0).all(1)
    if bad.any():
        raise InputError(
            f"event {int(bad.nonzero()[0])}: its integral is not positive ({int(bad.sum())} such events); "
            "draw more points or leave these events out"
        )
    return density.log() - visible.at(monomials).log()


class Fit(NamedTuple):
    """Hold the maximum of likelihoods and where they fall by ½: each ``(E,)``, infinite where the scan ends first."""

    value: NDArray
    low: NDArray
    high: NDArray

    @property
    def error(self) -> NDArray:
        """Return half the interval's length."""
        return (self.high - self.low) / 2

    def pulls(self, truth: float) -> NDArray:
        """Return (value − truth)/error, with the error on the side of ``truth``; zero where that is infinite."""
        side = np.where(self.value > truth, self.value - self.low, self.high - self.value)
        return (self.value - truth) / side


def fit(log_likelihoods: ArrayLike | Tensor, theta: ArrayLike) -> Fit:
    """Return the :class:`Fit` of scans ``(E, T)`` at rising ``theta`` ``(T,)``, by a parabola around the maximum.

    Raises InputError for a scan that is largest at an end, flat, or too coarse to see its fall by ½.
    """
    scans, theta = np.atleast_2d(np.asarray(log_likelihoods)), np.asarray(theta)
    best = scans.argmax(1)
    at_end = (best == 0) | (best == len(theta) - 1)
    if at_end.any():
        raise InputError(f"scan {int(at_end.argmax())}: the likelihood is largest at the end of the scan; scan farther")
    fits = []
    for scan, i in zip(scans, best, strict=True):
        a, b, c = np.polyfit(theta[i - 1 : i + 2] - theta[i], scan[i - 1 : i + 2], 2)
        if a >= 0 or c - scan[[i - 1, i + 1]].max() > _STEEP:
            raise InputError("scan: flat or too coarse around its maximum; scan finer")
        below = scan - (c - b**2 / (4 * a)) + 0.5
        fits.append((theta[i] - b / (2 * a), -_crossing(-theta[i::-1], below[i::-1]), _crossing(theta[i:], below[i:])))
    return Fit(*np.array(fits).T)


def _crossing(theta: NDArray, values: NDArray) -> float:
    """Return where falling ``values`` first pass zero, infinity where they do not."""
    under = np.flatnonzero(values < 0)
    if len(under) == 0:
        return np.inf
    i = under[0]
    return float(theta[i - 1] + (theta[i] - theta[i - 1]) * values[i - 1] / (values[i - 1] - values[i]))


def pull_moments(pulls: ArrayLike, rng: np.random.Generator, *, common: float = 0.0) -> tuple[Estimate, Estimate]:
    """Return mean and standard deviation of ``pulls`` ``(E,)``; ``common`` is the variance that all of them share."""
    pulls = np.asarray(pulls)
    mean = Estimate(float(pulls.mean()), float(pulls.var(ddof=1) / len(pulls) + common) ** 0.5)
    return mean, bootstrap(lambda x: float(np.std(x, ddof=1)), pulls, rng=rng)


def score_information(seen: ArrayLike, true: ArrayLike) -> float:
    """Return what ``seen`` ``(B,)``, however noisy, tells of a parameter whose ``true`` score is ``(B,)``.

    It is cov²/var(seen), Fisher's information of an event to first order, and at most the variance of the true score.
    """
    both = np.cov(seen, true)
    return float(both[0, 1] ** 2 / both[0, 0])


def optimal_observables(coefficients: Tensor) -> Tensor:
    """Return c_k/c_0 ``(B, K − 1)``: near θ = 0 the first order holds all information (Atwood and Soni, 1992)."""
    return coefficients[:, 1:] / coefficients[:, :1]


def information(
    observable: ArrayLike, score: ArrayLike, rng: np.random.Generator, *, bins: int = 10, n_replicas: int = 200
) -> Estimate:
    """Return what a template of an ``observable`` ``(B,)`` tells of θ, an event, with its bootstrap error.

    ``score`` ``(B,)`` is d ln p/dθ where the truth is known. In bins of equal content it is Σ p_b (⟨t⟩_b − ⟨t⟩)²,
    Fisher's information of the bins' contents; what the finite sample adds to it, its variance over that content, is
    subtracted. Raises InputError for fewer than ten events a bin.
    """
    values, score, rng = np.asarray(observable), np.asarray(score), require_rng(rng)
    if len(values) < 10 * bins:
        raise InputError(f"{len(values)} events in {bins} bins: at least ten in each are needed")
    place = np.argsort(np.argsort(values)) * bins // len(values)

    def of(which: NDArray) -> float:
        t, b = score[which], place[which]
        n = np.bincount(b, minlength=bins)
        mean = np.bincount(b, t, bins) / n
        scatter = np.bincount(b, t**2, bins) / n - mean**2
        return float((n * (mean - t.mean()) ** 2).sum() / len(t) - scatter.sum() / len(t))

    value = of(np.arange(len(score)))
    replicas = [of(rng.integers(len(score), size=len(score))) for _ in range(n_replicas)]
    return Estimate(value, float(np.std(replicas)))
