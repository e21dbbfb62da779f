"""The classical rival: one jet for each quark, chosen by the masses that H, W and tops must have.

A hypothesis names four b-jets (two of the Higgs boson, one of each top) and two jets of the W → qq̄'; the neutrino has
the missing transverse momentum and one of the two p_z that the W mass allows. Momenta (E, px, py, pz), GeV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.partons.dataset import ROLES, Dataset, recoil
from rewind.physics.constraints import w_mass_roots

__all__ = [
    "Masses",
    "assign",
    "closeness",
    "fit_masses",
    "fit_scale",
    "hypotheses",
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
    if n_jets < 6:
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


def _order(data: Dataset, n_jets: int) -> Tensor:
    """Return places of jets ``(B, n_jets)``: the tagged ones first, then by pT."""
    position = torch.arange(data.jets.shape[1])
    return (position - 100 * data.btag.long() - 50 * data.jet_mask.long()).argsort(1)[:, :n_jets]


def _ordered(data: Dataset, n_jets: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the candidate jets, their presence and tags."""
    data = data.padded(max(n_jets, data.jets.shape[1]))
    order = _order(data, n_jets)
    jets = data.jets.gather(1, order[..., None].expand(-1, -1, 4))
    return jets, data.jet_mask.gather(1, order), data.btag.gather(1, order)


def _all(data: Dataset, rows: Tensor, n_jets: int) -> _Hypotheses:
    jets, present, tagged = _ordered(data, n_jets)
    roots = w_mass_roots(data.lepton, data.met).pz
    transverse = data.met[:, None].expand(-1, 2, -1)
    neutrino = torch.cat([transverse, roots[..., None]], -1)
    neutrino = torch.cat([neutrino.norm(dim=-1, keepdim=True), neutrino], -1)
    w = (data.lepton[:, None] + neutrino).repeat_interleave(len(rows), 1)
    rows = rows.repeat(2, 1)
    b_lep, b_had, *others = (jets[:, rows[:, i]] for i in range(6))
    hadronic_w = others[2] + others[3]
    n_untagged = (~tagged[:, rows[:, :4]]).sum(-1)
    return _Hypotheses(
        others[0] + others[1], hadronic_w, hadronic_w + b_had, w + b_lep, n_untagged, present[:, rows].all(-1)
    )


