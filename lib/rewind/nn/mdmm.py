"""Training under constraints: the modified differential method of multipliers (Platt & Barr, NeurIPS 1987).

To minimise f under g ≤ b, descend in the parameters and ascend in a multiplier λ ≥ 0 on f + λ (g − b), with a
damping term c (g − b)²/2 without which the two would circle around the solution.

>>> limit = Multipliers([1.0])
>>> limit.excess(torch.tensor([1.5])), float(limit.penalty(torch.tensor([0.5])))
(tensor([0.5000]), 0.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rewind.errors import InputError

__all__ = ["Multipliers"]


class _Reversed(torch.autograd.Function):
    """The identity, with the gradient's sign changed: what descends then ascends."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Multipliers(nn.Module):
    """Hold a multiplier for each of several constraints, values ≤ ``bounds``.

    Add :meth:`forward` to the loss and give all parameters to one optimiser: the multipliers' gradients are reversed.
    The slack s² of the equality g + s² = b is set to its best value, which leaves, for each constraint with excess
    e = g − b, the damped Lagrangian ([max(0, λ + c e)]² − λ²)/(2c). Its saddle is the solution of the constrained
    problem for every damping c > 0; where a constraint is slack its multiplier goes to zero. Raises InputError for a
    damping that is not positive.
    """

    def __init__(self, bounds: Sequence[float] | Tensor, *, damping: float = 1.0):
        super().__init__()
        if damping <= 0:
            raise InputError(f"damping = {damping}: it must be positive")
        self.damping = damping
        self.register_buffer("bounds", torch.as_tensor(bounds, dtype=torch.get_default_dtype()))
        self.multipliers = nn.Parameter(torch.zeros_like(self.bounds))

    def excess(self, values: Tensor) -> Tensor:
        """Return values minus bounds, ``(n,)``; positive where a constraint is broken."""
        return values - self.bounds

    def forward(self, values: Tensor) -> Tensor:
        """Return the scalar that the constraints add to the loss, for their current ``values`` ``(n,)``."""
        multipliers = _Reversed.apply(self.multipliers)
        pushed = (multipliers + self.damping * self.excess(values)).clip(0)
        return ((pushed**2 - multipliers**2) / (2 * self.damping)).sum()

    def penalty(self, values: Tensor) -> Tensor:
        """Return the damping times the summed excess above the bounds: a merit that no multiplier changes."""
        return self.damping * self.excess(values).clip(0).sum()
