"""The L-curve: how misfit and bending trade against one another, and its corner (1205.6201, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from rewind.errors import InputError
from rewind.unfolding.binned.problem import Problem
from rewind.unfolding.binned.quadratic import Minimum

__all__ = ["LCurve", "corner", "l_curve"]

Array = NDArray[np.float64]


class _Regularised(Protocol):
    problem: Problem
    penalty: Array

    def minimum(self, tau: float) -> Minimum: ...

    def strengths(self) -> Array: ...


@dataclass(frozen=True)
class LCurve:
    """Hold the strengths ``taus`` ``(K,)``, log₁₀ χ² and log₁₀‖L(x − x₀)‖² of each, and the curve's ``curvature``."""

    taus: Array
    misfit: Array
    bending: Array
    curvature: Array

    @property
    def corner(self) -> float:
        """Return the strength where the curve bends most; raise InputError where it bends the other way throughout."""
        within = self.curvature[1:-1]
        if within.max() <= 0:
            raise InputError("L-curve: it has no corner between these strengths; choose tau otherwise")
        return float(self.taus[1:-1][np.argmax(within)])


def l_curve(stated: _Regularised, taus: Array | None = None) -> LCurve:
    """Return the curve at rising ``taus`` ``(K,)``, those of the problem by default.

    Raises InputError for fewer than four of them, and where they do not rise from above 0.
    """
    taus = stated.strengths() if taus is None else np.asarray(taus, dtype=np.float64)
    if taus.ndim != 1 or len(taus) < 4 or not (taus[0] > 0 and (np.diff(taus) > 0).all() and taus[-1] < np.inf):
        raise InputError("taus: at least four rising, positive strengths are needed")
    problem = stated.problem
    points = []
    for tau in taus:
        values = problem.truth * stated.minimum(tau).ratio
        bent = np.sum((stated.penalty @ (values - problem.prior)) ** 2)
        points.append(np.log10([max(problem.folded_chi2(values), 1e-30), max(bent, 1e-30)]))
    misfit, bending = np.array(points).T
    x, y = (CubicSpline(np.log(taus), line) for line in (misfit, bending))
    at = np.log(taus)
    speed = (x(at, 1) ** 2 + y(at, 1) ** 2) ** 1.5
    turn = x(at, 1) * y(at, 2) - y(at, 1) * x(at, 2)
    return LCurve(taus, misfit, bending, np.divide(turn, speed, out=np.zeros_like(turn), where=speed > 0))


def corner(stated: _Regularised) -> float:
    """Return the strength at the corner of the L-curve."""
    return l_curve(stated).corner
