"""Which outgoing particle of an amplitude is what, and which events are selected: two leptons, or tt̄H with one.

>>> len(DILEPTON.hypotheses), len(TTH.hypotheses), len(TTH_LOST.hypotheses)
(2, 24, 12)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

from rewind.events.chain.processes import PROCESSES, Selection

__all__ = ["DILEPTON", "TTH", "TTH_LOST", "Topology"]


@dataclass(frozen=True)
class Topology:
    """Say which outgoing particles of an amplitude are what, and which events are selected.

    ``final`` is the amplitude's name without the initial state; the next four, and ``lost``, are places among its
    outgoing particles. ``hypotheses`` say which jets may stem from the quarks: for each the b jets, then the others, in
    that order. Light quarks that are ``lost`` leave no jet; they stand after those that do.
    """

    final: str
    leptons: tuple[int, ...]
    neutrinos: tuple[int, ...]
    bottoms: tuple[int, ...]
    lights: tuple[int, ...]
    hypotheses: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    selection: Selection
    lost: tuple[int, ...] = ()


_TOPS = tuple((order, ()) for order in permutations(range(2)))
_TOPS_AND_HIGGS = tuple(
    (order, lights) for order in permutations(range(4)) if order[2] < order[3] for lights in permutations(range(2))
)
DILEPTON = Topology("tt_dilep", (0, 3), (1, 4), (2, 5), (), _TOPS, PROCESSES["ttbar_dilepton"].selection)
TTH = Topology(
    "tth_semilep_bb", (0,), (1,), (2, 5, 6, 7), (3, 4), _TOPS_AND_HIGGS, PROCESSES["tth_semileptonic"].selection
)
"""Both b quarks of the Higgs boson are alike; of the W boson's, the first is of the down type."""
TTH_LOST = replace(
    TTH,
    lights=TTH.lights[:1],
    lost=TTH.lights[1:],
    hypotheses=tuple((bottoms, lights[:1]) for bottoms, lights in _TOPS_AND_HIGGS if lights[0] == 0),
)
"""As TTH, but one of the W boson's quarks left no jet; its type is not known then, and its place the second."""
