"""Which jets may be the b jets of which leg, and what each such pairing implies for the neutrinos of two legs.

>>> from rewind import events, paths
>>> from rewind.neutrino.flows.inputs import event_tensor
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)[:50]
>>> rows = hypotheses(event_tensor(data, solutions=False))  # both orders of the two hardest tagged jets
>>> len(rows.event), tuple(rows.features.shape)
(100, (100, 16))
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind.neutrino.flows.inputs import EventParts, unpack
from rewind.physics.circles import Circles
from rewind.physics.constants import M_TOP, M_W

__all__ = ["N_FEATURES", "Hypotheses", "hypotheses", "jets_of_pairings"]

N_FEATURES = 2 * 8
"""Features of a pairing, eight of each leg."""


@dataclass(frozen=True)
class Hypotheses:
    """Hold the R pairings of events that may be: the event's number, the pairing's (0 or 1), and what it implies.

    ``visible`` ``(R, 4)`` is the sum of leptons and chosen jets, ``features`` ``(R, F)`` what a network reads.
    """

    event: Tensor
    which: Tensor
    circles: Circles
    visible: Tensor
    met: Tensor
    features: Tensor

    def __getitem__(self, index: Tensor | slice) -> Hypotheses:
        return Hypotheses(*(value[index] for value in vars(self).values()))

    def split(self, n: int) -> list[Hypotheses]:
        """Return parts of at most ``n`` pairings; one empty part of none."""
        return [self[i : i + n] for i in range(0, max(len(self.event), 1), n)]

    def by_pairing(self, values: Tensor, n: int, fill: float = -math.inf) -> Tensor:
        """Return ``(n, 2, m)`` for ``n`` events from ``values`` ``(R, m)``, ``fill`` where a pairing does not count."""
        table = values.new_full((n, 2, values.shape[1]), fill)
        return table.index_put((self.event, self.which), values)


def jets_of_pairings(parts: EventParts) -> Tensor:
    """Return the jets ``(n, 2, 2)`` that both pairings give to the legs, in the canonical order of these."""
    jets = parts.solutions["jets"]
    return jets[:, (0, jets.shape[1] // 2)].long()


def hypotheses(event: Tensor) -> Hypotheses:
    """Return one pairing of each event tensor if it is told, else both orders of the two hardest tagged jets."""
    parts = unpack(event, 2)
    told = parts.is_told
    number, which = torch.stack([torch.ones_like(told), ~told], 1).nonzero(as_tuple=True)
    taken = jets_of_pairings(parts)[number, which]
    jets = parts.jets[number].gather(1, taken[..., None].expand(-1, -1, 4))
    leptons, bottoms = parts.leptons[number].double(), jets.double()
    circles, met = Circles.of(leptons, bottoms), parts.met[number]
    pt = bottoms[..., 1:3].norm(dim=-1)
    columns = [
        (M_TOP**2 - circles.least_m_top_squared(torch.full_like(pt, M_W**2))) / M_TOP**2,
        (circles.visible_mass_squared / 100**2).log(),
        (circles.b_minus / 30).log(),
        torch.asinh(circles.b_across / 50),
        (circles.lepton_energy / 80).log(),
        (pt / 60).log(),
        torch.asinh(bottoms[..., 3] / pt),
        (1 + circles.b_mass_squared).log() / 2 - 2.5,
    ]
    features = torch.stack(columns, -1).flatten(1).to(event)
    return Hypotheses(number, which, circles, (leptons + bottoms).sum(1).to(event), met, features)
