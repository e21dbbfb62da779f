"""Which jet belongs to the b of which leg, learnt: a transformer over the event that weighs legs against jets.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)[:5]
>>> pairing_network(2, width=16, encoder_layers=1).choose(event_tensor(data)).shape
torch.Size([5, 2])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical.pairing import jet_pairs
from rewind.neutrino.flows.inputs import MAX_JETS, event_encoder, event_tensor, unpack
from rewind.nn.training import Trainable, weighted_mean

__all__ = ["PairingNetwork", "pairing_network", "training_tensors"]


class PairingNetwork(Trainable):
    """Classify the candidates: p(pair) ∝ exp(s₁ᵢ + s₂ⱼ), logits of (leg, jet) from a transformer over the event.

    Events are tensors of :func:`~rewind.neutrino.flows.inputs.event_tensor` without a pairing. What comes out is in the
    leg order of the EventBatch, though the network sees the leading lepton's leg first. A logit is the scaled product
    of the encoded tokens of leg and jet after a linear map of each; a leg without a lepton is read from the event's.
    """

    def __init__(self, n_legs: int, *, width: int, encoder_layers: int):
        super().__init__()
        self.n_legs = n_legs
        self.encoder = event_encoder(n_legs, width=width, layers=encoder_layers, class_layers=0)
        self.leg, self.jet = nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("pairs", jet_pairs(MAX_JETS).clone(), persistent=False)

    def logits(self, event: Tensor) -> Tensor:
        """Return s ``(B, 2, MAX_JETS)`` of legs, leading lepton's first, and jets."""
        tokens, _ = self.encoder.exchanged(event)
        legs, jets = self.leg(tokens[:, :2]), self.jet(tokens[:, self.n_legs + 1 :])
        logits = legs @ jets.mT / legs.shape[-1] ** 0.5
        return nn.functional.pad(logits, (0, MAX_JETS - logits.shape[2]))

    def log_probabilities(self, event: Tensor) -> Tensor:
        """Return log p ``(B, P)`` of all ordered pairs of jets; −inf where a jet is not tagged."""
        parts = unpack(event, self.n_legs)
        logits = self.logits(event)
        if self.n_legs == 2:
            logits = parts.frame.by_leg(logits)
        first, second = self.pairs.unbind(1)
        tagged = parts.present & (parts.btag > 0)
        allowed = tagged[:, first] & tagged[:, second]
        return (logits[:, 0, first] + logits[:, 1, second]).masked_fill(~allowed, -torch.inf).log_softmax(1)

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


def training_tensors(data: EventBatch) -> tuple[Tensor, Tensor]:
    """Return what :func:`rewind.nn.training.fit` needs: matched events and the index ``(n,)`` of their right pair."""
    data = data[data.matched]
    right = (jet_pairs(MAX_JETS) == data.require_truth("b_jets").b_jets[:, None]).all(-1)
    return event_tensor(data), right.long().argmax(1)
