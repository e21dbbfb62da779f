"""Losses with constraints: the modified differential method of multipliers (Platt and Barr, NIPS 1987)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rewind.errors import InputError

__all__ = ["AtMost"]


class _Reversed(torch.autograd.Function):
    """Pass a value on, and its gradient with the opposite sign: descent on all else is ascent here."""

    @staticmethod
    def forward(_ctx, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(_ctx, gradient: Tensor) -> Tensor:
        return -gradient


class AtMost(nn.Module):
    """Turn value ≤ ``bound`` into a term of a loss, with a multiplier that the same optimiser moves upwards.

    With g = value − bound the term is λ g + c g²/2 while g > −λ/c, and −λ²/2c beyond: the augmented Lagrangian of an
    inequality, whose saddle is the constrained optimum. The ``damping`` c keeps λ from oscillating; where the
    constraint is idle λ returns to zero. Weight decay must not act on ``multiplier``. Raises InputError unless the
    bound is finite and the damping positive.
    """

    def __init__(self, bound: float, damping: float = 1.0):
        super().__init__()
        if not (math.isfinite(bound) and 0 < damping < math.inf):
            raise InputError(
                f"bound = {bound:g}, damping = {damping:g}: a finite bound and a positive damping are needed"
            )
        self.bound, self.damping = bound, damping
        self.multiplier = nn.Parameter(torch.zeros(()))

    def forward(self, value: Tensor) -> Tensor:
        """Return the term for a scalar ``value``."""
        multiplier, excess = _Reversed.apply(self.multiplier), value - self.bound
        active = excess > -self.multiplier.detach() / self.damping
        term = multiplier * excess + self.damping * excess**2 / 2
        return torch.where(active, term, -(multiplier**2) / (2 * self.damping))
