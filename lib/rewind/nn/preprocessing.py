"""Between data and network: standardised features, and coordinates in which a density is simple.

>>> scale = Standardize(1).fit(torch.tensor([[1.0], [2.0], [3.0]]))
>>> scale(torch.tensor([[4.0]])), scale.is_fitted
(tensor([[2.]]), True)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rewind.errors import InputError

__all__ = ["Chart", "Standardize", "fold", "positive_part", "unfold"]


class Standardize(nn.Module):
    """Shift and scale features to mean 0 and standard deviation 1, with the constants in buffers.

    ``is_fitted`` says whether these were ever set, by :meth:`fit` or from a checkpoint.
    """

    def __init__(self, features: int):
        super().__init__()
        self.is_fitted = False
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit(self, values: Tensor) -> Standardize:
        """Take the constants from ``values`` ``(n, features)``; constant features keep scale 1."""
        if not torch.isfinite(values).all():
            raise InputError("training features are not finite: remove NaN and infinities first")
        self.mean.copy_(values.mean(0))
        spread = values.std(0)
        self.scale.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
        self.is_fitted = True
        return self

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self.is_fitted = True

    def forward(self, values: Tensor) -> Tensor:
        """Return standardised ``values``."""
        return (values - self.mean) / self.scale

    def inverse(self, values: Tensor) -> Tensor:
        """Return ``values`` in their own units."""
        return values * self.scale + self.mean

    def log_det(self) -> Tensor:
        """Return the log-Jacobian of standardising."""
        return -self.scale.log().sum()


class Chart(nn.Module):
    """Map a target to coordinates in which its density is simple; this one changes nothing.

    A chart may depend on the event. It is a bijection: ``inverse`` undoes ``forward``, and ``forward``
    returns the coordinates ``(n, d)`` and the logarithm ``(n,)`` of the Jacobian determinant's modulus.
    """

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates and log-Jacobian."""
        return target, torch.zeros_like(target[:, 0])

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return targets."""
        return coordinates


def positive_part(value: Tensor, softness: Tensor | float) -> Tensor:
    """Return a smooth version of max(value, 0), equal to ``softness`` at 0."""
    return (value + (value**2 + 4 * softness**2) ** 0.5) / 2


def _stretch(solution: Tensor, width: Tensor) -> Tensor:
    return (1 + torch.asinh(2 * solution / width) ** 2 / 4).sqrt()


def unfold(x: Tensor, solution: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Return a coordinate that unfolds two solutions x = ±``solution`` of a given ``width``, and its log-slope.

    q = [asinh((x − s)/δ) + asinh((x + s)/δ)]/(2A), A² = 1 + asinh²(2s/δ)/4: smooth and monotone; each solution is
    stretched to a width of order one near ±1, and both join where they merge.
    """
    stretch = _stretch(solution, width)
    below, above = (x - solution) / width, (x + solution) / width
    slope = ((1 + below**2) ** -0.5 + (1 + above**2) ** -0.5) / (2 * stretch * width)
    return (torch.asinh(below) + torch.asinh(above)) / (2 * stretch), slope.log()


def fold(q: Tensor, solution: Tensor, width: Tensor) -> Tensor:
    """Undo :func:`unfold`: with h = sinh(A q), x = δ h √(1 + (s/δ)²/(1 + h²))."""
    h = torch.sinh(_stretch(solution, width) * q)
    return width * h * (1 + (solution / width) ** 2 / (1 + h**2)).sqrt()
