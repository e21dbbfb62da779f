"""What networks read of leptons, jets and missing momentum: numbers of order one; momenta (E, px, py, pz), GeV."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["event_summary", "log_mass", "log_own_mass", "log_transverse_mass", "momentum_features"]

_M_W = 80.0  # a scale, not a measurement


def _mass_squared(p: Tensor) -> Tensor:
    return (p[..., 0] ** 2 - (p[..., 1:4] ** 2).sum(-1)).clip(0)


def log_mass(p: Tensor) -> Tensor:
    """Return log(1 + m²/(80 GeV)²) ``(...)`` of momenta ``(..., 4)``.

    >>> float(log_mass(torch.tensor([80.0, 0.0, 0.0, 0.0])).exp())
    2.0
    """
    return (1 + _mass_squared(p) / _M_W**2).log()


def log_own_mass(p: Tensor) -> Tensor:
    """Return log(1 + m²/GeV²)/5 ``(...)`` of jets ``(..., 4)``."""
    return (1 + _mass_squared(p)).log() / 5


def log_transverse_mass(lepton: Tensor, met: Tensor) -> Tensor:
    """Return log(1 + m_T²/(80 GeV)²) ``(B, N)`` of leptons ``(B, N, 4)`` with the missing momentum ``(B, 2)``."""
    across = lepton[..., 1:3].norm(dim=-1) * met.norm(dim=1)[:, None] - (lepton[..., 1:3] * met[:, None]).sum(-1)
    return (1 + 2 * across.clip(0) / _M_W**2).log()


def momentum_features(p: Tensor) -> list[Tensor]:
    """Return what a network reads of momenta ``(..., 4)``: components, log E, log pT, η, each ``(...)``."""
    pt = p[..., 1:3].norm(dim=-1).clip(1e-3)
    return [
        *(torch.asinh(p[..., i] / 30.0) for i in (1, 2, 3)),
        (p[..., 0].clip(1e-3) / 100.0).log(),
        (pt / 50.0).log(),
        torch.asinh(p[..., 3] / pt),
    ]


def event_summary(
    met: Tensor, leptons: Tensor, jets: Tensor, btag: Tensor, present: Tensor, *, typical: tuple[float, float]
) -> Tensor:
    """Return nine numbers of the whole event ``(B, 9)``: p_T^miss, the visible momentum, numbers of jets and tags.

    ``met`` is ``(B, 2)``, ``leptons`` ``(B, L, 4)``, ``jets`` ``(B, J, 4)`` with tags and presence ``(B, J)``;
    ``typical`` are the numbers of jets and of tags that become one.
    """
    visible = leptons.sum(1) + (jets * present[..., None]).sum(1)
    columns = [
        *(torch.asinh(met[:, i] / 30.0) for i in range(2)),
        (met.norm(dim=1).clip(1e-2) / 50.0).log(),
        *(torch.asinh(visible[:, i] / 100.0) for i in (1, 2, 3)),
        (visible[:, 0].clip(1e-3) / 500.0).log(),
        present.sum(1) / typical[0],
        (btag * present).sum(1) / typical[1],
    ]
    return torch.stack(columns, -1)
