"""Bias and coverage of an unfolding by pseudo-experiments, and what a coverage that suffices costs in length.

A method is a function from data ``(R,)`` to an :class:`~rewind.unfolding.binned.result.Unfolded`. What is found holds
about the truth that the toys were made with.

>>> from rewind.unfolding.binned import matrix_inversion
>>> toys = pseudo_experiments(
...     lambda data: matrix_inversion([[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], data),
...     expected=[620.0, 380.0], truth=[700.0, 300.0], n=400, rng=np.random.default_rng(2),
... )
>>> toys.failures, f"{toys.mean_coverage:.2f}", f"{toys.pull_width[0]:.2f}"
(0, '0.68 ± 0.02', '1.02 ± 0.04')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from rewind.errors import InputError
from rewind.progress import visible
from rewind.random_numbers import require_rng
from rewind.stats import Estimate, mean
from rewind.unfolding.binned.result import Unfolded

__all__ = [
    "Covered",
    "PerBin",
    "PseudoExperiments",
    "data_errors",
    "length_ratio",
    "pseudo_data",
    "pseudo_experiments",
    "total_errors",
    "until_covered",
]

Array = NDArray[np.float64]
Errors = Callable[[Unfolded], Array]
_FEWEST = 10


def data_errors(result: Unfolded) -> Array:
    """Return the standard errors ``(T,)`` that the data bring."""
    return result.errors


def total_errors(result: Unfolded) -> Array:
    """Return the standard errors ``(T,)`` of data and simulation, which toys of the data alone leave too long."""
    return np.sqrt(np.diag(result.total_covariance))


@dataclass(frozen=True)
class PerBin:
    """Hold an estimate of each true bin, ``values`` and standard ``errors`` ``(T,)``; NaN where there is none."""

    values: Array
    errors: Array

    def __getitem__(self, i: int) -> Estimate:
        """Return the estimate of a bin."""
        return Estimate(float(self.values[i]), float(self.errors[i]))

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.values)

    def least(self) -> Estimate:
        """Return the smallest estimate; as the smallest of many it lies below its bin's own mean."""
        return self[_first(self.values)]

    def farthest(self, expected: float) -> Estimate:
        """Return the estimate farthest from what is expected, which lies farther than its bin's own mean."""
        return self[_first(-np.abs(self.values - expected))]


def _first(values: Array) -> int:
    if not np.isfinite(values).any():
        raise InputError("pseudo-experiments: no true bin is determined in two of them")
    return int(np.nanargmin(values))


