"""The response matrix: where events of each true bin are reconstructed, with weights and their squares.

It is ``[reconstructed, true]``, so that it folds a true spectrum by a matrix product. Bins of several observables are
flattened, the last observable running fastest, under- and overflow of each axis included.

>>> response = response_matrix([0.5, 1.5, 0.5], [0.5, 1.5, 1.5], [0.0, 1.0, 2.0])
>>> response.matrix.tolist()
[[1.0, 0.5], [0.0, 0.5]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import NamedTuple

import hist
import numpy as np
from hist.axis import AxesMixin, Variable
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array

from rewind.errors import InputError
from rewind.stats.bootstrap import Estimate, as_samples

__all__ = ["Parts", "ResponseMatrix", "histogram_of_draws", "response_matrix", "response_of_draws"]

Edges = AxesMixin | ArrayLike


class Parts(NamedTuple):
    """Hold what a response says of the bins within the edges: ``yields`` ``(R, T)``, ``misses`` ``(T,)``, ``fakes``.

    A miss is generated within the true edges, and reconstructed beyond the others or not at all; a fake ``(R,)`` is
    reconstructed within the edges and generated beyond them.
    """

    yields: NDArray[np.float64]
    misses: NDArray[np.float64]
    fakes: NDArray[np.float64]

    @property
    def truth(self) -> NDArray[np.float64]:
        """Return all that is generated in each true bin ``(T,)``."""
        return self.yields.sum(0) + self.misses


@dataclass(frozen=True)
class ResponseMatrix:
    """Hold sums of weights ``counts`` and of their squares ``squares``, ``(R + 1, T)`` each.

    R and T count the bins of all reconstructed and all true axes, under- and overflow included; the last row holds
    events without a reconstructed value, the unsolved ones. Where an event has several reconstructed values, its
    draws, ``shared`` ``(T, R + 1, R + 1)`` holds the sums of products of what each event brings to two cells.
    ``kept`` names the bins of both kinds that count as within the edges, where these are fewer than the axes have.
    """

    reconstructed: tuple[AxesMixin, ...]
    true: tuple[AxesMixin, ...]
    counts: NDArray[np.float64]
    squares: NDArray[np.float64]
    shared: NDArray[np.float64] | None = None
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None

    @cached_property
    def inside(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which reconstructed bins ``(R,)`` and which true ones ``(T,)`` are within the edges of all axes."""
        return self.kept or (_inside(self.reconstructed), _inside(self.true))

    @property
    def parts(self) -> Parts:
        """Return sums of weights within the edges, by what becomes of an event; with both outside none is lost."""
        return self._parts(self.counts)

    @property
    def variances(self) -> Parts:
        """Return sums of squared weights as :attr:`parts` does sums of weights: their variances."""
        return self._parts(self.squares)

    def _parts(self, sums: NDArray[np.float64]) -> Parts:
        rows, columns = self.inside
        yields = sums[:-1][np.ix_(rows, columns)]
        outside = sums[:-1][:, columns][~rows].sum(0) + sums[-1, columns]
        return Parts(yields, outside, sums[:-1][rows][:, ~columns].sum(1))

    def restricted(self, *, true: ArrayLike | None = None, reconstructed: ArrayLike | None = None) -> ResponseMatrix:
        """Return the response with the flagged bins alone, of those within the edges; others become misses and fakes.

        Raises InputError for flags of another length and where no bin is left.
        """
        rows, columns = (inside.copy() for inside in self.inside)
        for inside, flags, name in ((rows, reconstructed, "reconstructed"), (columns, true, "true")):
            if flags is None:
                continue
            flags = np.asarray(flags)
            if flags.dtype != bool or flags.shape != (inside.sum(),) or not flags.any():
                raise InputError(f"{name} bins to keep: {inside.sum()} booleans are needed, at least one of them true")
            inside[inside] = flags
        return replace(self, kept=(rows, columns))

    def scaled(self, factor: float) -> ResponseMatrix:
        """Return the response of a simulation of ``factor`` times the luminosity, by its weights.

        Raises InputError for a factor that is not positive or not finite.
        """
        if not 0 < factor < np.inf:
            raise InputError(f"factor = {factor}: a positive number is needed")
        shared = None if self.shared is None else self.shared * factor**2
        return replace(self, counts=self.counts * factor, squares=self.squares * factor**2, shared=shared)

    @property
    def solved(self) -> NDArray[np.float64]:
        """Return the weight of solved events in each true bin ``(T,)``."""
        return self.counts[:-1].sum(0)

    @property
    def unsolved(self) -> NDArray[np.float64]:
        """Return the weight of unsolved events in each true bin ``(T,)``."""
        return self.counts[-1]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Return p(reconstructed bin | true bin, solved) within the edges; NaN in a column without solved events.

        Columns sum to one together with what is reconstructed beyond the edges.
        """
        rows, columns = self.inside
        with np.errstate(invalid="ignore"):
            return self.counts[:-1][np.ix_(rows, columns)] / self.solved[columns]

    @property
    def efficiency(self) -> NDArray[np.float64]:
        """Return the solved share of each true bin within the edges; NaN where it is empty."""
        columns = self.inside[1]
        with np.errstate(invalid="ignore"):
            return self.solved[columns] / (self.solved + self.unsolved)[columns]

    def _diagonal(self) -> NDArray[np.float64]:
        rows, columns = self.inside
        if self.reconstructed != self.true:
            raise InputError(f"response of {rows.sum()} by {columns.sum()} bins: a diagonal needs equal axes")
        return np.diag(self.counts[:-1])[rows & columns]

    def trace_fraction(self) -> Estimate:
        """Return the share on the diagonal of solved events within the true edges, with its binomial error.

        The draws of an event are no events of their own. Raises InputError for axes that differ and where no event is
        solved.
        """
        columns = self.inside[1]
        total = self.solved[columns].sum()
        if total <= 0:
            raise InputError("response: no solved event in any bin")
        share = float(self._diagonal().sum() / total)
        variance = share * (1 - share) * self.squares[:-1, columns].sum()
        if self.shared is not None:  # each event's share on the diagonal, less the mean share of what it has solved
            kept = np.flatnonzero(self.inside[0] & columns)
            variance = self.shared[kept, kept, kept].sum() - 2 * share * self.shared[kept, kept, :-1].sum()
            variance += share**2 * self.shared[columns, :-1, :-1].sum()
        return Estimate(share, float(max(variance, 0.0) ** 0.5 / total))

    def diagonal_of_all(self) -> float:
        """Return the share on the diagonal of all events within the true edges, unsolved ones included."""
        return float(self._diagonal().sum() / self.counts[:, self.inside[1]].sum())

    def to_hist(self) -> hist.Hist:
        """Return solved events as a histogram with variances: axes of what is reconstructed, then true ones.

        Their names say which they are.
        """
        axes = [_named(axis, "reconstructed", i) for i, axis in enumerate(self.reconstructed)]
        axes += [_named(axis, "true", i) for i, axis in enumerate(self.true)]
        filled = hist.Hist(*axes, storage=hist.storage.Weight())
        filled.view(flow=True).value = self.counts[:-1].reshape(filled.axes.extent)
        filled.view(flow=True).variance = self.squares[:-1].reshape(filled.axes.extent)
        return filled


def response_matrix(
    reconstructed: ArrayLike,
    truth: ArrayLike,
    axes_reconstructed: Edges | Sequence[Edges],
    axes_true: Edges | Sequence[Edges] | None = None,
    *,
    weights: ArrayLike | None = None,
) -> ResponseMatrix:
    """Return the response of one observable ``(B,)``, or of D at once ``(B, D)`` with a list of D axes.

    An axis is one of ``hist`` or an array of edges; a bin holds its lower edge. An event whose reconstructed values are
    not all finite is unsolved. True axes are the reconstructed ones unless they are given. Weights ``(B,)`` may be
    negative. Raises InputError for differing shapes, true values or weights that are not finite, edges that do not
    rise, and axes without under- and overflow.
    """
    truth = as_samples(truth, "true values") if np.size(truth) else np.asarray(truth, dtype=np.float64)
    reconstructed = np.asarray(reconstructed, dtype=np.float64)
    if truth.shape[:1] != reconstructed.shape[:1] or not truth.ndim == reconstructed.ndim in (1, 2):
        raise InputError(f"values of shapes {reconstructed.shape} and {truth.shape}: one row an event each is needed")
    one = truth.ndim == 1
    reconstructed, truth = (values.reshape(len(values), -1 if values.size else 1) for values in (reconstructed, truth))
    rows = _axes(axes_reconstructed, one, reconstructed.shape[1])
    columns = rows if axes_true is None else _axes(axes_true, one, truth.shape[1])
    weights = _weights(weights, len(truth))
    n_rows, n_columns = map(_extent, (rows, columns))
    cell = _solved_bin(reconstructed, rows) * n_columns + _flat_bin(truth, columns)
    shape = (n_rows + 1, n_columns)
    sums = (np.bincount(cell, values, n_columns * (n_rows + 1)).reshape(shape) for values in (weights, weights**2))
    return ResponseMatrix(rows, columns, *sums)


def response_of_draws(
    draws: ArrayLike,
    truth: ArrayLike,
    axes_reconstructed: Edges | Sequence[Edges],
    axes_true: Edges | Sequence[Edges] | None = None,
    *,
    weights: ArrayLike | None = None,
) -> ResponseMatrix:
    """Return the response where an event has n reconstructed values, ``(B, n)`` or ``(B, n, D)``, each of weight 1/n.

    The draws of an event are no events of their own: ``shared`` holds what they have in common. Otherwise, and in what
    is refused, like :func:`response_matrix`.
    """
    truth = as_samples(truth, "true values")
    one = truth.ndim == 1
    rows = _axes(axes_reconstructed, one, 1 if one else truth.shape[1])
    columns = rows if axes_true is None else _axes(axes_true, one, 1 if one else truth.shape[1])
    shares = _shares(draws, truth.ndim, rows)
    if shares.shape[0] != len(truth):
        raise InputError(f"draws of {shares.shape[0]} events, truth of {len(truth)}: one row an event each is needed")
    weights = _weights(weights, len(truth))
    at = _flat_bin(truth.reshape(len(truth), -1), columns)
    weighted = diags_array(weights).tocsr() @ shares
    shared = np.zeros((_extent(columns), shares.shape[1], shares.shape[1]))
    for column in np.unique(at):
        part = weighted[np.flatnonzero(at == column)]
        shared[column] = (part.T @ part).toarray()
    true = csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=(len(at), _extent(columns)))
    squares = np.diagonal(shared, axis1=1, axis2=2).T.copy()
    return ResponseMatrix(rows, columns, (weighted.T @ true).toarray(), squares, shared)


def histogram_of_draws(
    draws: ArrayLike, axes: Edges | Sequence[Edges], *, weights: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the yields ``(R,)`` within the edges of events with draws ``(B, n)`` or ``(B, n, D)`` of weight 1/n each.

    The covariance ``(R, R)`` is that of Poisson numbers of independent events, whose draws are none.
    """
    draws = np.asarray(draws, dtype=np.float64)
    rows = _axes(axes, draws.ndim < 3, draws.shape[-1] if draws.ndim == 3 else 1)
    shares = _shares(draws, min(max(draws.ndim - 1, 1), 2), rows)
    weighted = diags_array(_weights(weights, len(draws))).tocsr() @ shares
    inside = np.r_[_inside(rows), False]
    return weighted.sum(0)[inside], (weighted.T @ weighted).toarray()[np.ix_(inside, inside)]


