"""The W and top masses as coordinates of a neutrino: what its lepton and b jet leave open is an angle on a circle.

Seen along its lepton, a neutrino has k = E − p_∥ and a transverse momentum q. With the lepton's energy E_ℓ and the
jet's b₋ = E_b − b_∥ and b_⊥, lepton and neutrino massless::

    m_W² = 2 E_ℓ k,    m_t² = m²(bℓ) + m_W² + k m_b²/b₋ + (b₋/k) |q − k b_⊥/b₋|².

At fixed m_W the curves of constant m_t are circles about k b_⊥/b₋. So m_W², m_t² and an angle are coordinates of all
neutrino momenta, and d³p/E = dm_W² dm_t² dt/(4 E_ℓ b₋). In the laboratory the circles are the ellipses of 1305.1878.

>>> from rewind.kinematics import massless
>>> neutrino = torch.tensor([30.0, -20.0, 60.0], dtype=torch.float64)
>>> lepton = massless(torch.tensor([40.0, 10.0, -5.0], dtype=torch.float64))
>>> bottom = massless(torch.tensor([-50.0, 30.0, 80.0], dtype=torch.float64))
>>> circles = Circles.of(lepton, bottom)
>>> w_squared, excess, angle, _ = circles.enter(neutrino)
>>> (circles.curve(w_squared, excess) @ direction(angle)).round(decimals=6).tolist()
[30.0, -20.0, 60.0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

__all__ = ["Circles", "direction", "equal_directions"]

_TINY = 1e-6


def direction(angle: Tensor) -> Tensor:
    """Return (cos t, sin t, 1) ``(..., 3)`` of angles ``(...)``: what a curve's columns are multiplied with."""
    return torch.stack([angle.cos(), angle.sin(), torch.ones_like(angle)], -1)


def equal_directions(n: int, like: Tensor) -> Tensor:
    """Return (cos t, sin t, 1) at ``n`` equal angles, ``(3, n)``, in the type of ``like``."""
    return direction(torch.arange(n).to(like) * (2 * math.pi / n)).mT


@dataclass(frozen=True)
class Circles:
    """Hold what the circles of leptons and their jets depend on; any batch shape, GeV.

    ``axes`` ``(..., 3, 3)`` are unit vectors: along the jet's momentum across the lepton, across both, and along the
    lepton, of energy ``lepton_energy``. ``b_minus``, ``b_across`` and ``b_mass_squared`` are the jet's, and
    ``visible_mass_squared`` is m²(bℓ).
    """

    axes: Tensor
    lepton_energy: Tensor
    b_minus: Tensor
    b_across: Tensor
    b_mass_squared: Tensor
    visible_mass_squared: Tensor

    @classmethod
    def of(cls, lepton: Tensor, bottom: Tensor) -> Circles:
        """Return the circles of leptons, taken as massless, and b jets ``(..., 4)``, (E, px, py, pz)."""
        energy = lepton[..., 1:].norm(dim=-1)
        along = lepton[..., 1:] / energy[..., None]
        parallel = (bottom[..., 1:] * along).sum(-1)
        across = bottom[..., 1:] - parallel[..., None] * along
        size = across.norm(dim=-1).clip(_TINY)
        mass_squared = (bottom[..., 0] ** 2 - parallel**2 - size**2).clip(0.0)
        minus = torch.where(
            parallel > 0, (mass_squared + size**2) / (bottom[..., 0] + parallel.abs()), bottom[..., 0] - parallel
        ).clip(_TINY)
        first = across / size[..., None]
        axes = torch.stack([first, torch.linalg.cross(along, first), along], -2)
        return cls(axes, energy, minus, size, mass_squared, mass_squared + 2 * energy * minus)

    def __getitem__(self, index: Any) -> Circles:
        return Circles(*(getattr(self, field.name)[index] for field in fields(self)))

    def float(self) -> Circles:
        """Return the same in single precision."""
        return Circles(*(getattr(self, field.name).float() for field in fields(self)))

    def least_m_top_squared(self, m_w_squared: Tensor) -> Tensor:
        """Return the least m_t² at given m_W²: there the circle is a point."""
        k = m_w_squared / (2 * self.lepton_energy)
        return self.visible_mass_squared + m_w_squared + k * self.b_mass_squared / self.b_minus

    def enter(self, neutrino: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return m_W², m_t² above its least, angle and log-Jacobian ``(...)`` of neutrino momenta ``(..., 3)``."""
        x, y, parallel = (self.axes @ neutrino[..., None])[..., 0].unbind(-1)
        energy = neutrino.norm(dim=-1)
        k = torch.where(parallel > 0, (x**2 + y**2) / (energy + parallel.abs()), energy - parallel).clip(1e-12)
        x = x - k * self.b_across / self.b_minus
        log_det = (4 * self.lepton_energy * self.b_minus / energy).log()
        return 2 * self.lepton_energy * k, (x**2 + y**2) * self.b_minus / k, torch.atan2(y, x), log_det

    def curve(self, m_w_squared: Tensor, excess: Tensor) -> Tensor:
        """Return U, V and C, the columns of ``(..., 3, 3)``: momenta U cos t + V sin t + C have m_W² and, above its
        least, the m_t² asked for.
        """
        k = m_w_squared / (2 * self.lepton_energy)
        radius, centre = (excess * k / self.b_minus).sqrt(), k * self.b_across / self.b_minus
        zero = torch.zeros_like(k)
        rows = [
            torch.stack([radius, zero, centre], -1),
            torch.stack([zero, radius, zero], -1),
            torch.stack([radius * centre / k, zero, (radius**2 + centre**2) / (2 * k) - k / 2], -1),
        ]
        return self.axes.mT @ torch.stack(rows, -2)
