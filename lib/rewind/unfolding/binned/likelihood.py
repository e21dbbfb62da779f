"""Unfolding by the Poisson likelihood, regularised or not, with nuisance parameters profiled.

The minimum of Σ_r (μ_r − d_r ln μ_r) + ½τ²‖L(x − x₀)‖² + ½Σ_k θ_k² with μ = N(θ) y + b(θ), x = truth y: MIGRAD in
coordinates in which the start has a unit Hessian, then Newton steps. Yields may be negative where the data pull them
there, as inversion's; only what is expected in a reconstructed bin must be positive.

>>> fit = poisson_likelihood([[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], [700.0, 300.0])
>>> fit.values.round(1).tolist(), fit.errors.round(1).tolist()
([833.3, 166.7], [35.7, 24.7])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from iminuit import Minuit
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned import penalties
from rewind.unfolding.binned.nuisances import Nuisance, Templates, even, read_nuisances, sources
from rewind.unfolding.binned.problem import Problem, read
from rewind.unfolding.binned.quadratic import decomposed
from rewind.unfolding.binned.result import Derivatives, Unfolded, finish

__all__ = ["LikelihoodFit", "poisson_likelihood"]

Array = NDArray[np.float64]
_EXPECTATIONS = 20  # steps of iterative Bayes to the start
_STEPS = 60  # of Newton's method at most
_NEAR = 0.1  # standard errors: where full Newton steps converge
_AT = 1e-10  # standard errors from the minimum: the step taken there is the last
_ROUNDED = 1e-6  # standard errors: where steps that shrink no more are rounding
_NOTHING = 1e-3  # events expected in a bin without data: it is pressed to zero
_FLOOR = 1e-3  # of the data in a bin: below, MIGRAD sees a parabola in place of the logarithm


@dataclass(frozen=True)
class LikelihoodFit(Unfolded):
    """Hold a fitted spectrum and its K ``nuisances``, with ``nuisance_values`` ``(K,)`` and ``nuisance_covariance``.

    ``covariance`` holds the data and the measurements of the nuisances, ``covariance_of_data`` the data alone, both
    propagated to first order (with nuisances, errors that pyhf takes from the Hessian differ in the second order).
    ``shared_covariance`` ``(T, K)`` is that of yields with nuisances; ``folded`` and ``folded_chi2`` are those at the
    fitted nuisances, without their own terms; ``problem`` and ``expected_data`` have nuisances of zero.
    """

    covariance_of_data: Array
    nuisances: tuple[str, ...]
    nuisance_values: Array
    nuisance_covariance: Array
    shared_covariance: Array

    @property
    def covariance_of_nuisances(self) -> Array:
        """Return what the measurements of the nuisances bring to the covariance ``(T, T)``."""
        return self.covariance - self.covariance_of_data

    @property
    def nuisance_errors(self) -> Array:
        """Return the nuisances' standard errors after the fit ``(K,)``, 1 before it."""
        return np.sqrt(np.diag(self.nuisance_covariance))

    @property
    def nuisance_correlation(self) -> Array:
        """Return the correlation of yields with nuisances ``(T, K)``."""
        return self.shared_covariance / np.outer(self.errors, self.nuisance_errors)


def poisson_likelihood(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    tau: float = 0.0,
    penalty: ArrayLike | None = None,
    nuisances: Mapping[str, Nuisance] | None = None,
    prior: ArrayLike | None = None,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
) -> LikelihoodFit:
    """Return the spectrum of the greatest Poisson likelihood, less ½τ²‖L(x − x₀)‖² and ½θ² of each nuisance.

    ``tau`` and ``penalty`` as of :func:`~rewind.unfolding.binned.least_squares.tikhonov`, x₀ the absolute prior,
    of which it warns where it folds to another total than the data by more than a factor 2; templates of
    ``nuisances`` count as fixed in ``simulation_covariance``. Where data hardly determine the yields, their noise
    mimics information on a nuisance that changes shapes, and its error is too small or too large: widen bins or
    regularise. Other arguments as of :func:`~rewind.unfolding.binned.bayes.iterative_bayes`. Raises InputError as
    :func:`~rewind.unfolding.binned.problem.read` does, where data and penalty do not determine the spectrum, and where
    the likelihood is greatest at its edge: with nothing expected in a bin without data.
    """
    problem = read(response, truth, data, prior=prior, fakes=fakes, background=background)
    checked = read_nuisances(problem, nuisances)
    templates = Templates.of(checked, sources(problem, fakes, background))
    rows = penalties.on_yields(problem, penalty)
    penalties.warn_of_scale(problem, rows, tau)
    likelihood = _Likelihood(problem, templates, *penalties.scaled(problem, rows, tau))
    at = _minimum(likelihood)
    by_truth = penalties.by_truth(problem, rows, tau, likelihood.split(at)[0])
    return _result(likelihood, at, by_truth, tuple(checked))


