"""Pythia, started with checked settings and read in batches as flat arrays.

>>> pythia = start(("Top:gg2ttbar = on", "PartonLevel:all = off"), seed=1)
>>> events, sigma = generate(pythia, 3, seed=2)
>>> len(events), sigma.n_accepted, sigma.value > 0
(3, 3, True)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np

from rewind.errors import InputError
from rewind.events.chain.captured_output import captured_output

if TYPE_CHECKING:
    import pythia8mc

__all__ = ["CrossSection", "PythiaEvents", "generate", "start"]

MILLIBARN_IN_PB = 1e9
_FLAG = "on|off|true|false|yes|no|ok|1|0"
_INTEGER = r"[+-]?\d+"
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
_FORMS = {
    "on or off": _FLAG,
    "on, off or a mode from 0 to 3": f"{_FLAG}|2|3",
    "an integer": _INTEGER,
    "a number": _NUMBER,
    "particle numbers": rf"{_INTEGER}(\s+{_INTEGER})*",
    "numbers": rf"{_NUMBER}(\s+{_NUMBER})*",
}
_OF_PARTICLES = {
    "on or off": "isresonance|maydecay|doexternaldecay|isvisible|doforcewidth|varwidth|taucalc",
    "on, off or a mode from 0 to 3": "onmode",
    "an integer": "spintype|chargetype|coltype|memode",
    "a number": "m0|mwidth|mmin|mmax|tau0|rescalebr|bratio",
    "particle numbers": "products|(on|off)(pos|neg)?if(any|all|match)",
    "numbers": "addchannel|onechannel",
}
_SILENT = (
    "Print:quiet = on",
    "Stat:reset = on",
    "Stat:showProcessLevel = off",
    "Stat:showErrors = off",
)


@dataclass(frozen=True)
class CrossSection:
    """Hold a cross-section and its statistical error in pb, with the tries that it comes from."""

    value: float
    error: float
    n_tried: int
    n_accepted: int


@dataclass(frozen=True)
class PythiaEvents:
    """Hold Pythia's event record of many events as flat arrays.

    ``id, status, px, py, pz, e, m`` have one entry a particle, momenta in GeV; ``mother``, ``first`` and
    ``last`` (daughters) index these same arrays, −1 for none; ``event`` is the event that an entry belongs
    to and ``start`` the first entry of each event. ``info`` has one record an event.
    """

    particles: ak.Array
    info: ak.Array
    particle_data: pythia8mc.ParticleData

    def __len__(self) -> int:
        return len(self.info)

    @cached_property
    def counts(self) -> np.ndarray:
        """Return the number of entries of each event's record."""
        return ak.to_numpy(ak.num(self.particles.id))

    @cached_property
    def start(self) -> np.ndarray:
        """Return each event's first entry in the flat arrays."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def event(self) -> np.ndarray:
        """Return the event of each entry."""
        return np.repeat(np.arange(len(self)), self.counts)

    def _flat(self, values) -> np.ndarray:
        return ak.to_numpy(ak.flatten(values))

    def _index(self, name) -> np.ndarray:
        local = self._flat(self.particles[name]).astype(np.int64)
        return np.where(local > 0, local + np.repeat(self.start, self.counts), -1)

    id = cached_property(lambda self: self._flat(self.particles.id))
    status = cached_property(lambda self: self._flat(self.particles.status))
    mother = cached_property(lambda self: self._index("mother1"))
    second_mother = cached_property(lambda self: self._index("mother2"))
    first = cached_property(lambda self: self._index("daughter1"))
    last = cached_property(lambda self: self._index("daughter2"))
    mass = cached_property(lambda self: self._flat(self.particles.m))

    @cached_property
    def p4(self) -> np.ndarray:
        """Four-momenta ``(n, 4)`` as (E, px, py, pz)."""
        p = self.particles.p
        return np.stack([self._flat(p[name]) for name in ("e", "px", "py", "pz")], axis=1)

    def charge(self, entry: np.ndarray) -> np.ndarray:
        """Return the electric charges of entries, in units of e."""
        kinds, which = np.unique(self.id[entry], return_inverse=True)
        return np.array([self.particle_data.charge(int(kind)) for kind in kinds])[which]


def _complaint(printed: list[str]) -> str:
    """Condense Pythia's own error lines into one."""
    lines = (line.strip() for line in printed)
    return " ".join(line for line in lines if line and "|" not in line and "*--" not in line)


