"""How far regressed or reconstructed partons are from the true ones: frames, bias and 68 % bands in bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rewind import kinematics, stats
from rewind.errors import InputError

__all__ = ["OBSERVABLES", "Bands", "in_bins", "observables", "to_centre_of_mass"]

OBSERVABLES = ("pT H", "pT t_had", "pT t_lep", "eta H", "eta t_had", "eta t_lep", "boost", "mass")
_FEWEST = 10


def observables(partons: Tensor) -> Tensor:
    """Return ``OBSERVABLES`` ``(..., 8)`` of ``partons`` ``(..., 4, 4)`` in the laboratory; GeV.

    The last two are the p_z and the invariant mass of all four together.
    """
    heavy, total = partons[..., :3, :], partons.sum(-2)
    whole = torch.stack([total[..., 3], kinematics.mass(total)], -1)
    return torch.cat([kinematics.pt(heavy), kinematics.eta(heavy), whole], -1)


def to_centre_of_mass(partons: Tensor) -> Tensor:
    """Return ``partons`` ``(B, n, 4)`` in the frame in which their sum is at rest; GeV."""
    total = partons.sum(1, keepdim=True)
    rest = total * 0
    rest[..., 0] = kinematics.mass(total)
    return kinematics.boost_between(partons, total, rest)


class Bands(NamedTuple):
    """Hold for each bin the median deviation and half the 16–84 % range, each with its bootstrap error."""

    bias: np.ndarray
    bias_error: np.ndarray
    half_width: np.ndarray
    half_width_error: np.ndarray


def in_bins(deviation, x, edges, rng: np.random.Generator, *, n_replicas: int = 100) -> Bands:
    """Return the :class:`Bands` of a ``deviation`` ``(B,)`` in bins of ``x`` ``(B,)``; a bin holds its lower edge.

    Raises InputError for a bin with fewer than 10 events.
    """
    deviation, where = np.asarray(deviation), np.digitize(np.asarray(x), edges) - 1
    rows = []
    for i in range(len(edges) - 1):
        values = deviation[where == i]
        if len(values) < _FEWEST:
            raise InputError(f"bin {edges[i]:g} to {edges[i + 1]:g}: {len(values)} events; at least {_FEWEST} needed")
        bias = stats.bootstrap(stats.median, values, rng=rng, n_replicas=n_replicas)
        half = stats.bootstrap(lambda v: stats.width68(v) / 2, values, rng=rng, n_replicas=n_replicas)
        rows.append((*bias, *half))
    return Bands(*np.array(rows).T)
