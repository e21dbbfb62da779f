"""The classical baseline: one jet for each quark, chosen by the masses that H, W and tops must have.

A hypothesis names four b-jets (two of the Higgs boson, one of each top) and two jets of the W → qq̄'; the neutrino has
the missing transverse momentum and one of the two p_z that the W mass allows. Momenta (E, px, py, pz), GeV.

>>> hypotheses(6).shape, hypotheses(6)[0].tolist()
(torch.Size([180, 6]), [0, 1, 2, 3, 4, 5])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import NamedTuple

import torch
from torch import Tensor

from rewind import kinematics, stats
from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.partons.last_copies import N_QUARKS, ROLES, require_usable, true_partons, with_recoil
from rewind.physics.constraints import w_mass_roots

__all__ = [
    "Masses",
    "assign",
    "closeness",
    "fit_masses",
    "fit_scale",
    "hypotheses",
    "rescaled",
    "scan",
    "scores",
    "sum_of_objects",
]

_FEWEST, _NEAR, _CHUNK = 100, 0.2, 500
_ROLES = torch.tensor([0, 1, 3, 3, 2, 2])  # of a hypothesis' six jets


@dataclass(frozen=True)
class Masses:
    """Hold means and widths in GeV, each as (m, σ), of what is reconstructed from the right jets."""

    higgs: tuple[float, float]
    hadronic_w: tuple[float, float]
    hadronic_top: tuple[float, float]
    leptonic_top: tuple[float, float]


def hypotheses(n_jets: int) -> Tensor:
    """Return all assignments ``(P, 6)`` of ``n_jets`` jets: positions of b_lep, b_had, both b of H, both quarks of W.

    The order within H and within W makes no difference, so that P = n!/(n − 6)!/4.
    """
    if n_jets < N_QUARKS:
        raise InputError(f"n_jets = {n_jets}: six quarks need six jets")
    rows = [
        (*tops, *higgs, *quarks)
        for tops in permutations(range(n_jets), 2)
        for higgs in combinations(sorted(set(range(n_jets)) - set(tops)), 2)
        for quarks in combinations(sorted(set(range(n_jets)) - set(tops) - set(higgs)), 2)
    ]
    return torch.tensor(rows)


class _Hypotheses(NamedTuple):
    """Hold the particles of all hypotheses, ``(B, P, 4)``; with both neutrinos P counts each assignment twice."""

    higgs: Tensor
    hadronic_w: Tensor
    hadronic_top: Tensor
    leptonic_top: Tensor
    n_untagged: Tensor
    allowed: Tensor

    @property
    def heavy(self) -> Tensor:
        """Return H, t_had and t_lep, ``(B, P, 3, 4)``."""
        return torch.stack([self.higgs, self.hadronic_top, self.leptonic_top], 2)


def _order(batch: EventBatch, n_jets: int) -> Tensor:
    """Return places of jets ``(B, n_jets)``: the tagged ones first, then by pT."""
    position = torch.arange(batch.jets.shape[1])
    return (position - 100 * batch.btag.long() - 50 * batch.jet_mask.long()).argsort(1)[:, :n_jets]


def _with_places(batch: EventBatch, n_jets: int) -> EventBatch:
    """Return the events with places for ``n_jets`` jets at least."""
    return batch.padded(max(n_jets, batch.jets.shape[1]))


def _candidates(batch: EventBatch, n_jets: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the candidate jets, their presence and tags."""
    batch = _with_places(batch, n_jets)
    order = _order(batch, n_jets)
    jets = batch.jets.gather(1, order[..., None].expand(-1, -1, 4))
    return jets, batch.jet_mask.gather(1, order), batch.btag.gather(1, order)


def _all(batch: EventBatch, rows: Tensor, n_jets: int) -> _Hypotheses:
    jets, present, tagged = _candidates(batch, n_jets)
    roots = w_mass_roots(batch.leptons[:, 0], batch.met).pz
    transverse = batch.met[:, None].expand(-1, 2, -1)
    neutrino = kinematics.massless(torch.cat([transverse, roots[..., None]], -1))
    w = (batch.leptons + neutrino).repeat_interleave(len(rows), 1)
    rows = rows.repeat(2, 1)
    b_lep, b_had, *others = (jets[:, rows[:, i]] for i in range(6))
    hadronic_w = others[2] + others[3]
    n_untagged = (~tagged[:, rows[:, :4]]).sum(-1)
    return _Hypotheses(
        others[0] + others[1], hadronic_w, hadronic_w + b_had, w + b_lep, n_untagged, present[:, rows].all(-1)
    )


