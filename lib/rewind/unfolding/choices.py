"""Choosing the strength of a regularisation blind: from data and simulation, never from a truth of the data.

>>> from rewind.unfolding.binned import iterative_bayes
>>> response, truth, data = [[8.0, 2.0], [2.0, 8.0], [1.0, 1.0]], [12.0, 12.0], [700.0, 300.0, 100.0]
>>> choice = by_folded_chi2(lambda n: iterative_bayes(response, truth, data, iterations=n), range(1, 20))
>>> choice.value, choice.rule
(6, 'first of 19 settings whose folded χ² has p ≥ 0.05: p = 0.0843')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from rewind.errors import InputError
from rewind.unfolding.binned.l_curve import l_curve
from rewind.unfolding.binned.least_squares import Tikhonov
from rewind.unfolding.binned.result import Unfolded, global_correlation
from rewind.unfolding.binned.spectral import SpectralAnalysis
from rewind.unfolding.checks import folded_fit, prior_shift

__all__ = ["Choice", "by_folded_chi2", "by_global_correlation", "by_l_curve", "by_prior", "by_significance"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Hold the ``value`` chosen of ``settings`` ``(K,)`` by their ``scores`` ``(K,)``, and the ``rule`` in words.

    ``met`` is False where no setting satisfies the rule; ``value`` is then the last one.
    """

    value: Any
    settings: NDArray[Any]
    scores: Array
    rule: str
    met: bool = True


def by_significance(analysis: SpectralAnalysis, *, level: float = 0.05) -> Choice:
    """Return the k of an SVD that is the first of the data's components that may be noise (hep-ph/9509307).

    Scores are p-values of components k to T as pure noise, the smaller of those by their sum of squares, a χ², and by
    the largest of them; k is the first with p ≥ ``level``. Component k itself is halved, so the last one that is signal
    is kept nearly whole; k is at least 2, as the first component is the yield, and T where all are signal.
    """
    _check_share(level, "level")
    squares, left = analysis.significances[::-1] ** 2, np.arange(len(analysis.significances), 0, -1)
    by_sum = chi2.sf(np.cumsum(squares)[::-1], left)
    largest = chi2.sf(np.maximum.accumulate(squares)[::-1], 1)
    scores = np.minimum(by_sum, -np.expm1(left * np.log1p(-largest)))
    settings = np.arange(1, len(scores) + 1)
    noise = settings[(scores >= level) & (settings > 1)]
    k = int(noise[0]) if len(noise) else len(scores)
    words = f"first component from which on all may be noise, p ≥ {level:g}: p = {scores[k - 1]:.3g} at k = {k}"
    return Choice(k, settings, scores, words, bool(len(noise)))


def by_l_curve(stated: Tikhonov) -> Choice:
    """Return τ at the corner of the L-curve; scores are its curvature (1205.6201, section 3.2)."""
    curve = l_curve(stated)
    best = float(np.max(curve.curvature[1:-1]))
    rule = f"corner of the L-curve at {len(curve.taus)} strengths: curvature {best:.3g} at τ = {curve.corner:.3g}"
    return Choice(curve.corner, curve.taus, curve.curvature, rule)


def by_global_correlation(stated: Tikhonov, taus: ArrayLike | None = None) -> Choice:
    """Return τ of the least mean global correlation of the data's covariance (1205.6201, section 3.3).

    A score is NaN where the covariance has no inverse, as bins follow one another there. Raises InputError where no
    strength leaves one.
    """
    taus = stated.strengths() if taus is None else np.asarray(taus, dtype=np.float64)
    scores = np.array([_mean_correlation(stated, tau) for tau in taus])
    if not np.isfinite(scores).any():
        raise InputError("taus: the covariance has no inverse at any strength; regularise less")
    best = int(np.nanargmin(scores))
    rule = f"least mean global correlation at {len(taus)} strengths: {scores[best]:.3f} at τ = {taus[best]:.3g}"
    known = np.flatnonzero(np.isfinite(scores))
    if best in (known[0], known[-1]):
        rule += ", at the end of the range"
    return Choice(float(taus[best]), taus, scores, rule)


def _mean_correlation(stated: Tikhonov, tau: float) -> float:
    by_data = stated.minimum(tau).by_data
    try:
        return float(global_correlation(by_data @ stated.problem.weight @ by_data.T).mean())
    except InputError:
        return float("nan")


def by_folded_chi2(unfold: Callable[[Any], Unfolded], settings: Sequence[Any], *, level: float = 0.05) -> Choice:
    """Return the first setting, from strong to weak regularisation, whose folded χ² is no worse than noise makes it.

    Scores are p-values by :func:`~rewind.unfolding.checks.folded_fit`; the first with p ≥ ``level`` is taken.
    """
    _check_share(level, "level")
    scores = np.array([folded_fit(unfold(setting)).p_value for setting in _some(settings)])
    return _first(settings, scores, scores >= level, f"whose folded χ² has p ≥ {level:g}", "p")


def by_prior(
    unfold: Callable[[Any, Array], Unfolded],
    settings: Sequence[Any],
    priors: Sequence[ArrayLike],
    *,
    share: float = 0.5,
) -> Choice:
    """Return the first setting, from strong to weak regularisation, at which the prior no longer matters.

    Scores are the largest shift of a bin by ``unfold(setting, prior)`` from the first of ``priors`` to any other, in
    units of its statistical error; the first that is at most ``share`` is taken.
    """
    _check_share(share, "share")
    scores = np.array([prior_shift(partial(unfold, setting), priors).worst for setting in _some(settings)])
    words = f"at which {len(priors)} priors move no bin by more than {share:g} of its error"
    return _first(settings, scores, scores <= share, words, "largest shift")


def _first(settings: Sequence[Any], scores: Array, good: NDArray[np.bool_], words: str, score: str) -> Choice:
    met = bool(good.any())
    at = int(np.argmax(good)) if met else len(scores) - 1
    rule = f"first of {len(scores)} settings {words}: {score} = {scores[at]:.3g}"
    if not met:
        rule = f"none of {len(scores)} settings {words}: the last one, {score} = {scores[at]:.3g}"
    return Choice(settings[at], np.array(settings), scores, rule, met)


def _some(settings: Sequence[Any]) -> Sequence[Any]:
    if len(settings) == 0:
        raise InputError("settings: none given; list them from strong to weak regularisation")
    return settings


def _check_share(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} = {value}: it must lie between 0 and 1")
