"""Events as networks read them: one canonical frame for all events that symmetries relate, tokens, masks.

Rotations about the beam, both reflections, and (two leptons) the exchange of t and t̄ change no density. Each event
is turned so that its leading lepton flies along the first axis, forward, with the missing momentum in the upper
half plane, its leg first; the network then never has to learn a symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.dataset import MAX_JETS, Dataset

__all__ = ["Frame", "TokenFeatures", "event_tensor", "unpack"]

_FRAME, _PER_LEPTON, _PER_JET = 5, 5, 8


@dataclass(frozen=True)
class Frame:
    """Hold what turns events into the canonical frame: a rotation about the beam, reflections, an exchange of legs."""

    cosine: Tensor
    sine: Tensor
    flip_y: Tensor
    flip_z: Tensor
    exchange: Tensor

    def _like(self, value: Tensor, vectors: Tensor) -> Tensor:
        return value.reshape(-1, *[1] * (vectors.ndim - 2))

    def enter(self, vectors: Tensor) -> Tensor:
        """Return three-momenta ``(B, ..., 3)`` in the canonical frame."""
        c, s, fy, fz = (self._like(v, vectors) for v in (self.cosine, self.sine, self.flip_y, self.flip_z))
        x, y, z = vectors.unbind(-1)
        return torch.stack([c * x + s * y, fy * (c * y - s * x), fz * z], -1)

    def leave(self, vectors: Tensor) -> Tensor:
        """Return three-momenta ``(B, ..., 3)`` in the laboratory's frame."""
        c, s, fy, fz = (self._like(v, vectors) for v in (self.cosine, self.sine, self.flip_y, self.flip_z))
        x, y, z = vectors.unbind(-1)
        y = fy * y
        return torch.stack([c * x - s * y, c * y + s * x, fz * z], -1)

    def by_leg(self, values: Tensor) -> Tensor:
        """Exchange the legs of ``(B, L, ...)`` where the second is to be first; its own inverse."""
        if values.shape[1] == 1:
            return values
        where = self.exchange.reshape(-1, *[1] * (values.ndim - 1)) > 0
        return torch.where(where, values.flip(1), values)


def _frame(data: Dataset) -> Frame:
    pt = kinematics.pt(data.leptons)
    leading = pt.argmax(1)
    lepton = data.leptons[torch.arange(len(data)), leading]
    pt = kinematics.pt(lepton)
    cosine, sine = lepton[:, 1] / pt, lepton[:, 2] / pt
    across = cosine * data.met[:, 1] - sine * data.met[:, 0]
    one = torch.ones_like(pt)
    return Frame(
        cosine,
        sine,
        torch.where(across < 0, -one, one),
        torch.where(lepton[:, 3] < 0, -one, one),
        leading.to(pt),
    )


def event_tensor(data: Dataset, pairing: Tensor | None = None) -> Tensor:
    """Return events ``(B, F)`` in the canonical frame, float32, with the frame itself in the first columns.

    ``pairing`` ``(B, 2)``, the jets taken for the b of each leg by position, is told to the network; −1 where
    nothing is known, as it is everywhere if it is None. Raises InputError for events that
    :meth:`~rewind.neutrino.dataset.Dataset.check` refuses and for a pairing with jets that are not there.
    """
    data.check()
    frame = _frame(data)
    if pairing is None:
        pairing = torch.full((len(data), 2), -1)
    if pairing.shape != (len(data), 2):
        raise InputError(f"pairing of shape {tuple(pairing.shape)}: two jets an event, ({len(data)}, 2), are expected")
    absent = (pairing >= 0) & ~data.jet_mask.gather(1, pairing.clip(0, MAX_JETS - 1)) | (pairing >= MAX_JETS)
    if absent.any():
        raise InputError(f"pairing: event {int(absent.any(1).nonzero()[0])} has no such jet")
    if data.n_legs == 2:
        pairing = frame.by_leg(pairing)
    flags = (torch.arange(MAX_JETS)[:, None] == pairing[:, None]).to(data.met)

    def rows(p4, *extra):
        columns = [frame.enter(p4[..., 1:]), p4[..., :1], *(value[..., None].to(p4) for value in extra)]
        return torch.cat(columns, -1)

    leptons = rows(frame.by_leg(data.leptons), frame.by_leg(data.is_muon))
    jets = torch.cat([rows(data.jets, data.btag, data.jet_mask), flags], -1)
    met = frame.enter(torch.cat([data.met, torch.zeros_like(data.met[:, :1])], 1))[:, :2]
    columns = (frame.cosine, frame.sine, frame.flip_y, frame.flip_z, frame.exchange)
    event = [torch.stack(columns, 1), met, leptons.flatten(1), jets.flatten(1)]
    return torch.cat(event, 1).float()


@dataclass(frozen=True)
class Unpacked:
    """Hold the parts of an event tensor: four-momenta (px, py, pz, E) first in each row."""

    frame: Frame
    met: Tensor
    leptons: Tensor
    jets: Tensor

    @property
    def present(self) -> Tensor:
        """Return which jets are there, ``(B, J)``."""
        return self.jets[..., 5] > 0


