"""Numerical inversion: how an estimator responds to the truth, and its answers with that undone (1609.05195).

>>> undo = Inversion(centre=np.array([400.0, 500.0]), median=np.array([420.0, 470.0]))
>>> undo([420.0, 470.0, 495.0]).tolist()
[400.0, 500.0, 550.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rewind.errors import InputError
from rewind.neutrino.verdicts.residuals import as_array, as_pair, as_weights, bins_of
from rewind.stats import median

__all__ = ["Inversion", "fit_inversion"]


@dataclass(frozen=True)
class Inversion:
    """Hold how an estimator responds: the ``median`` of its values in bins of the truth about ``centre``.

    Calling it undoes that response, value by value, by linear interpolation (numerical inversion, 1609.05195): the
    median of what it returns is the truth in every bin, so that widths of different estimators can be compared.
    """

    centre: NDArray[np.float64]
    median: NDArray[np.float64]

    def __call__(self, values: ArrayLike | Tensor) -> NDArray[np.float64]:
        """Return calibrated values; beyond the outer bins the response is continued as a straight line."""
        values = as_array(values)
        slope = np.diff(self.centre) / np.diff(self.median)
        inside = np.interp(values, self.median, self.centre)
        below, above = np.minimum(values - self.median[0], 0), np.maximum(values - self.median[-1], 0)
        return np.where(np.isnan(values), np.nan, inside + slope[0] * below + slope[-1] * above)


def fit_inversion(
    truth: ArrayLike | Tensor,
    reconstructed: ArrayLike | Tensor,
    edges: ArrayLike,
    *,
    weights: ArrayLike | Tensor | None = None,
) -> Inversion:
    """Return the response of ``reconstructed`` ``(B,)`` in bins of ``truth``, fitted on events kept for it.

    ``weights`` ``(B,)`` must not be negative. Raises InputError where a bin has no solved event and where the response
    does not rise from bin to bin: then it can't be inverted, and the bins are too fine or the estimator knows nothing.
    """
    truth, reconstructed = (column[:, 0] for column in as_pair(truth, reconstructed))
    where, weights = bins_of(truth, edges), as_weights(weights, len(truth))
    where[~np.isfinite(reconstructed)] = -1
    n_bins = len(np.asarray(edges)) - 1
    if n_bins < 2:
        raise InputError("inversion: at least two bins of the truth are needed")
    if set(range(n_bins)) - set(where):
        raise InputError("inversion: a bin of the truth has no solved event; merge bins")
    centre, median = (
        np.array([_median(values, weights, where == i) for i in range(n_bins)]) for values in (truth, reconstructed)
    )
    if (np.diff(median) <= 0).any():
        raise InputError(f"inversion: the response {median.round(1)} does not rise; merge bins")
    return Inversion(centre, median)


def _median(values: NDArray[np.float64], weights: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    values, weights = values[where], weights[where]
    return float(np.median(values)) if (weights == weights[0]).all() else median(values, weights)
