"""Model, information or encoding: flows that differ in one thing, trained alike, scored on the same events.

>>> from rewind.neutrino.flows.flow import neutrino_flow
>>> small = {"width": 16, "encoder_layers": 1}
>>> flow = freeze_encoder(neutrino_flow(2, **small, flow_layers=1, hidden=16))
>>> any(p.requires_grad for p in flow.encoder.transformer.encoder.parameters())
False
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.neutrino.flows.flow import NeutrinoModel
from rewind.neutrino.flows.pairing_network import PairingNetwork
from rewind.nn.batches import Examples, as_examples
from rewind.nn.training import Optimization, fit

__all__ = ["Trial", "borrow_encoder", "freeze_encoder", "trial"]


class Trial(NamedTuple):
    """Hold what a trained flow does on unseen events: ``loss`` ``(U,)``, −log q at the truth, and ``residual``.

    The latter is posterior mean − truth ``(V, L, 3)`` of the first V events, GeV.
    """

    loss: Tensor
    residual: Tensor


def _self_attention(model: NeutrinoModel | PairingNetwork) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the parts of an encoder that flows and pairing networks have: tokens, and layers between them."""
    return model.encoder.parts[0], model.encoder.transformer.encoder


def borrow_encoder(flow: NeutrinoModel, teacher: PairingNetwork) -> NeutrinoModel:
    """Give ``flow`` the features and the self-attention of a trained ``teacher``; what reads them stays as it is.

    Raises InputError where the two differ in width, layers or number of leptons.
    """
    for part, given in zip(_self_attention(flow), _self_attention(teacher), strict=True):
        try:
            part.load_state_dict(given.state_dict())
        except RuntimeError as error:
            raise InputError("the teacher's encoder has another width, other layers or another n_legs") from error
    return flow


def freeze_encoder(flow: NeutrinoModel) -> NeutrinoModel:
    """Keep training from changing the features and the self-attention of ``flow``; the rest learns on."""
    for part in _self_attention(flow):
        part.requires_grad_(False)
    return flow


def trial(
    flow: NeutrinoModel,
    train: tuple[Tensor, Tensor] | Examples,
    validation: tuple[Tensor, Tensor] | Examples,
    unseen: tuple[Tensor, Tensor],
    *,
    n_events: int,
    n_rows: int,
    epochs: int,
    batch_size: int = 256,
    optimization: Optimization | None = None,
    n_sampled: int = 500,
    n_draws: int = 8,
    seed: int = 0,
    device: str = "auto",
) -> Trial:
    """Train ``flow`` on the first ``n_events`` of (neutrinos, events) and score it on ``unseen`` ones.

    The events are repeated to ``n_rows`` rows, so that all trials take the same number of steps, whatever their number
    of events; the weights of the lowest ``validation`` loss are kept. Posterior means are over ``n_draws`` draws of
    the first ``n_sampled`` events. Raises InputError where there are fewer events than asked for, or more than rows.
    """
    values, weight = as_examples(train)
    if not 1 <= n_events <= min(len(values[0]), n_rows):
        raise InputError(f"n_events = {n_events}: from 1 to {len(values[0])} events and {n_rows} rows are there")
    rows = torch.arange(n_rows) % n_events
    known = Examples(tuple(part[rows] for part in values), None if weight is None else weight[rows])
    optimization = optimization or Optimization(learning_rate=3e-3, weight_decay=1e-4)
    flow.fit_scales(*known.values)
    options = {"epochs": epochs, "batch_size": batch_size, "optimization": optimization}
    fit(flow, known, validation, seed=seed, device=device, **options)
    truth, event = unseen
    with torch.no_grad():
        loss = -flow.log_prob(truth, event)
    torch.manual_seed(seed)
    return Trial(loss, flow.sample(event[:n_sampled], n_draws).mean(1) - truth[:n_sampled])
