"""Samples by path or by request: shipped files, files of other origin, and a cache made on demand.

>>> path = paths.locate("data/samples/ttbar_dilepton.root")
>>> events, about = load(path), metadata(path)
>>> about["process"], len(events) == about["n_events"], load_batch(path, n_leptons=2).n_legs
('ttbar_dilepton', True, 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak

from rewind import paths
from rewind.errors import InputError
from rewind.events.batch.event_batch import EventBatch
from rewind.events.batch.from_records import from_records
from rewind.events.chain.chunks import versions
from rewind.events.chain.processes import find_process
from rewind.events.chain.simulation import simulate
from rewind.events.readers import public, store

__all__ = ["load", "load_batch", "metadata", "sample", "simulated", "summary"]

_HDF5 = (".h5", ".hdf5")


def _format(path: str | Path) -> ModuleType:
    return public if Path(path).suffix.lower() in _HDF5 else store


def load(path: str | Path) -> ak.Array:
    """Return the events of a sample as records with one field a collection.

    ``Jet, Lepton, GenJet, GenLepton`` (pt, eta, phi, mass, …), ``MET, GenMET``, ``GenPart``, ``LHEPart``,
    ``Generator``, ``event, genWeight, pass_particle, pass_detector``, and ``JetConstituent,
    GenJetConstituent`` where they were kept; GeV. Reads this book's ROOT files and the public HDF5 sets. Raises
    InputError for a file that is missing, damaged, of another kind, incomplete or not finite.
    """
    return _format(path).load(path)


def metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata record of a sample: process, settings, seed, versions, counts, cross-section.

    Of a public HDF5 set only ``title, process, n_events`` are known. Raises InputError as :func:`load` does.
    """
    return _format(path).metadata(path)


def summary(path: str | Path) -> str:
    """Return a few lines on what a sample holds, for ``rewind info``; raises InputError as :func:`load` does."""
    return _format(path).summary(path)


def sample(process: str, n_events: int, *, seed: int = 0, workers: int = 1, **options: Any) -> Path:
    """Return the path of a cached sample, simulated now if there is none.

    ``options`` go to :func:`~rewind.events.chain.simulation.simulate`. Other versions of what shapes the events make
    another sample.
    """
    digest = sha256(repr((sorted(options.items()), versions())).encode()).hexdigest()[:8]
    path = paths.root() / "_cache" / f"{process}-{n_events}-{seed}-{digest}.root"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        simulate(process, n_events, path, seed=seed, workers=workers, **options)
    return path


def load_batch(path: str | Path, n_leptons: int) -> EventBatch:
    """Return the events of a sample, with ``n_leptons`` leptons, that pass the detector-level selection.

    Raises InputError as :func:`load` and :func:`~rewind.events.batch.from_records.from_records` do.
    """
    records = load(path)
    return from_records(records[records.pass_detector], n_leptons)


def simulated(process: str, n_events: int, seeds: Sequence[int], *, workers: int = 1, **options: Any) -> EventBatch:
    """Return at least ``n_events`` for each of ``seeds`` of a process with one or two leptons.

    Without the underlying event, hard processes of all events, and events that pass at particle level only;
    simulated now unless they lie in the cache. ``options`` go to :func:`~rewind.events.chain.simulation.simulate`.
    Raises InputError for an unknown process and without seeds.
    """
    if len(seeds) == 0:
        raise InputError("seeds: at least one is needed")
    n_leptons = find_process(process).selection.n_leptons
    options = {"underlying_event": False, "generated_fraction": 0.0, "levels": ("detector",)} | options
    paths = [sample(process, n_events, seed=seed, workers=workers, **options) for seed in seeds]
    return EventBatch.concatenate([load_batch(path, n_leptons) for path in paths])
