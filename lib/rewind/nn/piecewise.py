"""Densities that are roughly known before training: coordinates in which they are standard normal.

A flow in such a coordinate starts from the guess and learns only what is wrong with it.

>>> even = PiecewiseDensity(torch.zeros(1, 5))
>>> normal, log_slope = even.to_normal(torch.tensor([0.25]))
>>> float(even.to_share(normal))
0.25
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["PiecewiseDensity", "normal_quantile"]

_OUTSIDE = 5e-13


def normal_quantile(share: Tensor) -> Tensor:
    """Return the standard normal's quantiles, those of 0 and 1 cut off at seven standard deviations."""
    return torch.special.ndtri(share.clip(_OUTSIDE, 1 - _OUTSIDE))


class PiecewiseDensity:
    """Hold densities on [0, 1], linear between values at equal distances, computed in double precision.

    ``log_values`` ``(R, n + 1)`` are their unnormalised logarithms there. The share ``floor`` of each is uniform, so
    that nothing is excluded.
    """

    def __init__(self, log_values: Tensor, floor: float = 1e-3):
        values = (log_values - log_values.amax(1, keepdim=True)).double().exp()
        self.n = values.shape[1] - 1
        area = (values[:, 1:] + values[:, :-1]).sum(1, keepdim=True) / (2 * self.n)
        self.values = (1 - floor) * values / area + floor
        steps = (self.values[:, 1:] + self.values[:, :-1]) / (2 * self.n)
        self.below = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], 1)

    @classmethod
    def on_circle(cls, log_values: Tensor, floor: float = 1e-3) -> PiecewiseDensity:
        """Return densities of an angle's share of 2π from values ``(R, n)`` at equal angles."""
        return cls(torch.cat([log_values, log_values[:, :1]], 1), floor)

    def _cell(self, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = self.values.gather(1, torch.stack([cell, cell + 1], 1)).unbind(1)
        return low, high, self.below.gather(1, cell[:, None])[:, 0]

    def to_uniform(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return the uniform number ``(R,)`` that ``share`` ``(R,)`` becomes, and its slope, which is the density."""
        place = share.double().clip(0.0, 1.0) * self.n
        cell = place.long().clip(0, self.n - 1)
        part = place - cell
        low, high, below = self._cell(cell)
        return below + (low * part + (high - low) * part**2 / 2) / self.n, low + (high - low) * part

    def from_uniform(self, filled: Tensor) -> Tensor:
        """Undo :meth:`to_uniform`."""
        filled = filled.double().contiguous()
        cell = (torch.searchsorted(self.below, filled[:, None], right=True)[:, 0] - 1).clip(0, self.n - 1)
        low, high, below = self._cell(cell)
        area = ((filled - below) * self.n).clip(0.0)
        part = 2 * area / (low + (low**2 + 2 * (high - low) * area).clip(0.0).sqrt())
        return (cell + part.clip(0.0, 1.0)) / self.n

    def to_normal(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return the standard normal variable ``(R,)`` that ``share`` ``(R,)`` becomes, and its log-slope."""
        filled, density = self.to_uniform(share)
        normal = normal_quantile(filled)
        return normal, density.log() + (normal**2 + math.log(2 * math.pi)) / 2

    def to_share(self, normal: Tensor) -> Tensor:
        """Undo :meth:`to_normal`."""
        return self.from_uniform(torch.special.ndtr(normal.double()))
