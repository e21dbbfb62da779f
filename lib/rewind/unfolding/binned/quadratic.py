"""Least squares with a penalty: what inversion, Tikhonov and SVD minimise, and how the minimum follows its inputs.

The minimum of ‖W(N y + b − d)‖² + ‖M y − m‖², W the whitening of the data, is found by a QR decomposition, which does
not square the condition number; a constraint on the area is a Lagrange multiplier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from rewind.errors import InputError
from rewind.unfolding.binned.problem import Problem
from rewind.unfolding.binned.result import Derivatives

__all__ = ["Minimum", "decomposed", "derivatives", "minimise", "minimise_with_area"]

Array = NDArray[np.float64]
_SINGULAR = 1e-13


@dataclass(frozen=True)
class Minimum:
    """Hold y ``(T,)``, the inverse of half the Hessian ``(T, T)``, ∂y/∂data ``(T, R)`` and the multiplier."""

    ratio: Array
    inverse: Array
    by_data: Array
    multiplier: float = 0.0
    by_area: Array | None = None


def minimise(problem: Problem, penalty: Array, aim: Array) -> Minimum:
    """Return the minimum for a penalty ``(P, T)`` on y and its ``aim`` ``(P,)``.

    Raises InputError where there are fewer reconstructed than true bins and where the minimum is not unique.
    """
    whitening = problem.whitening()
    n_rows, n_columns = problem.yields.shape
    if n_rows < n_columns:
        raise InputError(f"response of {n_rows} by {n_columns} bins: fewer reconstructed than true; merge true bins")
    stacked = np.vstack([whitening @ problem.yields, penalty])
    directions, root = decomposed(stacked)
    pseudo_inverse = root @ directions.T
    by_data = pseudo_inverse[:, : len(whitening)] @ whitening
    ratio = by_data @ (problem.data - problem.background) + pseudo_inverse[:, len(whitening) :] @ aim
    return Minimum(ratio, pseudo_inverse @ pseudo_inverse.T, by_data)


def decomposed(stacked: Array) -> tuple[Array, Array]:
    """Return orthonormal columns Q ``(K, T)`` and C ``(T, T)`` with ``stacked`` C = Q, so that C Cᵀ = (AᵀA)⁻¹.

    Raises InputError where the rows do not determine every column.
    """
    n_columns = stacked.shape[1]
    scale = np.linalg.norm(stacked, axis=0)
    if len(stacked) < n_columns or (scale == 0).any():
        raise InputError("response: the data say nothing of some true bin; merge bins or regularise")
    directions, triangle = np.linalg.qr(stacked / scale)
    sizes = np.linalg.svd(triangle, compute_uv=False)
    if sizes[-1] < _SINGULAR * sizes[0]:
        raise InputError(
            f"response: singular, {int((sizes > _SINGULAR * sizes[0]).sum())} of {n_columns} true bins can be told "
            "apart; merge bins or regularise"
        )
    return directions, solve_triangular(triangle, np.eye(n_columns)) / scale[:, None]


def minimise_with_area(problem: Problem, penalty: Array, aim: Array) -> Minimum:
    """Return the minimum among the spectra whose folded total is that of the data (1205.6201, equation 4).

    Totals are those of the bins that signal reaches; others say nothing of it.
    """
    free = minimise(problem, penalty, aim)
    simulated = problem.yields.sum(0)
    lever = free.inverse @ simulated
    size = float(simulated @ lever)
    seen = (problem.yields != 0).any(1)
    excess = float(simulated @ free.ratio - (problem.data - problem.background)[seen].sum())
    along = lever / size
    return replace(
        free,
        ratio=free.ratio - along * excess,
        inverse=free.inverse - np.outer(lever, along),
        by_data=free.by_data + np.outer(along, seen - simulated @ free.by_data),
        multiplier=excess / size,
        by_area=along,
    )


def derivatives(problem: Problem, minimum: Minimum, by_truth: Array) -> Derivatives:
    """Return how y follows its inputs; ``by_truth`` ``(T, T)`` is the derivative of the penalty's gradient by truth."""
    whitening, ratio = problem.whitening(), minimum.ratio
    pull = whitening.T @ (whitening @ (problem.yields @ ratio + problem.background - problem.data))
    through = minimum.inverse @ problem.yields.T @ whitening.T @ whitening
    left, right = [pull + minimum.multiplier], [-minimum.inverse]
    if minimum.by_area is not None:
        left.append(np.ones(len(pull)))
        right.append(-np.outer(minimum.by_area, ratio))
    return Derivatives(
        data=minimum.by_data,
        fakes=-minimum.by_data,
        left=np.array(left),
        right=np.array(right),
        left_by_true=-through[None],
        right_of_all=ratio[None],
        truth=-minimum.inverse @ by_truth,
    )