class _Likelihood:
    """State −ln L of z = (y, θ) ``(T + K,)`` with its derivatives, for a penalty M ``(P, T)`` on y and its aim m."""

    def __init__(self, problem: Problem, templates: Templates, penalty: Array, aim: Array):
        self.problem, self.templates = problem, templates
        n_columns, n_nuisances = len(problem.truth), len(templates.odd)
        self.holds = np.zeros((len(aim) + n_nuisances, n_columns + n_nuisances))
        self.holds[: len(aim), :n_columns] = penalty
        self.holds[len(aim) :, n_columns:] = np.eye(n_nuisances)
        self.aim = np.r_[aim, np.zeros(n_nuisances)]

    def split(self, at: Array) -> tuple[Array, Array]:
        """Return y ``(T,)`` and θ ``(K,)``."""
        return at[: len(self.problem.truth)], at[len(self.problem.truth) :]

    def model(self, at: Array) -> tuple[Array, Array]:
        """Return the signal N(θ) ``(R, T)`` of y = 1 and all else b(θ) ``(R,)``."""
        signal, others = self.templates.at(self.split(at)[1])
        return self.problem.yields + signal, self.problem.background + others

    def mean(self, at: Array) -> Array:
        """Return μ ``(R,)``."""
        signal, others = self.model(at)
        return signal @ self.split(at)[0] + others

    def slopes(self, at: Array) -> Array:
        """Return ∂μ/∂z ``(R, T + K)``."""
        ratio, theta = self.split(at)
        signal, others = self.templates.slopes(theta)
        return np.hstack([self.model(at)[0], (signal @ ratio + others).T])

    def held(self, at: Array) -> Array:
        """Return what the penalty and the nuisances' own measurements make of z, half whose square is added."""
        return self.holds @ at - self.aim

    def bends(self, at: Array, pull: Array) -> Array:
        """Return Σ_r pull_r ∂²μ_r/∂z∂z ``(T + K, T + K)``, which only nuisances make."""
        ratio, theta = self.split(at)
        n = len(ratio)
        bent = np.zeros((len(at), len(at)))
        bent[n:, :n] = pull @ self.templates.slopes(theta)[0]
        bent[:n, n:] = bent[n:, :n].T
        even_part = self.templates.even @ ratio + self.templates.even_others
        bent[n:, n:] = np.diag(even(theta)[2] * (even_part @ pull))
        return bent


@dataclass(frozen=True)
class _Curvature:
    """Hold μ, C that turns the Hessian's least-squares part into 1, (∂μ/∂z) C, and in these coordinates the gradient.

    ``inner`` is the Hessian there, 1 but for what the bending of μ adds; decomposing the root of the least-squares
    part does not square its condition number.
    """

    mean: Array
    root: Array
    slopes: Array
    gradient: Array
    inner: Array

    @classmethod
    def at(cls, likelihood: _Likelihood, at: Array) -> _Curvature:
        """Return the curvature at a point; raise InputError where it does not determine every parameter."""
        data, mean, slopes = likelihood.problem.data, likelihood.mean(at), likelihood.slopes(at)
        try:
            _, root = decomposed(np.vstack([(np.sqrt(data) / mean)[:, None] * slopes, likelihood.holds]))
        except InputError as error:
            empty = np.flatnonzero(likelihood.problem.reachable)[data == 0].tolist()
            raise InputError(f"{error}" + (f"; reconstructed bins {empty} hold no data" if empty else "")) from error
        pull = 1 - data / mean
        gradient = (slopes @ root).T @ pull + (likelihood.holds @ root).T @ likelihood.held(at)
        inner = np.eye(len(at)) + root.T @ likelihood.bends(at, pull) @ root
        return cls(mean, root, slopes @ root, gradient, inner)

    @property
    def is_minimal(self) -> bool:
        """Return whether the Hessian is positive."""
        return bool(np.linalg.eigvalsh(self.inner)[0] > 0)


