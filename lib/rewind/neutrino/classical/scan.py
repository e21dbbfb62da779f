"""The scan of neutrino weighting: the closest pair of points between the curves of two legs, without visiting a grid.

The solutions of a leg are points on two curves, and the highest weight belongs to the closest pair between the curves
of one leg and those of the other, mirrored at p_T^miss. Runs of neighbouring points are boxed; boxes that lie farther
apart than a pair already known cannot hold the closest one.

>>> full_runs(torch.tensor([2.0, 0.0, 1.0])).tolist()  # runs of four
[0.0, 1.0, 2.0, 2.0]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rewind import kinematics

__all__ = [
    "Problem",
    "Runs",
    "Weighted",
    "chi_squared",
    "chunks",
    "full_runs",
    "leg_curves",
    "nothing_yet",
    "search",
    "transverse_solutions",
]

_RUN = 4  # neighbouring η in a box
_POINTS = 70_000  # points of one leg worked on at a time: larger ones leave the cache
_TINY, _HUGE = 1e-100, sys.float_info.max
_ROUNDING = 1 + 1e-9


class Weighted(NamedTuple):
    """Hold the winning hypothesis of each event; where ``valid`` is false: NaN, weight 0, positions −1.

    ``pairing`` are the positions in ``jets`` of the b of the top and of the antitop, ``smear`` is that of the winning
    copy of the jets. ``log_weight`` is kept for events that are not valid, −inf where no hypothesis has a solution.
    """

    neutrino: Tensor
    antineutrino: Tensor
    weight: Tensor
    log_weight: Tensor
    valid: Tensor
    pairing: Tensor
    m_top: Tensor
    smear: Tensor


class Problem(NamedTuple):
    """Hold checked input: leptons ``(2, B, 4)``, jets ``(B, S, N, 4)``, η ``(2, B, n)``, pairings ``(B, P, 2)``."""

    leptons: Tensor
    jets: Tensor
    jet_mask: Tensor
    met: Tensor
    sigma: Tensor
    etas: Tensor
    m_tops: Tensor
    m_w: float
    m_tt_min: float
    pairings: Tensor


class Runs(NamedTuple):
    """Hold neutrinos of a leg at M masses and n neighbouring η, ``(2, M, n, C)``, infinite where there is none.

    The first axis is the plane of p_T(ν)/σ and of (p_T^miss − p_T(ν̄))/σ, in which χ² is a squared distance. The
    neutrinos of a run lie between ``low`` and ``high`` ``(2, C)``. η ``(n, C)``, p(ℓ) + p(b) ``(4, C)``.
    """

    points: Tensor
    low: Tensor
    high: Tensor
    eta: Tensor
    visible: Tensor


def transverse_solutions(
    lepton: Tensor, b: Tensor, eta: Tensor, m_top: Tensor, m_w: float, scale: Tensor, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """Return scale p_T + origin ``(2, ..., 2, C)`` of two neutrinos for each η ``(..., C)``, and which exist.

    A momentum k and a massless neutrino of transverse momentum p have k·ν = A|p| − k_T·p with
    A = E cosh η − k_z sinh η. The mass shells say A_ℓ|p| = a_ℓ + ℓ_T·p and A_b|p| = a_b + b_T·p. Together they are
    a line, p = h n + t n⊥ with unit vectors n and n⊥, on which the first gives a quadratic equation for t. Where
    its discriminant is negative it counts as zero.
    """
    cosh, sinh = eta.cosh(), eta.sinh()
    energy, lx, ly, lz = lepton.unbind(-1)
    b_energy, bx, by, bz = b.unbind(-1)
    A, A_b = (energy * cosh - lz * sinh).clip(_TINY), (b_energy * cosh - bz * sinh).clip(_TINY)
    m2 = kinematics.mass_squared(lepton).clip(0.0)
    a = (m_w**2 - m2) / 2
    a_b = (m_top**2 - m_w**2 - kinematics.mass_squared(b)) / 2 - (energy * b_energy - lx * bx - ly * by - lz * bz)

    nx, ny = lx / A - bx / A_b, ly / A - by / A_b
    norm = torch.hypot(nx, ny).clip(_TINY)
    nx, ny = nx / norm, ny / norm
    along, across = lx * nx + ly * ny, ly * nx - lx * ny
    K = (m2 + (lz * cosh - energy * sinh) ** 2 + along**2).clip(_TINY)  # = A² − across², without cancellation
    regular = (a > 0) & (norm > _TINY)  # else there is no |p| > 0, or ℓ and b are parallel and say the same

    h = torch.addcmul(-a / (A * norm), a_b, 1 / (A_b * norm))
    c = torch.addcmul(a, along, h)  # A|p| = c + across t
    discriminant = c.square().addcmul_(K, h.square(), value=-1)
    root = discriminant.clip(_TINY).sqrt_().mul_(A / K)
    middle = c * (across / K)
    t = torch.stack([middle + root, middle - root], -2)
    points = t.new_empty(2, *t.shape)
    for axis, (along_n, across_n) in enumerate(((nx, -ny), (ny, nx))):
        start = torch.addcmul(origin[axis], h, along_n * scale[axis]).unsqueeze(-2)
        torch.addcmul(start, t, (across_n * scale[axis]).unsqueeze(-2), out=points[axis])
    return points, (discriminant >= 0) & regular


def nothing_yet(met: Tensor) -> Weighted:
    """Return what stands where no hypothesis has won."""
    vector, pair = met.new_full((len(met), 3), math.nan), torch.full_like(met, -1, dtype=torch.int64)
    valid = torch.zeros_like(pair[:, 0], dtype=torch.bool)
    m_top, weight, log_weight = (met.new_full((len(met),), value) for value in (math.nan, 0.0, -math.inf))
    return Weighted(vector, vector.clone(), weight, log_weight, valid, pair, m_top, pair[:, 0].clone())


def full_runs(etas: Tensor) -> Tensor:
    """Return ``etas`` in rising order, the last one repeated until runs are full."""
    etas = etas.sort(-1).values
    return torch.cat([etas, etas[..., -1:].expand(*etas.shape[:-1], -etas.shape[-1] % _RUN)], -1)


def chunks(problem: Problem) -> Sequence[Tensor]:
    """Return the hypotheses (event, copy of the jets, pairing) ``(H, 3)``, in pieces that keep events together."""
    n_copies = problem.jets.shape[1]
    there = problem.jet_mask.gather(1, problem.pairings.flatten(1)).reshape(problem.pairings.shape).all(-1)
    hypotheses = there[:, None].expand(-1, n_copies, -1).nonzero()
    points = 2 * len(problem.m_tops) * problem.etas.shape[-1] * len(hypotheses)
    size = len(hypotheses) / max(1, round(points / _POINTS))
    before = n_copies * (there.sum(1).cumsum(0) - there.sum(1))
    chunk = before.div(size, rounding_mode="floor")[hypotheses[:, 0]]
    return hypotheses.split(chunk.unique_consecutive(return_counts=True)[1].tolist())


def leg_curves(problem: Problem, event: Tensor, copy: Tensor, pair: Tensor, run: int) -> tuple[Runs, Tensor]:
    """Solve the legs of hypotheses with jets ``pair`` ``(H, 2)``, each leg once, in runs of η.

    The runs of the two legs of each hypothesis stand in the ``(2, G, H)`` columns that are returned with them.
    """
    n_events, n_copies, n_jets, _ = problem.jets.shape
    side = torch.arange(2, device=event.device)[:, None]
    key, leg = (((side * n_events + event) * n_copies + copy) * n_jets + pair.T).unique(return_inverse=True)
    owner, jet = key.div(n_copies * n_jets, rounding_mode="floor"), key % (n_events * n_copies * n_jets)
    minus, event = owner >= n_events, owner % n_events
    eta = problem.etas.flatten(0, 1)[owner].unflatten(-1, (-1, run)).permute(2, 1, 0)
    n_runs, n_legs = eta.shape[1:]
    columns = n_legs * torch.arange(2 * n_runs, device=key.device)[:, None] + leg[:, None]

    lepton = problem.leptons.flatten(0, 1)[owner].repeat(n_runs, 1)
    b = problem.jets.flatten(0, 2)[jet].repeat(n_runs, 1)
    eta, sigma, met = eta.flatten(1), problem.sigma[event].T, problem.met[event].T
    scale, origin = torch.where(minus, -1 / sigma, 1 / sigma), torch.where(minus, met / sigma, 0.0)
    scale, origin = scale.repeat(1, n_runs), origin.repeat(1, n_runs)
    points, there = transverse_solutions(lepton, b, eta, problem.m_tops[:, None, None], problem.m_w, scale, origin)

    points, there = points.flatten(-2), there.repeat(1, 1, 2)
    occupied, nowhere = there.flatten(0, 1).any(0), (scale[0] * math.inf).repeat(2)
    low = torch.where(occupied, points.flatten(1, 2).amin(1), math.inf)
    high = torch.where(occupied, points.flatten(1, 2).amax(1), -math.inf)
    torch.where(there, points[0], nowhere, out=points[0])
    return Runs(points, low, high, eta.repeat(1, 2), (lepton + b).T.repeat(1, 2)), columns


def chi_squared(problem: Problem, event: Tensor, runs: Runs, columns: Tensor) -> Tensor:
    """Return χ² ``(M, n, n, C)`` of the pairs of neutrinos of two runs; inf where one is missing or m_tt vetoed."""
    plus, minus = (runs.points[..., column] for column in columns)
    x, y = plus[:, :, :, None] - minus[:, :, None]
    chi2 = x.square_().addcmul_(y, y)
    if problem.m_tt_min > 2 * problem.m_tops.min():
        allowed = _m_tt_squared(problem, event, runs, columns) >= problem.m_tt_min**2
        chi2 = torch.where(allowed, chi2, math.inf)
    return chi2


def _m_tt_squared(problem: Problem, event: Tensor, runs: Runs, columns: Tensor) -> Tensor:
    met, sigma = (z[event].T[:, None, None] for z in (problem.met, problem.sigma))
    plus, minus = (runs.points[..., column] * sigma for column in columns)
    tops = []
    for pt, column in zip((plus, met - minus), columns, strict=True):
        p = _momentum(pt, runs.eta[:, column])
        tops.append(torch.cat([p.norm(dim=0)[None], p]) + runs.visible[:, None, None, column])
    return kinematics.mass_squared((tops[0][:, :, :, None] + tops[1][:, :, None]).movedim(0, -1))


def _momentum(pt: Tensor, eta: Tensor) -> Tensor:
    """Return p ``(3, ...)`` from p_T ``(2, ...)`` and η."""
    return torch.cat([pt, (torch.hypot(*pt) * eta.sinh())[None]])


def search(result: Weighted, problem: Problem, event: Tensor, copy: Tensor, pairing: Tensor) -> None:
    """Write the best of some hypotheses ``(H,)`` of each of their events into ``result``."""
    pair = problem.pairings[event, pairing]
    runs, columns = leg_curves(problem, event, copy, pair, _RUN)
    nearest, farthest = _bounds(runs, columns)

    def closest(hypothesis, first, second):
        chosen = torch.stack([columns[0, first, hypothesis], columns[1, second, hypothesis]])
        chi2 = chi_squared(problem, event[hypothesis], runs, chosen)
        return chi2.flatten(0, 2).amin(0), chi2, chosen

    local = event - event[0]
    every = torch.arange(len(event), device=event.device)
    lowest, _, _ = closest(every, *torch.unravel_index(farthest.flatten(0, 1).argmin(0), farthest.shape[:2]))
    known = lowest.new_full((int(local[-1]) + 1,), math.inf).scatter_reduce(0, local, lowest, "amin")
    first, second, hypothesis = (nearest <= (known * _ROUNDING).clip(max=_HUGE)[local]).nonzero().unbind(1)
    lowest, chi2, chosen = closest(hypothesis, first, second)

    owner = local[hypothesis]
    best = torch.full_like(known, math.inf).scatter_reduce(0, owner, lowest, "amin")
    hits = ((lowest == best[owner]) & (lowest < math.inf)).nonzero()[:, 0]
    winner = torch.full_like(best, len(lowest), dtype=torch.int64).scatter_reduce(0, owner[hits], hits, "amin")
    winner = winner[winner < len(lowest)]
    mass, i, j = torch.unravel_index(chi2[..., winner].flatten(0, 2).argmin(0), chi2.shape[:3])
    hypothesis, (plus, minus) = hypothesis[winner], chosen[:, winner]
    event = event[hypothesis]
    met, sigma = problem.met[event].T, problem.sigma[event].T
    result.neutrino[event] = _momentum(runs.points[:, mass, i, plus] * sigma, runs.eta[i, plus]).T
    result.antineutrino[event] = _momentum(met - runs.points[:, mass, j, minus] * sigma, runs.eta[j, minus]).T
    result.log_weight[event] = -0.5 * lowest[winner]
    result.pairing[event] = pair[hypothesis]
    result.m_top[event] = problem.m_tops[mass]
    result.smear[event] = copy[hypothesis]


def _bounds(runs: Runs, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return what χ² between two runs ``(G, G, H)``, at any mass, cannot fall below, and what it cannot exceed."""
    plus, minus = columns[0, :, None], columns[1, None]
    below, above = runs.low[:, plus] - runs.high[:, minus], runs.low[:, minus] - runs.high[:, plus]
    (near_x, near_y), (far_x, far_y) = torch.maximum(below, above).clip_(0.0), torch.minimum(below, above)
    return near_x.square_().addcmul_(near_y, near_y), far_x.square_().addcmul_(far_y, far_y)