@dataclass(frozen=True)
class PseudoExperiments:
    """Hold n unfolded toys about a ``truth`` ``(T,)``: ``values`` and ``errors`` ``(n, T)``.

    NaN stands in the rows of toys that the method refused, with ``reasons`` for it, and in bins that are not
    determined; what is said of a bin goes by the toys that determine it.
    """

    truth: Array
    values: Array
    errors: Array
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Return the worst bin's bias and coverage."""
        return f"bias {self.worst_relative_bias:+.2f} errors, coverage {self.worst_coverage:.3f}"

    @property
    def failures(self) -> int:
        """Return how many toys the method refused."""
        return len(self.reasons)

    @cached_property
    def residuals(self) -> Array:
        """Return x̂ − x ``(n, T)``, NaN where it or its error is not known."""
        return np.where(np.isfinite(self.errors), self.values - self.truth, np.nan)

    @cached_property
    def pulls(self) -> Array:
        """Return (x̂ − x)/σ ``(n, T)``, NaN also where σ is zero."""
        positive = self.errors > 0
        return np.divide(self.residuals, self.errors, out=np.full_like(self.residuals, np.nan), where=positive)

    @cached_property
    def covered(self) -> Array:
        """Return 1 where x̂ ± σ holds the truth, 0 where not ``(n, T)``; NaN where there is no interval."""
        return np.where(np.isfinite(self.residuals), np.abs(self.residuals) <= self.errors, np.nan)

    @cached_property
    def bias(self) -> PerBin:
        """Return the mean of x̂ − x."""
        return _means(self.residuals)

    @cached_property
    def relative_bias(self) -> PerBin:
        """Return the bias in units of the mean error."""
        values = _divided(self.bias.values, _means(self.errors).values)
        return PerBin(values, _means(self._bias_influence).errors)

    @property
    def _bias_influence(self) -> Array:
        """Return what each toy adds to the relative bias, to first order ``(n, T)``."""
        size = _means(self.errors).values
        return _divided(self.residuals - self.errors * _divided(self.bias.values, size), size)

    @cached_property
    def pull_mean(self) -> PerBin:
        """Return the mean pull."""
        return _means(self.pulls)

    @cached_property
    def pull_width(self) -> PerBin:
        """Return the standard deviation of pulls about their own mean, its error by their fourth moment."""
        off = self.pulls - self.pull_mean.values
        n = np.isfinite(off).sum(0)
        second, fourth = (_means(off**power).values for power in (2, 4))
        width = np.sqrt(_divided(second * n, n - 1.0))
        return PerBin(width, _divided(np.sqrt(np.clip(fourth - second**2, 0, None)), 2 * width * np.sqrt(n)))

    @cached_property
    def coverage(self) -> PerBin:
        """Return how often x̂ ± σ holds the truth, 0.683 for exact normal intervals, with its binomial error."""
        return _means(self.covered)

    @cached_property
    def length(self) -> PerBin:
        """Return the mean length 2σ of the interval x̂ ± σ."""
        return _means(2 * self.errors)

    @property
    def worst_coverage(self) -> Estimate:
        """Return the least coverage of a bin."""
        return self.coverage.least()

    @property
    def mean_coverage(self) -> Estimate:
        """Return the mean coverage over bins; its error allows for their correlation."""
        return _mean_over_bins(self.covered)

    @property
    def worst_relative_bias(self) -> Estimate:
        """Return the relative bias farthest from zero."""
        return self.relative_bias.farthest(0.0)

    @property
    def mean_relative_bias(self) -> Estimate:
        """Return the mean over bins of the relative bias' absolute value; of chance alone it has √(2/πn)."""
        moved = _mean_over_bins(np.sign(self.bias.values) * self._bias_influence)
        return Estimate(float(np.nanmean(np.abs(self.relative_bias.values))), moved.error)

    @property
    def worst_pull_width(self) -> Estimate:
        """Return the pull width farthest from one."""
        return self.pull_width.farthest(1.0)


def pseudo_data(expected: ArrayLike, n: int, rng: np.random.Generator, *, covariance: ArrayLike | None = None) -> Array:
    """Return n data ``(n, R)``: Poisson numbers about ``expected`` ``(R,)``, or normal ones with a ``covariance``.

    The same generator gives the same data whatever unfolds them. Raises InputError for expectations that are negative
    or not finite and for fewer than ten toys.
    """
    expected, rng = np.asarray(expected, dtype=np.float64), require_rng(rng)
    if n < _FEWEST:
        raise InputError(f"n = {n} toys: at least {_FEWEST} are needed")
    if expected.ndim != 1 or not np.isfinite(expected).all():
        raise InputError(f"expected data of shape {expected.shape}: one finite number a reconstructed bin is needed")
    if covariance is not None:
        return rng.multivariate_normal(expected, np.asarray(covariance, dtype=np.float64), n, method="eigh")
    if (expected < 0).any():
        raise InputError(
            f"expected data: {expected.min():g} in bin {expected.argmin()}; Poisson means are not negative"
        )
    return rng.poisson(expected, (n, len(expected))).astype(np.float64)


def pseudo_experiments(
    unfold: Callable[[Array], Unfolded],
    expected: ArrayLike,
    truth: ArrayLike,
    n: int,
    rng: np.random.Generator,
    *,
    errors: Errors = data_errors,
    covariance: ArrayLike | None = None,
    progress: bool | None = None,
) -> PseudoExperiments:
    """Return what ``unfold`` makes of n toys about ``expected`` ``(R,)``, the data that ``truth`` ``(T,)`` folds to.

    ``errors`` says which errors of a result are judged. Toys are Poisson, or normal where a ``covariance`` is given.
    A toy that ``unfold`` refuses with an InputError is counted with its reason. ``progress`` shows a bar, by default
    where somebody watches. Raises InputError as :func:`pseudo_data` does and where no toy is unfolded.
    """
    data = pseudo_data(expected, n, rng, covariance=covariance)
    return _unfolded(unfold, data, truth, errors, progress)


