"""One canonical frame for all events that symmetries relate, and the way back.

Rotations about the beam, both reflections, and (two leptons) the exchange of t and t̄ change no distribution. Each
event is turned so that its leading lepton flies along the first axis, forward, with the missing momentum in the upper
half plane, its leg first; a network then never has to learn a symmetry.

>>> one = torch.ones(1)
>>> frame = Frame(cosine=0 * one, sine=one, flip_y=one, flip_z=-one, exchange=0 * one)
>>> p = torch.tensor([[50.0, 0.0, 30.0, -40.0]])
>>> frame.enter(p).tolist(), torch.equal(frame.leave(frame.enter(p)), p)
([[50.0, 30.0, 0.0, 40.0]], True)
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.event_batch import EventBatch

__all__ = ["Frame", "canonical_frame"]


@dataclass(frozen=True)
class Frame(Columns):
    """Hold what turns each event into its canonical frame, ``(B,)`` each.

    A rotation about the beam by its ``cosine`` and ``sine``, the signs ``flip_y`` and ``flip_z`` of the reflections,
    and ``exchange``, 1 where the second leg is to be first.
    """

    cosine: Tensor
    sine: Tensor
    flip_y: Tensor
    flip_z: Tensor
    exchange: Tensor

    def _parts(self, vectors: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return energies ``(B, …, 1)``, if any, and the space components with the four numbers that turn them."""
        size = vectors.shape[-1]
        if size not in (2, 3, 4) or len(vectors) != len(self):
            raise InputError(
                f"vectors of shape {tuple(vectors.shape)}: ({len(self)}, …, 2), transverse, 3 or 4 are expected"
            )
        shape = (-1, *[1] * (vectors.ndim - 2))
        turn = [values.reshape(shape) for values in (self.cosine, self.sine, self.flip_y, self.flip_z)]
        return vectors[..., : size // 4], [*vectors[..., size // 4 :].unbind(-1), *turn]

    def enter(self, vectors: Tensor) -> Tensor:
        """Return vectors in the canonical frame: ``(B, …, 4)`` with E first, ``(B, …, 3)``, or transverse ones."""
        energy, (x, y, *z, c, s, flip_y, flip_z) = self._parts(vectors)
        turned = [c * x + s * y, flip_y * (c * y - s * x), *(flip_z * one for one in z)]
        return torch.cat([energy.to(turned[0]), torch.stack(turned, -1)], -1)

    def leave(self, vectors: Tensor) -> Tensor:
        """Return vectors in the laboratory's frame: the inverse of :meth:`enter`."""
        energy, (x, y, *z, c, s, flip_y, flip_z) = self._parts(vectors)
        y = flip_y * y
        turned = [c * x - s * y, c * y + s * x, *(flip_z * one for one in z)]
        return torch.cat([energy.to(turned[0]), torch.stack(turned, -1)], -1)

    def by_leg(self, values: Tensor) -> Tensor:
        """Exchange the legs of ``(B, L, …)`` where the second is to be first; its own inverse."""
        if values.shape[1] == 1:
            return values
        where = self.exchange.reshape(-1, *[1] * (values.ndim - 1)) > 0
        return torch.where(where, values.flip(1), values)

    def columns(self) -> dict[str, Tensor]:
        """Return the five numbers ``(B,)`` by name: the block of a layout that keeps a frame beside its event."""
        return self.known()

    @classmethod
    def from_columns(cls, columns: dict[str, Tensor]) -> Frame:
        """Return the frame that :meth:`columns` stored."""
        return cls(**{field.name: columns[field.name] for field in fields(cls)})

    def exact(self) -> Frame:
        """Return the frame in float64, with cosine and sine of unit length, from one stored in single precision."""
        double = self.map(Tensor.double)
        size = torch.stack([double.cosine, double.sine]).norm(dim=0)
        return replace(double, cosine=double.cosine / size, sine=double.sine / size)


def canonical_frame(batch: EventBatch) -> Frame:
    """Return the frame in which the leading lepton of each event flies along +x, forward, and p_T^miss has p_y ≥ 0."""
    pt = kinematics.pt(batch.leptons)
    leading = pt.argmax(1)
    rows = torch.arange(len(batch), device=pt.device)
    lepton, pt = batch.leptons[rows, leading], pt[rows, leading]
    cosine, sine = lepton[:, 1] / pt, lepton[:, 2] / pt
    across = cosine * batch.met[:, 1] - sine * batch.met[:, 0]
    one = torch.ones_like(pt)
    return Frame(
        cosine,
        sine,
        torch.where(across < 0, -one, one),
        torch.where(lepton[:, 3] < 0, -one, one),
        leading.to(pt),
    )