def _chosen(
    batch: EventBatch, n_jets: int, costs: Callable[[_Hypotheses, slice], Iterable[Tensor]]
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return, for each of the ``costs``, the cheapest hypotheses: heavy particles ``(B, 3, 4)``, W, cost and jets.

    The jets ``(B, 6)`` are numbered as :func:`_candidates` has them.
    """
    rows, chunks = hypotheses(n_jets), []
    for start in range(0, len(batch), _CHUNK):
        part = slice(start, start + _CHUNK)
        tried = _all(batch[part], rows, n_jets)
        chunks.append([_cheapest(tried, rows, cost) for cost in costs(tried, part)])
    by_cost = zip(*chunks, strict=True)
    return [tuple(torch.cat(values) for values in zip(*parts, strict=True)) for parts in by_cost]


def _cheapest(tried: _Hypotheses, rows: Tensor, cost: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    least, best = cost.masked_fill(~tried.allowed, torch.inf).min(1)
    event = torch.arange(len(best))
    heavy = torch.stack([p[event, best] for p in (tried.higgs, tried.hadronic_top, tried.leptonic_top)], 1)
    return heavy, tried.hadronic_w[event, best], least, rows[best % len(rows)]


def _pull(p: Tensor, expected: tuple[float, float]) -> Tensor:
    return ((kinematics.mass(p) - expected[0]) / expected[1]) ** 2


def _nearest(batch: EventBatch, n_jets: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    partons = true_partons(batch)

    def distance(tried: _Hypotheses, part: slice) -> list[Tensor]:
        truth = partons[part, None, :3]
        return [((tried.heavy - truth)[..., 1:].norm(dim=-1) / truth[..., 0]).amax(-1)]

    return _chosen(batch, n_jets, distance)[0]


def closeness(batch: EventBatch, *, n_jets: int = 7) -> Tensor:
    """Return how near ``(B,)`` the best of all hypotheses comes to the truth.

    The distance is the largest, over H, t_had and t_lep, of ``|p − p_true|`` over the true energy.
    """
    return _nearest(batch, n_jets)[2]


def fit_masses(batch: EventBatch, *, n_jets: int = 7) -> Masses:
    """Return means and widths (weighted median, half the 16–84 % range) of masses in training events.

    The right hypothesis is the one that comes closest to the true H, t_had and t_lep; each must be nearer than 20 % of
    its energy, else a quark has no jet. Raises InputError for fewer than 100 such events, and for negative weights.
    """
    heavy, w, away, _ = _nearest(batch, n_jets)
    right = away < _NEAR
    if int(right.sum()) < _FEWEST:
        raise InputError(f"masses: {int(right.sum())} events with all six jets; at least {_FEWEST} are needed")
    particles = heavy[:, 0], w, heavy[:, 1], heavy[:, 2]
    return Masses(*(_peak(kinematics.mass(p[right]), batch.weight[right]) for p in particles))


def _peak(mass: Tensor, weight: Tensor) -> tuple[float, float]:
    low, middle, high = stats.quantile(mass, (0.16, 0.5, 0.84), weight)
    return float(middle), float((high - low) / 2)


def assign(batch: EventBatch, masses: Masses, *, n_jets: int = 7, untagged: float = 4.0) -> Tensor:
    """Return H, t_had, t_lep and the gluon, ``(B, 4, 4)``, of the hypothesis with the least χ².

    χ² sums the pulls of the four ``masses``, and ``untagged`` for each of the four b-jets without a tag. The candidates
    are the b-tagged jets, then the others in falling pT, ``n_jets`` together. The gluon is the
    :func:`~rewind.partons.last_copies.recoil` of the other three. Raises InputError for fewer than six jets.
    """
    return scan(batch, masses, [untagged], n_jets=n_jets)[0]


def scan(batch: EventBatch, masses: Masses, prices: Sequence[float], *, n_jets: int = 7) -> list[Tensor]:
    """Return what :func:`assign` does for each of several ``prices`` of an untagged b-jet, with its work done once."""
    return [with_recoil(heavy) for heavy, *_ in _by_chi_squared(batch, masses, prices, n_jets)]


def scores(batch: EventBatch, masses: Masses, *, n_jets: int = 7, untagged: float = 4.0) -> Tensor:
    """Return ``(B, J, 4)``: one where the hypothesis that :func:`assign` takes gives a jet a role, else zero.

    Columns are ``ROLES``, rows the jets of ``batch``, of which absent ones must come last. Raises InputError as
    :func:`assign` does.
    """
    ((*_, jets),) = _by_chi_squared(batch, masses, [untagged], n_jets)
    places = _order(_with_places(batch, n_jets), n_jets).gather(1, jets)
    flags = torch.zeros(*batch.jets.shape[:2], len(ROLES), dtype=torch.float64)
    flags[torch.arange(len(batch))[:, None], places, _ROLES] = 1.0
    return flags


def _by_chi_squared(
    batch: EventBatch, masses: Masses, prices: Sequence[float], n_jets: int
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return what :func:`_chosen` does, by χ² with each of the ``prices``."""

    def chi_squared(tried: _Hypotheses, _part: slice) -> list[Tensor]:
        named = ("higgs", "hadronic_w", "hadronic_top", "leptonic_top")
        pulls = sum(_pull(getattr(tried, name), getattr(masses, name)) for name in named)
        return [pulls + price * tried.n_untagged for price in prices]

    return _chosen(require_usable(batch), n_jets, chi_squared)


def fit_scale(truth: Tensor, assigned: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return factors ``(3,)``: the median of true over assigned pT of H, t_had and t_lep, ``(B, 4, 4)`` both.

    Events count by ``weight`` ``(B,)``; raises InputError for negative ones.
    """
    ratio = kinematics.pt(truth[:, :3]) / kinematics.pt(assigned[:, :3])
    return torch.tensor([stats.median(column, weight) for column in ratio.unbind(1)], dtype=truth.dtype)


def rescaled(assigned: Tensor, scale: Tensor) -> Tensor:
    """Return partons ``(B, 4, 4)`` with H and tops times a factor each, ``(3,)``, and their new recoil."""
    return with_recoil(assigned[:, :3] * scale[:, None])


def sum_of_objects(batch: EventBatch) -> Tensor:
    """Return the p_z ``(B,)`` of all jets, the lepton and the neutrino, with the smaller root of the W mass."""
    lepton = batch.require_legs(1).leptons[:, 0]
    return batch.jets[..., 3].sum(1) + lepton[:, 3] + w_mass_roots(lepton, batch.met).pz[:, 0]
