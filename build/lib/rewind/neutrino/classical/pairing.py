"""Which jet belongs to the b of which leg: by distance, by mass, by χ², or learnt.

A pairing is ``(B, 2)``: for each leg of :class:`~rewind.neutrino.dataset.Dataset` the position of its jet, −1 where
none is known. Candidates are the ordered pairs of different b-tagged jets. Momenta (E, px, py, pz), GeV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.classical.jet_scale import leg_jets
from rewind.neutrino.dataset import MAX_JETS, Dataset
from rewind.neutrino.flows.inputs import event_encoder, event_tensor, unpack
from rewind.nn.training import Trainable, weighted_mean
from rewind.physics.constants import M_TOP
from rewind.stats import Estimate

__all__ = [
    "Masses",
    "PairingNetwork",
    "accuracy",
    "by_chi_squared",
    "by_delta_r",
    "by_mass",
    "candidates",
    "fit_masses",
    "pairing_network",
    "training_tensors",
    "truth",
]

_PAIRS = torch.tensor(list(permutations(range(MAX_JETS), 2)))
_FEWEST, _NEAR = 100, 0.2


def candidates(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return all ordered pairs of positions ``(P, 2)`` and those with both jets b-tagged, ``(B, P)``."""
    return _PAIRS, _both(data.btag & data.jet_mask)


def _both(flags: Tensor) -> Tensor:
    return flags[:, _PAIRS].all(-1)


def _cheapest(cost: Tensor, data: Dataset) -> Tensor:
    """Return the candidates of the least ``cost`` ``(B, P)``, of equal ones that with the harder jets.

    −1 where the cost of a candidate is NaN and where there is no candidate.
    """
    pairs, allowed = candidates(data)
    unknown = (cost.isnan() & allowed).any(1) | ~allowed.any(1)
    order = cost.nan_to_num().masked_fill(~allowed, torch.inf).sort(stable=True, dim=1).indices
    return pairs[order[:, 0]].masked_fill(unknown[:, None], -1)


def _by_leg(cost: Tensor) -> list[Tensor]:
    """Return costs ``(B, P)`` of the pairs, for each leg with a lepton, from costs ``(B, L, J)`` of its jets."""
    return [cost[:, leg][:, _PAIRS[:, leg]] for leg in range(cost.shape[1])]


def by_delta_r(data: Dataset) -> Tensor:
    """Return the pairing with the smallest sum of ΔR(ℓ, b) over the legs with a lepton.

    Right in 72 % of matched dilepton events; the smallest single distance is right in 68 %. A leg without a lepton
    gets the hardest of the other tagged jets.
    """
    leptons, jets = data.leptons[:, :, None], data.jets[:, None]
    d_eta = kinematics.eta(leptons) - kinematics.eta(jets)
    d_phi = kinematics.delta_phi(kinematics.phi(leptons), kinematics.phi(jets))
    distance = torch.hypot(d_eta, d_phi).masked_fill(~data.jet_mask[:, None], 0)
    return _cheapest(sum(_by_leg(distance)), data)


def by_mass(data: Dataset) -> Tensor:
    """Return the pairing with the smallest sum of m(ℓb)⁴ over the legs with a lepton.

    From t → bℓν follows m²(ℓb) < m_t² − m_W², which the larger mass is the first to break; fourth powers let it decide.
    Right in 80 % of matched dilepton events, as is the likelihood ratio of the two masses; the sum of m² is right in
    79 % with or without the bound as a veto, that of m in 78 %. A leg without a lepton gets the hardest of the other
    tagged jets.
    """
    mass_squared = kinematics.mass_squared(data.leptons[:, :, None] + data.jets[:, None]) / M_TOP**2
    return _cheapest(sum(_by_leg(mass_squared**2)), data)


def truth(data: Dataset) -> Tensor:
    """Return the true pairing in matched events, −1 for both legs elsewhere."""
    return data.b_jets.masked_fill(~data.matched[:, None], -1)


def accuracy(pairing: Tensor, data: Dataset) -> Estimate:
    """Return the share of matched events in which both legs have their jet, with its binomial error.

    Raises InputError for another shape and where no event is matched.
    """
    if pairing.shape != (len(data), 2):
        raise InputError(f"pairing of shape {tuple(pairing.shape)}: two jets an event, ({len(data)}, 2), are expected")
    n = int(data.matched.sum())
    if n == 0:
        raise InputError("accuracy: no event in which tagged jets match both b quarks")
    share = float((pairing == data.b_jets).all(1)[data.matched].double().mean())
    return Estimate(share, (share * (1 - share) / n) ** 0.5)


