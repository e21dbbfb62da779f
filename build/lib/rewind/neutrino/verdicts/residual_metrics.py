"""How good are reconstructed neutrinos? Tops and their masses, residuals against the truth, response matrices.

Neutrinos are ``(B, L, 3)``, or ``(B, n, L, 3)`` for n draws an event, by the legs of the
:class:`~rewind.neutrino.dataset.Dataset`; NaN where a method found no solution. Momenta (E, px, py, pz), GeV. What is
not finite is left out of a score, and every score says how many events that were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.classical.jet_scale import leg_jets
from rewind.neutrino.dataset import Dataset
from rewind.stats import Estimate

__all__ = [
    "Figures",
    "Inversion",
    "Response",
    "Row",
    "binned_figures",
    "compare",
    "delta_phi_ll",
    "figures",
    "fit_inversion",
    "m_tt",
    "pinned",
    "quantities",
    "response_matrix",
    "row",
    "summary",
    "tops",
    "true_quantities",
    "w_bosons",
]


def w_bosons(data: Dataset, neutrinos: Tensor) -> Tensor:
    """Return ℓ + ν of each leg with a lepton, ``(B, L, 4)`` or ``(B, n, L, 4)``."""
    if neutrinos.ndim not in (3, 4) or neutrinos.shape[:1] + neutrinos.shape[-2:] != (len(data), data.n_legs, 3):
        raise InputError(
            f"neutrinos of shape {tuple(neutrinos.shape)}: ({len(data)}, {data.n_legs}, 3), or with an axis of draws "
            f"({len(data)}, n, {data.n_legs}, 3), are expected"
        )
    four = torch.cat([neutrinos.norm(dim=-1, keepdim=True), neutrinos], -1)
    return four + _beside(data.leptons, neutrinos)


def _beside(values: Tensor, neutrinos: Tensor) -> Tensor:
    return values if neutrinos.ndim == 3 else values[:, None]


def tops(data: Dataset, neutrinos: Tensor, pairing: Tensor) -> Tensor:
    """Return b + ℓ + ν of each leg with a lepton, ``(B, L, 4)`` or ``(B, n, L, 4)``.

    ``pairing`` ``(B, 2)`` names the jets; NaN where it is −1 and where a neutrino is NaN.
    """
    w = w_bosons(data, neutrinos)
    return w + _beside(leg_jets(data, pairing)[:, : data.n_legs], neutrinos)


def m_tt(both_tops: Tensor) -> Tensor:
    """Return the mass ``(...)`` of two tops ``(..., 2, 4)``."""
    if both_tops.shape[-2:] != (2, 4):
        raise InputError(f"tops of shape {tuple(both_tops.shape)}: two of them, (..., 2, 4), are expected")
    return kinematics.mass(both_tops.sum(-2))


def delta_phi_ll(leptons: Tensor) -> Tensor:
    """Return the azimuth ``(B,)`` between two leptons ``(B, 2, 4)`` in [0, π], measured or true ones."""
    if leptons.shape[1:] != (2, 4):
        raise InputError(f"leptons of shape {tuple(leptons.shape)}: two of them, (B, 2, 4), are expected")
    azimuth = kinematics.phi(leptons)
    return kinematics.delta_phi(azimuth[:, 0], azimuth[:, 1]).abs()


@dataclass(frozen=True)
class Figures:
    """Hold figures of merit of residuals, reconstructed − true, in their unit, with bootstrap errors.

    ``width`` is the full distance between the 16 % and 84 % quantiles, ``rmse`` the root of the mean square. Of
    ``n_solved + n_unsolved`` events the former count; without any, all is NaN.
    """

    width: Estimate
    rmse: Estimate
    median: Estimate
    mean: Estimate
    n_solved: int
    n_unsolved: int


def figures(truth, reconstructed, rng: np.random.Generator, *, weights=None, n_replicas: int = 200) -> Figures:
    """Return figures of merit of ``reconstructed`` against ``truth``, both ``(B,)`` or ``(B, K)``.

    The K values of an event (its neutrinos) enter together, are resampled together, and count only if all are
    finite. ``weights`` ``(B,)`` must not be negative. Raises InputError where shapes differ or a true value is not
    finite.
    """
    truth, reconstructed = _pair(truth, reconstructed)
    solved = np.isfinite(reconstructed).all(1)
    residual, weights = (reconstructed - truth)[solved], _weights(weights, len(truth))[solved]
    (n, k), n_unsolved = residual.shape, int((~solved).sum())
    if weights.sum() == 0:
        return Figures(*[Estimate(np.nan, np.nan)] * 4, n, n_unsolved)
    order = residual.argsort(None)
    ordered, event = residual.ravel()[order], order // k

    def statistics(weight):
        weight = weight[event]
        cumulated = weight.cumsum()
        mean, square = (weight @ ordered) / cumulated[-1], (weight @ ordered**2) / cumulated[-1]
        at = np.searchsorted(cumulated, np.array([0.16, 0.5, 0.84]) * cumulated[-1])
        low, middle, high = ordered[at]
        return high - low, square**0.5, middle, mean

    drawn = (weights * np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(n_replicas))
    replicas = np.array([statistics(weight) for weight in drawn if weight.any()])
    errors = replicas.std(0, ddof=1) if len(replicas) > 1 else np.full(4, np.nan)
    estimates = (Estimate(float(v), float(e)) for v, e in zip(statistics(weights), errors, strict=True))
    return Figures(*estimates, n, n_unsolved)


def binned_figures(
    truth, reconstructed, edges, rng: np.random.Generator, *, weights=None, n_replicas: int = 200
) -> list[Figures]:
    """Return the figures of merit in bins of the true value; ``truth`` and ``reconstructed`` are ``(B,)``.

    A bin holds its lower edge; events outside the ``edges`` are in no bin.
    """
    truth, reconstructed = _pair(truth, reconstructed)
    if truth.shape[1] != 1:
        raise InputError(f"truth of shape {truth.shape}: one value an event is needed for bins")
    where, weights = _bins(truth, [_checked_edges(edges)]), _weights(weights, len(truth))
    chosen = (where == i for i in range(len(edges) - 1))
    return [
        figures(truth[here], reconstructed[here], rng, weights=weights[here], n_replicas=n_replicas) for here in chosen
    ]


def _array(values) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def _pair(truth, reconstructed) -> tuple[np.ndarray, np.ndarray]:
    """Return both as ``(B, K)``; raise InputError where shapes differ or a true value is not finite."""
    truth, reconstructed = _array(truth), _array(reconstructed)
    if truth.shape != reconstructed.shape or truth.ndim not in (1, 2):
        raise InputError(f"truth {truth.shape} and reconstructed {reconstructed.shape}: equal, (B,) or (B, K), needed")
    if not np.isfinite(truth).all():
        raise InputError(f"truth: {np.count_nonzero(~np.isfinite(truth))} values are not finite; leave such events out")
    return (truth[:, None], reconstructed[:, None]) if truth.ndim == 1 else (truth, reconstructed)


def _weights(weights, n: int) -> np.ndarray:
    weights = np.ones(n) if weights is None else _array(weights)
    if weights.shape != (n,) or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError(f"weights: {n} finite numbers that are not negative are needed")
    return weights


def quantities(data: Dataset, neutrinos: Tensor, pairing: Tensor) -> dict[str, Tensor]:
    """Return what is compared, by name, of neutrinos ``(B, L, 3)`` or of draws ``(B, n, L, 3)``.

    ``px``, ``py``, ``pz`` of the neutrinos ``(B, L)`` or ``(B, n, L)``; ``pt_top`` of the first leg and, with two
    leptons, ``m_tt``, both ``(B,)`` or ``(B, n)``. The tops are built from the jets of ``data``: give it with
    corrected ones.
    """
    built = tops(data, neutrinos, pairing)
    found = {axis: neutrinos[..., i] for i, axis in enumerate(("px", "py", "pz"))}
    found["pt_top"] = kinematics.pt(built[..., 0, :])
    return found | ({"m_tt": m_tt(built)} if data.n_legs == 2 else {})


def true_quantities(data: Dataset) -> dict[str, Tensor]:
    """Return the truth of :func:`quantities`; without those of tops where not all are known."""
    data.require_truth()
    found = {axis: data.neutrinos[..., i] for i, axis in enumerate(("px", "py", "pz"))}
    if data.tops.isfinite().all():
        found["pt_top"] = kinematics.pt(data.tops[:, 0])
        if data.n_legs == 2:
            found["m_tt"] = m_tt(data.tops)
    return found


def compare(
    data: Dataset, values: dict[str, Tensor], rng: np.random.Generator, *, n_replicas: int = 200
) -> dict[str, Figures]:
    """Return figures of merit, by name, of one value an event of each of :func:`quantities` that has a truth."""
    truth = true_quantities(data)
    return {
        name: figures(truth[name], values[name], rng, weights=data.weight, n_replicas=n_replicas)
        for name in truth
        if name in values
    }


def summary(
    data: Dataset, neutrinos: Tensor, pairing: Tensor, rng: np.random.Generator, *, n_replicas: int = 200
) -> dict[str, Figures]:
    """Return figures of merit of one solution an event, by name; see :func:`quantities` and :func:`compare`."""
    data.require_truth()
    if neutrinos.ndim != 3:
        raise InputError(f"neutrinos of shape {tuple(neutrinos.shape)}: choose one solution an event for a summary")
    return compare(data, quantities(data, neutrinos, pairing), rng, n_replicas=n_replicas)


@dataclass(frozen=True)
class Inversion:
    """Hold how an estimator responds: the ``median`` of its values in bins of the truth about ``centre``.

    Calling it undoes that response, value by value, by linear interpolation (numerical inversion, 1609.05195): the
    median of what it returns is the truth in every bin, so that widths of different estimators can be compared.
    """

    centre: np.ndarray
    median: np.ndarray

    def __call__(self, values) -> np.ndarray:
        """Return calibrated values; beyond the outer bins the response is continued as a straight line."""
        values = _array(values)
        slope = np.diff(self.centre) / np.diff(self.median)
        inside = np.interp(values, self.median, self.centre)
        below, above = np.minimum(values - self.median[0], 0), np.maximum(values - self.median[-1], 0)
        return np.where(np.isnan(values), np.nan, inside + slope[0] * below + slope[-1] * above)


def fit_inversion(truth, reconstructed, edges) -> Inversion:
    """Return the response of ``reconstructed`` ``(B,)`` in bins of ``truth``, fitted on events kept for it.

    Raises InputError where a bin has no solved event and where the response does not rise from bin to bin: then it
    can't be inverted, and the bins are too fine or the estimator knows nothing.
    """
    truth, reconstructed = (column[:, 0] for column in _pair(truth, reconstructed))
    where = _bins(truth[:, None], [_checked_edges(edges)])
    where[~np.isfinite(reconstructed)] = -1
    n_bins = len(edges) - 1
    if n_bins < 2:
        raise InputError("inversion: at least two bins of the truth are needed")
    if set(range(n_bins)) - set(where):
        raise InputError("inversion: a bin of the truth has no solved event; merge bins")
    centre, median = (
        np.array([np.median(values[where == i]) for i in range(n_bins)]) for values in (truth, reconstructed)
    )
    if (np.diff(median) <= 0).any():
        raise InputError(f"inversion: the response {median.round(1)} does not rise; merge bins")
    return Inversion(centre, median)


@dataclass(frozen=True)
class Row:
    """Hold a line of a table: figures of merit by quantity, of m_tt also unbiased, and its bias by true bin."""

    figures: dict[str, Figures]
    unbiased: Figures
    bias: tuple[float, ...]

    def __str__(self):
        """Return widths with errors and RMSE of p_x, p_z and m_tt, the biases, and the unbiased width of m_tt."""
        shown = [self.figures[name] for name in ("px", "pz", "m_tt")]
        cells = [f"{f.width.value:5.1f} ±{f.width.error:4.1f} {f.rmse.value:6.1f}" for f in shown]
        bias = " ".join(f"{value:4.0f}" for value in self.bias)
        return "  ".join([*cells, bias, f"{self.unbiased.width.value:6.1f} ±{self.unbiased.width.error:4.1f}"])


def row(
    data: Dataset,
    values: dict[str, Tensor],
    inversion: Inversion,
    edges: Sequence[float],
    rng: np.random.Generator,
    *,
    n_replicas: int = 100,
) -> Row:
    """Return the line of one method: ``values`` of :func:`quantities`, one an event; m_tt ``edges`` for the bias."""
    data.require_legs(2)
    true = true_quantities(data)["m_tt"]
    figures_ = compare(data, values, rng, n_replicas=n_replicas)
    unbiased = figures(true, inversion(values["m_tt"]), rng, weights=data.weight, n_replicas=n_replicas)
    bins = binned_figures(true, values["m_tt"], edges, rng, weights=data.weight, n_replicas=2)
    return Row(figures_, unbiased, tuple(one.median.value for one in bins))


def pinned(data: Dataset, neutrinos: Tensor) -> Tensor:
    """Return what the calibration of a posterior is tested on: ``(B, [n,] 3 L + 2 + L)``.

    The components of all neutrinos, and what the data pin down: the sums of transverse momenta and the W masses.
    """
    sums = neutrinos[..., :2].sum(-2)
    return torch.cat([neutrinos.flatten(-2), sums, kinematics.mass(w_bosons(data, neutrinos))], -1)


@dataclass(frozen=True)
class Response:
    """Hold where events of each true bin are reconstructed: sums of weights, by true bin first.

    ``counts`` ``(T, R)``; ``outside`` ``(T,)``, reconstructed in no bin; ``unsolved`` ``(T,)``, not reconstructed at
    all; ``squares`` ``(T,)``, the sum of squared weights of solved events; ``n_unsolved`` events are unsolved and
    ``n_missed`` have a true value in no bin.
    """

    counts: np.ndarray
    outside: np.ndarray
    unsolved: np.ndarray
    squares: np.ndarray
    n_unsolved: int
    n_missed: int

    @property
    def solved(self) -> np.ndarray:
        """Return the solved weight of each true bin ``(T,)``."""
        return self.counts.sum(1) + self.outside

    @property
    def matrix(self) -> np.ndarray:
        """Return p(reconstructed bin | true bin, solved) ``(T, R)``: rows sum to 1 with those outside; NaN if empty."""
        with np.errstate(invalid="ignore"):
            return self.counts / self.solved[:, None]

    @property
    def efficiency(self) -> np.ndarray:
        """Return the solved share of each true bin ``(T,)``."""
        with np.errstate(invalid="ignore"):
            return self.solved / (self.solved + self.unsolved)

    def _diagonal(self) -> np.ndarray:
        if len(set(self.counts.shape)) != 1:
            raise InputError(f"response of shape {self.counts.shape}: a diagonal needs equal bins")
        return np.diag(self.counts)

    def trace_fraction(self) -> Estimate:
        """Return the share of solved events on the diagonal, Σ N_ii/N, with its binomial error."""
        total = self.solved.sum()
        if total <= 0:
            raise InputError("response: no solved event in any bin")
        share = self._diagonal().sum() / total
        return Estimate(float(share), float((share * (1 - share) * self.squares.sum()) ** 0.5 / total))

    def diagonal_of_all(self) -> float:
        """Return the share of all events, unsolved ones included, that is on the diagonal."""
        return float(self._diagonal().sum() / (self.solved.sum() + self.unsolved.sum()))

    def mean_diagonal(self) -> Estimate:
        """Return the mean of the diagonal of the normalised matrix: every true bin counts the same.

        Empty true bins do not count.
        """
        filled = self.solved > 0
        if not filled.any():
            raise InputError("response: no solved event in any bin")
        share = self._diagonal()[filled] / self.solved[filled]
        variance = share * (1 - share) * self.squares[filled] / self.solved[filled] ** 2
        return Estimate(float(share.mean()), float(variance.sum() ** 0.5 / filled.sum()))


def response_matrix(
    truth, reconstructed, edges_truth: Sequence, edges_reconstructed: Sequence | None = None, *, weights=None
) -> Response:
    """Return the response of one observable ``(B,)``, or of D at once ``(B, D)`` with a list of D arrays of edges.

    Bins of several observables are flattened, the last one running fastest. A bin holds its lower edge; there are no
    overflow bins unless an edge is infinite. Reconstructed bins are the true ones unless they are given. Raises
    InputError for edges that do not rise, differing shapes, and true values that are not finite.
    """
    one = _array(truth).ndim == 1
    truth, reconstructed = _pair(truth, reconstructed)
    weights, n_columns = _weights(weights, len(truth)), truth.shape[1]
    edges_truth = _all_edges([edges_truth] if one else edges_truth, n_columns)
    if edges_reconstructed is None:
        edges_reconstructed = edges_truth
    else:
        edges_reconstructed = _all_edges([edges_reconstructed] if one else edges_reconstructed, n_columns)
    n_truth, n_reco = (int(np.prod([len(e) - 1 for e in edges])) for edges in (edges_truth, edges_reconstructed))

    row, solved = _bins(truth, edges_truth), np.isfinite(reconstructed).all(1)
    inside = row >= 0
    column = _bins(reconstructed, edges_reconstructed)
    column = np.where(solved, np.where(column < 0, n_reco, column), n_reco + 1)
    flat = row[inside] * (n_reco + 2) + column[inside]
    table = np.bincount(flat, weights[inside], n_truth * (n_reco + 2)).reshape(n_truth, n_reco + 2)
    squares = np.bincount(row[inside & solved], weights[inside & solved] ** 2, n_truth)
    return Response(
        table[:, :n_reco],
        table[:, n_reco],
        table[:, n_reco + 1],
        squares,
        int((inside & ~solved).sum()),
        int((~inside).sum()),
    )


def _all_edges(edges: Sequence, n: int) -> list[np.ndarray]:
    """Return checked edges, one array for each of ``n`` observables."""
    if len(edges) != n:
        raise InputError(f"edges for {len(edges)} observables, values of {n}")
    return [_checked_edges(one) for one in edges]


def _checked_edges(edges) -> np.ndarray:
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (edges[1:] > edges[:-1]).all():
        raise InputError("edges: at least two rising numbers are needed for each observable")
    return edges


def _bins(values: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """Return the flat bin ``(n,)`` of ``values`` ``(n, D)``, −1 outside and for NaN."""
    flat, inside = np.zeros(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
    for column, one in zip(values.T, edges, strict=True):
        at = np.searchsorted(one, column, side="right") - 1
        inside &= (at >= 0) & (at < len(one) - 1)
        flat = flat * (len(one) - 1) + at
    return np.where(inside, flat, -1)
