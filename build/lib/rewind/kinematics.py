"""Relativistic kinematics on arrays of four-momenta (E, px, py, pz), last axis, GeV.

Functions accept NumPy arrays and torch tensors with any batch axes in front, and keep their precision.

>>> p = from_pt_eta_phi_mass(*np.array([50.0, 1.2, 0.3, 4.8]))
>>> np.abs(to_rest(p, p)).round(6).tolist()
[4.8, 0.0, 0.0, 0.0]
"""

from __future__ import annotations

__all__ = [
    "boost_between",
    "delta_phi",
    "delta_r",
    "eta",
    "from_pt_eta_phi_mass",
    "from_rest",
    "mass",
    "mass_squared",
    "massless",
    "phi",
    "pt",
    "to_rest",
    "with_mass",
]

import math
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Array = TypeVar("Array", NDArray[np.floating], torch.Tensor)


def _library(array: Array) -> ModuleType:
    return torch if isinstance(array, torch.Tensor) else np


def pt(p: Array) -> Array:
    """Return transverse momenta ``(...)`` of ``p`` ``(..., 4)``."""
    return _library(p).hypot(p[..., 1], p[..., 2])


def phi(p: Array) -> Array:
    """Return azimuths in (−π, π]."""
    return _library(p).arctan2(p[..., 2], p[..., 1])


def eta(p: Array) -> Array:
    """Return pseudorapidities; ±inf along the beam."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _library(p).arcsinh(p[..., 3] / pt(p))


def mass_squared(p: Array) -> Array:
    """Return E² − p², computed as (E − pz)(E + pz) − pT² with positive pz to keep digits at high energy."""
    along = _library(p).abs(p[..., 3])
    return (p[..., 0] - along) * (p[..., 0] + along) - p[..., 1] ** 2 - p[..., 2] ** 2


def mass(p: Array) -> Array:
    """Return invariant masses; space-like rounding residues count as zero."""
    lib = _library(p)
    return lib.sqrt(mass_squared(p).clip(0.0))


def delta_phi(first: Array, second: Array) -> Array:
    """Return the difference of two azimuths, wrapped into [−π, π)."""
    return (first - second + math.pi) % (2 * math.pi) - math.pi


def delta_r(first: Array, second: Array) -> Array:
    """Return ΔR ``(...)`` = √(Δη² + Δφ²) of momenta ``(..., 4)``."""
    return _library(first).hypot(eta(first) - eta(second), delta_phi(phi(first), phi(second)))


def from_pt_eta_phi_mass(pt: Array, eta: Array, phi: Array, mass: Array) -> Array:
    """Return four-momenta ``(..., 4)`` from collider coordinates."""
    lib = _library(pt)
    x, y, z = pt * lib.cos(phi), pt * lib.sin(phi), pt * lib.sinh(eta)
    return lib.stack([lib.sqrt(x * x + y * y + z * z + mass * mass), x, y, z], -1)


def massless(momenta: Array) -> Array:
    """Return the four-momenta ``(..., 4)`` of massless particles with three-momenta ``(..., 3)``."""
    lib = _library(momenta)
    return lib.concatenate([lib.linalg.norm(momenta, axis=-1)[..., None], momenta], -1)


def with_mass(momenta: Array, mass: Array | float) -> Array:
    """Return the four-momenta ``(..., 4)`` of particles with three-momenta ``(..., 3)`` and a ``mass`` ``(...)``."""
    lib = _library(momenta)
    energy = lib.sqrt((momenta**2).sum(-1) + mass**2)
    return lib.concatenate([energy[..., None], momenta], -1)


def from_rest(p: Array, frame: Array, frame_mass: Array | None = None) -> Array:
    """Return ``p``, given where ``frame`` is at rest, in the system in which ``frame`` is given; all ``(..., 4)``.

    The boost has no rotation about its axis. ``frame_mass`` ``(...)`` is for where it is known to more digits
    than E² − p² holds. A frame without mass gives NaN or infinity.
    """
    frame_mass = mass(frame) if frame_mass is None else frame_mass
    energy = (p * frame).sum(-1) / frame_mass
    along = (p[..., 0] + energy) / (frame[..., 0] + frame_mass)
    return _library(p).concatenate([energy[..., None], p[..., 1:] + frame[..., 1:] * along[..., None]], -1)


def to_rest(p: Array, frame: Array, frame_mass: Array | None = None) -> Array:
    """Return ``p`` where ``frame`` is at rest: the inverse of :func:`from_rest`."""
    frame_mass = mass(frame) if frame_mass is None else frame_mass
    return from_rest(p, _library(p).concatenate([frame[..., :1], -frame[..., 1:]], -1), frame_mass)


def boost_between(p: Array, source: Array, target: Array) -> Array:
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
