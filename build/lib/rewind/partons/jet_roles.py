"""Which jet is which: scores of every jet for every role, for the conditioner to read (the idea of SPANet, 2106.03898).

A transformer encodes the jets, and each role has a distribution over them in which both quarks of a W or Higgs boson
count alike. SPANet scores sets of jets, both of a Higgs boson together; here each jet is scored by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples
from rewind.nn.training import Trainable, weighted_mean
from rewind.partons.dataset import ROLES, Dataset
from rewind.partons.inputs import EventEncoder, event_tensor

__all__ = ["JetRoles", "load_roles", "right", "roles_network", "train_roles"]

_EVENTS_AT_ONCE = 2_000
_N_QUARKS = (1, 1, 2, 2)  # by role


class JetRoles(Trainable):
    """Model p(jet | role, event): a softmax over jets of scaled products with a vector that the event's token gives."""

    def __init__(self, max_jets: int, width: int, layers: int, heads: int):
        super().__init__()
        self.encoder = EventEncoder(width, layers, heads, class_layers=0)
        self.max_jets = max_jets
        self.role, self.key = nn.Linear(width, len(ROLES) * width), nn.Linear(width, width)

    def tensors(self, data: Dataset) -> tuple[Tensor, Tensor]:
        """Return roles of jets ``(B, J)`` and the events that :func:`rewind.nn.training.fit` needs."""
        return data.padded(self.max_jets).roles, event_tensor(data, self.max_jets)

    def log_probabilities(self, event: Tensor) -> Tensor:
        """Return ln p ``(B, 4, max_jets)`` of jets for each of ``ROLES``, −∞ where there is no jet."""
        encoded, there = self.encoder.exchanged(event)
        roles = self.role(encoded[:, 1]).unflatten(1, (len(ROLES), -1))
        scores = roles @ self.key(encoded[:, 2:]).mT / roles.shape[-1] ** 0.5
        log_p = scores.masked_fill(~there[:, None, 2:], -torch.inf).log_softmax(2)
        return nn.functional.pad(log_p, (0, self.max_jets - log_p.shape[2]), value=-torch.inf)

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the mean of −ln p over jets with a role."""
        roles, event = batch
        which, jet = (roles >= 0).nonzero(as_tuple=True)
        lost = -self.log_probabilities(event)[which, roles[which, jet], jet]
        return weighted_mean(lost, None if weight is None else weight[which])

    @torch.no_grad()
    def scores(self, data: Dataset) -> Tensor:
        """Return scores ``(B, max_jets, 4)`` of the jets of ``data.padded(max_jets)``: p times the role's quarks.

        Raises InputError for events with more jets.
        """
        parts = event_tensor(data, self.max_jets).split(_EVENTS_AT_ONCE)
        p = torch.cat([self.log_probabilities(part) for part in parts]).exp()
        return (p * torch.tensor(_N_QUARKS)[:, None]).mT


def right(scores: Tensor, data: Dataset) -> Tensor:
    """Return ``(B, 4)``: 1 where a role's jets, as many as it has quarks, are those with the largest ``scores``.

    ``scores`` ``(B, J, 4)`` belong to the jets of ``data``; NaN where not all of the role's quarks have a jet.
    """
    columns = []
    for role, n in enumerate(_N_QUARKS):
        true = data.roles == role
        chosen = scores[..., role].masked_fill(~data.jet_mask, -torch.inf).topk(n, 1).indices
        hit = true.gather(1, chosen).all(1).double()
        columns.append(torch.where(true.sum(1) == n, hit, torch.nan))
    return torch.stack(columns, 1)


def roles_network(max_jets: int, *, width: int = 48, layers: int = 3, heads: int = 4) -> JetRoles:
    """Build an untrained network for at most ``max_jets`` jets; raise InputError for fewer than the six quarks."""
    if max_jets < sum(_N_QUARKS):
        raise InputError(f"max_jets = {max_jets}: at least the 6 quarks of the hard process are needed")
    return JetRoles(max_jets, width, layers, heads)


def train_roles(
    train: Dataset,
    validation: Dataset,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    max_jets: int | None = None,
    **options: Any,
) -> tuple[JetRoles, dict[str, Any]]:
    """Return a network trained on ``train`` and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :func:`roles_network`; ``max_jets`` is the most of any training event unless given. With
    ``path`` the checkpoint is written there; ``options`` are those of :func:`rewind.nn.training.train`. Raises
    InputError as that does.
    """
    return training.train(
        roles_network,
        {"max_jets": max_jets or int(train.jet_mask.sum(1).max()), **(size or {})},
        train,
        validation,
        path,
        examples=lambda model, data: Examples(model.tensors(data), data.weight),
        **({"batch_size": 256, "learning_rate": 2e-3} | options),
    )


def load_roles(path: str | Path) -> JetRoles:
    """Return a trained network; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, roles_network)
