"""Mass-shell constraints on neutrinos, and the checks of the momenta, masses and weights that enter (GeV, float64).

>>> lepton = torch.tensor([[50.0, 50.0, 0.0, 0.0]])
>>> roots = w_mass_roots(lepton, torch.tensor([[0.0, 40.0]]), m_w=80.0)
>>> roots.is_real.tolist(), roots.pz.round(decimals=3).tolist()
([True], [[-49.96, 49.96]])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.constants import M_W

__all__ = [
    "DileptonEvents",
    "WRoots",
    "checked_dilepton_events",
    "checked_finite",
    "checked_masses",
    "checked_met",
    "checked_momenta",
    "checked_tensor",
    "refuse",
    "refuse_momenta",
    "relative_weights",
    "time_like",
    "w_mass_roots",
]

_ROUNDING = 1e-6  # of the energy: single-precision inputs


class WRoots(NamedTuple):
    """Hold the longitudinal neutrino momenta that put W → ℓν on its mass shell.

    ``pz`` ``(B, 2)`` GeV, the one closer to zero first; both are the real part where ``is_real`` ``(B,)`` is false.
    ``discriminant`` ``(B,)`` GeV⁴ is negative there.
    """

    pz: Tensor
    discriminant: Tensor
    is_real: Tensor


@torch.no_grad()
def w_mass_roots(lepton: Tensor, met: Tensor, m_w: Tensor | float = M_W) -> WRoots:
    """Return the solutions of (ℓ + ν)² = m_W² for the neutrino's p_z, its transverse momentum being ``met``.

    ``lepton`` ``(B, 4)``, ``met`` ``(B, 2)``, ``m_w`` a number or ``(B,)``; GeV. With μ = (m_W² − m_ℓ²)/2 + ℓ_T·ν_T
    and a² = m_ℓ² + ℓ_T², the equation a² p_z² − 2 μ ℓ_z p_z + E_ℓ² ν_T² − μ² = 0 has the discriminant μ² − a² ν_T²
    times E_ℓ²: real where the transverse mass is at most m_W. The root of smaller size comes from the product of
    both, without cancellation. Raises InputError for inputs of wrong shape or value, and for a massless lepton along
    the beam.
    """
    lepton = checked_momenta("lepton", lepton)
    met = checked_met("met", met, len(lepton))
    m_w = checked_masses("m_w", m_w, len(lepton)).to(lepton)
    lepton_mass2 = kinematics.mass_squared(lepton).clip(0.0)
    a2 = lepton_mass2 + lepton[:, 1] ** 2 + lepton[:, 2] ** 2
    refuse(a2 == 0, "lepton", "is massless and along the beam: its transverse mass must be positive")
    energy, along = (a2 + lepton[:, 3] ** 2).sqrt(), lepton[:, 3]
    mu = (m_w**2 - lepton_mass2) / 2 + (lepton[:, 1:3] * met).sum(-1)
    met_pt = torch.hypot(met[:, 0], met[:, 1])
    discriminant = (mu - a2.sqrt() * met_pt) * (mu + a2.sqrt() * met_pt)
    is_real = discriminant >= 0
    middle = mu * along
    far = middle + torch.where(middle < 0, -1.0, 1.0) * energy * discriminant.clip(0.0).sqrt()
    near = torch.where(far == 0, 0.0, (energy * met_pt - mu) * (energy * met_pt + mu) / far)
    roots = torch.stack([near, far / a2], -1)
    return WRoots(torch.where(is_real[:, None], roots, (middle / a2)[:, None]), discriminant, is_real)


def refuse(bad: Tensor, name: str, why: str) -> None:
    """Raise InputError that names the first event where ``bad`` ``(B, ...)`` is true, if there is one."""
    while bad.ndim > 1:
        bad = bad.any(-1)
    events = bad.nonzero()
    if len(events):
        raise InputError(f"{name}: event {int(events[0])} {why}")


def relative_weights(weights: Tensor | None, n: int) -> Tensor:
    """Return ``n`` weights over their mean, all one for None; single weights may be negative.

    Raises InputError for another number, for weights that are not finite, and for a sum that is not positive.
    """
    if weights is None:
        return torch.ones(n, dtype=torch.float64)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    if weights.shape != (n,):
        raise InputError(f"weights: shape {tuple(weights.shape)}; ({n},) is needed")
    refuse(~weights.isfinite(), "weights", "is not finite")
    if weights.sum() <= 0:
        raise InputError(f"weights: the sum is {float(weights.sum()):g}; it must be positive")
    return weights / weights.mean()


def checked_tensor(
    name: str, values: Tensor | ArrayLike, shape: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return ``values`` as a tensor of ``shape``, −1 for any length; raise InputError for another shape."""
    values = torch.as_tensor(values, dtype=dtype).detach()
    if values.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, values.shape, strict=True)):
        names = ["events", *["any"] * len(shape)]
        wanted = ", ".join(name if n == -1 else str(n) for name, n in zip(names, shape, strict=False))
        raise InputError(f"{name}: shape {tuple(values.shape)}; ({wanted}) is needed")
    return values


