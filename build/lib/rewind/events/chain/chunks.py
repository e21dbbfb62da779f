"""One chunk of a simulation: the unit of work that a seed and a number determine, wherever it runs.

>>> request = Request("ttbar_dilepton", (("Top:gg2ttbar = on",),), Selection(2, 2, 2), 1, False, 0.0)
>>> request.n_events(index=0), request.pythia_seed(0) == request.pythia_seed(0) != request.pythia_seed(1)
(400, True)
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import awkward as ak
import numpy as np

import rewind
from rewind.errors import InputError
from rewind.events.chain.generator import CrossSection, PythiaEvents, generate, start
from rewind.events.chain.les_houches import write_excerpt
from rewind.events.chain.processes import Selection
from rewind.events.chain.reconstruction import reconstruct
from rewind.events.readers.store import replacing

__all__ = ["CHUNK_EVENTS", "LEVELS", "Chunk", "Request", "make_chunk", "versions"]

CHUNK_EVENTS = 400
LEVELS = ("particle", "detector")
_MAX_SEED = 900_000_000
_ONE_AT_A_TIME = threading.Lock()  # the Pythias that are kept, and standard output while it is captured, are shared
_GENERATED_FIELDS = ("event", "LHEPart", "Generator", "genWeight", "pass_particle", "pass_detector")


def versions() -> dict[str, str]:
    """Return the versions of what shapes the events."""
    packages = ("pythia8mc", "fastjet", "numpy", "awkward", "uproot")
    return {"rewind": rewind.__version__} | {name: version(name) for name in packages}


@dataclass(frozen=True)
class Request:
    """State what every chunk of a sample needs.

    ``channels`` holds the Pythia settings of each channel; an event is stored that passes the selection at any of
    the ``levels``.
    """

    process: str
    channels: tuple[tuple[str, ...], ...]
    selection: Selection
    seed: int
    keep_constituents: bool
    generated_fraction: float
    levels: tuple[str, ...] = LEVELS
    lhe: str | None = None
    lhe_events: int = 0
    lhe_digest: str | None = None
    versions: tuple[tuple[str, str], ...] = field(default_factory=lambda: tuple(versions().items()))

    def fingerprint(self) -> str:
        """Return a short digest that differs whenever the events may."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def pythia_seed(self, *key: int) -> int:
        """Return a Pythia seed that belongs to ``key`` under this request's seed."""
        return int(np.random.SeedSequence([self.seed, *key]).generate_state(1)[0]) % _MAX_SEED + 1

    def n_events(self, index: int) -> int:
        """Return how many events chunk ``index`` generates in each of its channels."""
        if self.lhe is None:
            return CHUNK_EVENTS // len(self.channels)
        return max(0, min(CHUNK_EVENTS, self.lhe_events - index * CHUNK_EVENTS))


@dataclass(frozen=True)
class Chunk:
    """Hold the selected events of a chunk, the compact hard processes, counts and cross-sections by channel.

    ``n_failed`` counts the events that Pythia gave up on; they are not among the ``n_generated``.
    """

    events: ak.Array
    generated: ak.Array
    n_generated: int
    n_failed: int
    n_pass_particle: int
    n_pass_detector: int
    cross_sections: tuple[CrossSection, ...]

    def save(self, path: Path) -> None:
        """Write the chunk under its final name at once or not at all."""
        about = {name: value for name, value in vars(self).items() if name not in ("events", "generated")} | {
            "cross_sections": [asdict(sigma) for sigma in self.cross_sections]
        }
        arrays = {}
        for name in ("events", "generated"):
            form, length, buffers = ak.to_buffers(ak.to_packed(getattr(self, name)))
            about[name] = {"form": form.to_dict(), "length": length}
            arrays |= {f"{name}/{key}": values for key, values in buffers.items()}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, about=json.dumps(about), **arrays)

    @staticmethod
    def about(path: Path) -> dict:
        """Read all but the arrays of a chunk: of ``events`` and ``generated`` their form and length."""
        with np.load(path) as file:
            stored = json.loads(str(file["about"]))
        about = {field.name: stored[field.name] for field in fields(Chunk)}
        return about | {"cross_sections": tuple(CrossSection(**sigma) for sigma in about["cross_sections"])}

    @classmethod
    def load(cls, path: Path) -> Chunk:
        """Read a chunk back."""
        about = cls.about(path)
        with np.load(path) as file:
            for name in ("events", "generated"):
                buffers = {key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(f"{name}/")}
                form = ak.forms.from_dict(about[name]["form"])
                about[name] = ak.from_buffers(form, about[name]["length"], buffers)
        return cls(**about)


