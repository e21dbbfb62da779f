"""Neutrino weighting for tt̄ → dilepton: scan what is not measured, keep the hypothesis nearest to p_T^miss.

Fix the pseudorapidity of a neutrino, m_t and m_W: the two mass shells of its leg then leave at most two transverse
momenta (hep-ex/9706014). Two legs predict p_T^miss, and a pair of neutrinos at Δ = p_T(ν) + p_T(ν̄) − p_T^miss has
the weight exp(−Δx²/2σx² − Δy²/2σy²). The grid, the masses and the veto are those of 2307.02405. Momenta (E, px, py,
pz), GeV, float64.

The scan is exact, but it does not visit the grid. The solutions of a leg are points on two curves, and the highest
weight belongs to the closest pair between the curves of one leg and those of the other, mirrored at p_T^miss. Runs of
neighbouring points are boxed; boxes that lie farther apart than a pair already known cannot hold the closest one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.constants import M_W

__all__ = [
    "ETAS",
    "M_TOPS",
    "Weighted",
    "draw_etas",
    "leg_solutions",
    "relative_sigma",
    "smear_jets",
    "solve",
    "weight_map",
]

ETAS = tuple(round(-5 + 0.2 * i, 1) for i in range(51))
M_TOPS = tuple(171 + 0.5 * i for i in range(7))

_RUN = 8  # points in a box
_POINTS = 60_000  # points of one leg worked on at a time, to stay in the cache
_JET_PT = torch.tensor([40.0, 50, 60, 70, 80, 150], dtype=torch.float64)
_JET_WIDTH = torch.tensor([0.13, 0.14, 0.12, 0.11, 0.09, 0.08, 0.06], dtype=torch.float64)


class Weighted(NamedTuple):
    """Hold the winning hypothesis of each event; NaN (pairing and smear −1, weight 0) where ``valid`` is false.

    ``log_weight`` is −inf only where no hypothesis has a solution. ``pairing`` are the positions in ``jets`` of the
    b of the top and of the antitop; ``smear`` is the position of the winning set of jets.
    """

    neutrino: Tensor
    antineutrino: Tensor
    weight: Tensor
    log_weight: Tensor
    valid: Tensor
    pairing: Tensor
    m_top: Tensor
    smear: Tensor


def leg_solutions(lepton: Tensor, b: Tensor, eta: Tensor, m_top, m_w=M_W) -> Tensor:
    """Return the neutrinos ``(..., 2, 3)`` of one leg for which (ℓν) and (bℓν) are on their mass shells; NaN if none.

    ``lepton, b`` ``(..., 4)``; the neutrino's pseudorapidity ``eta`` and the masses ``(...)``; GeV. Source:
    hep-ex/9706014, with the masses of lepton and b kept.
    """
    eta = torch.as_tensor(eta, dtype=torch.float64)
    x, y = (torch.where(part.isfinite(), part, math.nan) for part in _transverse(lepton, b, eta, m_top, m_w))
    return torch.stack([x, y, torch.hypot(x, y) * eta.sinh()], -1).movedim(0, -2)


def _transverse(lepton: Tensor, b: Tensor, eta: Tensor, m_top, m_w) -> tuple[Tensor, Tensor]:
    """Return px and py, each ``(2, ...)``, of the neutrinos of a leg; +inf where there is none.

    A particle with momentum k and a massless neutrino with transverse momentum p have k·ν = A|p| − k_T·p, where
    A = E cosh η − k_z sinh η. The mass shells say A_ℓ|p| = a_ℓ + ℓ_T·p and A_b|p| = a_b + b_T·p. Their difference
    is a line, p = h n + t n⊥ with unit vectors n, n⊥, and the square of the first fixes t.
    """
    m_top, m_w = (torch.as_tensor(m, dtype=torch.float64, device=eta.device) for m in (m_top, m_w))
    cosh, sinh = eta.cosh(), eta.sinh()
    energy, lx, ly, lz = lepton.unbind(-1)
    A = energy * cosh - lz * sinh
    A_b = b[..., 0] * cosh - b[..., 3] * sinh
    S = lz * cosh - energy * sinh  # A² = m² + ℓ_T² + S²
    lepton_mass2 = kinematics.mass_squared(lepton).clip(0.0)
    a = (m_w**2 - lepton_mass2) / 2
    dot = lepton[..., 0] * b[..., 0] - (lepton[..., 1:] * b[..., 1:]).sum(-1)
    a_b = (m_top**2 - m_w**2 - kinematics.mass_squared(b)) / 2 - dot

    nx, ny = lx / A - b[..., 1] / A_b, ly / A - b[..., 2] / A_b
    norm = torch.hypot(nx, ny)
    nx, ny = nx / norm, ny / norm
    along, across = lx * nx + ly * ny, ly * nx - lx * ny
    h = (a_b / A_b - a / A) / norm
    p = a + along * h  # A|p| = p + across t
    K = lepton_mass2 + S * S + along * along
    D = p * p - K * h * h
    root = A / K * D.sqrt()  # NaN: no solution
    middle = across / K * p
    t = torch.stack([middle + root, middle - root])
    there = t.abs() < math.inf
    x, y = h * nx - t * ny, h * ny + t * nx
    return torch.where(there, x, math.inf), torch.where(there, y, math.inf)


def draw_etas(lepton_plus: Tensor, lepton_minus: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return ``n`` pseudorapidities ``(B, 2, n)`` of ν and ν̄ a event from N(0.7 η_ℓ − 0.1, 1.14²) of its lepton.

    Leptons ``(B, 4)``, GeV. For ``solve(..., etas=...)``. Raises InputError for n < 1 and as :func:`solve` does.
    """
    if n < 1:
        raise InputError(f"n = {n} pseudorapidities: at least one is needed")
    leptons = torch.stack([_momenta(lepton_plus, "lepton_plus", 2), _momenta(lepton_minus, "lepton_minus", 2)], 1)
    noise = torch.randn(*leptons.shape[:2], n, generator=generator, dtype=torch.float64)
    return 0.7 * kinematics.eta(leptons)[..., None] - 0.1 + 1.14 * noise


