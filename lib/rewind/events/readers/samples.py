"""Samples by path or by request: shipped files, files of other origin, and a cache made on demand."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import awkward as ak

from rewind import paths
from rewind.events.chain.chunks import versions
from rewind.events.chain.simulation import simulate
from rewind.events.readers import public, store

__all__ = ["load", "metadata", "sample", "summary"]

_HDF5 = (".h5", ".hdf5")


def _format(path: str | Path):
    return public if Path(path).suffix.lower() in _HDF5 else store


def load(path: str | Path) -> ak.Array:
    """Return the events of a sample as records with one field a collection.

    ``Jet, Lepton, GenJet, GenLepton`` (pt, eta, phi, mass, …), ``MET, GenMET``, ``GenPart``, ``LHEPart``,
    ``Generator``, ``event, genWeight, pass_particle, pass_detector``, and ``JetConstituent,
    GenJetConstituent`` where they were kept; GeV. Reads this book's ROOT files and the public HDF5 sets. Raises
    InputError for a file that is missing, damaged, of another kind, incomplete or not finite.
    """
    return _format(path).load(path)


def metadata(path: str | Path) -> dict:
    """Return the metadata record of a sample: process, settings, seed, versions, counts, cross-section.

    Of a public HDF5 set only ``title, process, n_events`` are known. Raises InputError as :func:`load` does.
    """
    return _format(path).metadata(path)


def summary(path: str | Path) -> str:
    """Return a few lines on what a sample holds, for ``rewind info``; raises InputError as :func:`load` does."""
    return _format(path).summary(path)


def sample(process: str, n_events: int, *, seed: int = 0, workers: int = 1, **options) -> Path:
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
