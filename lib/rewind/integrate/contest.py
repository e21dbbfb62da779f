"""Samplers compared on one integrand, at equal evaluations and at equal time.

>>> one = Trial(value=1.0, error=0.1, relative_std=1.0, efficiency=0.5, training=1.0, each=0.01)
>>> one.error_after([0.5, 2.0]).tolist()
[nan, 0.1]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.integrate.samplers import Integrand, Sampler, integrate

__all__ = ["Contest", "Trial", "contest", "trial"]

Recipe = Callable[[Integrand, int, int, torch.Generator], Sampler]


@dataclass(frozen=True)
class Trial:
    """Hold what one sampler made of one integrand: an estimate, its quality, and its costs.

    ``relative_std`` is that of the weights of one point, σ/I; ``efficiency`` of unweighting, NaN where points have no
    weights of their own; ``training`` and ``each``, of a point, in seconds of processor time.
    """

    value: float
    error: float
    relative_std: float
    efficiency: float
    training: float
    each: float

    def error_after(self, seconds: ArrayLike) -> NDArray[np.float64]:
        """Return the relative error after ``seconds``, training included; NaN before its end."""
        left = np.asarray(seconds, dtype=float) - self.training
        return self.relative_std * np.sqrt(self.each / np.where(left > 0, left, np.nan))


@dataclass(frozen=True)
class Contest:
    """Hold trials by sampler, one a seed."""

    trials: Mapping[str, Sequence[Trial]]

    def pulls(self, truth: float) -> dict[str, float]:
        """Return for each sampler the pull of its estimate that is farthest from ``truth``."""
        return {
            name: max(((t.value - truth) / t.error for t in trials), key=abs) for name, trials in self.trials.items()
        }

    def mean(self) -> float:
        """Return the mean of all estimates, weighted with their errors."""
        every = [trial for trials in self.trials.values() for trial in trials]
        return float(np.average([t.value for t in every], weights=[t.error**-2 for t in every]))

    def __str__(self) -> str:
        return "\n".join(_row(name, trials) for name, trials in self.trials.items())


def _row(name: str, trials: Sequence[Trial]) -> str:
    spread, efficiency = (np.array([getattr(t, of) for t in trials]) for of in ("relative_std", "efficiency"))
    wide = f" ± {spread.std(ddof=1) / len(trials) ** 0.5:.3f}" if len(trials) > 1 else ""
    kept = f"{efficiency.mean():6.1%}" if np.isfinite(efficiency).all() else "     –"
    training, each = (np.mean([getattr(t, of) for t in trials]) for of in ("training", "each"))
    costs = f"trained {training:5.1f} s, {1e6 * each:5.2f} µs a point"
    return f"  {name:18} σ/I {spread.mean():.3f}{wide}  keeps {kept}  {costs}"


def trial(f: Integrand, dims: int, recipe: Recipe, evaluations: int, points: int, seed: int) -> Trial:
    """Return the trial of a sampler that ``recipe(f, dims, evaluations, generator)`` makes, in processor time.

    Other work on the machine does not count. Raises InputError as :func:`~rewind.integrate.samplers.integrate` does.
    """
    generator, began = torch.Generator().manual_seed(seed), time.process_time()
    sampler = recipe(f, dims, evaluations, generator)
    trained = time.process_time()
    estimate = integrate(f, sampler, points, generator)
    each = (time.process_time() - trained) / points
    quality = estimate.relative_std, estimate.unweighting_efficiency
    return Trial(estimate.value, estimate.error, *quality, trained - began, each)


def contest(
    f: Integrand, dims: int, recipes: Mapping[str, Recipe], *, evaluations: int, points: int, seeds: Sequence[int]
) -> Contest:
    """Return the trials of all ``recipes`` by name, one for each of ``seeds``; raises InputError without seeds."""
    if not seeds:
        raise InputError("seeds: at least one is needed")
    return Contest(
        {
            name: [trial(f, dims, recipe, evaluations, points, seed) for seed in seeds]
            for name, recipe in recipes.items()
        }
    )
