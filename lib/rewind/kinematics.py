"""Relativistic kinematics on arrays of four-momenta (E, px, py, pz), last axis, GeV.

Functions accept NumPy arrays and torch tensors with any batch axes in front.
"""

from __future__ import annotations

__all__ = ["boost_between", "delta_phi", "delta_r", "eta", "from_pt_eta_phi_mass", "mass", "mass_squared", "phi", "pt"]

import math

import numpy as np
import torch


def _library(array):
    return torch if isinstance(array, torch.Tensor) else np


def pt(p):
    """Return transverse momenta ``(...)`` of ``p`` ``(..., 4)``."""
    return _library(p).hypot(p[..., 1], p[..., 2])


def phi(p):
    """Return azimuths in (−π, π]."""
    return _library(p).arctan2(p[..., 2], p[..., 1])


def eta(p):
    """Return pseudorapidities; ±inf along the beam."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _library(p).arcsinh(p[..., 3] / pt(p))


def mass_squared(p):
    """Return E² − p², computed as (E − pz)(E + pz) − pT² with positive pz to keep digits at high energy."""
    along = _library(p).abs(p[..., 3])
    return (p[..., 0] - along) * (p[..., 0] + along) - p[..., 1] ** 2 - p[..., 2] ** 2


def mass(p):
    """Return invariant masses; space-like rounding residues count as zero."""
    lib = _library(p)
    return lib.sqrt(mass_squared(p).clip(0.0))


def delta_phi(first, second):
    """Return the difference of two azimuths, wrapped into [−π, π)."""
    return (first - second + math.pi) % (2 * math.pi) - math.pi


def delta_r(first, second):
    """Return ΔR ``(...)`` = √(Δη² + Δφ²) of momenta ``(..., 4)``."""
    return _library(first).hypot(eta(first) - eta(second), delta_phi(phi(first), phi(second)))


def from_pt_eta_phi_mass(pt, eta, phi, mass):
    """Return four-momenta ``(..., 4)`` from collider coordinates."""
    lib = _library(pt)
    x, y, z = pt * lib.cos(phi), pt * lib.sin(phi), pt * lib.sinh(eta)
    return lib.stack([lib.sqrt(x * x + y * y + z * z + mass * mass), x, y, z], -1)


def boost_between(p, source, target):
    """Return ``p`` after the one boost that carries ``source`` into ``target``, two vectors of equal mass.

    The boost has velocity 2u/(1 + u²) with u = (target − source)/(E_source + E_target), without rotation
    about its axis. All arguments ``(..., 4)``.
    """
    half = (target[..., 1:] - source[..., 1:]) / (target[..., :1] + source[..., :1])
    velocity = 2 * half / (1 + (half * half).sum(-1)[..., None])
    gamma = (1 - (velocity * velocity).sum(-1)[..., None]) ** -0.5
    along = (velocity * p[..., 1:]).sum(-1)[..., None]
    energy = gamma * (p[..., :1] + along)
    space = p[..., 1:] + velocity * (gamma**2 / (1 + gamma) * along + gamma * p[..., :1])
    return _library(p).concatenate([energy, space], -1)
