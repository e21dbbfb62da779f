"""Neutrino weighting for tt̄ → dilepton: scan what is not measured, keep the hypothesis nearest to p_T^miss.

Fix the pseudorapidity of a neutrino, m_t and m_W: the two mass shells of its leg then leave at most two transverse
momenta (hep-ex/9706014). Two legs predict p_T^miss, and neutrinos that miss it by Δ = p_T(ν) + p_T(ν̄) − p_T^miss have
the weight exp(−χ²/2), χ² = (Δx/σx)² + (Δy/σy)². Grid, masses and veto are those of 2307.02405. Momenta (E, px, py,
pz), GeV, float64.
The scan is exact, but it does not visit the grid: :mod:`~rewind.neutrino.classical.scan` says how.

>>> relative_sigma(torch.tensor([[50.0, -2.0]])).tolist()
[[10.0, 1.0]]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.classical.scan import (
    Problem,
    Weighted,
    chi_squared,
    chunks,
    full_runs,
    leg_curves,
    nothing_yet,
    search,
)
from rewind.physics.constants import M_W
from rewind.physics.constraints import (
    checked_finite,
    checked_met,
    checked_momenta,
    checked_tensor,
    refuse,
    refuse_momenta,
    time_like,
)
from rewind.random_numbers import require_generator

__all__ = ["ETAS", "M_TOPS", "Weighted", "draw_etas", "relative_sigma", "smear_jets", "solve", "weight_map"]

ETAS = tuple(round(-5 + 0.2 * i, 1) for i in range(51))
M_TOPS = tuple(171 + 0.5 * i for i in range(7))

_JET_PT = (40.0, 50.0, 60.0, 70.0, 80.0, 150.0)
_JET_WIDTH = (0.13, 0.14, 0.12, 0.11, 0.09, 0.08, 0.06)


def draw_etas(lepton_plus: Tensor, lepton_minus: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return ``n`` pseudorapidities ``(B, 2, n)`` for ν and ν̄ of each event, from N(0.7 η_ℓ − 0.1, 1.14²).

    Leptons ``(B, 4)``, GeV; for ``solve(..., etas=...)``. Raises InputError for n < 1 and for leptons that
    :func:`solve` refuses or that fly along the beam.
    """
    if n < 1:
        raise InputError(f"n = {n} pseudorapidities: at least one is needed")
    lepton_plus = checked_momenta("lepton_plus", lepton_plus)
    leptons = torch.stack([lepton_plus, checked_momenta("lepton_minus", lepton_minus, len(lepton_plus))], 1)
    eta = kinematics.eta(leptons)
    refuse(~eta.isfinite(), "leptons", "has one along the beam: its pseudorapidity is infinite")
    noise = torch.randn(*eta.shape, n, generator=require_generator(generator), dtype=torch.float64)
    return 0.7 * eta[..., None] - 0.1 + 1.14 * noise


def smear_jets(jets: Tensor, n: int, generator: torch.Generator, *, scale: float = 1.0) -> Tensor:
    """Return ``n`` copies ``(B, n, N, 4)`` of ``jets`` ``(B, N, 4)``, each four-momentum times a random factor.

    The factor is Gaussian around 1, with a width of 13, 14, 12, 11, 9, 8, 6 % for pT below 40, 50, 60, 70, 80, 150
    GeV and above, times ``scale``; the rare factors below 0.1 become 0.1. For ``solve(jets=...)``; p_T^miss stays as
    measured. Raises InputError for n < 1, a negative scale, or another shape.
    """
    if n < 1 or not scale >= 0:
        raise InputError(f"n = {n}, scale = {scale}: n must be at least 1 and the scale not negative")
    jets, generator = checked_tensor("jets", jets, (-1, -1, 4)), require_generator(generator)
    edges, widths = jets.new_tensor(_JET_PT), jets.new_tensor(_JET_WIDTH)
    width = scale * widths[torch.bucketize(kinematics.pt(jets), edges, right=True)]
    noise = torch.randn(len(jets), n, jets.shape[1], generator=generator, dtype=torch.float64)
    return (1 + width[:, None] * noise).clip(0.1)[..., None] * jets[:, None]


