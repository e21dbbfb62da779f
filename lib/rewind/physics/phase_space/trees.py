"""Phase space as a tree of two-body decays whose masses and angles follow the expected propagators.

∫ dΦ_n = ∫ ds_1 ds_2 Φ_2(s; s_1, s_2) Φ(s_1) Φ(s_2), at every branching, with Φ_2 = π ``|p|``/√s ∫ dΩ/4π
(Byckling and Kajantie, Particle Kinematics, 1973, ch. V and IX).

>>> tree = DecayTree(Split(Split(Leg(0), Leg(1)), Leg(2)))
>>> momenta, weight = tree.forward(torch.full((1, 5), 0.4).double(), 100.0)
>>> momenta.sum(1).abs().round(decimals=6).tolist()
[[100.0, 0.0, 0.0, 0.0]]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.phase_space.frames import (
    angles,
    checked_energy,
    checked_final_state,
    checked_unit,
    direction,
    momentum_at_rest,
)
from rewind.physics.phase_space.mappings import BreitWigner, PowerLaw

__all__ = ["DecayTree", "Exchange", "Leg", "Split"]

_OUTSIDE = 1e-6  # of a system's mass, as for what enters: further out no point of the tree lies


@dataclass(frozen=True)
class Leg:
    """State a final particle: its place ``index`` among the momenta and its ``mass`` in GeV."""

    index: int
    mass: float = 0.0


@dataclass(frozen=True)
class Exchange:
    """Let the angle follow a t-channel propagator: density ∝ (``mass``² − t)^−``exponent``.

    t is the square of the incoming momentum minus the first branch's. At the root of a tree that momentum is the
    massless parton along +z; at the second branch of an exchange it is what the exchange left over. Raises InputError
    for a mass that is negative or not finite, and for a massless exchange unless ν < 1.
    """

    mass: float
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.mass < math.inf:
            raise InputError(f"exchange of mass {self.mass:g}: it must be finite and not negative")
        if self.mass == 0 and self.exponent >= 1:
            raise InputError("a massless exchange diverges forwards: give it a mass or an exponent below 1")


@dataclass(frozen=True)
class Split:
    """Let a system go into two branches; ``invariant`` maps its mass squared (at the root √s is given instead).

    Raises InputError for a power law with ν ≥ 1 where all legs are massless.
    """

    first: Leg | Split
    second: Leg | Split
    invariant: BreitWigner | PowerLaw = field(default_factory=PowerLaw)
    exchange: Exchange | None = None

    def __post_init__(self) -> None:
        if isinstance(self.invariant, PowerLaw) and self.invariant.exponent >= 1 and _lightest(self) == 0:
            raise InputError("a power law of a massless system's mass needs an exponent below 1")


def _legs(node: Leg | Split) -> list[Leg]:
    return [node] if isinstance(node, Leg) else _legs(node.first) + _legs(node.second)


def _lightest(node: Leg | Split, *, root: bool = False) -> float:
    """Return the least mass of a system: its legs', or where a Breit–Wigner's reach ends."""
    if isinstance(node, Leg):
        return node.mass
    least = _lightest(node.first) + _lightest(node.second)
    return least if root or isinstance(node.invariant, PowerLaw) else max(least, node.invariant.least)


def _stray_exchange(node: Leg | Split, allowed: bool) -> bool:
    if isinstance(node, Leg):
        return False
    here = node.exchange is not None
    return (here and not allowed) or _stray_exchange(node.first, False) or _stray_exchange(node.second, here)


class DecayTree:
    """Map 3n − 4 unit-hypercube variables to n momenta at rest through two-body decays, as RamboOnDiet does.

    The variables, branching by branching from ``root`` on, first branch before the second: the mass squared of each
    branch that splits again, cos θ (or t), azimuth. Raises InputError where the legs' places are not 0 … n − 1, for
    masses that are negative or not finite, and for an exchange that no incoming momentum reaches. Beyond the reach of a
    Breit–Wigner the density is zero: ``inverse`` gives an infinite weight there, ``forward`` a vanishing one where √s
    leaves nothing within. ``threshold`` is the least √s in GeV.
    """

    def __init__(self, root: Split):
        legs = _legs(root)
        if sorted(leg.index for leg in legs) != list(range(len(legs))):
            raise InputError(f"tree: its legs have the places {[leg.index for leg in legs]}; 0 to n − 1 are needed")
        masses = torch.tensor([leg.mass for leg in sorted(legs, key=lambda leg: leg.index)], dtype=torch.float64)
        if not (masses.isfinite() & (masses >= 0)).all():
            raise InputError(f"tree: masses {masses.tolist()}; some are negative or not finite")
        if _stray_exchange(root, True):
            raise InputError("tree: an exchange must stand at the root or at the second branch of an exchange")
        self.root, self.masses = root, masses
        self.n, self.dims, self.threshold = len(legs), 3 * len(legs) - 4, _lightest(root, root=True)

    def forward(self, r: Tensor, sqrt_s: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return momenta ``(B, n, 4)`` and weights ``(B,)`` at unit-hypercube variables ``(B, 3n − 4)``.

        ``sqrt_s`` is a number or ``(B,)``, GeV. Raises InputError outside [0, 1] and below threshold.
        """
        r = checked_unit(r, self.dims)
        sqrt_s = checked_energy(sqrt_s, torch.tensor(self.threshold, dtype=torch.float64), len(r)).to(r.device)
        momenta: dict[int, Tensor] = {}
        total, beam = _incoming(sqrt_s)
        weight = self._descend(self.root, total, sqrt_s, beam, iter(r.unbind(1)), momenta)
        return torch.stack([momenta[i] for i in range(self.n)], 1), weight

    def _descend(
        self, node: Split, total: Tensor, mass: Tensor, beam: Tensor, units: Iterator[Tensor], momenta: dict
    ) -> Tensor:
        """Fill in the ``momenta`` of a branching's legs from what is left of ``units``; return its weight."""
        masses, weight, branches = [], 1.0, (node.first, node.second)
        for branch, low, high in _mass_bounds(node, mass, masses):
            if isinstance(branch, Leg):
                masses.append(low)
            else:
                s, jacobian = branch.invariant.forward(next(units), low**2, high**2)
                masses.append(s.sqrt())
                weight = weight * jacobian
        first, second = masses
        size = momentum_at_rest(mass, first, second, mass - first - second)
        axis, polar = _polar(node, total, mass, beam, masses, size)
        opening, density = polar.forward(next(units))
        weight = weight * density * math.pi * size / mass
        momentum = size[:, None] * direction(opening, next(units), axis)
        at_rest = torch.cat([(size**2 + first**2).sqrt()[:, None], momentum], 1)
        one = kinematics.from_rest(at_rest, total, mass)
        for branch, p, m, incoming in zip(branches, (one, total - one), masses, (beam, beam - one), strict=True):
            if isinstance(branch, Leg):
                momenta[branch.index] = p
            else:
                weight = weight * self._descend(branch, p, m, incoming, units, momenta)
        return weight

    def inverse(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit-hypercube variables ``(B, 3n − 4)`` and weights ``(B,)`` at momenta ``(B, n, 4)``.

        Raises InputError for momenta off their mass shells or not at rest together, beyond 10⁻⁶ of √s.
        """
        momenta, sqrt_s = checked_final_state(momenta, self.masses.to(torch.as_tensor(momenta).device))
        units: list[Tensor] = []
        total, beam = _incoming(sqrt_s)
        weight = self._ascend(self.root, total, sqrt_s, beam, momenta, units)
        return torch.stack(units, 1), weight

    def _ascend(
        self, node: Split, total: Tensor, mass: Tensor, beam: Tensor, momenta: Tensor, units: list[Tensor]
    ) -> Tensor:
        """Append a branching's unit-hypercube variables to ``units``; return its weight."""
        branches = (node.first, node.second)
        parts = [momenta[:, [leg.index for leg in _legs(branch)]].sum(1) for branch in branches]
        masses, weight = [], 1.0
        for (branch, low, high), p in zip(_mass_bounds(node, mass, masses), parts, strict=True):
            if isinstance(branch, Leg):
                masses.append(low)
            else:
                size = kinematics.mass(p)
                masses.append(size.clip(low, high))
                unit, jacobian = branch.invariant.inverse(masses[-1] ** 2, low**2, high**2)
                units.append(unit)
                beyond = (size - masses[-1]).abs() > _OUTSIDE * mass
                weight = weight * torch.where(beyond, torch.inf, jacobian)
        first, second = masses
        size = momentum_at_rest(mass, first, second, mass - first - second)
        axis, polar = _polar(node, total, mass, beam, masses, size)
        opening, turn = angles(kinematics.to_rest(parts[0], total, mass)[:, 1:], axis)
        unit, density = polar.inverse(opening)
        weight = weight * density * math.pi * size / mass
        units += [unit, turn]
        for branch, p, m, incoming in zip(branches, parts, masses, (beam, beam - parts[0]), strict=True):
            if isinstance(branch, Split):
                weight = weight * self._ascend(branch, p, m, incoming, momenta, units)
        return weight


def _incoming(sqrt_s: Tensor) -> tuple[Tensor, Tensor]:
    """Return the total momentum ``(B, 4)`` and that of the parton along +z."""
    zero = torch.zeros_like(sqrt_s)
    return torch.stack([sqrt_s, zero, zero, zero], 1), torch.stack([sqrt_s / 2, zero, zero, sqrt_s / 2], 1)


def _mass_bounds(node: Split, mass: Tensor, known: list[Tensor]) -> Iterator[tuple[Leg | Split, Tensor, Tensor]]:
    """Yield both branches with the bounds of their masses, the second's once the first's stands in ``known``."""
    first, second = (torch.full_like(mass, _lightest(branch)) for branch in (node.first, node.second))
    least = torch.finfo(mass.dtype).eps ** 0.5 * mass  # a system without mass has no rest frame
    yield node.first, first if isinstance(node.first, Leg) else first + least, mass - second
    yield node.second, second if isinstance(node.second, Leg) else second + least, mass - known[0]


class _Flat:
    """Map a variable on [0, 1] to 1 − cos θ, flat."""

    @staticmethod
    def forward(r: Tensor) -> tuple[Tensor, float]:
        return 2 - 2 * r, 1.0

    @staticmethod
    def inverse(opening: Tensor) -> tuple[Tensor, float]:
        return 1 - opening / 2, 1.0


@dataclass(frozen=True)
class _Propagator:
    """Map a variable on [0, 1] to 1 − cos θ with a power law in mass² − t = ``low`` + ``slope`` (1 − cos θ)."""

    law: PowerLaw
    low: Tensor
    slope: Tensor

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        z, jacobian = self.law.forward(r, self.low, self.low + 2 * self.slope)
        return ((z - self.low) / self.slope).clip(0.0, 2.0), jacobian / (2 * self.slope)

    def inverse(self, opening: Tensor) -> tuple[Tensor, Tensor]:
        unit, jacobian = self.law.inverse(self.low + self.slope * opening, self.low, self.low + 2 * self.slope)
        return unit, jacobian / (2 * self.slope)


def _polar(
    node: Split, total: Tensor, mass: Tensor, beam: Tensor, masses: list[Tensor], size: Tensor
) -> tuple[Tensor | None, _Flat | _Propagator]:
    """Return the axis in the branching's rest frame (None: the third) and the map of 1 − cos θ about it.

    The bounds of t multiply to m2² (m1² − t_in + t_in (t_in − m1² + m2²)/M²), the other incoming one being massless.
    """
    if node.exchange is None:
        return None, _Flat()
    incoming = kinematics.to_rest(beam, total, mass)
    strength = incoming[:, 1:].norm(dim=1)
    t_in, tiny = kinematics.mass_squared(beam), torch.finfo(size.dtype).tiny
    first, second = (m**2 for m in masses)
    slope = (2 * strength * size).clip(tiny)
    t_low = t_in + first - 2 * incoming[:, 0] * (size**2 + first).sqrt() - slope
    t_high = second * (first - t_in + t_in * (t_in - first + second) / mass**2) / t_low.clip(max=-tiny)
    low = (node.exchange.mass**2 - t_high).clip(tiny)
    return incoming[:, 1:] / strength[:, None], _Propagator(PowerLaw(node.exchange.exponent), low, slope)