def _shares(draws: ArrayLike, ndim: int, rows: tuple[AxesMixin, ...]) -> csr_array:
    """Return the share ``(B, R + 1)`` of each event's draws in each bin, the unsolved ones last."""
    draws = np.asarray(draws, dtype=np.float64)
    if draws.ndim != ndim + 1 or draws.shape[1] < 1:
        raise InputError(f"draws of shape {draws.shape}: (events, draws), then an axis of observables if they are many")
    n_events, n_draws = draws.shape[:2]
    bins = _solved_bin(draws.reshape(n_events * n_draws, -1), rows)
    events = np.repeat(np.arange(n_events), n_draws)
    shape = (n_events, _extent(rows) + 1)
    shares = csr_array((np.full(len(bins), 1 / n_draws), (events, bins)), shape=shape)
    shares.sum_duplicates()
    return shares


def _weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,) or not np.isfinite(weights).all():
        raise InputError(f"weights of shape {weights.shape}: {n} finite ones are needed")
    return weights


def _extent(axes: Sequence[AxesMixin]) -> int:
    return int(np.prod([axis.extent for axis in axes]))


def _solved_bin(values: NDArray[np.float64], axes: Sequence[AxesMixin]) -> NDArray[np.int64]:
    """Return the flat bin ``(B,)`` of ``values`` ``(B, D)``, after the last one where they are not all finite."""
    solved = np.isfinite(values).all(1)
    return np.where(solved, _flat_bin(np.where(solved[:, None], values, 0.0), axes), _extent(axes))


