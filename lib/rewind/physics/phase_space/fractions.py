"""The incoming partons' momentum fractions, and boosts along the beam between the laboratory and their rest frame.

>>> momentum_fractions(torch.tensor([1300.0, 0.0, 0.0, 500.0]), sqrt_s=10_000.0).double().round(decimals=6).tolist()
[0.18, 0.08]
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.physics.constants import SQRT_S
from rewind.physics.constraints import refuse
from rewind.physics.phase_space.frames import checked_unit
from rewind.physics.phase_space.mappings import PowerLaw

__all__ = ["IncomingFractions", "from_lab", "momentum_fractions", "to_lab"]


def momentum_fractions(total: Tensor, sqrt_s: float = SQRT_S) -> Tensor:
    """Return x1, x2 ``(..., 2)`` = (E ± p_z)/√s of massless partons along the beam that make ``total`` ``(..., 4)``.

    GeV. The transverse momentum of ``total`` must be zero, for the partons have none.
    """
    return torch.stack([total[..., 0] + total[..., 3], total[..., 0] - total[..., 3]], -1) / sqrt_s


class IncomingFractions:
    """Map two variables on [0, 1] to x1, x2 with τ = x1 x2 ≥ ``tau_min``: density ∝ τ^−``exponent``, flat in rapidity.

    With y = ½ ln(x1/x2), dx1 dx2 = dτ dy and ``|y|`` ≤ ½ ln(1/τ): exponent 0 is flat in τ, 1 flat in ln τ. Raises
    InputError unless 0 < tau_min < 1.
    """

    dims = 2

    def __init__(self, tau_min: float, exponent: float = 1.0):
        if not 0 < tau_min < 1:
            raise InputError(f"tau_min = {tau_min:g}: it must lie between 0 and 1")
        self.tau_min = tau_min
        self.law = PowerLaw(exponent)

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(like, self.tau_min), torch.ones_like(like)

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return x1, x2 ``(B, 2)`` and ``|dx/dr|`` ``(B,)`` at ``r`` ``(B, 2)``; raises InputError outside [0, 1]."""
        r = checked_unit(r, self.dims)
        tau, jacobian = self.law.forward(r[:, 0], *self._bounds(r[:, 0]))
        span = -tau.log()
        y = (r[:, 1] - 0.5) * span
        return torch.stack([tau.sqrt() * y.exp(), tau.sqrt() * (-y).exp()], 1).clip(max=1.0), jacobian * span

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return r ``(B, 2)`` and ``|dx/dr|`` ``(B,)`` at ``x`` ``(B, 2)``.

        Raises InputError for fractions outside (0, 1] or with a product below tau_min.
        """
        x = _checked_fractions(x)
        tau = x.prod(1)
        refuse(tau < self.tau_min * (1 - 1e-12), "x", f"has x1 x2 below tau_min = {self.tau_min:g}")
        unit, jacobian = self.law.inverse(tau, *self._bounds(tau))
        span = -tau.log()
        y = (x[:, 0] / x[:, 1]).log() / 2
        turn = 0.5 + y / span.clip(torch.finfo(span.dtype).tiny)
        return torch.stack([unit, turn.clip(0.0, 1.0)], 1), jacobian * span


def to_lab(momenta: Tensor, x: Tensor) -> Tensor:
    """Return momenta ``(B, n, 4)``, given where the partons balance, in the laboratory.

    ``x`` ``(B, 2)`` are the fractions of the partons along +z and −z. Raises InputError for x outside (0, 1].
    """
    return _along_beam(momenta, _checked_fractions(x))


def from_lab(momenta: Tensor, x: Tensor) -> Tensor:
    """Return momenta ``(B, n, 4)``, given in the laboratory, where the partons balance: the inverse of to_lab."""
    return _along_beam(momenta, _checked_fractions(x).flip(-1))


def _along_beam(momenta: Tensor, x: Tensor) -> Tensor:
    ratio = (x[:, 0] / x[:, 1]).sqrt()[:, None]  # exp of the rapidity
    e, px, py, pz = momenta.to(x).unbind(-1)
    plus, minus = (e + pz) * ratio, (e - pz) / ratio
    return torch.stack([(plus + minus) / 2, px, py, (plus - minus) / 2], -1)


def _checked_fractions(x: Tensor) -> Tensor:
    x = torch.as_tensor(x, dtype=torch.float64)
    if x.ndim != 2 or x.shape[1] != 2:
        raise InputError(f"x: shape {tuple(x.shape)}; (events, 2) is needed")
    refuse(~((x > 0) & (x <= 1)), "x", "lies outside (0, 1]")
    return x
