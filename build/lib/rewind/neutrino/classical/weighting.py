"""Neutrino weighting for tt̄ → dilepton: scan what is not measured, keep the hypothesis nearest to p_T^miss.

Fix the pseudorapidity of a neutrino, m_t and m_W: the two mass shells of its leg then leave at most two transverse
momenta (hep-ex/9706014). Two legs predict p_T^miss, and neutrinos that miss it by Δ = p_T(ν) + p_T(ν̄) − p_T^miss have
the weight exp(−χ²/2), χ² = (Δx/σx)² + (Δy/σy)². Grid, masses and veto are those of 2307.02405. Momenta (E, px, py,
pz), GeV, float64.

The scan is exact, but it does not visit the grid. The solutions of a leg are points on two curves, and the highest
weight belongs to the closest pair between the curves of one leg and those of the other, mirrored at p_T^miss. Runs of
neighbouring points are boxed; boxes that lie farther apart than a pair already known cannot hold the closest one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
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

_RUN = 4  # neighbouring η in a box
_POINTS = 70_000  # points of one leg worked on at a time: larger ones leave the cache
_SLACK = 1e-6  # by which E may fall short of |p|, relative: single-precision input
_TINY, _HUGE = 1e-100, sys.float_info.max
_ROUNDING = 1 + 1e-9
_JET_PT = (40.0, 50.0, 60.0, 70.0, 80.0, 150.0)
_JET_WIDTH = (0.13, 0.14, 0.12, 0.11, 0.09, 0.08, 0.06)


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


class _Problem(NamedTuple):
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


class _Runs(NamedTuple):
    """Hold neutrinos of a leg at M masses and n neighbouring η, ``(2, M, n, C)``, infinite where there is none.

    The first axis is the plane of p_T(ν)/σ and of (p_T^miss − p_T(ν̄))/σ, in which χ² is a squared distance. The
    neutrinos of a run lie between ``low`` and ``high`` ``(2, C)``. η ``(n, C)``, p(ℓ) + p(b) ``(4, C)``.
    """

    points: Tensor
    low: Tensor
    high: Tensor
    eta: Tensor
    visible: Tensor


def leg_solutions(lepton: Tensor, b: Tensor, eta, m_top, m_w: float = M_W) -> Tensor:
    """Return the neutrinos ``(..., 2, 3)`` of one leg that put (ℓν) and (bℓν) on their mass shells; NaN if none.

    ``lepton, b`` ``(..., 4)``; the neutrino's pseudorapidity ``eta`` and ``m_top`` ``(...)``; GeV. Source:
    hep-ex/9706014, here with the masses of lepton and b.
    """
    lepton, b, eta, m_top = (torch.as_tensor(z, dtype=torch.float64) for z in (lepton, b, eta, m_top))
    as_it_is = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    xy, there = _transverse(lepton[..., None, :], b[..., None, :], eta[..., None], m_top[..., None], m_w, *as_it_is)
    xy = torch.where(there[..., None, :], xy, math.nan)[..., 0]
    return torch.stack([*xy, torch.hypot(*xy) * eta.sinh()[..., None]], -1)


def _transverse(
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


def draw_etas(lepton_plus: Tensor, lepton_minus: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return ``n`` pseudorapidities ``(B, 2, n)`` for ν and ν̄ of each event, from N(0.7 η_ℓ − 0.1, 1.14²).

    Leptons ``(B, 4)``, GeV; for ``solve(..., etas=...)``. Raises InputError for n < 1 and for leptons that
    :func:`solve` refuses or that fly along the beam.
    """
    if n < 1:
        raise InputError(f"n = {n} pseudorapidities: at least one is needed")
    lepton_plus = _momenta(lepton_plus, "lepton_plus", (-1, 4))
    leptons = torch.stack([lepton_plus, _momenta(lepton_minus, "lepton_minus", lepton_plus.shape)], 1)
    eta = kinematics.eta(leptons)
    _refuse(~eta.isfinite().all(-1), "leptons", "one flies along the beam: its pseudorapidity is infinite")
    noise = torch.randn(*eta.shape, n, generator=generator, dtype=torch.float64)
    return 0.7 * eta[..., None] - 0.1 + 1.14 * noise


