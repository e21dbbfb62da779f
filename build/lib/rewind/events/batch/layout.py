"""Event tensors: one flat row of float32 numbers an event, as data loaders need them, packed and unpacked by name.

>>> layout = Layout(met=Block({"momentum": (2,)}), jets=Block({"momentum": (4,), "btag": ()}, rows=3))
>>> blocks = {
...     "met": {"momentum": torch.ones(5, 2)},
...     "jets": {"momentum": torch.ones(5, 3, 4), "btag": torch.zeros(5, 3)},
... }
>>> event = layout.pack(blocks)
>>> event.shape, layout.unpack(event)["jets"]["momentum"].shape
(torch.Size([5, 17]), torch.Size([5, 3, 4]))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events.batch.event_batch import EventBatch
from rewind.events.batch.frame import Frame, canonical_frame

__all__ = ["Block", "Layout", "canonical_blocks", "event_layout"]

Blocks = dict[str, dict[str, Tensor]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Block:
    """Name the fields of one kind of object, with the shape of each; ``rows`` objects an event, or None for just one.

    A field is ``(B, rows, *shape)``, or ``(B, *shape)`` without rows.
    """

    fields: Shapes
    rows: int | None = None

    @property
    def width(self) -> int:
        """Return the number of columns of one object."""
        return sum(map(math.prod, self.fields.values()))

    @property
    def leading(self) -> tuple[int, ...]:
        """Return the axes between the events' and those of a field."""
        return () if self.rows is None else (self.rows,)


class Layout:
    """Say which columns of an event tensor hold what: ``blocks`` by name, one after the other, objects row by row."""

    def __init__(self, **blocks: Block):
        self.blocks = blocks
        self.sizes = [block.width * math.prod(block.leading) for block in blocks.values()]

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return sum(self.sizes)

    def pack(self, values: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """Return events ``(B, width)``, float32, of fields by block and name.

        Raises InputError for blocks or fields other than those of the layout, and for another shape.
        """
        _require_names("blocks", values, self.blocks)
        parts = []
        for name, block in self.blocks.items():
            _require_names(f"fields of '{name}'", values[name], block.fields)
            columns = []
            for field, shape in block.fields.items():
                column = values[name][field]
                if tuple(column.shape[1:]) != block.leading + shape:
                    needed = ("events", *block.leading, *shape)
                    raise InputError(
                        f"{name}, {field}: shape {tuple(column.shape)}; ({', '.join(map(str, needed))}) is needed"
                    )
                columns.append(column.float().flatten(1 + len(block.leading)) if shape else column.float()[..., None])
            parts.append(torch.cat(columns, -1).flatten(1))
        return torch.cat(parts, 1)

    def unpack(self, event: Tensor) -> Blocks:
        """Return the fields of events ``(B, width)`` by block and name; raise InputError where they are not as wide."""
        if event.ndim != 2 or event.shape[1] != self.width:
            raise InputError(
                f"event tensor of shape {tuple(event.shape)}: (events, {self.width}) is expected for "
                + ", ".join(f"{block.rows or 1} {name}" for name, block in self.blocks.items())
            )
        return {
            name: _fields(part.reshape(len(event), *block.leading, block.width), block)
            for (name, block), part in zip(self.blocks.items(), event.split(self.sizes, 1), strict=True)
        }


def _fields(rows: Tensor, block: Block) -> dict[str, Tensor]:
    parts = rows.split([math.prod(shape) for shape in block.fields.values()], -1)
    shapes = zip(block.fields.items(), parts, strict=True)
    return {name: part.reshape(*rows.shape[:-1], *shape) for (name, shape), part in shapes}


def _require_names(what: str, given: Mapping, needed: Mapping) -> None:
    if set(given) != set(needed):
        raise InputError(f"{what}: {', '.join(given)} were given; {', '.join(needed)} are needed")


def event_layout(n_leptons: int, n_jets: int, *, of_jets: Shapes | None = None, **further: Block) -> Layout:
    """Return the layout of events with ``n_leptons`` leptons and places for ``n_jets`` jets.

    The blocks are ``frame``, ``met``, ``leptons``, ``jets``, and what is ``further``; ``of_jets`` are more fields of
    jets.
    """
    momentum = {"momentum": (4,)}
    return Layout(
        frame=Block(dict.fromkeys(("cosine", "sine", "flip_y", "flip_z", "exchange"), ())),
        met=Block({"momentum": (2,)}),
        leptons=Block(momentum | {"is_muon": (), "charge": ()}, rows=n_leptons),
        jets=Block(momentum | {"btag": (), "mask": ()} | dict(of_jets or {}), rows=n_jets),
        **further,
    )


def canonical_blocks(batch: EventBatch, frame: Frame | None = None) -> Blocks:
    """Return the blocks of :func:`event_layout` for ``batch`` in its canonical frame, or in ``frame``."""
    frame = canonical_frame(batch) if frame is None else frame
    leptons = {"momentum": frame.enter(batch.leptons), "is_muon": batch.is_muon, "charge": batch.charge}
    return {
        "frame": frame.columns(),
        "met": {"momentum": frame.enter(batch.met)},
        "leptons": {name: frame.by_leg(values) for name, values in leptons.items()},
        "jets": {"momentum": frame.enter(batch.jets), "btag": batch.btag, "mask": batch.jet_mask},
    }
