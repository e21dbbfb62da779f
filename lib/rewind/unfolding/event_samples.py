"""From events to what an unfolding needs: response, data and their covariance, with draws of a posterior or without.

>>> mass, seen = np.array([0.5, 1.5, 1.5, 0.5]), np.array([0.4, 1.6, 0.9, 0.6])
>>> inputs = unfolding_inputs(seen, mass, np.array([False, False, False, True]), [np.array([0.0, 1.0, 2.0])])
>>> inputs.response.parts.yields.tolist(), inputs.data.tolist()
([[1.0, 1.0], [0.0, 1.0]], [1.0, 0.0])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix, response_matrix
from rewind.stats.response import histogram_of_draws, response_of_draws

__all__ = ["Inputs", "unfolding_inputs"]

Array = NDArray[np.float64]


class Inputs(NamedTuple):
    """Hold a simulation's ``response``, the ``data`` ``(R,)`` and their ``covariance``, None where they are Poisson."""

    response: ResponseMatrix
    data: Array
    covariance: Array | None


def unfolding_inputs(
    reconstructed: ArrayLike,
    true: ArrayLike,
    is_data: ArrayLike,
    axes: Sequence[ArrayLike],
    axes_true: Sequence[ArrayLike] | None = None,
    *,
    weights: ArrayLike | None = None,
) -> Inputs:
    """Return the response of the simulated events and the data of the flagged ones, ``is_data`` ``(B,)``.

    ``true`` is ``(B,)`` or ``(B, D)``, with an axis for each of D observables, and does not enter where ``is_data``;
    ``reconstructed`` has the same shape, or one axis more for n draws an event, ``(B, n)`` or ``(B, n, D)``, each of
    weight 1/n. Draws of an event fluctuate together: data of draws have a covariance, and so has the response; a bin
    without data has the variance that the simulation expects. Without draws the covariance is given where ``weights``
    are. Raises InputError for shapes that do not fit and as :func:`~rewind.stats.response.response_matrix` does.
    """
    reconstructed, true = np.asarray(reconstructed, dtype=np.float64), np.asarray(true, dtype=np.float64)
    is_data = np.asarray(is_data, dtype=bool)
    if is_data.shape != true.shape[:1] or reconstructed.shape[:1] != true.shape[:1]:
        raise InputError(f"{len(reconstructed)} events, truth of {len(true)}, {is_data.size} flags: they must agree")
    is_poisson = weights is None
    weights = np.ones(len(true)) if weights is None else np.asarray(weights, dtype=np.float64)
    axes, axes_true = (given if given is None or true.ndim > 1 else given[0] for given in (axes, axes_true))
    has_draws = reconstructed.ndim == true.ndim + 1
    fill = response_of_draws if has_draws else response_matrix
    response = fill(reconstructed[~is_data], true[~is_data], axes, axes_true, weights=weights[~is_data])
    seen = reconstructed[is_data] if has_draws else reconstructed[is_data][:, None]
    data, covariance = histogram_of_draws(seen, axes, weights=weights[is_data])
    if is_poisson and not has_draws:
        return Inputs(response, data, None)
    empty = np.diag(covariance) == 0
    simulated = response.variances.yields.sum(1) + response.variances.fakes
    scale = (weights[is_data] ** 2).sum() / (weights[~is_data] ** 2).sum()
    return Inputs(response, data, covariance + np.diag(np.where(empty, scale * simulated, 0.0)))
