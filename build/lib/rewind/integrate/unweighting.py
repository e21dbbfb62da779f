"""From weighted points to events of weight one.

>>> from rewind.integrate import Uniform
>>> generator = torch.Generator().manual_seed(1)
>>> drawn = unweight(lambda x: x[:, 0], Uniform(1), 2_000, generator, batch=5_000, pilot=5_000)
>>> abs(float(drawn.points.mean()) - 2 / 3) < 5 * (1 / 18 / 2_000) ** 0.5
True
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.integrate.estimates import Integral, largest_weight, summarize
from rewind.integrate.samplers import Integrand, Sampler, evaluated

__all__ = ["Unweighted", "unweight"]


class Unweighted(NamedTuple):
    """Hold ``points`` ``(n, dims)`` that follow f/∫f, and how they were found.

    ``integral`` is ∫ f from all points tried; ``efficiency`` the share of them that was kept, ``repeated`` how many
    of the n points are copies of another one.
    """

    points: Tensor
    integral: Integral
    efficiency: float
    repeated: int


@torch.no_grad()
def unweight(
    integrand: Integrand,
    sampler: Sampler,
    n: int,
    generator: torch.Generator,
    *,
    pilot: int = 50_000,
    events: int = 1_000,
    batch: int = 50_000,
) -> Unweighted:
    """Return ``n`` points that follow a non-negative integrand: rejection against w_max of ``pilot`` points.

    w_max is :func:`~rewind.integrate.estimates.largest_weight` for ``events`` events. A point of weight w is kept
    w/w_max times in the mean, so that a weight above w_max gives copies and no bias. Raises InputError for n below 1,
    an integrand that is negative somewhere or zero at all pilot points, and as
    :func:`~rewind.integrate.samplers.integrate` does.
    """
    if n < 1 or batch < 1:
        raise InputError(f"n = {n}, batch = {batch}: at least one of each is needed")
    largest = largest_weight(_weighted(integrand, sampler, pilot, generator)[1], events)
    if largest == 0:
        raise InputError(f"integrand: zero at most of {pilot} points; train the sampler before unweighting")
    kept, weights, n_kept = [], [], 0
    while n_kept < n:
        points, weight = _weighted(integrand, sampler, batch, generator)
        chance = torch.rand(len(weight), generator=generator, dtype=weight.dtype, device=generator.device)
        copies = (weight / largest + chance.to(weight)).floor().long()
        kept.append(points.repeat_interleave(copies, 0))
        weights.append(weight)
        n_kept += len(kept[-1])
    kept, integral = torch.cat(kept)[:n], summarize(torch.cat(weights))
    repeated = int(kept.diff(dim=0).eq(0).all(1).sum())
    return Unweighted(kept, integral, n_kept / integral.n, repeated)


def _weighted(integrand: Integrand, sampler: Sampler, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    points, log_density = sampler.sample(n, generator)
    weights = evaluated(integrand, points) * (-log_density.double()).exp()
    if (weights < 0).any():
        raise InputError(f"integrand: negative at {int((weights < 0).sum())} of {n} points; events need f ≥ 0")
    return points, weights