def _minimum(likelihood: _Likelihood) -> Array:
    """Return the minimum ``(T + K,)``."""
    start = _start(likelihood)
    at = _migrad(likelihood, start)
    if (likelihood.mean(at) <= 0).any():
        _refuse_edge(likelihood, likelihood.mean(at))
        at = start
    before = np.inf
    for _ in range(_STEPS):
        curvature = _Curvature.at(likelihood, at)
        inner = curvature.inner if curvature.is_minimal else np.eye(len(at))
        step = -np.linalg.solve(inner, curvature.gradient)
        length = float(np.sqrt(-step @ curvature.gradient))
        at = _stepped(likelihood, at, curvature.root @ step, length)
        if curvature.is_minimal and (length < _AT or before / 2 < length < _ROUNDED):
            return at
        before = length
    _refuse_edge(likelihood, np.where(likelihood.mean(at) < _NOTHING, 0.0, likelihood.mean(at)))
    raise InputError(f"likelihood: no minimum after {_STEPS} Newton steps, {length:.1g} standard errors from one")


def _start(likelihood: _Likelihood) -> Array:
    """Return a start with μ > 0: the simulated shape, and where no weight is negative some steps of iterative Bayes."""
    problem = likelihood.problem
    simulated = problem.yields.sum(0)
    signal = max((problem.data - problem.background).sum(), problem.data.sum() / 10, 1.0)
    ratio = np.full(len(simulated), signal / simulated.sum())
    mean = problem.yields @ ratio + problem.background
    if (mean <= 0).any():
        worst = int(np.flatnonzero(problem.reachable)[mean.argmin()])
        raise InputError(
            f"response: {mean.min():g} expected in reconstructed bin {worst}, where Poisson data need more than 0; "
            "merge bins of negative weight"
        )
    for _ in range(_EXPECTATIONS if (problem.yields >= 0).all() else 0):
        ratio = np.maximum(ratio * (problem.yields.T @ (problem.data / mean)) / simulated, 1e-3 * ratio)
        mean = problem.yields @ ratio + problem.background
    return np.r_[ratio, np.zeros(len(likelihood.templates.odd))]


def _migrad(likelihood: _Likelihood, start: Array) -> Array:
    """Return MIGRAD's minimum; below a floor in μ it sees the logarithm's parabola, which is convex and smooth."""
    data, root = likelihood.problem.data, _Curvature.at(likelihood, start).root
    floor = np.where(data > 0, _FLOOR * data, 1.0)

    def logarithm(mean: Array) -> tuple[Array, Array]:
        above = np.maximum(mean, floor)
        below = (mean - above) / above
        return np.log(above) + below - below**2 / 2, (1 - below) / above

    def value(inner: Array) -> float:
        at = start + root @ inner
        mean = likelihood.mean(at)
        return float(np.sum(mean - data * logarithm(mean)[0]) + np.sum(likelihood.held(at) ** 2) / 2)

    def gradient(inner: Array) -> Array:
        at = start + root @ inner
        pull = 1 - data * logarithm(likelihood.mean(at))[1]
        return root.T @ (likelihood.slopes(at).T @ pull + likelihood.holds.T @ likelihood.held(at))

    minuit = Minuit(value, np.zeros(len(start)), grad=gradient)
    minuit.errordef, minuit.strategy = Minuit.LIKELIHOOD, 0
    minuit.errors = np.ones(len(start))
    minuit.migrad()
    return start + root @ np.array(minuit.values)


