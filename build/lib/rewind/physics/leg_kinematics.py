"""Decays solved for what a detector leaves open: energies and neutrinos from directions and resonances' masses.

Directions of leptons and quarks are taken as measured. A resonance's mass then fixes one energy, or with a second one
and an angle a neutrino. Momenta (E, px, py, pz), GeV, float64; the Jacobians are those of d³p/(2E).

>>> b = along(torch.tensor([50.0]).double(), torch.tensor([[0.0, 0.0, 1.0]]).double(), 4.7)
>>> other = partner(b, torch.tensor([[1.0, 0.0, 0.0]]).double(), 4.7, torch.tensor([125.0**2]).double()).momentum
>>> round(float(kinematics.mass(b + other)), 6)
125.0
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rewind import kinematics
from rewind.physics import circles
from rewind.physics.circles import Circles

__all__ = ["Leptonic", "Partner", "along", "leptonic_leg", "partner", "turn_of", "unit_vector"]


def unit_vector(p: Tensor) -> Tensor:
    """Return the unit vectors ``(..., 3)`` along momenta ``(..., 4)``."""
    return p[..., 1:] / p[..., 1:].norm(dim=-1, keepdim=True)


def along(energy: Tensor, unit: Tensor, mass: float) -> Tensor:
    """Return momenta ``(..., 4)`` of an ``energy`` ``(...)`` and ``mass`` along unit vectors ``(..., 3)``."""
    size = (energy**2 - mass**2).clip(0.0).sqrt()
    return torch.cat([energy[..., None], size[..., None] * unit], -1)


class Partner(NamedTuple):
    """Hold the ``momentum`` ``(B, 4)`` of a partner and ``|dE/dm²|`` ``(B,)`` at fixed directions, or NaN."""

    momentum: Tensor
    jacobian: Tensor


def partner(known: Tensor, unit: Tensor, mass: float, squared: Tensor) -> Partner:
    """Return what flies along ``unit`` ``(B, 3)`` and makes, with ``known`` ``(B, 4)``, the mass ``squared``.

    m² = m_1² + m_2² + 2 (E_1 E − p_1·n p). Of two solutions, which exist for E_1 above (m² − m_1² − m_2²)/(2 m_2), the
    one of higher energy.
    """
    a, b = known[:, 0], (known[:, 1:] * unit).sum(1)
    half = (squared - kinematics.mass_squared(known) - mass**2) / 2
    p2 = a**2 - b**2
    root = half**2 - mass**2 * p2
    energy = (a * half + b * root.sqrt()) / p2
    there = (half > 0) & (root >= 0) & (p2 > 0) & (energy > mass)
    energy = torch.where(there, energy, math.nan)
    momentum = along(energy, unit, mass)
    size = momentum[:, 1:].norm(dim=1)
    return Partner(momentum, 1 / (2 * (a - b * energy / size)).abs())


class Leptonic(NamedTuple):
    """Hold the ``neutrino`` ``(B, 4)`` and d³p/(2E) by (dm_W² dm_t² dturn) ``(B,)``; NaN where none fits."""

    neutrino: Tensor
    jacobian: Tensor


def leptonic_leg(lepton: Tensor, bottom: Tensor, w_squared: Tensor, top_squared: Tensor, turn: Tensor) -> Leptonic:
    """Return the neutrino of masses squared ``(B,)`` of W and top at ``turn`` in [0, 1] around the circle."""
    solved = Circles.of(lepton, bottom)
    excess = top_squared - solved.least_m_top_squared(w_squared)
    excess = torch.where(excess > 0, excess, math.nan)
    nu = (solved.curve(w_squared, excess) @ circles.direction(2 * math.pi * turn)[..., None])[..., 0]
    jacobian = 2 * math.pi / (8 * solved.lepton_energy * solved.b_minus)
    return Leptonic(kinematics.massless(nu), torch.where(excess > 0, jacobian, math.nan))


def turn_of(lepton: Tensor, bottom: Tensor, neutrino: Tensor) -> Tensor:
    """Return where on its circle, in [0, 1), a ``neutrino`` ``(B, 4)`` lies: the inverse of `leptonic_leg`."""
    angle = Circles.of(lepton, bottom).enter(neutrino[..., 1:])[2]
    return (angle / (2 * math.pi)).remainder(1.0)
