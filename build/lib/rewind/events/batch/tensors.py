"""From jagged events to arrays: four-momenta, and padded tensors with masks.

>>> jets = ak.Array([[{"pt": 50.0}, {"pt": 30.0}], []])
>>> values, mask = to_tensors(jets, ["pt"])
>>> values[..., 0].tolist(), mask.tolist()
([[50.0, 30.0], [0.0, 0.0]], [[True, True], [False, False]])
"""

from __future__ import annotations

from collections.abc import Sequence

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError

__all__ = ["momenta", "to_tensors", "transverse"]


def momenta(objects: ak.Array) -> np.ndarray:
    """Return the four-momenta ``(n, 4)`` of all objects of a jagged collection, one event after the other, GeV.

    Reads either ``energy, px, py, pz`` or ``pt, eta, phi, mass``.
    """
    flat = ak.flatten(objects)
    if "energy" in flat.fields:
        return np.stack([flat[name].to_numpy() for name in ("energy", "px", "py", "pz")], axis=-1)
    columns = (flat[name].to_numpy().astype(float) for name in ("pt", "eta", "phi", "mass"))
    return kinematics.from_pt_eta_phi_mass(*columns)


def transverse(vectors: ak.Array) -> np.ndarray:
    """Return the components ``(n, 2)`` of one transverse vector an event, of ``pt`` and ``phi``, such as MET, GeV."""
    size, turn = (ak.to_numpy(vectors[name]).astype(float) for name in ("pt", "phi"))
    return np.stack([size * np.cos(turn), size * np.sin(turn)], 1)


def to_tensors(
    objects: ak.Array, names: Sequence[str], n_max: int | None = None, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return a jagged collection as values ``(B, N, F)``, zero where empty, and the mask ``(B, N)`` of what is there.

    ``N`` is ``n_max``, or the largest number of objects; of more, the first ``n_max`` are kept (jets and leptons
    come in falling pT). Raises InputError for an unknown field.
    """
    unknown = [name for name in names if name not in objects.fields]
    if unknown:
        raise InputError(f"no field {', '.join(unknown)}: the collection has {', '.join(objects.fields)}")
    counts = ak.num(objects[names[0]])
    width = int(ak.max(counts, initial=0, mask_identity=False)) if n_max is None else n_max
    columns = [ak.to_numpy(ak.fill_none(ak.pad_none(objects[name], width, clip=True), 0)) for name in names]
    values = torch.from_numpy(np.stack(columns, axis=-1).astype(np.float64)).to(dtype)
    mask = torch.arange(width) < torch.from_numpy(ak.to_numpy(counts).astype(np.int64))[:, None]
    return values, mask