@dataclass(frozen=True)
class Masses:
    """Hold means and widths in GeV, each as (m, σ): both tops and the W boson that decays to quarks."""

    leptonic_top: tuple[float, float]
    hadronic_top: tuple[float, float]
    hadronic_w: tuple[float, float]


class _Hadronic:
    """All choices of two jets for the quarks of W → qq̄', K of them, among the leading ``n_jets``."""

    def __init__(self, data: Dataset, n_jets: int):
        self.two = torch.tensor(list(combinations(range(n_jets), 2)))
        self.w = data.jets[:, self.two].sum(2)
        # (B, P, K): both jets exist and neither is a b of the pair
        apart = (self.two[None, :, None] != _PAIRS[:, None, :, None]).all(-1).all(-1)
        self.allowed = data.jet_mask[:, self.two].all(-1)[:, None] & apart


def by_chi_squared(data: Dataset, neutrino: Tensor, masses: Masses, *, n_jets: int = 6) -> Tensor:
    """Return the pairing of events with one lepton that has the smallest χ², given a ``neutrino`` ``(B, 1, 3)``.

    χ² sums ((m − mean)/σ)² of the leptonic top, the hadronic top and its W boson (2207.00664, sec. 5); the leptonic W
    is the same for every choice. The quarks of the W are any two of the leading ``n_jets`` jets that are not taken
    for a b; where fewer than two are left, the leptonic top decides alone. −1 where the neutrino is NaN.
    """
    _one_lepton(data)
    if neutrino.shape != (len(data), 1, 3) or not 2 <= n_jets <= MAX_JETS:
        raise InputError(
            f"neutrino of shape {tuple(neutrino.shape)}, n_jets = {n_jets}: ({len(data)}, 1, 3) and 2 to {MAX_JETS} "
            "are expected"
        )
    leptonic = _pull(kinematics.mass(_leptonic_tops(data, neutrino)), masses.leptonic_top)
    hadronic = _Hadronic(data, n_jets)
    w = _pull(kinematics.mass(hadronic.w), masses.hadronic_w)
    top = _pull(kinematics.mass(hadronic.w[:, None] + data.jets[:, :, None]), masses.hadronic_top)
    cost = (w[:, None] + top)[:, _PAIRS[:, 1]].masked_fill(~hadronic.allowed, torch.inf).amin(2)
    cost = cost.masked_fill(~hadronic.allowed.any(2), 0)
    return _cheapest(leptonic[:, _PAIRS[:, 0]] + cost, data)


def _pull(mass: Tensor, expected: tuple[float, float]) -> Tensor:
    return ((mass - expected[0]) / expected[1]) ** 2


def _leptonic_tops(data: Dataset, neutrino: Tensor) -> Tensor:
    """Return the top ``(B, J, 4)`` with each of the jets."""
    w = data.leptons + torch.cat([neutrino.norm(dim=-1, keepdim=True), neutrino], -1)
    return w + data.jets


def _one_lepton(data: Dataset) -> None:
    if data.n_legs != 1:
        raise InputError("χ² pairing: events with one lepton are needed; by_mass pairs those with two")


