"""How the models of the neutrino chapters are trained, the same for every size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rewind.neutrino.classical import jet_scale, pairing
from rewind.neutrino.classical.pairing import PairingNetwork, pairing_network
from rewind.neutrino.dataset import Dataset
from rewind.neutrino.flows.flow import NeutrinoModel, neutrino_flow
from rewind.nn import checkpoints
from rewind.nn.training import fit_and_save

__all__ = ["flow_tensors", "load_flow", "load_pairing", "train_flow", "train_pairing"]


def flow_tensors(model: NeutrinoModel, data: Dataset) -> tuple[Tensor, Tensor]:
    """Return neutrinos and events: each event once without a pairing and, if matched, once more with the true one.

    So one model answers both questions. Raises InputError where truth is missing.
    """
    data.require_truth()
    known = data[data.matched]
    events = [model.read(data), model.read(known, pairing.truth(known))]
    return torch.cat([data.neutrinos, known.neutrinos]).float(), torch.cat(events)


def train_flow(
    train: Dataset,
    validation: Dataset,
    path: str | Path | None = None,
    *,
    size: dict | None = None,
    seed: int = 0,
    **training,
) -> tuple[NeutrinoModel, dict]:
    """Return a flow trained on ``train`` and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :func:`~rewind.neutrino.flows.flow.neutrino_flow`; the jet scale is fitted to ``train``.
    With ``path`` the checkpoint is written there; ``training`` holds options of
    :func:`rewind.nn.training.fit_and_save`. Raises InputError as that does.
    """
    scale = jet_scale.fit(train)
    configuration = {
        "n_legs": train.n_legs,
        **(size or {}),
        "jet_scale": [round(value, 6) for value in vars(scale).values()],
    }
    torch.manual_seed(seed)
    model = neutrino_flow(**configuration)
    tensors = flow_tensors(model, train)
    model.fit_scales(*tensors)
    record = fit_and_save(
        model,
        tensors,
        flow_tensors(model, validation),
        path,
        configuration=configuration,
        n_events=len(train),
        seed=seed,
        **({"batch_size": 1024, "learning_rate": 3e-3, "ema_decay": 0.999} | training),
    )
    return model, record


def load_flow(path: str | Path, n_legs: int) -> NeutrinoModel:
    """Return a trained flow for ``n_legs`` neutrinos; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, neutrino_flow, n_legs=n_legs)


def train_pairing(
    train: Dataset,
    validation: Dataset,
    path: str | Path | None = None,
    *,
    size: dict | None = None,
    seed: int = 0,
    **training,
) -> tuple[PairingNetwork, dict]:
    """Return a pairing network trained on the matched events of ``train``, and its record; see :func:`train_flow`."""
    configuration = {"n_legs": train.n_legs, **(size or {})}
    torch.manual_seed(seed)
    model, tensors = pairing_network(**configuration), pairing.training_tensors(train)
    record = fit_and_save(
        model,
        tensors,
        pairing.training_tensors(validation),
        path,
        configuration=configuration,
        n_events=int(train.matched.sum()),
        seed=seed,
        **({"batch_size": 512, "learning_rate": 3e-3} | training),
    )
    return model, record


def load_pairing(path: str | Path, n_legs: int) -> PairingNetwork:
    """Return a trained pairing network; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, pairing_network, n_legs=n_legs)
