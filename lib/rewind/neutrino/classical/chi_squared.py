"""The pairing of events with one lepton by χ² of three masses: both tops and the W boson that decays to quarks.

Momenta (E, px, py, pz), GeV.

>>> from rewind import paths, events
>>> data = events.load_batch(paths.locate("data/samples/ttbar_semileptonic_test.root"), 1)[:20]
>>> masses = Masses((172.0, 13.0), (165.0, 20.0), (74.0, 16.0))
>>> tuple(by_chi_squared(data, data.truth.neutrinos, masses).shape)
(20, 2)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical.jet_scale import leg_jets
from rewind.neutrino.classical.pairing import cheapest, jet_pairs
from rewind.stats import quantile

__all__ = ["Masses", "by_chi_squared", "fit_masses"]

_FEWEST, _NEAR = 100, 0.2


@dataclass(frozen=True)
class Masses:
    """Hold means and widths in GeV, each as (m, σ): both tops and the W boson that decays to quarks."""

    leptonic_top: tuple[float, float]
    hadronic_top: tuple[float, float]
    hadronic_w: tuple[float, float]


class _Hadronic:
    """All choices of two jets for the quarks of W → qq̄', K of them, among the leading ``n_jets``."""

    def __init__(self, data: EventBatch, n_jets: int):
        pairs = jet_pairs(data.jets.shape[1])
        self.two = torch.tensor(list(combinations(range(min(n_jets, data.jets.shape[1])), 2)))
        self.w = data.jets[:, self.two].sum(2)
        # (B, P, K): both jets exist and neither is a b of the pair
        apart = (self.two[None, :, None] != pairs[:, None, :, None]).all(-1).all(-1)
        self.allowed = data.jet_mask[:, self.two].all(-1)[:, None] & apart


def by_chi_squared(data: EventBatch, neutrino: Tensor, masses: Masses, *, n_jets: int = 6) -> Tensor:
    """Return the pairing of events with one lepton that has the smallest χ², given a ``neutrino`` ``(B, 1, 3)``.

    χ² sums ((m − mean)/σ)² of the leptonic top, the hadronic top and its W boson (2207.00664, sec. 5); the leptonic W
    is the same for every choice. The quarks of the W are any two of the leading ``n_jets`` jets that are not taken
    for a b; where fewer than two are left, the leptonic top decides alone. −1 where the neutrino is NaN.
    """
    _one_lepton(data)
    if neutrino.shape != (len(data), 1, 3) or n_jets < 2:
        raise InputError(
            f"neutrino of shape {tuple(neutrino.shape)}, n_jets = {n_jets}: ({len(data)}, 1, 3) and at least 2 are "
            "expected"
        )
    pairs = jet_pairs(data.jets.shape[1])
    leptonic = _pull(kinematics.mass(_leptonic_tops(data, neutrino)), masses.leptonic_top)
    hadronic = _Hadronic(data, n_jets)
    w = _pull(kinematics.mass(hadronic.w), masses.hadronic_w)
    top = _pull(kinematics.mass(hadronic.w[:, None] + data.jets[:, :, None]), masses.hadronic_top)
    cost = (w[:, None] + top)[:, pairs[:, 1]].masked_fill(~hadronic.allowed, torch.inf).amin(2)
    cost = cost.masked_fill(~hadronic.allowed.any(2), 0)
    return cheapest(leptonic[:, pairs[:, 0]] + cost, data)


def _pull(mass: Tensor, expected: tuple[float, float]) -> Tensor:
    return ((mass - expected[0]) / expected[1]) ** 2


def _leptonic_tops(data: EventBatch, neutrino: Tensor) -> Tensor:
    """Return the top ``(B, J, 4)`` with each of the jets."""
    return data.leptons + kinematics.massless(neutrino) + data.jets


def _one_lepton(data: EventBatch) -> None:
    if data.n_legs != 1:
        raise InputError("χ² pairing: events with one lepton are needed; by_mass pairs those with two")


def fit_masses(data: EventBatch, neutrino: Tensor | None = None, *, n_jets: int = 6) -> Masses:
    """Return means and widths (median, half the 16–84 % range) of the masses in matched training events.

    The quarks' jets are those that bring the momentum of the hadronic top closest to the true one; the distance must
    be less than 20 % of its energy, else a quark has no jet. Without ``neutrino`` ``(B, 1, 3)`` the true one is taken:
    give the one that the choice will be made with. Raises InputError for fewer than 100 such events and for negative
    weights.
    """
    _one_lepton(data)
    data.refuse({"the weight is negative, which a median cannot weigh": data.weight < 0})
    truth = data.require_truth("neutrinos", "tops")
    neutrino = truth.neutrinos if neutrino is None else neutrino
    known = data.matched & neutrino.isfinite().flatten(1).all(1)
    data, neutrino = data[known], neutrino[known]
    truth, pairs = data.truth, jet_pairs(data.jets.shape[1])
    pair = (pairs == truth.b_jets[:, None]).all(-1).long().argmax(1)
    hadronic = _Hadronic(data, n_jets)
    row = torch.arange(len(data))
    allowed = hadronic.allowed[row, pair]
    bottom = leg_jets(data, truth.b_jets)
    tops = hadronic.w + bottom[:, 1:]
    away = (tops - truth.tops[:, 1:])[..., 1:].norm(dim=-1).masked_fill(~allowed, torch.inf)
    distance, best = away.min(1)
    near = distance < _NEAR * truth.tops[:, 1, 0]
    if int(near.sum()) < _FEWEST:
        raise InputError(f"masses: {int(near.sum())} events with all four jets; at least {_FEWEST} are needed")
    leptonic = bottom[:, 0] + data.leptons[:, 0] + kinematics.massless(neutrino[:, 0])
    return Masses(
        _peak(kinematics.mass(leptonic), data.weight),
        _peak(kinematics.mass(tops[row, best][near]), data.weight[near]),
        _peak(kinematics.mass(hadronic.w[row, best][near]), data.weight[near]),
    )


def _peak(mass: Tensor, weight: Tensor) -> tuple[float, float]:
    low, middle, high = quantile(mass, (0.16, 0.5, 0.84), weight)
    return float(middle), float((high - low) / 2)
