"""What models learn from: stored examples with weights, or simulated ones, in batches that a seed decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler, TensorDataset

from rewind.errors import InputError
from rewind.nn.checkpoints import fingerprint

__all__ = [
    "Examples",
    "SimulatedBatches",
    "as_examples",
    "epoch_seed",
    "fingerprint_of",
    "loader",
    "start_epoch",
    "weighted_mean",
]


class Examples(NamedTuple):
    """Hold what a model learns from: tensors of equal length, as its loss takes them, and weights ``(n,)`` if any."""

    values: tuple[Tensor, ...]
    weight: Tensor | None = None


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of a batch's ``losses`` ``(n,)`` with ``weight`` ``(n,)``, one on average over the whole sample.

    The sum of weights in a batch varies and may vanish where some are negative: it does not enter.

    >>> losses = torch.tensor([1.0, 3.0])
    >>> float(weighted_mean(losses, None)), float(weighted_mean(losses, torch.tensor([3.0, -1.0])))
    (2.0, 0.0)
    """
    return losses.mean() if weight is None else (weight * losses).mean()


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's random numbers."""
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


def as_examples(data: tuple[Tensor, ...] | Examples | SimulatedBatches) -> Examples | SimulatedBatches:
    """Return tensors as examples without weights, anything else as it is."""
    return data if isinstance(data, Examples | SimulatedBatches) else Examples(tuple(data))


def loader(data: Examples | SimulatedBatches, batch_size: int, seed: int | None = None) -> DataLoader:
    """Return batches ``(values, weight)``, of which the second is None without weights."""
    if isinstance(data, SimulatedBatches):
        return DataLoader(data, batch_size=None, collate_fn=_unweighted)
    weight = _relative(data.weight)
    columns = data.values if weight is None else (*data.values, weight)
    lengths = {len(values) for values in columns}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"training data of lengths {sorted(lengths)}: equal lengths of at least 1 are needed")
    n = lengths.pop()
    order = range(n) if seed is None else _Shuffle(n, seed)
    batches = BatchSampler(order, batch_size, drop_last=False)
    split = _unweighted if weight is None else _weighted
    return DataLoader(TensorDataset(*columns), batch_size=None, sampler=batches, collate_fn=split)


def start_epoch(batches: DataLoader, epoch: int) -> None:
    """Tell what :func:`loader` returned which epoch begins."""
    simulated = isinstance(batches.dataset, SimulatedBatches)
    (batches.dataset if simulated else batches.sampler.sampler).epoch = epoch


def _unweighted(values: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
    return values, None


def _weighted(columns: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
    return columns[:-1], columns[-1]


def _relative(weight: Tensor | None) -> Tensor | None:
    """Return weights ``(n,)`` over their mean; None where all are equal. Raise InputError where that makes no sense."""
    if weight is None:
        return None
    if weight.ndim != 1 or not weight.isfinite().all() or weight.sum() <= 0:
        raise InputError(
            f"weights of shape {tuple(weight.shape)} and sum {float(weight.sum()):g}: finite ones with a positive sum, "
            "one an event, are needed"
        )
    return None if (weight == weight[0]).all() else (weight.double() / weight.double().mean()).float()


def fingerprint_of(data: Examples | SimulatedBatches) -> str:
    """Return the fingerprint of stored training data, or of the first batch that is simulated."""
    if isinstance(data, SimulatedBatches):
        data.epoch = 0
        return fingerprint(*next(iter(data)))
    weight = _relative(data.weight)
    return fingerprint(*data.values, *(() if weight is None else (weight,)))