def _misread(settings, line: str) -> str | None:
    """Say what Pythia would silently misread or pass over in an accepted setting."""
    key, value = re.fullmatch(r"([^\s=]*)[\s=]*(.*?)\s*", re.sub(r"\s*:\s*", ":", line.strip()), re.DOTALL).groups()
    if not re.match(r"[^\W\d_]|\d+:\w", key):
        return "names neither a setting nor a property of a particle"
    expected = _expected(settings, key)
    if expected is not None and not re.fullmatch(_FORMS[expected], value.lower()):
        return f"takes {expected}"
    return None


def _expected(settings, key: str) -> str | None:
    """Return what kind of value a setting takes, None for words and lists."""
    if key[0].isdigit():
        property_ = key.lower().rpartition(":")[2]
        return next((kind for kind, names in _OF_PARTICLES.items() if re.fullmatch(names, property_)), None)
    kinds = {"on or off": settings.isFlag, "an integer": settings.isMode, "a number": settings.isParm}
    return next((kind for kind, is_kind in kinds.items() if is_kind(key)), None)


def start(settings: Iterable[str], seed: int) -> pythia8mc.Pythia:
    """Return a Pythia initialised with ``settings`` ("Key = value") and ``seed`` (1 to 900,000,000).

    Raises InputError with Pythia's own message where it rejects a setting or cannot start, and for what it
    would silently misread or pass over (a flag given as ``maybe``, a number with letters, a comment).
    """
    settings = tuple(settings)
    with captured_output() as printed:
        pythia = _pythia()
        wrong = _first_wrong(pythia, (*_SILENT, *settings, "Random:setSeed = on", f"Random:seed = {seed}"))
        started = wrong is None and pythia.init()
    if wrong is not None:
        line, reason = wrong
        raise InputError(f"Pythia setting '{line}': {reason or _complaint(printed)}")
    if not started:
        raise InputError(f"Pythia does not start: {_reason(settings)}")
    return pythia


def _pythia() -> pythia8mc.Pythia:
    """Return a Pythia that prints no banner."""
    import pythia8mc  # takes a tenth of a second

    return pythia8mc.Pythia("", False)


def _reason(settings) -> str:
    """Start once more, not quietly, to hear why it fails."""
    with captured_output() as printed:
        pythia = _pythia()
        for line in settings:
            pythia.readString(line)
        pythia.init()
    return _complaint(printed) or "no reason given"


def _first_wrong(pythia, settings) -> tuple[str, str | None] | None:
    for line in settings:
        if not pythia.readString(line):
            return line, None
        if (reason := _misread(pythia.settings, line)) is not None:
            return line, reason
    return None


def generate(pythia: pythia8mc.Pythia, n_events: int, seed: int) -> tuple[PythiaEvents, CrossSection]:
    """Return the next ``n_events`` events, which depend on ``seed`` (1 to 900,000,000) alone, and their σ.

    Events that Pythia gives up on are missing. The random state and the statistics start afresh, so that a
    batch is the same whatever the same Pythia generated before.
    """
    pythia.stat()
    pythia.rndm.init(seed)
    events = pythia.nextBatch(n_events)
    info = pythia.infoPython()
    sigma = CrossSection(
        info.sigmaGen() * MILLIBARN_IN_PB, info.sigmaErr() * MILLIBARN_IN_PB, info.nTried(), info.nAccepted()
    )
    return PythiaEvents(events.prt, events.info, pythia.particleData), sigma
