"""Phase space: maps between unit hypercubes and momenta, exact both ways, batched, differentiable, float64.

Every map has ``forward(r, sqrt_s) -> momenta, weight`` and ``inverse(momenta) -> r, weight`` with the same ``weight``
at the same point: the mean of weight · f over uniform ``r`` is ∫ Π d³p/(2E) δ⁴(P − Σp) f, without powers of 2π.
"""

from rewind.physics.phase_space.fractions import IncomingFractions, from_lab, momentum_fractions, to_lab
from rewind.physics.phase_space.mappings import BreitWigner, PowerLaw
from rewind.physics.phase_space.rambo import RamboOnDiet, massless_volume
from rewind.physics.phase_space.trees import DecayTree, Exchange, Leg, Split

__all__ = [
    "BreitWigner",
    "DecayTree",
    "Exchange",
    "IncomingFractions",
    "Leg",
    "PowerLaw",
    "RamboOnDiet",
    "Split",
    "from_lab",
    "massless_volume",
    "momentum_fractions",
    "to_lab",
]
