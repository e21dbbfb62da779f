"""Frozen dataclasses of tensors with one row an event: choices of events, concatenation, and checks.

>>> @dataclass(frozen=True)
... class Point(Columns):
...     x: Tensor
...     y: Tensor | None = None
>>> points = Point(torch.arange(4.0))
>>> len(points[points.x > 1]), Point.concatenate([points, points[-1]]).x.tolist()
(2, [0.0, 1.0, 2.0, 3.0, 3.0])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from rewind.errors import InputError

__all__ = ["Columns"]


@dataclass(frozen=True)
class Columns:
    """Give a frozen dataclass of tensors, one row an event, its length, choices of events, and checks of them.

    A field may be None, or Columns itself.
    """

    def known(self) -> dict[str, Any]:
        """Return the fields by name that are not None."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values for name, values in every.items() if values is not None}

    def __len__(self) -> int:
        return next((len(values) for values in self.known().values()), 0)

    def __getitem__(self, which: Any) -> Self:
        if isinstance(which, int | np.integer):
            which = range(len(self))[which]
            which = slice(which, which + 1)
        return self.map(lambda values: values[which])

    def map(self, change: Callable[[Any], Any]) -> Self:
        """Return a copy with ``change`` made to every field that is not None."""
        return replace(self, **{name: change(values) for name, values in self.known().items()})

    def to(self, device: torch.device | str) -> Self:
        """Return a copy with all tensors on ``device``."""
        return self.map(lambda values: values.to(device))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all ``parts``, one after the other; raise InputError where a field is in some only."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: _joined(name, [getattr(part, name) for part in parts]) for name in names})

    def refuse(self, faults: Mapping[str, Tensor]) -> Self:
        """Return self; raise InputError for the first event with one of the ``faults``, flags ``(B,)`` by name."""
        for what, bad in faults.items():
            if bad.any():
                first = int(bad.nonzero()[0])
                raise InputError(f"event {first}: {what} ({int(bad.sum())} such events); drop or repair them")
        return self


def _joined(name: str, values: list[Any]) -> Any:
    absent = [value is None for value in values]
    if all(absent):
        return None
    if any(absent):
        raise InputError(f"{name}: {sum(absent)} of {len(values)} parts have none")
    first = values[0]
    return type(first).concatenate(values) if isinstance(first, Columns) else torch.cat(values)