def _unfolded(
    unfold: Callable[[Array], Unfolded], data: Array, truth: ArrayLike, errors: Errors, progress: bool | None
) -> PseudoExperiments:
    truth = np.array(truth, dtype=np.float64)
    values, sizes = np.full((2, len(data), truth.size), np.nan)
    reasons = []
    bar = tqdm(data, desc="toys", disable=not (visible() if progress is None else progress))
    for i, observed in enumerate(bar):
        try:
            result = unfold(observed)
        except InputError as reason:
            reasons.append(str(reason))
            continue
        if result.values.shape != truth.shape:
            raise InputError(f"truth of shape {truth.shape}: the unfolding has {len(result.values)} true bins")
        values[i], sizes[i] = result.values, errors(result)
    if len(reasons) == len(data):
        raise InputError(f"pseudo-experiments: none could be unfolded; the first: {reasons[0]}")
    return PseudoExperiments(truth, values, sizes, tuple(reasons))


def length_ratio(toys: PseudoExperiments, others: PseudoExperiments) -> Estimate:
    """Return how much longer the intervals of ``toys`` are than those of ``others``, as a mean over bins of ratios.

    The error goes by the differences of the same toys: both must have unfolded the same data.
    """
    known = np.isfinite(toys.errors) & np.isfinite(others.errors)
    first, second = (np.where(known, one.errors, np.nan) for one in (toys, others))
    below = _means(second).values
    ratio = _divided(_means(first).values, below)
    spread = _mean_over_bins(_divided(first - ratio * second, below))
    return Estimate(float(np.nanmean(ratio)), spread.error)


@dataclass(frozen=True)
class Covered:
    """Hold the first ``setting`` that covers, whether there is one (``reached``), and its price.

    ``blind`` and ``chosen`` are the toys of the first setting and of the one taken, the best if none covers; ``price``
    is the ratio of their mean interval lengths. ``settings`` are those tried, ``coverages`` their worst bins'.
    """

    setting: Any
    reached: bool
    blind: PseudoExperiments
    chosen: PseudoExperiments
    price: Estimate
    settings: tuple[Any, ...]
    coverages: tuple[Estimate, ...]

    def __str__(self) -> str:
        """Return a line a setting with its worst bins, the second with the price."""
        blind, chosen = f"{self.settings[0]:.3g}: {self.blind}", f"{self.setting:.3g}: {self.chosen}"
        return f"{blind}\n{chosen}{'' if self.reached else ' (the best)'}, length × {self.price.value:.2f}"


def until_covered(
    unfold_at: Callable[[Any, Array], Unfolded],
    settings: Sequence[Any],
    expected: ArrayLike,
    truth: ArrayLike,
    n: int,
    rng: np.random.Generator,
    *,
    least: float = 0.65,
    errors: Errors = data_errors,
    covariance: ArrayLike | None = None,
    progress: bool | None = None,
) -> Covered:
    """Return the first of ``settings``, from the blind choice to less regularisation, with coverage in every bin.

    ``unfold_at(setting, data)`` meets the same toys at every setting, so that settings differ by their effect alone;
    a bin covers if its estimated coverage is ``least`` or more, where toys that were refused count as not covered.
    Other arguments as of :func:`pseudo_experiments`.
    Coverage is that about ``truth``, which is assumed: it says nothing blind of another spectrum.
    """
    if len(settings) == 0:
        raise InputError("settings: none given; the blind choice comes first")
    data = pseudo_data(expected, n, rng, covariance=covariance)
    walked: list[tuple[float, Any, PseudoExperiments]] = []
    for setting in settings:
        toys = _unfolded(partial(unfold_at, setting), data, truth, errors, progress)
        walked.append((toys.worst_coverage.value * (1 - toys.failures / n), setting, toys))
        if walked[-1][0] >= least:
            break
    covers, setting, toys = max(walked, key=lambda step: step[0])
    blind, tried = walked[0][2], tuple(step[1] for step in walked)
    coverages = tuple(step[2].worst_coverage for step in walked)
    return Covered(setting, covers >= least, blind, toys, length_ratio(toys, blind), tried, coverages)


def _means(values: Array) -> PerBin:
    """Return means over toys that are known, with standard errors; NaN for fewer than two of them."""
    known = np.isfinite(values)
    n = np.where(known.sum(0) > 1, known.sum(0), np.nan)
    means = np.where(known, values, 0.0).sum(0) / n
    squares = np.where(known, values - means, 0.0) ** 2
    return PerBin(means, np.sqrt(squares.sum(0) / (n - 1) / n))


def _mean_over_bins(values: Array) -> Estimate:
    """Return the mean over toys of a toy's mean over bins, its error by the toys' spread."""
    rows = values[np.isfinite(values).any(1)]
    return mean(np.nanmean(rows, axis=1))


def _divided(values: Array, by: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by > 0, values / by, np.nan)