def _axes(axes: Edges | Sequence[Edges], one: bool, n: int) -> tuple[AxesMixin, ...]:
    """Return axes with flow for each of ``n`` observables."""
    axes = [axes] if one else list(axes)
    if len(axes) != n:
        raise InputError(f"{len(axes)} axes, values of {n} observables")
    return tuple(_axis(axis) for axis in axes)


def _axis(axis: Edges) -> AxesMixin:
    if not isinstance(axis, AxesMixin):
        edges = np.asarray(axis, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise InputError("edges: at least two rising numbers are needed for each observable")
        return Variable(edges)
    if axis.extent != axis.size + 2:
        raise InputError(f"axis {axis}: under- and overflow are needed, so that no event is lost")
    return axis


def _named(axis: AxesMixin, kind: str, i: int) -> Variable:
    return Variable(axis.edges, name=f"{kind} {axis.name or i}", label=f"{kind} {axis.label}".strip())


def _flat_bin(values: NDArray[np.float64], axes: Sequence[AxesMixin]) -> NDArray[np.int64]:
    """Return the flat bin ``(B,)`` of finite ``values`` ``(B, D)``, 0 the first underflow."""
    places = (axis.index(column) + 1 for axis, column in zip(axes, values.T, strict=True))
    extents = [axis.extent for axis in axes]
    flat = np.zeros(len(values), dtype=np.int64)
    for extent, place in zip(extents, places, strict=True):
        flat = flat * extent + place
    return flat


def _inside(axes: Sequence[AxesMixin]) -> NDArray[np.bool_]:
    flags = (np.r_[False, np.ones(axis.size, bool), False] for axis in axes)
    return reduce(np.logical_and.outer, flags).ravel()