def fit_masses(data: Dataset, neutrino: Tensor | None = None, *, n_jets: int = 6) -> Masses:
    """Return means and widths (median, half the 16–84 % range) of the masses in matched training events.

    The quarks' jets are those that bring the momentum of the hadronic top closest to the true one; the distance must
    be less than 20 % of its energy, else a quark has no jet. Without ``neutrino`` ``(B, 1, 3)`` the true one is taken:
    give the one that the choice will be made with. Raises InputError for fewer than 100 such events.
    """
    _one_lepton(data)
    data.require_truth()
    neutrino = data.neutrinos if neutrino is None else neutrino
    known = data.matched & (neutrino.isfinite() & data.tops.isfinite().all(-1)[:, 1:, None]).flatten(1).all(1)
    data, neutrino = data[known], neutrino[known]
    pair = (_PAIRS == data.b_jets[:, None]).all(-1).long().argmax(1)
    hadronic = _Hadronic(data, n_jets)
    row = torch.arange(len(data))
    allowed = hadronic.allowed[row, pair]
    bottom = leg_jets(data, data.b_jets)
    tops = hadronic.w + bottom[:, 1:]
    away = (tops - data.tops[:, 1:])[..., 1:].norm(dim=-1).masked_fill(~allowed, torch.inf)
    distance, best = away.min(1)
    found = distance < _NEAR * data.tops[:, 1, 0]
    if int(found.sum()) < _FEWEST:
        raise InputError(f"masses: {int(found.sum())} events with all four jets; at least {_FEWEST} are needed")
    leptonic = bottom[:, 0] + data.leptons[:, 0] + torch.cat([neutrino.norm(dim=-1), neutrino[:, 0]], -1)
    return Masses(
        _peak(kinematics.mass(leptonic)),
        _peak(kinematics.mass(tops[row, best][found])),
        _peak(kinematics.mass(hadronic.w[row, best][found])),
    )


def _peak(mass: Tensor) -> tuple[float, float]:
    low, middle, high = np.quantile(mass.numpy(), (0.16, 0.5, 0.84))
    return float(middle), float((high - low) / 2)


class PairingNetwork(Trainable):
    """Classify the candidates: p(pair) ∝ exp(s₁ᵢ + s₂ⱼ), scores of (leg, jet) from a transformer over the event.

    Events are tensors of :func:`~rewind.neutrino.flows.inputs.event_tensor` without a pairing. What comes out is in the
    leg order of the Dataset, though the network sees the leading lepton's leg first. A score is the scaled product of
    the encoded tokens of leg and jet after a linear map of each; a leg without a lepton is read from the event's token.
    """

    def __init__(self, n_legs: int, *, width: int, encoder_layers: int):
        super().__init__()
        self.n_legs = n_legs
        self.encoder = event_encoder(n_legs, width=width, layers=encoder_layers, class_layers=0)
        self.leg, self.jet = nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("pairs", _PAIRS.clone(), persistent=False)

    def scores(self, event: Tensor) -> Tensor:
        """Return the scores ``(B, 2, MAX_JETS)`` of legs, leading lepton's first, and jets."""
        tokens, _ = self.encoder.exchanged(event)
        legs, jets = self.leg(tokens[:, :2]), self.jet(tokens[:, self.n_legs + 1 :])
        scores = legs @ jets.mT / legs.shape[-1] ** 0.5
        return nn.functional.pad(scores, (0, MAX_JETS - scores.shape[2]))

    def log_probabilities(self, event: Tensor) -> Tensor:
        """Return log p ``(B, P)`` of the ordered pairs of :func:`candidates`; −inf where a jet is not tagged."""
        parts = unpack(event, self.n_legs)
        scores = self.scores(event)
        if self.n_legs == 2:
            scores = parts.frame.by_leg(scores)
        first, second = self.pairs.unbind(1)
        tagged = parts.present & (parts.jets[..., 4] > 0)
        allowed = tagged[:, first] & tagged[:, second]
        return (scores[:, 0, first] + scores[:, 1, second]).masked_fill(~allowed, -torch.inf).log_softmax(1)

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the cross-entropy of a batch of :func:`training_tensors`."""
        event, right = batch
        lost = nn.functional.nll_loss(self.log_probabilities(event), right, reduction="none")
        return weighted_mean(lost, weight)

    @torch.no_grad()
    def choose(self, event: Tensor) -> Tensor:
        """Return the likeliest pairing ``(B, 2)``."""
        return self.pairs[self.log_probabilities(event).argmax(1)]


def pairing_network(n_legs: int, *, width: int = 64, encoder_layers: int = 2) -> PairingNetwork:
    """Build an untrained network for events with ``n_legs`` leptons."""
    if n_legs not in (1, 2):
        raise InputError(f"n_legs = {n_legs}: the pairing is for 1 or 2 leptons")
    return PairingNetwork(n_legs, width=width, encoder_layers=encoder_layers)


def training_tensors(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return what :func:`rewind.nn.training.fit` needs: matched events and the index ``(n,)`` of their right pair."""
    data = data[data.matched]
    return event_tensor(data), (_PAIRS == data.b_jets[:, None]).all(-1).long().argmax(1)
