"""Parton distribution functions of the proton from a table, differentiable.

>>> gluon = ProtonPDF(torch.full((720, 60, 12), 2.0), 1e-9, (5.0, 1e4))
>>> round(float(gluon.xf(21, 0.1, 100.0)), 6)
2.0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.physics.constraints import refuse

__all__ = ["FLAVOURS", "ProtonPDF"]

FLAVOURS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 21, 22)
"""Particle numbers of the partons in a table, in its order: b̄ c̄ s̄ ū d̄ d u s c b g γ."""

_N_X, _N_Q = 720, 60
_SLOPE = 20.0  # of log x + 20 x, in which the nodes are even: logarithmic at small x, linear at large x


class ProtonPDF(nn.Module):
    """Interpolate the momentum densities x f(x, Q) of the partons in a proton.

    The bicubic B-spline in (log x + 20 x, log Q) has continuous second derivatives. A module, so that ``.to`` moves
    its table; it has nothing to train. Made by ``ProtonPDF.tabulated``.
    """

    def __init__(self, values: Tensor, x_min: float, q_range: tuple[float, float]):
        super().__init__()
        self.x_min, self.q_range = x_min, q_range
        coefficients = _spline_coefficients(_spline_coefficients(values).transpose(0, 1)).transpose(0, 1)
        self.register_buffer("coefficients", coefficients.contiguous())

    @classmethod
    def tabulated(
        cls,
        source: Callable[[int, float, float], float],
        *,
        x_min: float = 1e-9,
        q_range: tuple[float, float] = (5.0, 10_000.0),
    ) -> ProtonPDF:
        """Tabulate x f = ``source(flavour, x, q)`` between ``x_min`` and 1 and over ``q_range`` (GeV).

        At x = 1 x f is zero by definition. ``q_range`` should lie above the quarks' thresholds, where densities have
        kinks. Raises InputError for an empty range and where the source gives no finite number.
        """
        low, high = q_range
        if not (0 < x_min < 1 and 0 < low < high < math.inf):
            raise InputError(f"x_min = {x_min}, q_range = {q_range}: 0 < x_min < 1 and 0 < low < high are needed")
        even = np.linspace(math.log(x_min) + _SLOPE * x_min, _SLOPE, _N_X)
        from scipy.special import lambertw  # takes a quarter of a second

        x = lambertw(_SLOPE * np.exp(even)).real / _SLOPE
        x[0] = x_min
        values = np.zeros((_N_X, _N_Q, len(FLAVOURS)))
        q = np.geomspace(low, high, _N_Q)
        for i, x_i in enumerate(x[:-1].tolist()):
            for j, q_j in enumerate(q.tolist()):
                values[i, j] = [source(flavour, x_i, q_j) for flavour in FLAVOURS]
        for i, j, k in np.argwhere(~np.isfinite(values))[:1]:
            raise InputError(f"the source is not finite for flavour {FLAVOURS[k]} at x = {x[i]:g}, q = {q[j]:g} GeV")
        return cls(torch.from_numpy(values), x_min, (low, high))

    def xf(self, flavour: int | Sequence[int], x: Tensor | float, q: Tensor | float) -> Tensor:
        """Return x f(x, Q) of one parton ``(...)`` or of several ``(..., n_flavours)``.

        ``x`` and ``q`` (GeV) broadcast to ``(...)``. The result has the precision and device of ``x``, and gradients
        in both. It is fastest for one ``q`` without axes. Between the last node of the source and x = 1, it falls to
        zero without meaning. Raises InputError for a flavour not in ``FLAVOURS``, and for x or Q that is not finite
        or outside the table.
        """
        several = isinstance(flavour, Sequence)
        columns = _columns(flavour if several else [flavour])
        x = _floating(x)
        q = torch.as_tensor(q, dtype=x.dtype, device=x.device)
        low, high = self.q_range
        _refuse_outside("x", x, self.x_min, 1.0)
        _refuse_outside("q", q, low, high)

        table = self.coefficients[..., columns].to(x)
        start = math.log(self.x_min) + _SLOPE * self.x_min
        i, weights_x = _stencil((x.log() + _SLOPE * x - start) / (_SLOPE - start), _N_X)
        j, weights_q = _stencil((q / low).log() / math.log(high / low), _N_Q)
        if q.ndim == 0:
            table = sum(v * table[:, j + b] for b, v in enumerate(weights_q))
            xf = sum(w[..., None] * table[i + a] for a, w in enumerate(weights_x))
        else:
            xf = sum(
                (w * v)[..., None] * table[i + a, j + b]
                for a, w in enumerate(weights_x)
                for b, v in enumerate(weights_q)
            )
        return xf if several else xf[..., 0]


def _floating(values: Tensor | float) -> Tensor:
    floating = isinstance(values, Tensor) and values.is_floating_point()
    return values if floating else torch.as_tensor(values, dtype=torch.float64)


def _columns(flavours) -> list[int]:
    unknown = [flavour for flavour in flavours if flavour not in FLAVOURS]
    if unknown:
        raise InputError(f"flavour {unknown[0]}: not in the table; choose among {', '.join(map(str, FLAVOURS))}")
    return [FLAVOURS.index(flavour) for flavour in flavours]


def _refuse_outside(name: str, values: Tensor, low: float, high: float) -> None:
    bad = ~((values >= low) & (values <= high) & values.isfinite())
    refuse(bad.reshape(-1), name, f"must be a number from {low:g} to {high:g}")


def _spline_coefficients(values: Tensor) -> Tensor:
    """Return the cubic B-spline coefficients ``(n + 2, ...)`` through ``values`` ``(n, ...)`` at even nodes.

    The third derivative is continuous at the first and the last inner node ("not a knot").
    """
    n = len(values)
    matrix = values.new_zeros(n + 2, n + 2)
    for row in range(1, n + 1):
        matrix[row, row - 1 : row + 2] = values.new_tensor([1, 4, 1]) / 6
    matrix[0, :5] = matrix[-1, -5:] = values.new_tensor([1, -4, 6, -4, 1])
    padded = torch.cat([torch.zeros_like(values[:1]), values, torch.zeros_like(values[:1])])
    return torch.linalg.solve(matrix, padded.flatten(1)).reshape(padded.shape)


def _stencil(place: Tensor, n_nodes: int) -> tuple[Tensor, list[Tensor]]:
    """Return the first of the four coefficients that count at ``place`` in [0, 1], and their weights."""
    steps = place * (n_nodes - 1)
    first = steps.detach().long().clip(0, n_nodes - 2)
    t = steps - first
    return first, [(1 - t) ** 3 / 6, (3 * t - 6) * t**2 / 6 + 2 / 3, ((3 - 3 * t) * t + 3) * t / 6 + 1 / 6, t**3 / 6]
