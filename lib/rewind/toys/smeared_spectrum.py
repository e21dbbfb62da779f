"""A falling mass spectrum with a bump behind a detector that smears and loses events: an unfolding with exact answers.

>>> spectrum = SmearedSpectrum()
>>> spectrum.true_yields([50.0, 700.0], 1000.0).round(6).tolist()
[1000.0]
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from rewind.errors import InputError
from rewind.random_numbers import require_rng

__all__ = ["SmearedSpectrum"]

Array = NDArray[np.float64]
_CELLS = 500  # of the quadrature in a true bin
_KNOTS = 20_000  # of the inverted cumulative distribution


@dataclass(frozen=True)
class SmearedSpectrum:
    """State a mass spectrum between ``low`` and ``high``, GeV, and a detector.

    The density is exponential with scale ``slope``; a share ``bump`` of the events is normal about ``peak``, of
    standard deviation ``width``. The detector reconstructs a mass with a normal ``resolution``, in a share of events
    that rises linearly from 0.4 at ``low`` to 0.9 at ``high``. Raises InputError for scales that are not positive.
    """

    slope: float = 120.0
    bump: float = 0.0
    peak: float = 300.0
    width: float = 25.0
    resolution: float = 30.0
    low: float = 50.0
    high: float = 700.0

    def __post_init__(self) -> None:
        if min(self.slope, self.width, self.resolution, self.high - self.low) <= 0 or not 0 <= self.bump <= 1:
            raise InputError(f"{self}: positive scales, low below high and a bump between 0 and 1 are needed")

    def efficiency(self, mass: ArrayLike) -> Array:
        """Return the share of events of true ``mass`` ``(n,)`` that are reconstructed."""
        return 0.4 + 0.5 * (np.asarray(mass, dtype=np.float64) - self.low) / (self.high - self.low)

    def cumulative(self, mass: ArrayLike) -> Array:
        """Return the share of true events below ``mass`` ``(n,)``."""
        mass = np.clip(np.asarray(mass, dtype=np.float64), self.low, self.high)
        span = -np.expm1(-(self.high - self.low) / self.slope)
        falling = -np.expm1(-(mass - self.low) / self.slope) / span
        below, above = (ndtr((edge - self.peak) / self.width) for edge in (self.low, self.high))
        risen = (ndtr((mass - self.peak) / self.width) - below) / (above - below)
        return (1 - self.bump) * falling + self.bump * risen

    def true_yields(self, edges: ArrayLike, n: float) -> Array:
        """Return the expected yields ``(T,)`` of ``n`` generated events in bins of the true mass."""
        return n * np.diff(self.cumulative(edges))

    def yields(self, reconstructed: ArrayLike, true: ArrayLike, n: float) -> Array:
        """Return the expected yields ``(R, T)`` of ``n`` generated events in bins of both masses, true ones finite."""
        seen, true = (np.asarray(edges, dtype=np.float64) for edges in (reconstructed, true))
        columns = []
        for low, high in pairwise(true):
            grid = np.linspace(low, high, _CELLS + 1)
            middle = (grid[1:] + grid[:-1]) / 2
            share = np.diff(self.cumulative(grid)) * self.efficiency(middle) * n
            columns.append(np.diff(ndtr((seen[:, None] - middle) / self.resolution), axis=0) @ share)
        return np.stack(columns, 1)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return true and reconstructed masses ``(n,)``, NaN where an event is lost."""
        require_rng(rng)
        grid = np.linspace(self.low, self.high, _KNOTS + 1)
        true = np.interp(rng.random(n), self.cumulative(grid), grid)
        seen = true + self.resolution * rng.standard_normal(n)
        return true, np.where(rng.random(n) < self.efficiency(true), seen, np.nan)
