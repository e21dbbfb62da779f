"""Rewind: the LHC's simulation chain, run backwards."""

import os

__version__ = "0.1.0"

PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # GNU's and Intel's OpenMP
"""Threads that wait for one another sleep instead of spinning, which starves them beside other work.

OpenMP reads this once, when torch is loaded: import this package first. What the user has set stays.
"""

for _name, _value in PASSIVE_WAITING.items():
    os.environ.setdefault(_name, _value)
