"""Templates that every event enters several times: what many draws of one event are worth, and what they are not.

An event gives several values of one observable, such as the draws of its posterior, the legs of its decay or both. A
bin holds the share f_ik of the values of event i. Events are independent of one another, the values of one event are
not, so that all errors follow from the scatter of f between events. Only shares are compared, never rates.

>>> template([[0.1, 0.2], [0.8, 0.3]], [0.0, 0.5, 1.0]).shares.tolist()
[0.75, 0.25]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rewind.errors import InputError
from rewind.stats.bootstrap import Estimate, as_weights

__all__ = ["Template", "information", "template"]


@dataclass(frozen=True)
class Template:
    """Hold a normalised histogram of ``n_values`` values of each of ``n_events`` (effective) events, K bins.

    ``shares`` ``(K,)`` of all values, those outside the edges and NaN included, so that they sum to 1 at most;
    ``covariance`` ``(K, K)`` from the scatter between events; ``intraclass`` ``(K,)`` is the correlation ρ between
    the indicators of two values of one event, NaN for a single value and for an empty bin.
    """

    edges: np.ndarray
    shares: np.ndarray
    covariance: np.ndarray
    intraclass: np.ndarray
    n_values: int
    n_events: float

    @property
    def errors(self) -> np.ndarray:
        """Return the standard errors of the shares."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def naive_errors(self) -> np.ndarray:
        """Return what the errors would be if every value were an event of its own."""
        return np.sqrt(self.shares * (1 - self.shares) / (self.n_events * self.n_values))

    @property
    def design_effect(self) -> np.ndarray:
        """Return 1 + (n − 1) ρ, by which the true variance exceeds the naive one."""
        if self.n_values == 1:
            return np.ones_like(self.shares)
        return 1 + (self.n_values - 1) * self.intraclass

    @property
    def gain(self) -> np.ndarray:
        """Return how many times more events a single value of each would need for the same errors, n/(1 + (n − 1) ρ).

        It never exceeds 1/ρ, however many values there are.
        """
        return self.n_values / self.design_effect


def _fractions(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share ``(B, K)`` of the values ``(B, n)`` of each event that lies in each bin."""
    n_events, n_bins = len(values), len(edges) - 1
    at = np.searchsorted(edges, values, side="right") - 1
    at = np.where((at < 0) | (at >= n_bins) | np.isnan(values), n_bins, at)
    flat = (np.arange(n_events)[:, None] * (n_bins + 1) + at).ravel()
    counts = np.bincount(flat, minlength=n_events * (n_bins + 1)).reshape(n_events, n_bins + 1)
    return counts[:, :n_bins] / values.shape[1]


def template(values: ArrayLike, edges: ArrayLike, weights: ArrayLike | None = None) -> Template:
    """Return the template of ``values`` ``(B,)`` or ``(B, …)``, everything after the first axis of one event.

    A bin holds its lower edge. ``weights`` ``(B,)`` are those of events. Raises InputError for fewer than two events
    and for edges that do not rise.
    """
    values, edges = np.asarray(values, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    if values.ndim == 0 or len(values) < 2 or values.size == 0:
        raise InputError(f"values of shape {values.shape}: at least two events with a value each are needed")
    if edges.ndim != 1 or len(edges) < 2 or not (edges[1:] > edges[:-1]).all():
        raise InputError("edges: at least two rising numbers are needed")
    values = values.reshape(len(values), -1)
    weights, n_values = as_weights(weights, len(values)), values.shape[1]
    n_events = 1 / float((weights**2).sum())
    if n_events <= 1:
        raise InputError("weights: a single event has all the weight")

    fractions = _fractions(values, edges)
    shares = weights @ fractions
    scatter = weights[:, None] * (fractions - shares)
    covariance = scatter.T @ scatter * n_events / (n_events - 1)
    intraclass = np.full(len(shares), np.nan)
    if n_values > 1:
        within = weights @ (fractions * (1 - fractions)) * n_values / (n_values - 1)
        between = np.diag(covariance) * n_events - within / n_values
        total = between + within
        np.divide(between, total, out=intraclass, where=total > 0)
    return Template(edges, shares, covariance, intraclass, n_values, n_events)


def information(low: Template, high: Template, step: float) -> Estimate:
    """Return the information on a parameter that one event holds, from templates a ``step`` apart in it.

    It is d·C⁺·d with the slope d of the shares and the covariance C of one event's shares: Fisher's information where
    an event has a single value, and that of the best linear combination of bins where it has several. N events
    measure the parameter to 1/√(N I). What the templates' own noise adds to d·C⁺·d is subtracted, so that the value
    may be negative; the error is that of a quadratic form of Gaussian numbers. Raises InputError for other edges or
    another number of values, and for a step of zero.
    """
    if not np.array_equal(low.edges, high.edges) or low.n_values != high.n_values:
        raise InputError("templates differ in their edges or in the number of values of an event")
    if not np.isfinite(step) or step == 0:
        raise InputError(f"step = {step}: the templates must lie apart in the parameter")
    slope = (high.shares - low.shares) / step
    noise = (high.covariance + low.covariance) / step**2
    per_event = (low.covariance * low.n_events + high.covariance * high.n_events) / 2
    inverse = np.linalg.pinv(per_event, rcond=1e-9, hermitian=True)
    spread = inverse @ noise
    scatter = np.trace(spread @ spread)
    signal = max(0.0, slope @ spread @ inverse @ slope - scatter)
    return Estimate(float(slope @ inverse @ slope - np.trace(spread)), float((2 * scatter + 4 * signal) ** 0.5))
