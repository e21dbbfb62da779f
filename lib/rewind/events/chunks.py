"""One chunk of a simulation: the unit of work that a seed and a number determine, wherever it runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import awkward as ak
import numpy as np

import rewind
from rewind.errors import InputError
from rewind.events.chain import reconstruct
from rewind.events.generator import CrossSection, generate, start
from rewind.events.processes import Selection
from rewind.events.store import replacing

__all__ = ["CHUNK_EVENTS", "Chunk", "Request", "make_chunk", "versions"]

CHUNK_EVENTS = 400
_MAX_SEED = 900_000_000
_GENERATED_FIELDS = ("event", "LHEPart", "Generator", "genWeight", "pass_particle", "pass_detector")


def versions() -> dict[str, str]:
    """Return the versions of what shapes the events."""
    packages = ("pythia8mc", "fastjet", "numpy", "awkward", "uproot")
    return {"rewind": rewind.__version__} | {name: version(name) for name in packages}


@dataclass(frozen=True)
class Request:
    """State what every chunk of a sample needs; ``channels`` holds the Pythia settings of each channel."""

    process: str
    channels: tuple[tuple[str, ...], ...]
    selection: Selection
    seed: int
    keep_constituents: bool
    generated_fraction: float
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
        """Return how many events chunk ``index`` generates in each channel."""
        if self.lhe is None:
            return CHUNK_EVENTS // len(self.channels)
        return max(0, min(CHUNK_EVENTS, self.lhe_events - index * CHUNK_EVENTS))


@dataclass(frozen=True)
class Chunk:
    """Hold the selected events of a chunk, the compact hard processes, counts and cross-sections by channel."""

    events: ak.Array
    generated: ak.Array
    n_generated: int
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

    @classmethod
    def load(cls, path: Path) -> Chunk:
        """Read a chunk back."""
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            for name in ("events", "generated"):
                buffers = {key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(f"{name}/")}
                form = ak.forms.from_dict(about[name]["form"])
                about[name] = ak.from_buffers(form, about[name]["length"], buffers)
        about["cross_sections"] = tuple(CrossSection(**sigma) for sigma in about["cross_sections"])
        return cls(**about)


@lru_cache(maxsize=1)
def _started(request: Request):
    """Start one Pythia a channel; all processes start alike, so that they generate alike."""
    return [start(settings, request.pythia_seed()) for settings in request.channels]


def _from_les_houches(request: Request, index: int):
    skip = f"Beams:nSkipLHEFatInit = {index * CHUNK_EVENTS}"
    return [start((*request.channels[0], skip), request.pythia_seed())]


def make_chunk(request: Request, index: int) -> Chunk:
    """Generate, reconstruct and select chunk number ``index``.

    Raises InputError where a Les Houches file yields fewer events than it holds.
    """
    pythias = _started(request) if request.lhe is None else _from_les_houches(request, index)
    n_events = request.n_events(index)
    parts, cross_sections = [], []
    for channel, pythia in enumerate(pythias):
        batch, sigma = generate(pythia, n_events, request.pythia_seed(index, channel))
        if len(batch) < n_events:
            raise InputError(
                f"{request.lhe or 'Pythia'}: gave {len(batch)} of {n_events} events "
                f"after event {index * CHUNK_EVENTS}; the next one is damaged or cannot be showered"
            )
        rng = np.random.default_rng([request.seed, index, channel, 1])
        part = reconstruct(batch, request.selection, rng, keep_constituents=request.keep_constituents)
        part["run"] = np.full(n_events, 1, np.uint32)
        part["luminosityBlock"] = np.full(n_events, index + 1, np.uint32)
        part["event"] = index * CHUNK_EVENTS + channel * n_events + np.arange(1, n_events + 1, dtype=np.uint64)
        parts.append(part)
        cross_sections.append(sigma)

    events = ak.concatenate(parts)
    rng = np.random.default_rng([request.seed, index, 2])
    sampled = rng.random(len(events)) < request.generated_fraction
    return Chunk(
        events=ak.to_packed(events[events.pass_particle | events.pass_detector]),
        generated=ak.to_packed(events[list(_GENERATED_FIELDS)][sampled]),
        n_generated=len(events),
        n_pass_particle=int(ak.sum(events.pass_particle)),
        n_pass_detector=int(ak.sum(events.pass_detector)),
        cross_sections=tuple(cross_sections),
    )
