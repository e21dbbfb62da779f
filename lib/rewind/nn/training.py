"""One way to train every model of the book."""

from __future__ import annotations

import json
import logging
import math
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler, TensorDataset

from rewind.errors import InputError
from rewind.nn.checkpoints import fingerprint, save
from rewind.progress import visible

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


class Trainable(lightning.LightningModule):
    """Give a model the steps that :func:`fit` needs; subclasses define ``loss(batch)``."""

    optimization = Optimization()

    def loss(self, batch) -> Tensor:
        """Return the scalar to minimise on a batch."""
        raise NotImplementedError

    def training_step(self, batch, _index):
        """Return the training loss."""
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), prog_bar=True)
        return loss

    def validation_step(self, batch, _index):
        """Log the validation loss."""
        self.log("validation_loss", self.loss(batch), batch_size=len(batch[0]), prog_bar=True)

    def configure_optimizers(self):
        """Return AdamW with the schedule of ``self.optimization``."""
        plan = self.optimization
        optimizer = torch.optim.AdamW(self.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        n_steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: plan.factor(step, n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _epoch_seed(seed: int, epoch: int) -> int:
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
        generator = torch.Generator().manual_seed(_epoch_seed(self.seed, self.epoch))
        for _ in range(self.n_batches):
            yield self.simulate(self.batch_size, generator)


class _Shuffle(Sampler[int]):
    """Give every epoch its own order, the same in a training that was interrupted."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(_epoch_seed(self.seed, self.epoch))
        yield from torch.randperm(self.n, generator=generator).tolist()


class _Progress(lightning.Callback):
    """Keep losses and seconds over interruptions, and give every epoch its own random numbers."""

    def __init__(self, seed: int):
        self.seed = seed
        self.losses: list[dict[str, float]] = []
        self.seconds = 0.0
        self.began = time.monotonic()

    def state_dict(self):
        return {"losses": self.losses, "seconds": self.seconds + time.monotonic() - self.began}

    def load_state_dict(self, state_dict):
        self.losses, self.seconds = state_dict["losses"], state_dict["seconds"]

    def on_train_epoch_start(self, trainer, _model):
        torch.manual_seed(_epoch_seed(self.seed, trainer.current_epoch))
        loader = trainer.train_dataloader
        simulated = isinstance(loader.dataset, SimulatedBatches)
        (loader.dataset if simulated else loader.sampler.sampler).epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer, _model):
        found = trainer.callback_metrics
        names = ("train_loss", "validation_loss")
        self.losses.append({name: float(found[name]) for name in names if name in found})


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
    model.optimization = optimization or Optimization()
    train_loader = _loader(train, batch_size, seed)
    validation_loader = _loader(validation, 4 * batch_size)
    plan = {
        "weights": {name: list(values.shape) for name, values in model.state_dict().items()},
        "optimization": asdict(model.optimization),
        "steps": len(train_loader),
        "epochs": epochs,
        "batch_size": batch_size,
        "clip": clip,
        "patience": patience,
        "ema_decay": ema_decay,
        "seed": seed,
        "simulator's seed": getattr(train, "seed", None),
        "training data": _fingerprint(train),
        "validation data": fingerprint(*validation),
    }
    progress = _Progress(seed)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        folder = Path(run_dir or scratch)
        state = _claim(folder, plan)
        best = ModelCheckpoint(folder, "best", monitor="validation_loss", save_last=True, enable_version_counter=False)
        early = EarlyStopping("validation_loss", patience=patience or epochs, check_finite=True)
        average = [EMAWeightAveraging(decay=ema_decay, use_buffers=False)] if ema_decay else []
        trainer = lightning.Trainer(
            accelerator=_accelerator(device),
            devices=1,
            max_epochs=epochs,
            gradient_clip_val=clip,
            callbacks=[progress, early, best, *average],
            logger=False,
            enable_model_summary=False,
            enable_progress_bar=visible(),
            num_sanity_val_steps=0,
        )
        _run(trainer, model, train_loader, validation_loader, state)
        for epoch, losses in enumerate(progress.losses, start=1):
            if not all(math.isfinite(loss) for loss in losses.values()):
                raise InputError(
                    f"the training diverged in epoch {epoch}: the loss is not finite; "
                    "lower the learning rate or check the data"
                )
        weights = torch.load(best.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict(weights)
    model.to("cpu").eval()
    return {
        "epochs": len(progress.losses),
        "best_validation_loss": float(best.best_model_score),
        "losses": progress.losses,
        "seconds": round(progress.state_dict()["seconds"], 1),
        "device": _device_name(trainer),
        "seed": seed,
    }


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


def _run(trainer: lightning.Trainer, model, train_loader, validation_loader, state: Path | None) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(model, train_loader, validation_loader, ckpt_path=state, weights_only=False)
    except SystemExit:  # lightning's answer to Ctrl-C, after which it ignores the signal
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None


def _accelerator(device: str) -> str:
    """Take a CUDA device where there is one, else the CPU; any other only where it is asked for."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _device_name(trainer: lightning.Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type.upper()
