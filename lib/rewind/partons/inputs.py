"""What the networks of these chapters read of an event: the canonical frame, tokens, and a transformer over them.

Rotations about the beam and both reflections change no distribution. Each event is turned so that its lepton flies
along the first axis, forward, with the missing momentum in the upper half plane.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.nn.preprocessing import log_mass, momentum_features
from rewind.nn.transformer import SetEncoder
from rewind.partons.dataset import Dataset

__all__ = ["EventEncoder", "event_columns", "event_tensor", "turn", "turn_back"]

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
        return torch.cat([turn(p4[..., 1:], frame), p4[..., :1], *(v[..., None].to(p4) for v in extra)], -1)

    lepton = rows(data.lepton[:, None], data.is_muon[:, None], data.charge[:, None])
    jets = rows(data.jets, data.btag, data.jet_mask, *(() if more is None else more.unbind(-1)))
    met = turn(torch.cat([data.met, torch.zeros_like(data.met[:, :1])], 1)[:, None], frame)[:, 0, :2]
    return torch.cat([frame, met, lepton.flatten(1), jets.flatten(1)], 1).float()


def _features(p: Tensor) -> list[Tensor]:
    """Return the usual features of momenta (px, py, pz, E), and the direction in the transverse plane."""
    pt = p[..., :2].norm(dim=-1).clip(1e-3)
    return [*momentum_features(p), p[..., 0] / pt, p[..., 1] / pt]


class EventEncoder(nn.Module):
    """Encode an :func:`event_tensor`: tokens of the lepton, of the whole event and of each jet, a transformer.

    ``more`` is the number of a jet's further inputs, ``class_layers`` that of the layers that read one vector.
    """

    def __init__(self, width: int, layers: int, heads: int, more: int = 0, class_layers: int = 1):
        super().__init__()
        self.size = (width, layers, heads, more)
        self.lepton, self.jet = nn.Linear(12, width), nn.Linear(12 + more, width)
        self.whole = nn.Linear(9, width)
        self.encoder = SetEncoder(width, layers=layers, class_layers=class_layers, heads=heads)

    def encode(self, event: Tensor) -> Tensor:
        """Return ``(B, width)`` for events ``(B, F)``."""
        return self.encoder(*self.tokens(event))

    def tokens(self, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens ``(B, 2 + n, width)`` of the lepton, the event and its jets, and which are there."""
        per_jet = _PER_JET + self.size[3]
        met, lepton, jets = event[:, 4:6], event[:, 6:_PER_EVENT], event[:, _PER_EVENT:].unflatten(1, (-1, per_jet))
        present = jets[..., 5] > 0
        n_jets = int(present.any(0).nonzero().max()) + 1 if present.any() else 0
        jets, present = jets[:, :n_jets], present[:, :n_jets]
        tokens = [self._lepton_token(lepton, met)[:, None], self._event_token(lepton, met, jets, present)[:, None]]
        with_lepton = log_mass(jets[..., :4] + lepton[:, None, :4])
        own = (jets[..., 3] ** 2 - (jets[..., :3] ** 2).sum(-1)).clip(0)
        jet = [*_features(jets), (1 + own).log() / 5, jets[..., 4], with_lepton, present.float()]
        jet = torch.cat([torch.stack(jet, -1), jets[..., _PER_JET:]], -1)
        tokens = torch.cat([*tokens, self.jet(jet) * present[..., None]], 1)
        return tokens, torch.cat([torch.ones_like(tokens[:, :2, 0], dtype=torch.bool), present], 1)

    def _lepton_token(self, lepton: Tensor, met: Tensor) -> Tensor:
        across = (lepton[:, :2].norm(dim=1) * met.norm(dim=1) - (lepton[:, :2] * met).sum(1)).clip(0)
        size = met.norm(dim=1) / 100
        one = [*_features(lepton), lepton[:, 4], lepton[:, 5], (1 + 2 * across / 80.0**2).log(), size]
        return self.lepton(torch.stack(one, -1))

    def _event_token(self, lepton: Tensor, met: Tensor, jets: Tensor, present: Tensor) -> Tensor:
        visible = lepton[:, :4] + (jets[..., :4] * present[..., None]).sum(1)
        whole = [
            *(torch.asinh(met[:, i] / 30.0) for i in range(2)),
            (met.norm(dim=1).clip(1e-2) / 50.0).log(),
            *(torch.asinh(visible[:, i] / 100.0) for i in range(3)),
            (visible[:, 3].clip(1e-3) / 500.0).log(),
            present.sum(1) / 6.0,
            (jets[..., 4] * present).sum(1) / 3.0,
        ]
        return self.whole(torch.stack(whole, -1))