def smear_jets(jets: Tensor, n: int, generator: torch.Generator, *, scale: float = 1.0) -> Tensor:
    """Return ``n`` copies ``(B, n, N, 4)`` of ``jets`` ``(B, N, 4)``, each four-momentum scaled by a random factor.

    The factor is Gaussian around 1 with a width of 13, 14, 12, 11, 9, 8, 6 % for pT below 40, 50, 60, 70, 80, 150
    GeV and above, times ``scale``; the rare factors below 0.1 become 0.1. For ``solve(jets=...)``, which leaves
    p_T^miss as it was measured. Raises InputError for n < 1, a negative scale or jets of another shape.
    """
    if n < 1 or not scale >= 0:
        raise InputError(f"n = {n}, scale = {scale}: n must be at least 1 and the scale not negative")
    jets = torch.as_tensor(jets, dtype=torch.float64)
    if jets.ndim != 3 or jets.shape[-1] != 4:
        raise InputError(f"jets: shape {tuple(jets.shape)}; (events, jets, 4) is needed")
    width = scale * _JET_WIDTH[torch.bucketize(kinematics.pt(jets).contiguous(), _JET_PT, right=True)]
    noise = torch.randn(len(jets), n, jets.shape[1], generator=generator, dtype=torch.float64)
    return (1 + width[:, None] * noise).clip(0.1)[..., None] * jets[:, None]


def relative_sigma(met: Tensor, fraction: float = 0.2, floor: float = 1.0) -> Tensor:
    """Return resolutions ``(B, 2)`` of ``met`` ``(B, 2)``: a fraction of each component, at least ``floor`` GeV."""
    return (fraction * torch.as_tensor(met, dtype=torch.float64).abs()).clip(floor)


def solve(
    lepton_plus: Tensor,
    lepton_minus: Tensor,
    jets: Tensor,
    jet_mask: Tensor,
    met: Tensor,
    *,
    etas: Tensor | Sequence[float] = ETAS,
    m_tops: Tensor | Sequence[float] = M_TOPS,
    m_w: float = M_W,
    sigma: Tensor | float = 10.0,
    m_tt_min: float = 300.0,
    pairings: Tensor | Sequence[tuple[int, int]] | None = None,
    min_weight: float = sys.float_info.min,
) -> Weighted:
    """Return the hypothesis with the highest weight of every event.

    ``lepton_plus, lepton_minus`` ``(B, 4)``; b-tagged jets ``(B, N, 4)``, or ``(B, S, N, 4)`` from
    :func:`smear_jets`, of which those in ``jet_mask`` ``(B, N)`` exist; ``met`` ``(B, 2)``; GeV. ``etas`` are tried
    for both neutrinos, ``(n,)``, or ``(B, 2, n)`` for ν and ν̄ event by event; both tops have the same mass of
    ``m_tops``. ``sigma`` is a number, or ``(B, 2)`` for px and py. ``pairings`` ``(P, 2)`` or ``(B, P, 2)`` are the
    jets of top and antitop to be tried, all ordered pairs by default; a pair with a missing jet is skipped. On-shell
    tops have m_tt ≥ 2 m_t, so that a veto ``m_tt_min`` below that never acts.

    An event is valid where the highest weight is at least ``min_weight``: by default the smallest normal double, at
    Δ = 37.6 σ. Fewer than two jets make an event invalid; they raise nothing. Raises InputError for wrong shapes,
    momenta that are not finite, zero or space-like, and settings that cannot be. Source: 2307.02405.
    """
    lepton_plus, lepton_minus = _momenta(lepton_plus, "lepton_plus", 2), _momenta(lepton_minus, "lepton_minus", 2)
    n_events = len(lepton_plus)
    jets, jet_mask = _jets(jets, jet_mask, n_events)
    met = _plane(met, "met", n_events)
    sigma = _plane(sigma, "sigma", n_events) if torch.is_tensor(sigma) and sigma.ndim else _number(sigma, "sigma")
    sigma = sigma.to(met).expand(n_events, 2)
    etas = _etas(etas, n_events).to(met)
    m_tops = _line(m_tops, "m_tops").to(met)
    pairings = _pairings(pairings, n_events, jets.shape[2]).to(met.device)
    _refuse_pairs(lepton_minus.shape[0] != n_events, f"lepton_minus: {len(lepton_minus)} events", n_events)
    _refuse(~(sigma > 0).all(-1), "sigma", "must be positive")
    _refuse((lepton_plus == lepton_minus).all(-1), "lepton_plus and lepton_minus", "are the same particle")
    m_w, m_tt_min, min_weight = (
        float(_number(value, name))
        for value, name in ((m_w, "m_w"), (m_tt_min, "m_tt_min"), (min_weight, "min_weight"))
    )
