"""Training by lightning, which takes seconds to import: only :func:`rewind.nn.training.fit` does, when it trains."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from rewind.errors import InputError
from rewind.nn.batches import epoch_seed, start_epoch
from rewind.nn.training import Optimization, Trainable
from rewind.progress import visible

__all__ = ["train"]

Batch = tuple[Sequence[Tensor], Tensor | None]


class _Steps(lightning.LightningModule):
    """Give a model the steps that lightning's trainer asks for."""

    def __init__(self, model: Trainable, optimization: Optimization):
        super().__init__()
        self.model, self.optimization = model, optimization

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        loss = self.model.loss(*batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0][0]), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        self.log("validation_loss", self.model.loss(*batch), batch_size=len(batch[0][0]), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        plan = self.optimization
        optimizer = torch.optim.AdamW(self.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        n_steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: plan.factor(step, n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Progress(lightning.Callback):
    """Keep losses and seconds over interruptions, and give every epoch its own random numbers."""

    def __init__(self, seed: int):
        self.seed = seed
        self.losses: list[dict[str, float]] = []
        self.seconds = 0.0
        self.began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "seconds": self.seconds + time.monotonic() - self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.seconds = state_dict["losses"], state_dict["seconds"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, _model: _Steps) -> None:
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch))
        start_epoch(trainer.train_dataloader, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _model: _Steps) -> None:
        metrics, names = trainer.callback_metrics, ("train_loss", "validation_loss")
        self.losses.append({name: float(metrics[name]) for name in names if name in metrics})


def train(
    model: Trainable,
    train_loader: DataLoader,
    validation_loader: DataLoader,
    folder: Path,
    state: Path | None,
    *,
    optimization: Optimization,
    epochs: int,
    clip: float,
    patience: int | None,
    ema_decay: float | None,
    seed: int,
    device: str,
) -> tuple[dict[str, Tensor], dict]:
    """Train as :func:`rewind.nn.training.fit` says, from ``state`` if any; return the best weights and the record.

    Raises InputError where the loss of any epoch is not finite.
    """
    progress = _Progress(seed)
    best = ModelCheckpoint(folder, "best", monitor="validation_loss", save_last=True, enable_version_counter=False)
    early = EarlyStopping("validation_loss", patience=patience or epochs, check_finite=True)
    average = [EMAWeightAveraging(decay=ema_decay, use_buffers=False)] if ema_decay else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
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
        _run(trainer, _Steps(model, optimization), train_loader, validation_loader, state)
    for epoch, losses in enumerate(progress.losses, start=1):
        if not all(math.isfinite(loss) for loss in losses.values()):
            raise InputError(
                f"the training diverged in epoch {epoch}: the loss is not finite; "
                "lower the learning rate or check the data"
            )
    kept = torch.load(best.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
    record = {
        "epochs": len(progress.losses),
        "best_validation_loss": float(best.best_model_score),
        "losses": progress.losses,
        "seconds": round(progress.state_dict()["seconds"], 1),
        "device": _device_name(trainer),
        "seed": seed,
    }
    return {name.removeprefix("model."): values for name, values in kept.items()}, record


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
