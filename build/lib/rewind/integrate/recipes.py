"""Samplers from a budget of evaluations: what comparisons, and users who do not want to choose, start with.

>>> grid = adapted_grid(lambda x: x[:, 0] ** 4, 1, 20_000, torch.Generator().manual_seed(1), bins=8, iterations=4)
>>> bool(grid.edges[0, 1] > 1 / 8)
True
"""

from __future__ import annotations

import torch

from rewind.integrate.flows import SplineFlow, train
from rewind.integrate.samplers import Integrand, Mixture, VegasGrid

__all__ = ["adapted_grid", "learnt_shares", "started_flow", "trained_flow"]

_START = 0.2  # of all evaluations, for the grid in front of a flow
_ITERATIONS = 3


def adapted_grid(
    integrand: Integrand,
    dims: int,
    evaluations: int,
    generator: torch.Generator,
    *,
    bins: int = 64,
    iterations: int = 20,
) -> VegasGrid:
    """Return a VEGAS grid adapted in so many ``evaluations``; raises InputError as its ``adapt`` does."""
    grid = VegasGrid(dims, bins)
    return grid.adapt(integrand, generator, points=evaluations // iterations, iterations=iterations)


def trained_flow(
    integrand: Integrand, dims: int, evaluations: int, generator: torch.Generator, *, seed: int = 0, **size: int
) -> SplineFlow:
    """Return a spline flow trained from uniform in so many ``evaluations``; raises InputError as ``train`` does."""
    flow = SplineFlow(dims, seed=seed, **size)
    train(flow, integrand, generator, evaluations=evaluations)
    return flow


def started_flow(
    integrand: Integrand, dims: int, evaluations: int, generator: torch.Generator, *, seed: int = 0, **size: int
) -> SplineFlow:
    """Return a spline flow behind a VEGAS grid, which a fifth of the ``evaluations`` adapts.

    At most 20,000 points an iteration go to the grid; it also explores while the flow learns. Raises InputError as
    ``adapt`` and ``train`` do.
    """
    flow = SplineFlow(dims, seed=seed, **size)
    points = min(20_000, int(_START * evaluations) // _ITERATIONS)
    grid = adapted_grid(integrand, dims, points * _ITERATIONS, generator, bins=flow.grid_bins, iterations=_ITERATIONS)
    left = evaluations - points * _ITERATIONS
    train(flow.start_from(grid), integrand, generator, evaluations=left, explore=grid)
    return flow


def learnt_shares(integrand: Integrand, channels: list, evaluations: int, generator: torch.Generator) -> Mixture:
    """Return a mixture of samplers whose shares are trained in so many ``evaluations``; raises as ``train`` does."""
    mixture = Mixture(channels)
    train(mixture, integrand, generator, evaluations=evaluations, learning_rate=0.05)
    return mixture