def _chosen(
    data: Dataset, n_jets: int, costs: Callable[[_Hypotheses, slice], Iterable[Tensor]]
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return, for each of the ``costs``, the cheapest hypotheses: heavy particles ``(B, 3, 4)``, W, cost and jets.

    The jets ``(B, 6)`` are numbered as :func:`_ordered` has them.
    """
    rows, found = hypotheses(n_jets), []
    for start in range(0, len(data), _CHUNK):
        part = slice(start, start + _CHUNK)
        tried = _all(data[part], rows, n_jets)
        found.append([_cheapest(tried, rows, cost) for cost in costs(tried, part)])
    by_cost = zip(*found, strict=True)
    return [tuple(torch.cat(values) for values in zip(*parts, strict=True)) for parts in by_cost]


def _cheapest(tried: _Hypotheses, rows: Tensor, cost: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    least, best = cost.masked_fill(~tried.allowed, torch.inf).min(1)
    event = torch.arange(len(best))
    heavy = torch.stack([p[event, best] for p in (tried.higgs, tried.hadronic_top, tried.leptonic_top)], 1)
    return heavy, tried.hadronic_w[event, best], least, rows[best % len(rows)]


def _pull(p: Tensor, expected: tuple[float, float]) -> Tensor:
    return ((kinematics.mass(p) - expected[0]) / expected[1]) ** 2


def _nearest(data: Dataset, n_jets: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def distance(tried, part):
        truth = data.partons[part, None, :3]
        return [((tried.heavy - truth)[..., 1:].norm(dim=-1) / truth[..., 0]).amax(-1)]

    return _chosen(data, n_jets, distance)[0]


def closeness(data: Dataset, *, n_jets: int = 7) -> Tensor:
    """Return how near ``(B,)`` the best of all hypotheses comes to the truth.

    The distance is the largest, over H, t_had and t_lep, of ``|p − p_true|`` over the true energy.
    """
    return _nearest(data, n_jets)[2]


def fit_masses(data: Dataset, *, n_jets: int = 7) -> Masses:
    """Return means and widths (median, half the 16–84 % range) of masses in training events.

    The right hypothesis is the one that comes closest to the true H, t_had and t_lep; each must be nearer than 20 % of
    its energy, else a quark has no jet. Raises InputError for fewer than 100 such events.
    """

    heavy, w, away, _ = _nearest(data, n_jets)
    right = away < _NEAR
    if int(right.sum()) < _FEWEST:
        raise InputError(f"masses: {int(right.sum())} events with all six jets; at least {_FEWEST} are needed")
    peaks = [_peak(kinematics.mass(p[right])) for p in (heavy[:, 0], w, heavy[:, 1], heavy[:, 2])]
    return Masses(*peaks)


def _peak(mass: Tensor) -> tuple[float, float]:
    low, middle, high = np.quantile(mass.numpy(), (0.16, 0.5, 0.84))
    return float(middle), float((high - low) / 2)


def assign(data: Dataset, masses: Masses, *, n_jets: int = 7, untagged: float = 4.0) -> Tensor:
    """Return H, t_had, t_lep and the gluon, ``(B, 4, 4)``, of the hypothesis with the least χ².

    χ² sums the pulls of the four ``masses``, and ``untagged`` for each of the four b-jets without a tag. The candidates
    are the b-tagged jets, then the others in falling pT, ``n_jets`` together. The gluon is the
    :func:`~rewind.partons.dataset.recoil` of the other three. Raises InputError for fewer than six jets.
    """
    return scan(data, masses, [untagged], n_jets=n_jets)[0]


def scan(data: Dataset, masses: Masses, prices: Sequence[float], *, n_jets: int = 7) -> list[Tensor]:
    """Return what :func:`assign` does for each of several ``prices`` of an untagged b-jet, with its work done once."""
    return [_with_recoil(heavy) for heavy, *_ in _by_chi_squared(data, masses, prices, n_jets)]


def scores(data: Dataset, masses: Masses, *, n_jets: int = 7, untagged: float = 4.0) -> Tensor:
    """Return ``(B, J, 4)``: one where the hypothesis that :func:`assign` takes gives a jet a role, else zero.

    Columns are ``ROLES``, rows the jets of ``data``, of which absent ones must come last. Raises InputError as
    :func:`assign` does.
    """
    ((*_, jets),) = _by_chi_squared(data, masses, [untagged], n_jets)
    places = _order(data.padded(max(n_jets, data.jets.shape[1])), n_jets).gather(1, jets)
    found = torch.zeros(*data.jets.shape[:2], len(ROLES), dtype=torch.float64)
    found[torch.arange(len(data))[:, None], places, _ROLES] = 1.0
    return found


def _by_chi_squared(data: Dataset, masses: Masses, prices: Sequence[float], n_jets: int):
    """Return what :func:`_chosen` does, by χ² with each of the ``prices``."""
    data.check()

    def chi_squared(tried, _part):
        named = ("higgs", "hadronic_w", "hadronic_top", "leptonic_top")
        pulls = sum(_pull(getattr(tried, name), getattr(masses, name)) for name in named)
        return [pulls + price * tried.n_untagged for price in prices]

    return _chosen(data, n_jets, chi_squared)


def _with_recoil(heavy: Tensor) -> Tensor:
    return torch.cat([heavy, recoil(heavy.sum(1))[:, None]], 1)


def fit_scale(truth: Tensor, assigned: Tensor) -> Tensor:
    """Return factors ``(3,)``: the median of true over assigned pT of H, t_had and t_lep, ``(B, 4, 4)`` both."""
    ratio = kinematics.pt(truth[:, :3]) / kinematics.pt(assigned[:, :3])
    return ratio.quantile(0.5, dim=0)


def sum_of_objects(data: Dataset) -> Tensor:
    """Return the p_z ``(B,)`` of all jets, the lepton and the neutrino, with the smaller root of the W mass."""
    return data.jets[..., 3].sum(1) + data.lepton[:, 3] + w_mass_roots(data.lepton, data.met).pz[:, 0]
