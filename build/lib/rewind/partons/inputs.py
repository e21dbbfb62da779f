"""What the networks of these chapters read of an event: the canonical frame, tokens, and a transformer over them.

Rotations about the beam and both reflections change no distribution. Each event is turned so that its lepton flies
along the first axis, forward, with the missing momentum in the upper half plane.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from rewind import kinematics
from rewind.nn.encoders import ObjectEncoder, Objects, ObjectTokens
from rewind.nn.features import event_summary, log_mass, log_own_mass, log_transverse_mass, momentum_features
from rewind.nn.transformer import SetEncoder
from rewind.partons.dataset import Dataset

__all__ = ["EventEncoder", "event_columns", "event_objects", "event_tensor", "turn", "turn_back"]

_PER_EVENT, _PER_JET = 12, 6


def turn(vectors: Tensor, frame: Tensor) -> Tensor:
    """Return three-momenta ``(B, N, 3)`` in the canonical ``frame`` ``(B, 4)``: cosine, sine, signs of y and z."""
    c, s, fy, fz = frame[:, None].unbind(-1)
    x, y, z = vectors.unbind(-1)
    return torch.stack([c * x + s * y, fy * (c * y - s * x), fz * z], -1)


def turn_back(vectors: Tensor, frame: Tensor) -> Tensor:
    """Undo :func:`turn`."""
    c, s, fy, fz = frame[:, None].unbind(-1)
    x, y, z = vectors.unbind(-1)
    return torch.stack([c * x - s * fy * y, s * x + c * fy * y, fz * z], -1)


def _frame(data: Dataset) -> Tensor:
    pt = kinematics.pt(data.lepton)
    cosine, sine = data.lepton[:, 1] / pt, data.lepton[:, 2] / pt
    across = cosine * data.met[:, 1] - sine * data.met[:, 0]
    one = torch.ones_like(pt)
    return torch.stack(
        [cosine, sine, torch.where(across < 0, -one, one), torch.where(data.lepton[:, 3] < 0, -one, one)], 1
    )


def event_columns(max_jets: int, more: int = 0) -> int:
    """Return the number of columns of an :func:`event_tensor` with so many places and ``more`` inputs of each jet."""
    return _PER_EVENT + (_PER_JET + more) * max_jets


def event_tensor(data: Dataset, max_jets: int, more: Tensor | None = None) -> Tensor:
    """Return events ``(B, event_columns)``, float32, in the canonical frame, which itself comes first.

    ``more`` ``(B, max_jets, M)`` is further input of the jets of ``data.padded(max_jets)``. Raises InputError for
    events with more than ``max_jets`` jets.
    """
    data = data.padded(max_jets)
    frame = _frame(data)

    def rows(p4, *extra):
        return torch.cat([p4[..., :1], turn(p4[..., 1:], frame), *(v[..., None].to(p4) for v in extra)], -1)

    lepton = rows(data.lepton[:, None], data.is_muon[:, None], data.charge[:, None])
    jets = rows(data.jets, data.btag, data.jet_mask, *(() if more is None else more.unbind(-1)))
    met = turn(torch.cat([data.met, torch.zeros_like(data.met[:, :1])], 1)[:, None], frame)[:, 0, :2]
    return torch.cat([frame, met, lepton.flatten(1), jets.flatten(1)], 1).float()


def _features(p: Tensor) -> list[Tensor]:
    """Return the usual features of momenta, and the direction in the transverse plane."""
    pt = p[..., 1:3].norm(dim=-1).clip(1e-3)
    return [*momentum_features(p), p[..., 1] / pt, p[..., 2] / pt]


def event_objects(event: Tensor, *, more: int) -> dict[str, Objects]:
    """Return the objects of an event tensor whose jets have ``more`` further inputs: lepton, the whole event, jets."""
    jets = event[:, _PER_EVENT:].unflatten(1, (-1, _PER_JET + more))
    present = jets[..., 5] > 0
    n_jets = int(present.any(0).nonzero().max()) + 1 if present.any() else 0
    jets, present = jets[:, :n_jets], present[:, :n_jets]
    met, lepton, p = event[:, 4:6], event[:, None, 6:10], jets[..., :4]
    is_muon, charge, size = event[:, 10:11], event[:, 11:12], met.norm(dim=1, keepdim=True) / 100
    columns = [*_features(lepton), is_muon, charge, log_transverse_mass(lepton, met), size]
    of_jets = [*_features(p), log_own_mass(p), jets[..., 4], log_mass(p + lepton), present.to(p)]
    whole = event_summary(met, lepton, p, jets[..., 4], present, typical=(6.0, 3.0))
    return {
        "lepton": Objects.all_present(torch.stack(columns, -1)),
        "whole": Objects.all_present(whole[:, None]),
        "jet": Objects(torch.cat([torch.stack(of_jets, -1), jets[..., _PER_JET:]], -1), present),
    }


class EventEncoder(ObjectEncoder):
    """Encode an :func:`event_tensor` whose jets have ``more`` further inputs: lepton, the whole event, and jets.

    ``class_layers`` is the number of the layers that read one vector.
    """

    def __init__(self, width: int, layers: int, heads: int, more: int = 0, class_layers: int = 1):
        tokens = ObjectTokens(width, {"lepton": 12, "jet": 12 + more, "whole": 9})
        transformer = SetEncoder(width, layers=layers, class_layers=class_layers, heads=heads)
        super().__init__(partial(event_objects, more=more), tokens, transformer=transformer)
        self.size = (width, layers, heads, more)
