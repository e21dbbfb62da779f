"""What the networks of these chapters read of an event: the canonical frame, tokens, and a transformer over them.

>>> layout = layout_of(max_jets=7)
>>> layout.width, EventEncoder(layout, width=16, layers=1, heads=2)(torch.zeros(3, layout.width)).shape
(55, torch.Size([3, 16]))
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from rewind.events import Block, EventBatch, Layout, canonical_blocks, event_layout
from rewind.nn.encoders import ObjectEncoder, Objects, ObjectTokens
from rewind.nn.features import event_summary, log_mass, log_own_mass, log_transverse_mass, momentum_features
from rewind.nn.transformer import SetEncoder
from rewind.partons.last_copies import ROLES

__all__ = ["EventEncoder", "event_objects", "event_tensor", "layout_of"]


def layout_of(max_jets: int, *, role_scores: bool = False, **further: Block) -> Layout:
    """Return the layout of event tensors with ``max_jets`` places, each with its scores for ``ROLES`` if wanted."""
    of_jets = {"role_scores": (len(ROLES),)} if role_scores else {}
    return event_layout(1, max_jets, of_jets=of_jets, **further)


def event_tensor(batch: EventBatch, layout: Layout, role_scores: Tensor | None = None) -> Tensor:
    """Return events ``(B, layout.width)``, float32, in their canonical frames.

    ``role_scores`` ``(B, J, 4)`` belong to the jets of ``batch``, padded to the layout's places. Raises InputError for
    events with more jets than that, or with two leptons.
    """
    blocks = canonical_blocks(batch.require_legs(1).padded(layout.blocks["jets"].rows))
    if role_scores is not None:
        blocks["jets"]["role_scores"] = role_scores
    return layout.pack(blocks)


def _momentum_features(p: Tensor) -> list[Tensor]:
    """Return the usual features of momenta, and the direction in the transverse plane."""
    pt = p[..., 1:3].norm(dim=-1).clip(1e-3)
    return [*momentum_features(p), p[..., 1] / pt, p[..., 2] / pt]


def event_objects(event: Tensor, layout: Layout) -> dict[str, Objects]:
    """Return the objects of an event tensor: the lepton, the whole event, and jets up to the last that is there."""
    blocks = layout.unpack(event)
    met, leptons, jets = blocks["met"]["momentum"], blocks["leptons"], blocks["jets"]
    present = jets["mask"] > 0
    n_jets = int(present.any(0).nonzero().max()) + 1 if present.any() else 0
    jets, present = {name: values[:, :n_jets] for name, values in jets.items()}, present[:, :n_jets]
    lepton, p, btag = leptons["momentum"], jets["momentum"], jets["btag"]
    size = met.norm(dim=1, keepdim=True) / 100
    of_lepton = [*_momentum_features(lepton), leptons["is_muon"], leptons["charge"]]
    of_lepton += [log_transverse_mass(lepton, met), size]
    of_jets = [*_momentum_features(p), log_own_mass(p), btag, log_mass(p + lepton), present.to(p)]
    whole = event_summary(met, lepton, p, btag, present, typical=(6.0, 3.0))
    scores = [jets["role_scores"]] if "role_scores" in jets else []
    return {
        "lepton": Objects.all_present(torch.stack(of_lepton, -1)),
        "whole": Objects.all_present(whole[:, None]),
        "jet": Objects(torch.cat([torch.stack(of_jets, -1), *scores], -1), present),
    }


class EventEncoder(ObjectEncoder):
    """Encode an :func:`event_tensor`: tokens of the lepton, of the whole event and of jets, and a transformer.

    ``class_layers`` is the number of the layers that read one vector.
    """

    def __init__(self, layout: Layout, *, width: int, layers: int, heads: int, class_layers: int = 1):
        n_scores = len(ROLES) if "role_scores" in layout.blocks["jets"].fields else 0
        tokens = ObjectTokens(width, {"lepton": 12, "jet": 12 + n_scores, "whole": 9})
        transformer = SetEncoder(width, layers=layers, class_layers=class_layers, heads=heads)
        super().__init__(partial(event_objects, layout=layout), tokens, transformer=transformer)
