"""What a binned unfolding is given, read once: arrays or a response record, with everything odd refused or flagged.

All methods work with y = x / (simulated truth), so that the folded yields are ``N y + b`` with the simulated yields N
and what is not signal, b. The simulated truth drops out of the fit; it only turns y into yields x.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import hist
import numpy as np
from hist.axis import AxesMixin
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.stats.response import Parts

__all__ = ["Problem", "read", "yields_of"]

Array = NDArray[np.float64]
_ROUNDING = 1e-6  # relative; by which sums of a caller's own yields may exceed their truth


@dataclass(frozen=True)
class Problem:
    """Hold an unfolding problem of R reconstructed and T true bins, those left out that nothing is known of.

    ``yields`` ``(R, T)``, ``truth`` ``(T,)``, ``data`` and ``background`` ``(R,)`` (all that is not signal), the data's
    ``data_covariance`` ``(R, R)`` and ``weight`` (the same with no empty bin), the absolute ``prior`` ``(T,)`` and
    whether it is the simulated truth; the simulation's ``record`` with its variances, None from bare arrays, and the
    ``purity`` that data were multiplied by. ``determined`` and ``reachable`` say which of all bins these are.
    """

    yields: Array
    truth: Array
    data: Array
    background: Array
    data_covariance: Array
    weight: Array
    prior: Array
    prior_is_truth: bool
    is_poisson: bool
    record: ResponseMatrix | None
    fakes_are_simulated: bool
    purity: Array
    determined: NDArray[np.bool_]
    reachable: NDArray[np.bool_]

    @property
    def efficiency(self) -> Array:
        """Return the share of each true bin that is reconstructed within the edges ``(T,)``."""
        return self.yields.sum(0) / self.truth

    def folded(self, values: Array) -> Array:
        """Return the expected data ``(R,)`` of true yields ``(T,)``, background included."""
        return self.yields @ (values / self.truth) + self.background

    def folded_chi2(self, values: Array) -> float:
        """Return the χ² of the folded values with the data's covariance, and with no empty bin's zero variance."""
        return float(np.sum((self.whitening() @ (self.data - self.folded(values))) ** 2))

    def whitening(self) -> Array:
        """Return a root of the inverse of ``weight`` ``(K, R)``, of its K directions with a variance (hep-ph/9509307).

        Raises InputError for a covariance with a negative eigenvalue.
        """
        scale = np.sqrt(np.diag(self.weight))
        known = np.flatnonzero(scale > 0)
        alone = np.eye(len(scale))[known] / scale[known, None]
        if not np.any(self.weight - np.diag(np.diag(self.weight))):
            return alone
        variances, directions = np.linalg.eigh(alone @ self.weight @ alone.T)
        least = 10 * len(variances) * np.finfo(float).eps * variances.max()
        if variances.min() < -least or self.weight[scale == 0].any():
            raise InputError("data_covariance: an eigenvalue is negative")
        directions, variances = directions[:, variances > least], variances[variances > least]
        return directions.T @ alone / np.sqrt(variances[:, None])


def read(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    prior: ArrayLike | None = None,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
    purity: ArrayLike | None = None,
    data_covariance: ArrayLike | None = None,
) -> Problem:
    """Return the problem that a caller's arrays or response record state; every array is copied.

    ``truth`` may be None with a record, which knows it; a record's fakes count unless ``fakes`` or ``purity`` are
    given. A vector may also be a histogram of ``hist`` or an array of a record's axes, as :func:`yields_of` reads them.
    Warns of data in bins that the simulation does not reach, and of true bins that are never reconstructed; both are
    left out; and of data of draws without their covariance. Raises InputError for shapes that do not fit, entries that
    are not finite, negative Poisson data, more reconstructed than generated, and for both fakes and purity.
    """
    record = response if isinstance(response, ResponseMatrix) else None
    data, fakes, background, purity = (
        yields_of(record, "reconstructed", values, name)
        for values, name in ((data, "data"), (fakes, "fakes"), (background, "background"), (purity, "purity"))
    )
    truth, prior = yields_of(record, "true", truth, "truth"), yields_of(record, "true", prior, "prior")
    parts = response.parts if isinstance(response, ResponseMatrix) else _bare(response, truth)
    n_rows, n_columns = parts.yields.shape
    _check_efficiency(parts)
    if record is not None and truth is not None and not _close(_vector(truth, "truth", n_columns), parts.truth):
        raise InputError("truth: not that of the response record; give None, the record knows it")
    if not parts.yields.any():
        raise InputError("response: no simulated event is reconstructed within the edges")
    observed = _vector(data, "data", n_rows)
    if record is not None and record.shared is not None and data_covariance is None and (observed % 1).any():
        warnings.warn(
            "data: not whole numbers, and unfolded with a response of draws: Poisson errors are not theirs; "
            "give data_covariance, which histogram_of_draws makes",
            stacklevel=3,
        )
    if purity is not None and fakes is not None:
        raise InputError("fakes and purity: two models of the same events; give one of them")
    simulated_fakes = fakes is None and purity is None and record is not None
    others = parts.fakes if simulated_fakes else _not_negative(fakes, "fakes", n_rows)
    others = others + _not_negative(background, "background", n_rows)
    share = np.ones(n_rows) if purity is None else _vector(purity, "purity", n_rows)
    if (share < 0).any() or (share > 1).any():
        raise InputError(f"purity: {share.min():g} to {share.max():g}; it must lie between 0 and 1")
    if parts.yields[share == 0].any():
        raise InputError("purity: 0 in a bin where the response has signal; it must be more there")
    covariance, weight = _covariances(observed, data_covariance, parts.yields.sum(1) + others)
    determined, reachable = _known(parts, share * others, share * observed)
    empty = reachable & (np.diag(weight) == 0)
    if data_covariance is None and empty.any():
        raise InputError(
            f"response: in reconstructed bins {np.flatnonzero(empty).tolist()} no yield above 0 is expected, and the "
            "data are empty; merge bins of negative weight"
        )
    if not determined.any():
        raise InputError("response: no true bin is ever reconstructed")
    chosen = np.ix_(reachable, reachable)
    start = parts.truth if prior is None else _not_negative(prior, "prior", n_columns)
    problem = Problem(
        yields=parts.yields[np.ix_(reachable, determined)],
        truth=parts.truth[determined],
        data=(share * observed)[reachable],
        background=(share * others)[reachable],
        data_covariance=(covariance * np.outer(share, share))[chosen],
        weight=(weight * np.outer(share, share))[chosen],
        prior=start[determined],
        prior_is_truth=prior is None,
        is_poisson=data_covariance is None,
        record=record,
        fakes_are_simulated=simulated_fakes,
        purity=share[reachable],
        determined=determined,
        reachable=reachable,
    )
    dropped = len(problem.data) - len(problem.whitening())
    if dropped:
        warnings.warn(
            f"data_covariance: no variance in {dropped} of {len(problem.data)} directions, which count for no χ²; "
            "give empty bins their expected variance",
            stacklevel=3,
        )
    return problem


def yields_of(
    record: ResponseMatrix | None, kind: Literal["reconstructed", "true"], given: ArrayLike | None, name: str
) -> ArrayLike | None:
    """Return what a histogram, or an array of the shape of a record's axes, holds of each bin of these, flattened.

    A histogram's flow and variances are not read. Any other array keeps its shape. Raises InputError for a histogram
    with other edges than the record's, and where that is restricted.
    """
    is_histogram = isinstance(given, hist.Hist)
    values = given.values() if is_histogram else given
    if record is None or given is None:
        return values
    axes = record.reconstructed if kind == "reconstructed" else record.true
    if is_histogram and not _same_edges(given.axes, axes):
        raise InputError(f"{name}: a histogram with other edges than the {kind} axes of the response; bin it as these")
    if is_histogram and record.kept is not None:
        raise InputError(f"{name}: a histogram, but the response is restricted; give an array of the bins it keeps")
    values = _numbers(values, name)
    is_of_axes = record.kept is None and values.shape == tuple(axis.size for axis in axes)
    return values.ravel() if is_of_axes else values


def _same_edges(given: Sequence[AxesMixin], axes: Sequence[AxesMixin]) -> bool:
    if [axis.size for axis in given] != [axis.size for axis in axes]:
        return False
    edges = [(one.edges, other.edges) for one, other in zip(given, axes, strict=True)]
    return all(np.allclose(one, other, rtol=1e-9, atol=1e-9 * min(1.0, np.diff(other).min())) for one, other in edges)


def _bare(response: ArrayLike, truth: ArrayLike | None) -> Parts:
    yields = _numbers(response, "response")
    if yields.ndim != 2 or not yields.size:
        raise InputError(f"response of shape {yields.shape}: a matrix [reconstructed, true] is needed")
    if not np.isfinite(yields).all():
        raise InputError(f"response: {np.count_nonzero(~np.isfinite(yields))} cells are not finite")
    if truth is None:
        raise InputError("truth: the simulated yield of each true bin is needed, as the response is a bare array")
    generated = _vector(truth, "truth", yields.shape[1])
    if (generated < 0).any():
        raise InputError(f"truth: {generated.min():g} in bin {generated.argmin()}; merge bins with a negative sum")
    return Parts(yields, generated - yields.sum(0), np.zeros(len(yields)))


def _check_efficiency(parts: Parts) -> None:
    if not all(np.isfinite(sums).all() for sums in parts):
        raise InputError("response: cells are not finite")
    solved, generated = parts.yields.sum(0), parts.truth
    excess = solved - generated - _ROUNDING * np.abs(generated)
    excess[~parts.yields.any(0)] = 0
    if (excess > 0).any():
        worst = int(excess.argmax())
        raise InputError(
            f"true bin {worst}: {solved[worst]:g} reconstructed of {generated[worst]:g} generated; the response is "
            "[reconstructed, true] and truth holds all generated events; merge bins of negative weight"
        )


def _close(values: Array, others: Array) -> bool:
    return bool(np.allclose(values, others, rtol=1e-5, atol=1e-9 * np.abs(others).max()))


def _numbers(values: ArrayLike, name: str) -> Array:
    """Return a copy; raise InputError for what are no real numbers and for masked ones, whose mask would be lost."""
    try:
        if not (np.iscomplexobj(values) or np.ma.is_masked(values)):
            return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: an array of numbers is needed; {error}") from error
    raise InputError(f"{name}: real numbers are needed, none of them masked")


def _vector(values: ArrayLike, name: str, n: int) -> Array:
    values = _numbers(values, name)
    if values.shape != (n,):
        raise InputError(f"{name} of shape {values.shape}: {n} bins are needed, as the response has")
    if not np.isfinite(values).all():
        raise InputError(f"{name}: bin {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    return values


def _not_negative(values: ArrayLike | None, name: str, n: int) -> Array:
    values = np.zeros(n) if values is None else _vector(values, name, n)
    if (values < 0).any():
        raise InputError(f"{name}: {values.min():g} in bin {values.argmin()}; expected yields are not negative")
    return values


def _covariances(data: Array, given: ArrayLike | None, expected: Array) -> tuple[Array, Array]:
    """Return the data's covariance, and the same where an empty Poisson bin has its expected variance."""
    if given is None:
        if (data < 0).any():
            raise InputError(
                f"data: {data.min():g} in bin {data.argmin()}, Poisson counts are not negative; "
                "leave the background in and give it, or give data_covariance"
            )
        if not data.any():
            raise InputError("data: no event in any bin")
        scale = data.sum() / expected.sum() if expected.sum() > 0 else 1.0
        filled = np.where(data > 0, data, np.maximum(expected * scale, 0.0))
        return np.diag(data), np.diag(filled)
    covariance = _numbers(given, "data_covariance")
    if covariance.shape != (len(data), len(data)) or not np.isfinite(covariance).all():
        raise InputError(f"data_covariance of shape {covariance.shape}: {len(data)} by {len(data)} finite entries")
    if not _close(covariance, covariance.T) or (np.diag(covariance) < 0).any():
        raise InputError("data_covariance: it must be symmetric, with variances that are not negative")
    return covariance, covariance


def _known(parts: Parts, others: Array, data: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which true bins are ever reconstructed and which others anything is expected in; warn of the rest."""
    determined = (parts.yields != 0).any(0)
    if (parts.truth[determined] <= 0).any() or (parts.yields.sum(0)[determined] <= 0).any():
        worst = int(np.flatnonzero(determined)[np.argmin(parts.yields.sum(0)[determined])])
        raise InputError(f"true bin {worst}: its weights sum to no positive number; merge it with another")
    reachable = (parts.yields != 0).any(1) | (others > 0)
    lost = data[~reachable]
    if lost.any():
        bins = np.flatnonzero(~reachable)[lost != 0].tolist()
        warnings.warn(
            f"data: {lost.sum():g} in reconstructed bins {bins}, where nothing is expected; they are left out: "
            "simulate more, merge bins or give their background",
            stacklevel=4,
        )
    if not determined.all():
        bins = np.flatnonzero(~determined).tolist()
        warnings.warn(f"true bins {bins} are never reconstructed; their values are NaN", stacklevel=4)
    return determined, reachable
