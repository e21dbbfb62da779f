"""Nuisance parameters of a binned unfolding: templates at one standard deviation and what lies between them.

Yields are interpolated as HistFactory's ``histosys`` are by pyhf (its code 4p): nominal + θ S + f(θ) A with the half
difference S and the half second difference A of the templates at θ = ±1; f is a polynomial of sixth degree within
them, the size of θ beyond, where yields are linear; it has two continuous derivatives.

>>> even(np.array([-2.0, 0.0, 1.0, 1.5]))[0].tolist()
[2.0, 0.0, 1.0, 1.5]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.unfolding.binned.problem import Problem, yields_of

__all__ = ["Checked", "Nuisance", "Templates", "even", "read_nuisances", "sources"]

Array = NDArray[np.float64]
Checked = dict[str, dict[str, tuple[Array, Array]]]


@dataclass(frozen=True)
class Nuisance:
    """Hold what yields are expected at θ = ±1 of a nuisance parameter that was measured as 0 ± 1 elsewhere.

    Yields ``response`` ``(R, T)``, ``background`` and ``fakes`` ``(R,)`` of the bins within the edges; what a pair is
    not given of does not vary.
    """

    response_up: ArrayLike | None = None
    response_down: ArrayLike | None = None
    background_up: ArrayLike | None = None
    background_down: ArrayLike | None = None
    fakes_up: ArrayLike | None = None
    fakes_down: ArrayLike | None = None


def sources(problem: Problem, fakes: ArrayLike | None, background: ArrayLike | None) -> dict[str, Array]:
    """Return the nominal yields by source, in the bins of the problem: those of signal, fakes and background."""
    rows = problem.reachable
    if problem.fakes_are_simulated:
        fakes = problem.record.parts.fakes
    given = {
        name: yields_of(problem.record, "reconstructed", values, name)
        for name, values in (("fakes", fakes), ("background", background))
    }
    others = {name: np.zeros(len(rows)) if each is None else np.array(each, float) for name, each in given.items()}
    return {"response": problem.yields, **{name: each[rows] for name, each in others.items()}}


def read_nuisances(problem: Problem, nuisances: Mapping[str, Nuisance] | None) -> Checked:
    """Return each nuisance's templates (down, up) by source, in the bins of the problem.

    Raises InputError for templates of another shape, not finite, without their counterpart, or with yields in a bin
    that the nominal simulation leaves empty.
    """
    if nuisances is not None and not isinstance(nuisances, Mapping):
        raise InputError("nuisances: a mapping of names to Nuisance is needed")
    checked = {}
    for name, nuisance in (nuisances or {}).items():
        if not isinstance(nuisance, Nuisance):
            raise InputError(f"nuisance {name}: {type(nuisance).__name__} given, a Nuisance is needed")
        pairs = {source: _pair(problem, name, nuisance, source) for source in ("response", "fakes", "background")}
        checked[name] = {source: pair for source, pair in pairs.items() if pair is not None}
        if not checked[name]:
            raise InputError(f"nuisance {name}: no template, so that nothing varies with it")
    return checked


def _pair(problem: Problem, name: str, nuisance: Nuisance, source: str) -> tuple[Array, Array] | None:
    given = {side: getattr(nuisance, f"{source}_{side}") for side in ("down", "up")}
    if all(values is None for values in given.values()):
        return None
    for side, values in given.items():
        if values is None:
            raise InputError(
                f"nuisance {name}: {source}_{side} is missing; give both sides (2 nominal − the other mirrors it)"
            )
    down, up = (_template(problem, f"nuisance {name}: {source}_{side}", values) for side, values in given.items())
    return down, up


def _template(problem: Problem, what: str, given: ArrayLike) -> Array:
    rows, columns = problem.reachable, problem.determined
    of_response = what.endswith(("response_down", "response_up"))
    shape = (len(rows), len(columns)) if of_response else (len(rows),)
    given = given if of_response else yields_of(problem.record, "reconstructed", given, what)
    values = np.array(given, dtype=np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(f"{what} of shape {values.shape}: finite yields of shape {shape} are needed")
    kept = values[rows][:, columns] if values.ndim == 2 else values[rows]
    if np.count_nonzero(values) > np.count_nonzero(kept):
        raise InputError(f"{what}: yields in a bin that the nominal simulation leaves empty; merge bins")
    return kept


@dataclass(frozen=True)
class Templates:
    """Hold the odd and even parts, S and A, of K nuisances: of the signal ``(K, R, T)`` and of all else ``(K, R)``.

    ``of_signal`` and ``of_fakes`` ``(K,)`` flag which vary these.
    """

    odd: Array
    even: Array
    odd_others: Array
    even_others: Array
    of_signal: NDArray[np.bool_]
    of_fakes: NDArray[np.bool_]

    @classmethod
    def of(cls, checked: Checked, nominal: dict[str, Array]) -> Templates:
        """Return the parts of what :func:`read_nuisances` and :func:`sources` returned."""
        n_rows, n_columns = nominal["response"].shape
        signal, others = np.zeros((2, len(checked), n_rows, n_columns)), np.zeros((2, len(checked), n_rows))
        for k, pairs in enumerate(checked.values()):
            for source, (down, up) in pairs.items():
                parts = signal if source == "response" else others
                parts[0, k] += (up - down) / 2
                parts[1, k] += (up + down) / 2 - nominal[source]
        flags = (np.array([source in pairs for pairs in checked.values()], bool) for source in ("response", "fakes"))
        return cls(*signal, *others, *flags)

    def at(self, theta: Array) -> tuple[Array, Array]:
        """Return what ``theta`` ``(K,)`` adds to the signal ``(R, T)`` and to all else ``(R,)``."""
        shift = even(theta)[0]
        signal = np.tensordot(theta, self.odd, 1) + np.tensordot(shift, self.even, 1)
        return signal, theta @ self.odd_others + shift @ self.even_others

    def slopes(self, theta: Array) -> tuple[Array, Array]:
        """Return the derivatives of both by each θ, ``(K, R, T)`` and ``(K, R)``."""
        slope = even(theta)[1]
        return self.odd + slope[:, None, None] * self.even, self.odd_others + slope[:, None] * self.even_others


def even(theta: Array) -> tuple[Array, Array, Array]:
    """Return f(θ), its slope and its curvature, each ``(K,)``."""
    inside, square = np.abs(theta) < 1, theta**2
    value = np.where(inside, square * (15 - 10 * square + 3 * square**2) / 8, np.abs(theta))
    slope = np.where(inside, theta * (15 - 20 * square + 9 * square**2) / 4, np.sign(theta))
    return value, slope, np.where(inside, (15 - 60 * square + 45 * square**2) / 4, 0.0)