def checked_finite(name: str, values: Tensor | ArrayLike, shape: tuple[int, ...]) -> Tensor:
    """Return ``values`` as :func:`checked_tensor` does, in float64; raise InputError unless finite."""
    values = checked_tensor(name, values, shape)
    refuse(~values.isfinite(), name, "is not finite")
    return values


def refuse_momenta(name: str, p: Tensor, there: Tensor | bool = True) -> None:
    """Raise InputError unless momenta ``(B, ..., 4)`` that are ``there`` are finite, not zero, and E ≥ p to 10⁻⁶."""
    momentum = p[..., 1:].norm(dim=-1)
    refuse(~p.isfinite().all(-1) & there, name, "is not finite")
    refuse((momentum == 0) & there, name, "has no momentum: it must be above zero")
    below = p[..., 0] < (1 - _ROUNDING) * momentum
    refuse(below & there, name, "has E < |p|: the energy must be at least the momentum")


def checked_momenta(name: str, p: Tensor, n_events: int = -1) -> Tensor:
    """Return four-momenta ``(B, 4)`` in float64; raises InputError unless finite, not zero, and E ≥ p to 10⁻⁶."""
    p = checked_tensor(name, p, (n_events, 4))
    refuse_momenta(name, p)
    return p


def time_like(p: Tensor) -> Tensor:
    """Return four-momenta ``(..., 4)`` with E at least ``|p|``, below which rounding may have left it."""
    return torch.cat([p[..., :1].maximum(p[..., 1:].norm(dim=-1, keepdim=True)), p[..., 1:]], -1)


def checked_met(name: str, met: Tensor, n_events: int) -> Tensor:
    """Return transverse momenta ``(B, 2)`` in float64; raises InputError unless finite."""
    return checked_finite(name, met, (n_events, 2))


def checked_masses(name: str, mass: Tensor | float, n_events: int, legs: int | None = None) -> Tensor:
    """Return masses in float64 for each event ``(B,)``, or with ``legs`` for each event and leg ``(B, legs)``.

    ``mass`` is a number, ``(B,)`` or ``(B, legs)``. Raises InputError for other shapes and unless finite and positive.
    """
    mass = torch.as_tensor(mass, dtype=torch.float64).detach()
    shapes = [(), (n_events,)] + ([(n_events, legs)] if legs else [])
    if tuple(mass.shape) not in shapes:
        raise InputError(f"{name}: shape {tuple(mass.shape)}; one of {', '.join(map(str, shapes))} is needed")
    if mass.ndim == 0 and not (mass.isfinite() and mass > 0):
        raise InputError(f"{name} = {float(mass):g}: a finite, positive mass is needed")
    if mass.ndim:
        refuse(~(mass.isfinite() & (mass > 0)), name, "is not a finite, positive mass")
    if legs is None:
        return mass.expand(n_events)
    return (mass[..., None] if mass.ndim < 2 else mass).expand(n_events, legs)


class DileptonEvents(NamedTuple):
    """Hold leptons and b-jets ``(B, 2, 4)``, masses ``(B, 2)`` (top's leg first) and ``met`` ``(B, 2)``, in GeV."""

    leptons: Tensor
    bottoms: Tensor
    met: Tensor
    m_top: Tensor
    m_w: Tensor


def checked_dilepton_events(
    leptons: Sequence[Tensor], bottoms: Sequence[Tensor], met: Tensor, m_top: Tensor | float, m_w: Tensor | float
) -> DileptonEvents:
    """Return events tt̄ → bℓ⁺ν b̄ℓ⁻ν̄ in float64, one leg beside the other.

    ``leptons`` are ℓ⁺ and ℓ⁻, ``bottoms`` b and b̄, ``(B, 4)`` each, ``met`` ``(B, 2)``, masses a number, ``(B,)`` or
    ``(B, 2)``. Raises InputError as the functions above do, and where both leptons or both b are the same.
    """
    n = len(checked_momenta("lepton_plus", leptons[0]))
    legs = []
    for names, pair in ((("lepton_plus", "lepton_minus"), leptons), (("bottom", "antibottom"), bottoms)):
        first, second = (checked_momenta(name, p, n) for name, p in zip(names, pair, strict=True))
        refuse((first == second).all(-1), " and ".join(names), "has the same momentum twice")
        legs.append(torch.stack([first, second], 1))
    met = checked_met("met", met, n)
    m_top, m_w = checked_masses("m_top", m_top, n, legs=2), checked_masses("m_w", m_w, n, legs=2)
    return DileptonEvents(*legs, met, m_top.to(met), m_w.to(met))
