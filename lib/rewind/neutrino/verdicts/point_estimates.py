"""From a posterior to one number: what to quote of draws, and what each choice costs.

Every estimator acts on draws ``(B, n)`` or ``(B, n, …)`` of a quantity, a component of a neutrino or the mass of a
pair of tops alike, so that the mean of m_tt is the posterior mean of m_tt and not the mass of mean neutrinos.

>>> draws = torch.tensor([[1.0, 2.0, 6.0]])
>>> one(draws).item(), mean(draws).item(), median(draws).item()
(1.0, 3.0, 2.0)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.constants import M_TOP, M_W

__all__ = ["constraint_distance", "mean", "mean_of_nearest", "median", "mode", "nearest_constraints", "one", "rules"]


def _chosen(draws: Tensor, index: Tensor, measure: Tensor) -> Tensor:
    """Return one draw an event; NaN where its ``measure`` ``(B, n)`` is not known."""
    return _where_known(draws[torch.arange(len(draws)), index], measure)


def _where_known(values: Tensor, measure: Tensor) -> Tensor:
    unknown = measure.isnan().any(1)
    return values.masked_fill(unknown.reshape(-1, *[1] * (values.ndim - 1)), torch.nan)


def one(draws: Tensor) -> Tensor:
    """Return the first draw of each event: spectra of single draws follow the truth's if the posterior is right."""
    return draws[:, 0]


def mean(draws: Tensor) -> Tensor:
    """Return posterior means: the least mean squared error."""
    return draws.mean(1)


def median(draws: Tensor) -> Tensor:
    """Return posterior medians: the least mean absolute error."""
    ordered, n = draws.sort(1).values, draws.shape[1]
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2


def mode(draws: Tensor, log_prob: Tensor) -> Tensor:
    """Return the draw of the highest density ``log_prob`` ``(B, n)`` of all: an approximate mode; NaN if unknown."""
    return _chosen(draws, log_prob.argmax(1), log_prob)


def nearest_constraints(draws: Tensor, distance: Tensor) -> Tensor:
    """Return the draw with the least ``distance`` ``(B, n)`` from the mass constraints; NaN if unknown."""
    return _chosen(draws, distance.argmin(1), distance)


def mean_of_nearest(draws: Tensor, distance: Tensor, share: float = 0.25) -> Tensor:
    """Return the mean over the ``share`` of draws with the least ``distance`` from the masses; NaN if unknown."""
    if not 0 < share <= 1:
        raise InputError(f"share = {share}: must lie between 0 and 1")
    nearest = distance.argsort(1)[:, : max(1, round(share * draws.shape[1]))]
    index = nearest.reshape(*nearest.shape, *[1] * (draws.ndim - 2)).expand(-1, -1, *draws.shape[2:])
    return _where_known(draws.gather(1, index).mean(1), distance)


def rules(distance: Tensor, log_prob: Tensor | None = None) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return all estimators by name, each a function of draws; without ``log_prob`` there is no mode among them."""
    every = {
        "one draw": one,
        "mean": mean,
        "median": median,
        "nearest to constraints": partial(nearest_constraints, distance=distance),
        "mean of the nearest": partial(mean_of_nearest, distance=distance),
    }
    return every if log_prob is None else every | {"mode": partial(mode, log_prob=log_prob)}


def constraint_distance(
    neutrinos: Tensor,
    leptons: Tensor,
    bottoms: Tensor,
    *,
    m_top: float = M_TOP,
    m_w: float = M_W,
    width_top: float = 12.0,
    width_w: float = 3.0,
) -> Tensor:
    """Return by how much draws miss the W and top masses, in units of the widths, added in quadrature, ``(B, n)``.

    ``neutrinos`` ``(B, n, L, 3)``, ``leptons`` and the b jets ``bottoms`` of the same legs ``(B, L, 4)``. The default
    widths (GeV) are those of the masses that true neutrinos give with measured leptons and jets. Raises InputError
    for shapes that do not fit.
    """
    if neutrinos.ndim != 4 or leptons.shape != bottoms.shape or leptons.shape[:2] != neutrinos.shape[::2][:2]:
        raise InputError(
            f"neutrinos {tuple(neutrinos.shape)}, leptons {tuple(leptons.shape)}, b jets {tuple(bottoms.shape)}: "
            "expected (B, n, L, 3), (B, L, 4), (B, L, 4)"
        )
    bosons = kinematics.massless(neutrinos) + leptons[:, None]
    tops = bosons + bottoms[:, None]
    pulls = torch.stack([(kinematics.mass(bosons) - m_w) / width_w, (kinematics.mass(tops) - m_top) / width_top])
    return (pulls**2).sum((0, -1)).sqrt()