def smear_jets(jets: Tensor, n: int, generator: torch.Generator, *, scale: float = 1.0) -> Tensor:
    """Return ``n`` copies ``(B, n, N, 4)`` of ``jets`` ``(B, N, 4)``, each four-momentum times a random factor.

    The factor is Gaussian around 1, with a width of 13, 14, 12, 11, 9, 8, 6 % for pT below 40, 50, 60, 70, 80, 150
    GeV and above, times ``scale``; the rare factors below 0.1 become 0.1. For ``solve(jets=...)``; p_T^miss stays as
    measured. Raises InputError for n < 1, a negative scale, or another shape.
    """
    if n < 1 or not scale >= 0:
        raise InputError(f"n = {n}, scale = {scale}: n must be at least 1 and the scale not negative")
    jets = _tensor(jets, "jets", (-1, -1, 4))
    edges, widths = jets.new_tensor(_JET_PT), jets.new_tensor(_JET_WIDTH)
    width = scale * widths[torch.bucketize(kinematics.pt(jets), edges, right=True)]
    noise = torch.randn(len(jets), n, jets.shape[1], generator=generator, dtype=torch.float64)
    return (1 + width[:, None] * noise).clip(0.1)[..., None] * jets[:, None]


def relative_sigma(met: Tensor, fraction: float = 0.2, floor: float = 1.0) -> Tensor:
    """Return resolutions ``(B, 2)``: a ``fraction`` of each component of ``met`` ``(B, 2)``, at least ``floor`` GeV."""
    return (fraction * _tensor(met, "met", (-1, 2)).abs()).clip(floor)


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
    """Return the hypothesis with the highest weight of each event.

    ``lepton_plus, lepton_minus`` ``(B, 4)``; b-tagged jets ``(B, N, 4)``, or copies ``(B, S, N, 4)`` from
    :func:`smear_jets`, of which those in ``jet_mask`` ``(B, N)`` exist; ``met`` ``(B, 2)``; GeV. ``etas`` ``(n,)``
    serve both neutrinos, ``(B, 2, n)`` ν and ν̄ event by event; both tops have the same mass of ``m_tops``. ``sigma``
    is a number, or ``(B, 2)`` for px and py. ``pairings`` ``(P, 2)`` or ``(B, P, 2)`` are the jets of top and antitop
    to be tried, by default all ordered pairs; those with a missing jet are skipped. The veto m_tt ≥ ``m_tt_min`` only
    acts above 2 m_t, since all hypotheses are on shell.

    An event is valid where the highest weight is at least ``min_weight``, by default the smallest normal double
    (Δ = 37.6 σ). Fewer than two jets make an event invalid and raise nothing. Raises InputError for wrong shapes, for
    momenta that are zero, space-like or not finite, and for settings that cannot be. Source: 2307.02405.
    """
    problem = _problem(lepton_plus, lepton_minus, jets, jet_mask, met, etas, m_tops, m_w, sigma, m_tt_min, pairings)
    if not 0 <= min_weight <= 1:
        raise InputError(f"min_weight = {min_weight}: a number from 0 to 1 is needed")
    problem = problem._replace(etas=_full_runs(problem.etas))
    result = _nothing(problem.met)
    for hypotheses in _chunks(problem):
        _search(result, problem, *hypotheses.unbind(1))
    weight = result.log_weight.exp()
    valid = (weight >= min_weight) & (result.log_weight > -math.inf)
    for values, nothing in zip(result, _nothing(problem.met), strict=True):
        if values is not result.log_weight:
            values[~valid] = nothing[~valid]
    return result._replace(weight=torch.where(valid, weight, 0.0), valid=valid)


