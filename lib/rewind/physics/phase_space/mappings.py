"""One-dimensional maps from a variable on [0, 1] to an invariant, flat in what the integrand is expected to follow.

>>> flat, low, high = PowerLaw(0.0), torch.tensor([10.0]), torch.tensor([30.0])
>>> [values.tolist() for values in flat.forward(torch.tensor([0.5]), low, high)]
[[20.0], [20.0]]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind.errors import InputError

__all__ = ["BreitWigner", "PowerLaw"]


def _share(value: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return how far ``value`` lies between ``start`` and ``end``, in [0, 1]; zero where these coincide."""
    gap = end - start
    return ((value - start) / torch.where(gap == 0, 1.0, gap)).clip(0.0, 1.0)


@dataclass(frozen=True)
class BreitWigner:
    """Map a variable on [0, 1] to s with density ∝ 1/((s − m²)² + m²Γ²) between bounds; ``mass`` and ``width`` in GeV.

    With ``reach``, also within so many widths of the mass: outside the density is zero, ds/dr infinite; where the
    bounds leave nothing within, ds/dr is zero. Raises InputError unless mass, width and reach are positive, the first
    two finite: a particle without width is a ``Leg``.
    """

    mass: float
    width: float
    reach: float = math.inf

    def __post_init__(self) -> None:
        if not (all(math.isfinite(value) and value > 0 for value in (self.mass, self.width)) and self.reach > 0):
            raise InputError(
                f"Breit–Wigner of mass {self.mass:g}, width {self.width:g}, reach {self.reach:g}: all must be positive"
            )

    @property
    def least(self) -> float:
        """Return the mass where the reach ends, GeV."""
        return max(0.0, self.mass - self.reach * self.width)

    def _angle(self, s: Tensor) -> Tensor:
        return torch.atan((s - self.mass**2) / (self.mass * self.width))

    def _window(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the angles at the bounds, or at the end of the reach where that is closer."""
        ends = self.least**2, (self.mass + self.reach * self.width) ** 2
        return self._angle(low.clip(*ends)), self._angle(high.clip(*ends))

    def _jacobian(self, s: Tensor, start: Tensor, end: Tensor) -> Tensor:
        scale = self.mass * self.width
        return (end - start) * ((s - self.mass**2) ** 2 + scale**2) / scale

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return s between ``low`` and ``high`` (GeV²), and ds/dr."""
        start, end = self._window(low, high)
        s = self.mass**2 + self.mass * self.width * torch.tan(start + r * (end - start))
        s = s.clip(low, high)
        return s, self._jacobian(s, start, end)

    def inverse(self, s: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return r and ds/dr."""
        start, end = self._window(low, high)
        jacobian = self._jacobian(s, start, end)
        if math.isfinite(self.reach):
            inside = (s.clip(0.0).sqrt() - self.mass).abs() <= self.reach * self.width * (1 + 1e-12)
            jacobian = torch.where(inside, jacobian, torch.inf)
        return _share(self._angle(s), start, end), jacobian


@dataclass(frozen=True)
class PowerLaw:
    """Map a variable on [0, 1] to s with density ∝ s^−ν between positive bounds (from zero where ν < 1); ν = 0 is flat.

    Raises InputError unless the ``exponent`` ν is finite.
    """

    exponent: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.exponent):
            raise InputError(f"power law with exponent {self.exponent:g}: it must be finite")

    def _primitive(self, s: Tensor) -> Tensor:
        return s.log() if self.exponent == 1 else s ** (1 - self.exponent)

    def _jacobian(self, s: Tensor, low: Tensor, high: Tensor) -> Tensor:
        rate = 1.0 if self.exponent == 1 else 1 - self.exponent
        return (self._primitive(high) - self._primitive(low)) / rate * s**self.exponent

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return s between ``low`` and ``high``, and ds/dr."""
        start = self._primitive(low)
        mixed = start + r * (self._primitive(high) - start)
        s = mixed.exp() if self.exponent == 1 else mixed ** (1 / (1 - self.exponent))
        s = s.clip(low, high)
        return s, self._jacobian(s, low, high)

    def inverse(self, s: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return r and ds/dr."""
        return _share(*map(self._primitive, (s, low, high))), self._jacobian(s, low, high)
