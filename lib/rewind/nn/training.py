"""One way to train every model of the book."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler, TensorDataset

from rewind.errors import InputError
from rewind.nn.checkpoints import fingerprint, save

__all__ = ["Optimization", "SimulatedBatches", "Trainable", "fit", "fit_and_save"]


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
    """Be a model that :func:`fit` can train; subclasses define ``loss(batch)``."""

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the scalar to minimise on a batch."""
        raise NotImplementedError


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch of a training."""
    return seed * 1_000_003 + epoch


class SimulatedBatches(IterableDataset):
    """Draw every batch afresh from a simulator: ``simulate(n, generator)`` returns a tuple of tensors.

    Each epoch has its own seed, so that no event is seen twice and a resumed training goes on as it would
    have.
    """

    def __init__(
        self,
        simulate: Callable[[int, torch.Generator], tuple[Tensor, ...]],
        *,
        batch_size: int,
        n_batches: int,
        seed: int,
    ):
        self.simulate, self.batch_size, self.n_batches, self.seed = simulate, batch_size, n_batches, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        for _ in range(self.n_batches):
            yield self.simulate(self.batch_size, generator)


class _Shuffle(Sampler[int]):
    """Give every epoch its own order, the same in a training that was interrupted."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        yield from torch.randperm(self.n, generator=generator).tolist()


def _loader(data, batch_size: int, seed: int | None = None) -> DataLoader:
    if isinstance(data, SimulatedBatches):
        return DataLoader(data, batch_size=None)
    lengths = {len(values) for values in data}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"training data of lengths {sorted(lengths)}: equal lengths of at least 1 are needed")
    n = lengths.pop()
    order = range(n) if seed is None else _Shuffle(n, seed)
    batches = BatchSampler(order, batch_size, drop_last=False)
    return DataLoader(TensorDataset(*data), batch_size=None, sampler=batches)


def _fingerprint(train: tuple[Tensor, ...] | SimulatedBatches) -> str:
    """Return the fingerprint of stored training data, or of the first batch that is simulated."""
    if isinstance(train, SimulatedBatches):
        train.epoch = 0
        train = next(iter(train))
    return fingerprint(*train)


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
    train: tuple[Tensor, ...] | SimulatedBatches,
    validation: tuple[Tensor, ...],
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

    ``train`` is a tuple of tensors of equal length, shuffled every epoch, or :class:`SimulatedBatches`. With
    ``run_dir`` an interrupted training goes on from its last epoch when called again. ``ema_decay`` averages
    the weights, ``patience`` stops after that many epochs without gain, ``clip`` bounds the gradient's norm.
    The record holds losses by epoch, seconds, device and the best validation loss. Raises InputError for data
    of unequal length, for a ``run_dir`` of another training, and where the loss of any epoch is not finite.
    """
    if epochs < 1:
        raise InputError(f"epochs = {epochs}: at least 1 is needed")
    optimization = optimization or Optimization()
    loaders = _loader(train, batch_size, seed), _loader(validation, 4 * batch_size)
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
        "training data": _fingerprint(train),
        "validation data": fingerprint(*validation),
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


def fit_and_save(
    model: Trainable,
    train: tuple[Tensor, ...],
    validation: tuple[Tensor, ...],
    path: str | Path | None,
    *,
    configuration: dict,
    n_events: int,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    **options,
) -> dict:
    """Train as :func:`fit` does with ``options``, write the checkpoint to ``path`` unless None, return the record.

    The record also holds the number of training events; ``configuration`` is what builds the model again.
    """
    optimization = Optimization(learning_rate=learning_rate, weight_decay=weight_decay)
    record = fit(model, train, validation, optimization=optimization, **options) | {"n_training_events": n_events}
    if path is not None:
        save(path, model, configuration=configuration, data=fingerprint(*train), training=record)
    return record