def relative_sigma(met: Tensor, fraction: float = 0.2, floor: float = 1.0) -> Tensor:
    """Return resolutions ``(B, 2)``: a ``fraction`` of each component of ``met`` ``(B, 2)``, at least ``floor`` GeV."""
    return (fraction * checked_tensor("met", met, (-1, 2)).abs()).clip(floor)


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
    problem = problem._replace(etas=full_runs(problem.etas))
    result = nothing_yet(problem.met)
    for hypotheses in chunks(problem):
        search(result, problem, *hypotheses.unbind(1))
    weight = result.log_weight.exp()
    valid = (weight >= min_weight) & (result.log_weight > -math.inf)
    for values, nothing in zip(result, nothing_yet(problem.met), strict=True):
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
    runs, columns = leg_curves(problem, nothing, nothing, pair, n)
    columns = torch.stack([columns[0, :, None].expand(2, 2, -1), columns[1].expand(2, 2, -1)]).flatten(1)
    chi2 = chi_squared(problem, nothing.repeat(4), runs, columns)
    return (-0.5 * chi2.amin((0, 3))).exp()


def _problem(lepton_plus, lepton_minus, jets, jet_mask, met, etas, m_tops, m_w, sigma, m_tt_min, pairings) -> Problem:
    """Return the input as tensors of full shape; raise InputError for what cannot be."""
    lepton_plus = time_like(checked_momenta("lepton_plus", lepton_plus))
    n = len(lepton_plus)
    lepton_minus = time_like(checked_momenta("lepton_minus", lepton_minus, n))
    refuse((lepton_plus == lepton_minus).all(-1), "lepton_plus and lepton_minus", "has the same momentum twice")
    jets = torch.as_tensor(jets, dtype=torch.float64)
    jets = jets[:, None] if jets.ndim == 3 else jets
    n_jets = jets.shape[-2] if jets.ndim == 4 else -1
    jet_mask = checked_tensor("jet_mask", jet_mask, (n, n_jets), torch.bool)
    jets = checked_tensor("jets", jets, (n, -1, n_jets, 4))
    refuse_momenta("jets", jets, jet_mask[:, None])
    jets, met = time_like(jets), checked_met("met", met, n)
    sigma = torch.as_tensor(sigma, dtype=torch.float64)
    sigma = checked_finite("sigma", sigma if sigma.ndim else sigma.expand(n, 2), (n, 2))
    refuse(sigma <= 0, "sigma", "has one that is not positive")
    etas = torch.as_tensor(etas, dtype=torch.float64)
    etas = checked_finite("etas", etas.expand(n, 2, -1) if etas.ndim == 1 else etas, (n, 2, -1)).movedim(1, 0)
    m_tops = checked_tensor("m_tops", m_tops, (-1,))
    if not (etas.shape[-1] and len(m_tops)):
        raise InputError("etas, m_tops: at least one value of each is needed")
    if not (0 < m_w < math.inf and ((m_tops > 0) & (m_tops < math.inf)).all() and 0 <= m_tt_min < math.inf):
        raise InputError(f"m_w = {m_w}, m_tops = {m_tops.tolist()}, m_tt_min = {m_tt_min}: must be positive and finite")
    if pairings is None:
        pairings = torch.tensor(list(permutations(range(n_jets), 2)), dtype=torch.int64).reshape(-1, 2)
    pairings = torch.as_tensor(pairings, dtype=torch.int64)
    pairings = pairings.expand(n, -1, -1) if pairings.ndim == 2 else pairings
    pairings = checked_tensor("pairings", pairings, (n, -1, 2), torch.int64)
    wrong = (pairings < 0) | (pairings >= n_jets) | (pairings[..., :1] == pairings[..., 1:])
    refuse(wrong, "pairings", f"needs two different positions from 0 to {n_jets - 1}")
    device = lepton_plus.device
    jets, jet_mask, met, sigma, etas, m_tops, pairings = (
        z.to(device) for z in (jets, jet_mask, met, sigma, etas, m_tops, pairings)
    )
    leptons = torch.stack([lepton_plus, lepton_minus.to(device)])
    return Problem(leptons, jets, jet_mask, met, sigma, etas, m_tops, m_w, m_tt_min, pairings)
