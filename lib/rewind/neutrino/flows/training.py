"""How the models of the neutrino chapters are trained, the same for every size.

>>> from rewind import paths
>>> load_flow(paths.locate("data/checkpoints/nu_flow.safetensors"), 1).n_legs
1
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewind.events import EventBatch
from rewind.neutrino.classical import jet_scale
from rewind.neutrino.classical.pairing import true_pairing
from rewind.neutrino.flows.flow import NeutrinoModel, neutrino_flow
from rewind.neutrino.flows.pairing_network import PairingNetwork, pairing_network, training_tensors
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples

__all__ = ["flow_tensors", "load_flow", "load_pairing", "train_flow", "train_pairing"]


def flow_tensors(model: NeutrinoModel, data: EventBatch) -> tuple[Tensor, Tensor]:
    """Return neutrinos and events: each event once without a pairing and, if matched, once more with the true one.

    So one model answers both questions. Raises InputError where truth is missing.
    """
    neutrinos, matched = data.require_truth("neutrinos").neutrinos, data.matched
    known = data[matched]
    events = [model.featurize(data), model.featurize(known, true_pairing(known))]
    return torch.cat([neutrinos, neutrinos[matched]]).float(), torch.cat(events)


def train_flow(
    train: EventBatch,
    validation: EventBatch,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[NeutrinoModel, dict[str, Any]]:
    """Return a flow trained on ``train`` and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :func:`~rewind.neutrino.flows.flow.neutrino_flow`; the jet scale is fitted to ``train``.
    With ``path`` the checkpoint is written there; ``options`` are those of :func:`rewind.nn.training.train`.
    Raises InputError as that does.
    """
    scale = jet_scale.fit(train)
    configuration = {
        "n_legs": train.n_legs,
        **(size or {}),
        "jet_scale": [round(value, 6) for value in vars(scale).values()],
    }
    return training.train(
        neutrino_flow,
        configuration,
        train,
        validation,
        path,
        examples=_flow_examples,
        n_events=len(train),
        **({"batch_size": 1024, "learning_rate": 3e-3, "ema_decay": 0.999} | options),
    )


def _flow_examples(model: NeutrinoModel, data: EventBatch) -> Examples:
    return Examples(flow_tensors(model, data), torch.cat([data.weight, data.weight[data.matched]]))


def load_flow(path: str | Path, n_legs: int) -> NeutrinoModel:
    """Return a trained flow for ``n_legs`` neutrinos; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, neutrino_flow, n_legs=n_legs)


def train_pairing(
    train: EventBatch,
    validation: EventBatch,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[PairingNetwork, dict[str, Any]]:
    """Return a pairing network trained on the matched events of ``train``, and its record; see :func:`train_flow`."""
    return training.train(
        pairing_network,
        {"n_legs": train.n_legs, **(size or {})},
        train,
        validation,
        path,
        examples=lambda _, data: Examples(training_tensors(data), data.weight[data.matched]),
        **({"batch_size": 512, "learning_rate": 3e-3} | options),
    )


def load_pairing(path: str | Path, n_legs: int) -> PairingNetwork:
    """Return a trained pairing network; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, pairing_network, n_legs=n_legs)