@lru_cache(maxsize=1)
def _started(request: Request):
    """Start one Pythia a channel; all processes start alike, so that they generate alike."""
    return [start(settings, request.pythia_seed()) for settings in request.channels]


def _batches(request: Request, index: int) -> Iterator[tuple[PythiaEvents, CrossSection]]:
    """Yield chunk ``index`` channel by channel; the chunks of a Les Houches file take the channels in turn."""
    n_events = request.n_events(index)
    if request.lhe is None:
        for channel, pythia in enumerate(_started(request)):
            yield generate(pythia, n_events, request.pythia_seed(index, channel))
        return
    with tempfile.TemporaryDirectory(prefix="rewind_") as folder:
        excerpt = Path(folder) / "events.lhe"  # so that Pythia cannot read on where it cannot use an event
        write_excerpt(request.lhe, index * CHUNK_EVENTS, n_events, excerpt)
        settings = (*request.channels[index % len(request.channels)], f"Beams:LHEF = {excerpt}")
        yield generate(start(settings, request.pythia_seed()), n_events, request.pythia_seed(index, 0))


def make_chunk(request: Request, index: int) -> Chunk:
    """Generate, reconstruct and select chunk number ``index``; threads of one process take turns.

    A chunk is short of the events that Pythia gives up on. Raises InputError where it gives up on all of a
    process of its own.
    """
    with _ONE_AT_A_TIME:
        return _make_chunk(request, index)


def _make_chunk(request: Request, index: int) -> Chunk:
    n_events = request.n_events(index)
    parts, cross_sections, n_failed = [], [], 0
    for channel, (batch, sigma) in enumerate(_batches(request, index)):
        n_failed += n_events - len(batch)
        cross_sections.append(sigma)
        if len(batch) == 0:
            if request.lhe is None:
                raise InputError(f"Pythia gives up on each of {n_events} events; change the settings")
            continue
        rng = np.random.default_rng([request.seed, index, channel, 1])
        part = reconstruct(batch, request.selection, rng, keep_constituents=request.keep_constituents)
        part["run"] = np.full(len(batch), 1, np.uint32)
        part["luminosityBlock"] = np.full(len(batch), index + 1, np.uint32)
        part["event"] = index * CHUNK_EVENTS + channel * n_events + np.arange(1, len(batch) + 1, dtype=np.uint64)
        parts.append(part)

    events = ak.concatenate(parts) if parts else ak.Array(dict.fromkeys(_GENERATED_FIELDS, np.empty(0, bool)))
    rng = np.random.default_rng([request.seed, index, 2])
    sampled = rng.random(len(events)) < request.generated_fraction
    stored = np.logical_or.reduce([events[f"pass_{level}"] for level in request.levels])
    return Chunk(
        events=ak.to_packed(events[stored]),
        generated=ak.to_packed(events[list(_GENERATED_FIELDS)][sampled]),
        n_generated=len(events),
        n_failed=n_failed,
        n_pass_particle=int(ak.sum(events.pass_particle)),
        n_pass_detector=int(ak.sum(events.pass_detector)),
        cross_sections=tuple(cross_sections),
    )
