"""Leading-order squared amplitudes of tt̄ and tt̄H production, with decays, in torch.

`squared` names every process, alone and with tops that decay to two leptons or to one, with the CP phase of the top's
Yukawa coupling and the chromomagnetic operator O_tG. It evaluates colour-ordered helicity amplitudes by recursion
instead of a formula a process: `spinors` multiplies, `currents` joins, `squares` sums.
"""

from rewind.physics.amplitudes.momenta import on_shell
from rewind.physics.amplitudes.parameters import DEFAULT, Parameters
from rewind.physics.amplitudes.processes import PROCESSES, Process
from rewind.physics.amplitudes.squares import (
    c_tg_polynomial,
    colour_flows,
    coupling_monomials,
    coupling_polynomial,
    cp_monomials,
    cp_polynomial,
    squared,
)

__all__ = [
    "DEFAULT",
    "PROCESSES",
    "Parameters",
    "Process",
    "c_tg_polynomial",
    "colour_flows",
    "coupling_monomials",
    "coupling_polynomial",
    "cp_monomials",
    "cp_polynomial",
    "on_shell",
    "squared",
]
