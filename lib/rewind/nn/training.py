"""One way to train every model of the book.

>>> class Mean(Trainable):
...     def __init__(self):
...         super().__init__()
...         self.value = nn.Parameter(torch.zeros(1))
...
...     def loss(self, batch, weight=None):
...         return weighted_mean((batch[0] - self.value) ** 2, weight)
>>> model, numbers = Mean(), Examples((torch.tensor([0.0, 4.0]),), weight=torch.tensor([3.0, 1.0]))
>>> record = fit(model, numbers, numbers, epochs=200, optimization=Optimization(0.05), device="cpu")
>>> round(model.value.item(), 2)
1.0
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.nn.batches import (
    Examples,
    SimulatedBatches,
    as_examples,
    fingerprint_of,
    loader,
    weighted_mean,
)
from rewind.nn.checkpoints import complete, save
from rewind.nn.preprocessing import Standardize

__all__ = ["Examples", "Optimization", "SimulatedBatches", "Trainable", "fit", "train", "weighted_mean"]

Model = TypeVar("Model", bound="Trainable")
Data = TypeVar("Data")


@dataclass(frozen=True)
class Optimization:
    """State how to descend: AdamW, linear warm-up over a share of all steps, then a cosine to zero."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.05

    def factor(self, step: int, n_steps: int) -> float:
        """Return the learning rate at ``step`` relative to its peak."""
        n_warmup = max(1, round(self.warmup * n_steps))
        if step < n_warmup:
            return (step + 1) / n_warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))))


class Trainable(nn.Module):
    """Be a model that :func:`fit` can train; subclasses define ``loss(batch, weight)``."""

    def fit_scales(self, *values: Tensor) -> Self:
        """Take normalisation constants from training examples; nothing to do for a model that has none."""
        return self

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the scalar to minimise on a batch, by :func:`weighted_mean` of what each event loses."""
        raise NotImplementedError


def _unfitted(model: nn.Module) -> list[str]:
    """Name those parts of a model whose constants were never fitted."""
    return [name for name, part in model.named_modules() if isinstance(part, Standardize) and not part.is_fitted]


def _require_scales(model: nn.Module) -> None:
    if missing := _unfitted(model):
        raise InputError(
            f"{type(model).__name__}: its scales were never fitted ({', '.join(missing)}); "
            "call its fit_scales with training data first"
        )


def _claim(folder: Path, plan: dict) -> Path | None:
    """Return the state to go on from, if any; raise InputError where ``folder`` holds another training."""
    folder.mkdir(parents=True, exist_ok=True)
    note, last = folder / "training.json", folder / "last.ckpt"
    plan = json.loads(json.dumps(plan))
    try:
        begun = json.loads(note.read_text()) if note.exists() else plan
    except ValueError as error:
        raise InputError(f"{note}: damaged; remove {folder} and train anew") from error
    differing = [name for name in plan if begun.get(name) != plan[name]]
    if differing:
        raise InputError(f"{folder}: holds a training with another {', '.join(differing)}; remove it or name another")
    note.write_text(json.dumps(plan, indent=1))
    if not last.exists():
        return None
    try:
        torch.load(last, map_location="cpu", weights_only=False)
    except (EOFError, OSError, RuntimeError, UnpicklingError) as error:
        raise InputError(f"{last}: damaged; remove {folder} and train anew") from error
    return last


def fit(
    model: Trainable,
    train: tuple[Tensor, ...] | Examples | SimulatedBatches,
    validation: tuple[Tensor, ...] | Examples,
    *,
    epochs: int,
    batch_size: int = 1024,
    optimization: Optimization | None = None,
    clip: float = 5.0,
    patience: int | None = None,
    ema_decay: float | None = None,
    seed: int = 0,
    device: str = "auto",
    run_dir: str | Path | None = None,
) -> dict:
    """Train ``model`` in place, leave it with the weights of the lowest validation loss, return the record.

    ``train`` and ``validation`` hold tensors of equal length in the order in which the model's ``loss`` takes them: for
    conditional densities targets first, then events. They are tuples, or :class:`~rewind.nn.batches.Examples` with
    weights, which may be negative where the loss is a sum over events. ``train`` is shuffled every epoch; it may be
    :class:`~rewind.nn.batches.SimulatedBatches` instead. The model's ``fit_scales`` must have been called. With
    ``run_dir`` an interrupted training goes on from its last epoch when called again. ``ema_decay`` averages the
    weights, ``patience`` stops after that many epochs without gain, ``clip`` bounds the gradient's norm. The record
    holds losses by epoch, seconds, device and the best validation loss. Raises InputError for data of unequal length,
    weights whose sum is not positive, scales that were never fitted, a ``run_dir`` of another training, and where the
    loss of any epoch is not finite.
    """
    if epochs < 1:
        raise InputError(f"epochs = {epochs}: at least 1 is needed")
    _require_scales(model)
    train, validation = (as_examples(data) for data in (train, validation))
    optimization = optimization or Optimization()
    loaders = loader(train, batch_size, seed), loader(validation, 4 * batch_size)
    plan = {
        "weights": {name: list(values.shape) for name, values in model.state_dict().items()},
        "optimization": asdict(optimization),
        "steps": len(loaders[0]),
        "epochs": epochs,
        "batch_size": batch_size,
        "clip": clip,
        "patience": patience,
        "ema_decay": ema_decay,
        "seed": seed,
        "simulator's seed": getattr(train, "seed", None),
        "training data": fingerprint_of(train),
        "validation data": fingerprint_of(validation),
        "format of its state": 2,
    }
    from rewind.nn import trainer  # takes seconds, so only to train

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(run_dir or scratch)
        state = _claim(folder, plan)
        weights, record = trainer.train(
            model,
            *loaders,
            folder,
            state,
            optimization=optimization,
            epochs=epochs,
            clip=clip,
            patience=patience,
            ema_decay=ema_decay,
            seed=seed,
            device=device,
        )
    model.load_state_dict(weights)
    model.to("cpu").eval()
    return record


def train(
    build: Callable[..., Model],
    configuration: dict[str, Any],
    train: Data,
    validation: Data,
    path: str | Path | None = None,
    *,
    examples: Callable[[Model, Data], Examples],
    prepare: Callable[[Model], Any] | None = None,
    n_events: int | None = None,
    seed: int = 0,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    **options: Any,
) -> tuple[Model, dict[str, Any]]:
    """Return ``build(**configuration)`` trained by :func:`fit` with ``options``, and its record.

    ``seed`` decides initial weights and the order of events. ``prepare`` changes the untrained model (weights that are
    given). ``examples(model, data)`` says what it learns from, with weights; scales that are not fitted yet are
    fitted to those of ``train``, each counting alike. Unless ``path`` is None the checkpoint is written there. The
    record also holds the number of training events, by default that of examples. Raises InputError as :func:`fit`
    and :func:`rewind.nn.checkpoints.save` do.
    """
    configuration = complete(build, configuration)
    torch.manual_seed(seed)
    model = build(**configuration)
    if prepare is not None:
        prepare(model)
    known = examples(model, train)
    if _unfitted(model):
        model.fit_scales(*known.values)
    plan = Optimization(learning_rate=learning_rate, weight_decay=weight_decay)
    record = fit(model, known, examples(model, validation), optimization=plan, seed=seed, **options)
    record["n_training_events"] = len(known.values[0]) if n_events is None else n_events
    if path is not None:
        save(path, model, build, configuration=configuration, data=fingerprint_of(known), training=record)
    return model, record
