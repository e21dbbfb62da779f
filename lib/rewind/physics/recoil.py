"""The transverse recoil of a hard system: how it is given to events of leading order, and how it is removed.

At leading order a hard system has no transverse momentum. It gets one, q, by the pure transverse boost that takes it,
at rest along the beam, to (√(M² + q²), q, 0); mass, rapidity and phase space stay, d⁴P = dM² dy d²q/2. The same boost
backwards leads from any event to its leading-order one. Its density is a mixture of two round Gaussians.

>>> momenta = kinematics.massless(torch.tensor([[[80.0, 0.0, 10.0], [-80.0, 0.0, 30.0]]]).double())
>>> kicked = recoiling(momenta, torch.tensor([[30.0, 40.0]]).double())
>>> kicked.sum(1)[:, 1:3].round(decimals=6).tolist()
[[30.0, 40.0]]
>>> without_recoil(kicked).recoil.round(decimals=6).tolist()
[[30.0, 40.0]]
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.constraints import relative_weights

__all__ = ["Hard", "fit_recoil", "log_recoil", "recoil_peaks", "recoiling", "without_recoil"]


class Hard(NamedTuple):
    """Hold a hard system without its recoil: ``momenta`` ``(B, n, 4)`` at rest together, and what was removed.

    ``sqrt_s`` is its mass and ``rapidity`` its rapidity ``(B,)``, ``recoil`` ``(B, 2)`` its transverse momentum, GeV.
    """

    momenta: Tensor
    sqrt_s: Tensor
    rapidity: Tensor
    recoil: Tensor

    def fractions(self, sqrt_s: float) -> Tensor:
        """Return x1, x2 ``(B, 2)`` = M e^±y/√s of the partons that make the system at ``sqrt_s`` GeV."""
        return torch.stack([self.rapidity.exp(), (-self.rapidity).exp()], 1) * (self.sqrt_s / sqrt_s)[:, None]


def _along_beam(rapidity: Tensor) -> Tensor:
    zero = torch.zeros_like(rapidity)
    return torch.stack([rapidity.cosh(), zero, zero, rapidity.sinh()], -1)[:, None]


def _transverse(mass: Tensor, recoil: Tensor) -> Tensor:
    energy = (mass**2 + recoil.square().sum(-1)).sqrt()
    return torch.nn.functional.pad(torch.cat([energy[:, None], recoil], 1), (0, 1))[:, None]


def recoiling(momenta: Tensor, recoil: Tensor) -> Tensor:
    """Return ``momenta`` ``(B, n, 4)`` of a system without transverse momentum after it got ``recoil`` ``(B, 2)``."""
    total = momenta.sum(1)
    mass, rapidity = kinematics.mass(total), torch.atanh(total[:, 3] / total[:, 0])
    central = kinematics.to_rest(momenta, _along_beam(rapidity))
    kicked = kinematics.from_rest(central, _transverse(mass, recoil), mass[:, None])
    return kinematics.from_rest(kicked, _along_beam(rapidity))


def without_recoil(momenta: Tensor) -> Hard:
    """Return the system of ``momenta`` ``(B, n, 4)``, any in the laboratory, at rest: the inverse of `recoiling`."""
    total = momenta.sum(1)
    mass, rapidity, recoil = kinematics.mass(total), torch.atanh(total[:, 3] / total[:, 0]), total[:, 1:3]
    central = kinematics.to_rest(momenta, _along_beam(rapidity))
    rest = kinematics.to_rest(central, _transverse(mass, recoil), mass[:, None])
    return Hard(rest, mass, rapidity, recoil)


def recoil_peaks(share: float, narrow: float, wide: float) -> tuple[float, float]:
    """Return the densities at zero of both Gaussians of :func:`log_recoil`, each with its share, in GeV⁻²."""
    return share / (2 * math.pi * narrow**2), (1 - share) / (2 * math.pi * wide**2)


def log_recoil(squared: Tensor, share: float, narrow: float, wide: float) -> Tensor:
    """Return the log-density ``(...)`` of transverse momenta of square ``(...)``: two round Gaussians, in GeV⁻²."""
    peaks = recoil_peaks(share, narrow, wide)
    parts = [math.log(peak) - squared / (2 * sigma**2) for peak, sigma in zip(peaks, (narrow, wide), strict=True)]
    return torch.logaddexp(*parts)


def fit_recoil(recoil: Tensor, *, weights: Tensor | None = None) -> tuple[float, float, float]:
    """Return share and σ (GeV) of the narrow, then σ of the wide Gaussian that fit ``recoil`` ``(B, 2)`` best.

    Raises InputError for ``weights`` ``(B,)`` of a sum that is not positive, and where no maximum of the likelihood is
    found.
    """
    from scipy.optimize import minimize  # takes half a second
    from scipy.special import expit

    squared, weights = recoil.square().sum(-1), relative_weights(weights, len(recoil))

    def parameters(x: np.ndarray) -> tuple[float, float, float]:
        return float(expit(x[0]).clip(1e-6, 1 - 1e-6)), float(np.exp(x[1])), float(np.exp(x[1]) + np.exp(x[2]))

    def loss(x: np.ndarray) -> float:
        return -float((weights * log_recoil(squared, *parameters(x))).mean())

    start = np.log(float(squared.median()) ** 0.5 / 2)
    minimum = minimize(loss, (0.5, start, start), method="Nelder-Mead")
    if not minimum.success:
        raise InputError(f"recoil: no fit of two Gaussians to {len(recoil)} vectors; use more events")
    return parameters(minimum.x)