def weight_map(
    lepton_plus: Tensor,
    lepton_minus: Tensor,
    jets: Tensor,
    met: Tensor,
    *,
    etas: Tensor | Sequence[float] = ETAS,
    m_tops: Tensor | Sequence[float] = M_TOPS,
    m_w: float = M_W,
    sigma: Tensor | float = 10.0,
    m_tt_min: float = 300.0,
    pairings: Tensor | Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Return the highest weight ``(n, n)`` at each (η_ν, η_ν̄) of one event, over masses, pairings and solutions.

    Leptons ``(4,)``, jets ``(N, 4)``, ``met`` ``(2,)``, GeV; ``etas`` ``(n,)`` or ``(2, n)``, ``sigma`` a number or
    ``(2,)``; for the rest, and the errors, see :func:`solve`.
    """
    event = [torch.as_tensor(z, dtype=torch.float64)[None] for z in (lepton_plus, lepton_minus, jets, met)]
    etas, sigma = (torch.as_tensor(z, dtype=torch.float64) for z in (etas, sigma))
    etas, sigma = etas[None] if etas.ndim == 2 else etas, sigma[None] if sigma.ndim else sigma
    mask = torch.ones(event[2].shape[:-1], dtype=torch.bool)
    problem = _problem(*event[:3], mask, event[3], etas, m_tops, m_w, sigma, m_tt_min, pairings)
    pair, n = problem.pairings[0], problem.etas.shape[-1]
    if not len(pair):
        return problem.met.new_zeros(n, n)
    nothing = torch.zeros_like(pair[:, 0])
    runs, columns = _curves(problem, nothing, nothing, pair, n)
    columns = torch.stack([columns[0, :, None].expand(2, 2, -1), columns[1].expand(2, 2, -1)]).flatten(1)
    chi2 = _chi2(problem, nothing.repeat(4), runs, columns)
    return (-0.5 * chi2.amin((0, 3))).exp()


def _nothing(met: Tensor) -> Weighted:
    vector, pair = met.new_full((len(met), 3), math.nan), torch.full_like(met, -1, dtype=torch.int64)
    valid = torch.zeros_like(pair[:, 0], dtype=torch.bool)
    m_top, weight, log_weight = (met.new_full((len(met),), value) for value in (math.nan, 0.0, -math.inf))
    return Weighted(vector, vector.clone(), weight, log_weight, valid, pair, m_top, pair[:, 0].clone())


def _full_runs(etas: Tensor) -> Tensor:
    """Return ``etas`` in rising order, the last one repeated until runs are full."""
    etas = etas.sort(-1).values
    return torch.cat([etas, etas[..., -1:].expand(*etas.shape[:-1], -etas.shape[-1] % _RUN)], -1)


def _chunks(problem: _Problem) -> Sequence[Tensor]:
    """Return the hypotheses (event, copy of the jets, pairing) ``(H, 3)``, in pieces that keep events together."""
    n_copies = problem.jets.shape[1]
    there = problem.jet_mask.gather(1, problem.pairings.flatten(1)).reshape(problem.pairings.shape).all(-1)
    hypotheses = there[:, None].expand(-1, n_copies, -1).nonzero()
    points = 2 * len(problem.m_tops) * problem.etas.shape[-1] * len(hypotheses)
    size = len(hypotheses) / max(1, round(points / _POINTS))
    before = n_copies * (there.sum(1).cumsum(0) - there.sum(1))
    chunk = before.div(size, rounding_mode="floor")[hypotheses[:, 0]]
    return hypotheses.split(chunk.unique_consecutive(return_counts=True)[1].tolist())


def _curves(problem: _Problem, event: Tensor, copy: Tensor, pair: Tensor, run: int) -> tuple[_Runs, Tensor]:
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
    points, there = _transverse(lepton, b, eta, problem.m_tops[:, None, None], problem.m_w, scale, origin)

    points, there = points.flatten(-2), there.repeat(1, 1, 2)
    occupied, nowhere = there.flatten(0, 1).any(0), (scale[0] * math.inf).repeat(2)
    low = torch.where(occupied, points.flatten(1, 2).amin(1), math.inf)
    high = torch.where(occupied, points.flatten(1, 2).amax(1), -math.inf)
    torch.where(there, points[0], nowhere, out=points[0])
    return _Runs(points, low, high, eta.repeat(1, 2), (lepton + b).T.repeat(1, 2)), columns


def _chi2(problem: _Problem, event: Tensor, runs: _Runs, columns: Tensor) -> Tensor:
    """Return χ² ``(M, n, n, C)`` of the pairs of neutrinos of two runs; inf where one is missing or m_tt vetoed."""
    plus, minus = (runs.points[..., column] for column in columns)
    x, y = plus[:, :, :, None] - minus[:, :, None]
    chi2 = x.square_().addcmul_(y, y)
    if problem.m_tt_min > 2 * problem.m_tops.min():
        allowed = _m_tt_squared(problem, event, runs, columns) >= problem.m_tt_min**2
        chi2 = torch.where(allowed, chi2, math.inf)
    return chi2


def _m_tt_squared(problem: _Problem, event: Tensor, runs: _Runs, columns: Tensor) -> Tensor:
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


def _search(result: Weighted, problem: _Problem, event: Tensor, copy: Tensor, pairing: Tensor) -> None:
    """Write the best of some hypotheses ``(H,)`` of each of their events into ``result``."""
    pair = problem.pairings[event, pairing]
    runs, columns = _curves(problem, event, copy, pair, _RUN)
    nearest, farthest = _bounds(runs, columns)

    def closest(hypothesis, first, second):
        chosen = torch.stack([columns[0, first, hypothesis], columns[1, second, hypothesis]])
        chi2 = _chi2(problem, event[hypothesis], runs, chosen)
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


def _bounds(runs: _Runs, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return what χ² between two runs ``(G, G, H)``, at any mass, cannot fall below, and what it cannot exceed."""
    plus, minus = columns[0, :, None], columns[1, None]
    below, above = runs.low[:, plus] - runs.high[:, minus], runs.low[:, minus] - runs.high[:, plus]
    (near_x, near_y), (far_x, far_y) = torch.maximum(below, above).clip_(0.0), torch.minimum(below, above)
    return near_x.square_().addcmul_(near_y, near_y), far_x.square_().addcmul_(far_y, far_y)


def _problem(lepton_plus, lepton_minus, jets, jet_mask, met, etas, m_tops, m_w, sigma, m_tt_min, pairings) -> _Problem:
    """Return the input as tensors of full shape; raise InputError for what cannot be."""
    lepton_plus = _momenta(lepton_plus, "lepton_plus", (-1, 4))
    n = len(lepton_plus)
    lepton_minus = _momenta(lepton_minus, "lepton_minus", (n, 4))
    _refuse((lepton_plus == lepton_minus).all(-1), "lepton_plus, lepton_minus", "the same particle twice")
    jets = torch.as_tensor(jets, dtype=torch.float64)
    jets = jets[:, None] if jets.ndim == 3 else jets
    n_jets = jets.shape[-2] if jets.ndim == 4 else -1
    jet_mask = _tensor(jet_mask, "jet_mask", (n, n_jets), torch.bool)
    jets = _momenta(jets, "jets", (n, -1, n_jets, 4), jet_mask[:, None])
    met = _finite(met, "met", (n, 2))
    sigma = torch.as_tensor(sigma, dtype=torch.float64)
    sigma = _finite(sigma if sigma.ndim else sigma.expand(n, 2), "sigma", (n, 2))
    _refuse((sigma <= 0).any(-1), "sigma", "must be positive")
    etas = torch.as_tensor(etas, dtype=torch.float64)
    etas = _finite(etas.expand(n, 2, -1) if etas.ndim == 1 else etas, "etas", (n, 2, -1)).movedim(1, 0)
    m_tops = _tensor(m_tops, "m_tops", (-1,))
    if not (etas.shape[-1] and len(m_tops)):
        raise InputError("etas, m_tops: at least one value of each is needed")
    if not (0 < m_w < math.inf and ((m_tops > 0) & (m_tops < math.inf)).all() and 0 <= m_tt_min < math.inf):
        raise InputError(f"m_w = {m_w}, m_tops = {m_tops.tolist()}, m_tt_min = {m_tt_min}: must be positive and finite")
    if pairings is None:
        pairings = torch.tensor(list(permutations(range(n_jets), 2)), dtype=torch.int64).reshape(-1, 2)
    pairings = torch.as_tensor(pairings, dtype=torch.int64)
    pairings = pairings.expand(n, -1, -1) if pairings.ndim == 2 else pairings
    pairings = _tensor(pairings, "pairings", (n, -1, 2), torch.int64)
    wrong = (pairings < 0) | (pairings >= n_jets) | (pairings[..., :1] == pairings[..., 1:])
    _refuse(wrong.flatten(1).any(1), "pairings", f"two different positions from 0 to {n_jets - 1} are needed")
    device = lepton_plus.device
    jets, jet_mask, met, sigma, etas, m_tops, pairings = (
        z.to(device) for z in (jets, jet_mask, met, sigma, etas, m_tops, pairings)
    )
    leptons = torch.stack([lepton_plus, lepton_minus.to(device)])
    return _Problem(leptons, jets, jet_mask, met, sigma, etas, m_tops, m_w, m_tt_min, pairings)


def _tensor(values, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.as_tensor(values, dtype=dtype)
    if values.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, values.shape, strict=True)):
        wanted = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise InputError(f"{name}: shape {tuple(values.shape)}; ({wanted}) is needed")
    return values


def _refuse(bad: Tensor, name: str, why: str) -> None:
    if bad.any():
        raise InputError(f"{name}, event {int(bad.nonzero()[0, 0])}: {why}")


def _finite(values, name: str, shape: tuple[int, ...]) -> Tensor:
    values = _tensor(values, name, shape)
    _refuse(~values.isfinite().flatten(1).all(1), name, "not finite")
    return values


def _momenta(values, name: str, shape: tuple[int, ...], there: Tensor | bool = True) -> Tensor:
    """Return four-momenta; raise InputError for those ``there`` that are not finite, zero or space-like."""
    p = _tensor(values, name, shape)
    length = p[..., 1:].norm(dim=-1)
    _refuse(~p.isfinite().all(-1) & there, name, "a momentum is not finite")
    _refuse((length == 0) & there, name, "a momentum is zero")
    _refuse((p[..., 0] < (1 - _SLACK) * length) & there, name, "the energy is below the momentum")
    return torch.cat([p[..., :1].maximum(length[..., None]), p[..., 1:]], -1)
