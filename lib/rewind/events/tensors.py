"""From jagged events to what networks read: padded tensors with masks."""

from __future__ import annotations

from collections.abc import Sequence

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind.errors import InputError

__all__ = ["to_tensors"]


def to_tensors(
    objects: ak.Array, fields: Sequence[str], n_max: int | None = None, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return a jagged collection as values ``(B, N, F)``, zero where empty, and the mask ``(B, N)`` of what is there.

    ``N`` is ``n_max``, or the largest number of objects; of more, the first ``n_max`` are kept (jets and leptons
    come in falling pT). Raises InputError for an unknown field.
    """
    unknown = [name for name in fields if name not in objects.fields]
    if unknown:
        raise InputError(f"no field {', '.join(unknown)}: the collection has {', '.join(objects.fields)}")
    counts = ak.num(objects[fields[0]])
    width = int(ak.max(counts, initial=0)) if n_max is None else n_max
    columns = [ak.to_numpy(ak.fill_none(ak.pad_none(objects[name], width, clip=True), 0)) for name in fields]
    values = torch.from_numpy(np.stack(columns, axis=-1).astype(np.float64)).to(dtype)
    mask = torch.arange(width) < torch.from_numpy(ak.to_numpy(counts).astype(np.int64))[:, None]
    return values, mask
