"""How far regressed or reconstructed partons are from the true ones: frames, bias and 68 % bands in bins.

>>> rng = np.random.default_rng(1)
>>> bands = in_bins(rng.normal(2, 3, 4_000), rng.uniform(0, 1, 4_000), [0, 1], rng)
>>> f"{bands.bias[0]:.0f}, {bands.half_width[0]:.0f}"
'2, 3'
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rewind import kinematics, stats
from rewind.errors import InputError
from rewind.partons.last_copies import boost

__all__ = ["OBSERVABLES", "Bands", "half68", "in_bins", "observables", "to_centre_of_mass"]

OBSERVABLES = ("pT H", "pT t_had", "pT t_lep", "eta H", "eta t_had", "eta t_lep", "boost", "mass")
_FEWEST = 10


def observables(partons: Tensor) -> Tensor:
    """Return ``OBSERVABLES`` ``(..., 8)`` of ``partons`` ``(..., 4, 4)`` in the laboratory; GeV.

    The last two are the p_z and the invariant mass of all four together.
    """
    heavy = partons[..., :3, :]
    whole = torch.stack([boost(partons), kinematics.mass(partons.sum(-2))], -1)
    return torch.cat([kinematics.pt(heavy), kinematics.eta(heavy), whole], -1)


def to_centre_of_mass(partons: Tensor) -> Tensor:
    """Return ``partons`` ``(B, n, 4)`` in the frame in which their sum is at rest; GeV."""
    return kinematics.to_rest(partons, partons.sum(1, keepdim=True))


def half68(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return half the width between the 16 % and 84 % quantiles; raise InputError for negative weights."""
    return stats.width68(values, weights) / 2


class Bands(NamedTuple):
    """Hold for each bin the median deviation and half the 16–84 % range, each with its bootstrap error."""

    bias: NDArray[np.float64]
    bias_error: NDArray[np.float64]
    half_width: NDArray[np.float64]
    half_width_error: NDArray[np.float64]


def in_bins(
    deviation: ArrayLike,
    x: ArrayLike,
    edges: Sequence[float] | NDArray[np.floating],
    rng: np.random.Generator,
    *,
    weights: ArrayLike | None = None,
    n_replicas: int = 100,
) -> Bands:
    """Return the :class:`Bands` of a ``deviation`` ``(B,)`` in bins of ``x`` ``(B,)``; a bin holds its lower edge.

    Raises InputError for a bin with fewer than 10 events, and for negative ``weights`` ``(B,)``.
    """
    deviation, where = np.asarray(deviation), np.digitize(np.asarray(x), edges) - 1
    weights = None if weights is None else np.asarray(weights)
    rows = []
    for i in range(len(edges) - 1):
        values = deviation[where == i]
        if len(values) < _FEWEST:
            raise InputError(f"bin {edges[i]:g} to {edges[i + 1]:g}: {len(values)} events; at least {_FEWEST} needed")
        of_bin = None if weights is None else weights[where == i]
        estimate = partial(stats.bootstrap, rng=rng, n_replicas=n_replicas, weights=of_bin)
        rows.append((*estimate(stats.median, values), *estimate(half68, values)))
    return Bands(*np.array(rows).T)