def _stepped(likelihood: _Likelihood, at: Array, step: Array, length: float) -> Array:
    """Return the point after a Newton step, shortened until μ > 0 and, far from the minimum, −ln L falls."""

    def value(point: Array) -> float:
        mean = likelihood.mean(point)
        if (mean <= 0).any():
            return np.inf
        return float(np.sum(mean - likelihood.problem.data * np.log(mean)) + np.sum(likelihood.held(point) ** 2) / 2)

    allowed = value(at) if length > _NEAR else np.finfo(float).max
    for _ in range(_STEPS):
        if value(at + step) <= allowed:
            return at + step
        step = step / 2
    return at


def _refuse_edge(likelihood: _Likelihood, mean: Array) -> None:
    """Raise InputError where μ is pressed to zero in bins without data."""
    at_edge = (mean <= 0) & (likelihood.problem.data == 0)
    if at_edge.any():
        bins = np.flatnonzero(likelihood.problem.reachable)[at_edge].tolist()
        raise InputError(
            f"data: none in reconstructed bins {bins}, and the likelihood is greatest at its edge, where nothing is "
            "expected there; merge bins or regularise"
        )


def _result(likelihood: _Likelihood, at: Array, by_truth: Array, names: tuple[str, ...]) -> LikelihoodFit:
    """Return the fit with its covariances, by implicit differentiation of the gradient, which is 0 at the minimum."""
    problem, ratio = likelihood.problem, likelihood.split(at)[0]
    n = len(ratio)
    curvature = _Curvature.at(likelihood, at)
    outer = np.linalg.solve(curvature.inner, curvature.root.T).T
    inverse = outer @ curvature.root.T
    by_data = outer @ (curvature.slopes / curvature.mean[:, None]).T
    derivatives = _derivatives(likelihood, at, curvature.mean, inverse, by_data, by_truth)
    signal, others = likelihood.model(at)
    bare = finish(replace(problem, yields=signal, background=others), ratio, derivatives, problem.data_covariance)
    from_data = by_data[n:] @ problem.data_covariance
    shared, by_aux = np.full((2, len(bare.values), len(names)), np.nan)
    truth = problem.truth[:, None]
    by_aux[problem.determined] = truth * inverse[:n, n:]
    shared[problem.determined] = truth * (by_data[:n] @ from_data.T + inverse[:n, n:] @ inverse[n:, n:])
    common = {field.name: getattr(bare, field.name) for field in fields(bare)}
    return LikelihoodFit(
        **common | {"covariance": bare.covariance + by_aux @ by_aux.T, "problem": problem},
        covariance_of_data=bare.covariance,
        nuisances=names,
        nuisance_values=at[n:],
        nuisance_covariance=from_data @ by_data[n:].T + inverse[n:, n:] @ inverse[n:, n:],
        shared_covariance=shared,
    )


def _derivatives(
    likelihood: _Likelihood, at: Array, mean: Array, inverse: Array, by_data: Array, by_truth: Array
) -> Derivatives:
    """Return how y follows its inputs, from the inverse Hessian ``(T + K, T + K)``; templates at θ = ±1 stay fixed."""
    templates, (ratio, theta) = likelihood.templates, likelihood.split(at)
    value, slope, _ = even(theta)
    n, pull = len(ratio), 1 - likelihood.problem.data / mean
    by_mean = by_data[:n] * (likelihood.problem.data / mean)
    of_nominal = 1 - value[templates.of_signal].sum()
    through_theta = inverse[:n, n:] @ (slope * templates.of_signal)
    through_fakes = inverse[:n, n:] @ (slope * templates.of_fakes)
    return Derivatives(
        data=by_data[:n],
        fakes=np.outer(through_fakes, pull) - (1 - value[templates.of_fakes].sum()) * by_mean,
        left=pull[None],
        right=(np.outer(through_theta, ratio) - of_nominal * inverse[:n, :n])[None],
        left_by_true=-of_nominal * by_mean[None],
        right_of_all=ratio[None],
        truth=-inverse[:n, :n] @ by_truth,
    )