def unpack(event: Tensor, n_legs: int) -> Unpacked:
    """Return the parts of an event tensor of :func:`event_tensor`; raise InputError where it has another width."""
    sizes = (_FRAME, 2, n_legs * _PER_LEPTON, MAX_JETS * _PER_JET)
    if event.shape[-1] != sum(sizes):
        raise InputError(f"events of {event.shape[-1]} columns: {sum(sizes)} are expected for {n_legs} leptons")
    frame, met, leptons, jets = event.split(sizes, -1)
    return Unpacked(
        Frame(*frame.unbind(-1)),
        met,
        leptons.reshape(-1, n_legs, _PER_LEPTON),
        jets.reshape(-1, MAX_JETS, _PER_JET),
    )


def _log_mass(first: Tensor, second: Tensor) -> Tensor:
    """Return log(1 + m²/m_W²) of pairs of momenta (px, py, pz, E)."""
    total = first[..., :4] + second[..., :4]
    squared = total[..., 3] ** 2 - (total[..., :3] ** 2).sum(-1)
    return (1 + squared.clip(0) / 80.0**2).log()


def _momentum_features(p: Tensor) -> list[Tensor]:
    """Return what a network reads of momenta (px, py, pz, E): components, log E, log pT, η."""
    pt = p[..., :2].norm(dim=-1).clip(1e-3)
    return [
        *(torch.asinh(p[..., i] / 30.0) for i in range(3)),
        (p[..., 3].clip(1e-3) / 100.0).log(),
        (pt / 50.0).log(),
        torch.asinh(p[..., 2] / pt),
    ]


class TokenFeatures(nn.Module):
    """Turn an event tensor into tokens of a common width: leptons, jets, and one for the whole event."""

    def __init__(self, n_legs: int, width: int):
        super().__init__()
        self.n_legs = n_legs
        self.lepton = nn.Linear(9 + n_legs - 1, width)
        self.jet = nn.Linear(10 + 2 * n_legs, width)
        self.whole = nn.Linear(9, width)
        self.legs = nn.Parameter(0.1 * torch.randn(n_legs, width))

    def forward(self, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens ``(B, N, width)`` and which are present ``(B, N)``: leptons, the event, then jets."""
        parts = unpack(event, self.n_legs)
        leptons, jets, met, present = parts.leptons, parts.jets, parts.met, parts.present
        n_jets = int(present.sum(1).max()) if len(event) else 0
        jets, present = jets[:, :n_jets], present[:, :n_jets]

        lepton_pt = leptons[..., :2].norm(dim=-1)
        across = (lepton_pt * met.norm(dim=1)[:, None] - (leptons[..., :2] * met[:, None]).sum(-1)).clip(0)
        others = [_log_mass(leptons[:, :1], leptons[:, 1:]).expand(-1, 2)] if self.n_legs == 2 else []
        lepton = [
            *_momentum_features(leptons),
            leptons[..., 4],
            (1 + 2 * across / 80.0**2).log(),
            torch.ones_like(lepton_pt),
        ]
        lepton = self.lepton(torch.stack([*lepton, *others], -1)) + self.legs

        near = [_log_mass(leptons[:, leg : leg + 1], jets) for leg in range(self.n_legs)]
        eta = torch.asinh(jets[..., 2] / jets[..., :2].norm(dim=-1).clip(1e-3))
        azimuth = torch.atan2(jets[..., 1], jets[..., 0])
        for leg in range(self.n_legs):
            one = leptons[:, leg : leg + 1]
            d_eta = eta - torch.asinh(one[..., 2] / one[..., :2].norm(dim=-1))
            d_phi = kinematics.delta_phi(azimuth, torch.atan2(one[..., 1], one[..., 0]))
            near.append((d_eta**2 + d_phi**2 + 1e-6).sqrt())
        mass_squared = (jets[..., 3] ** 2 - (jets[..., :3] ** 2).sum(-1)).clip(0)
        jet = [*_momentum_features(jets), (1 + mass_squared).log() / 5, jets[..., 4], jets[..., 6], jets[..., 7]]
        jet = self.jet(torch.stack([*jet, *near], -1)) * present[..., None]

        visible = leptons[..., :4].sum(1) + (jets[..., :4] * present[..., None]).sum(1)
        met_size = met.norm(dim=1)
        whole = [
            *(torch.asinh(met[:, i] / 30.0) for i in range(2)),
            (met_size.clip(1e-2) / 50.0).log(),
            *(torch.asinh(visible[:, i] / 100.0) for i in range(3)),
            (visible[:, 3] / 500.0).log(),
            present.sum(1) / 4.0,
            (jets[..., 4] * present).sum(1) / 2.0,
        ]
        whole = self.whole(torch.stack(whole, -1))[:, None]
        tokens = torch.cat([lepton, whole, jet], 1)
        there = torch.ones_like(tokens[:, : self.n_legs + 1, 0], dtype=torch.bool)
        return tokens, torch.cat([there, present], 1)
