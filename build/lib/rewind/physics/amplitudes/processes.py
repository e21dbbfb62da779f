"""The processes: which particles take part, and the colour factors of their squares.

>>> PROCESSES['gg_tth'].particles
('g', 'g', 't', 't~', 'h')
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

__all__ = ["PROCESSES", "Process"]


class Process(NamedTuple):
    """Name the particles of a process: incoming partons, tops or what they decay to, Higgs boson or its b-quarks."""

    incoming: tuple[str, ...]
    tops: tuple[str, ...]
    higgs: tuple[str, ...]

    @property
    def particles(self) -> tuple[str, ...]:
        """Particles in the order of the momenta."""
        return self.incoming + self.tops + self.higgs

    @property
    def legs(self) -> tuple[slice, slice, slice]:
        """Where the top's momenta stand, the antitop's and the Higgs boson's."""
        middle, end = 2 + len(self.tops) // 2, 2 + len(self.tops)
        return slice(2, middle), slice(middle, end), slice(end, None)


INCOMING = {"gg": ("g", "g"), "uux": ("u", "u~")}
COLOUR_FACTORS = {("g", "g"): (16 / 3 / 256, -2 / 3 / 256), ("u", "u~"): (2 / 36, 0.0)}
"""Averaged over the incoming colours: within one colour order and between two."""
DECAYS = {
    "": ("t", "t~"),
    "_dilep": ("e+", "ve", "b", "mu-", "vm~", "b~"),
    "_semilep": ("e+", "ve", "b", "d", "u~", "b~"),
}
HIGGS = {"tt{}": (), "tth{}": ("h",), "tth{}_bb": ("b", "b~")}
PROCESSES = {
    f"{incoming}_{pair.format(decay)}": Process(INCOMING[incoming], DECAYS[decay], HIGGS[pair])
    for pair, decay, incoming in product(HIGGS, DECAYS, INCOMING)
}
