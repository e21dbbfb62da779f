"""Event samples on disk: ROOT trees with NanoAOD names, written and read by uproot, checked on entry.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     write(f"{folder}/none.root", [], {"process": "none"})
...     len(load(f"{folder}/none.root")), metadata(f"{folder}/none.root")
(0, {'process': 'none'})
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from rewind.errors import InputError

__all__ = [
    "COLLECTIONS",
    "RECORDS",
    "SCALARS",
    "load",
    "load_generated",
    "metadata",
    "replacing",
    "summary",
    "write",
]

_OBJECT = {"pt": "f4", "eta": "f4", "phi": "f4", "mass": "f4"}
_LHE = {
    "pdgId": "i4",
    "status": "i4",
    "mother": "i4",
    "px": "f8",
    "py": "f8",
    "pz": "f8",
    "energy": "f8",
}
_LEPTON = _OBJECT | {"pdgId": "i4", "charge": "i4"}
_JET = _OBJECT | {"hadronFlavour": "i4", "partonIdx": "i4"}

COLLECTIONS = {
    "Jet": _JET | {"genJetIdx": "i4", "btag": "i1"},
    "Lepton": _LEPTON,
    "GenJet": _JET,
    "GenLepton": _LEPTON,
    "GenPart": _OBJECT | {"pdgId": "i4", "status": "i4", "genPartIdxMother": "i4"},
    "LHEPart": _LHE,
}
OPTIONAL_COLLECTIONS = {name: _OBJECT | {"charge": "i4"} for name in ("JetConstituent", "GenJetConstituent")}
_TRANSVERSE = {"pt": "f4", "phi": "f4"}
RECORDS = {
    "MET": _TRANSVERSE,
    "GenMET": _TRANSVERSE,
    "Generator": {"id1": "i4", "id2": "i4", "x1": "f8", "x2": "f8", "scalePDF": "f8"},
}
_FLAGS = {"event": "u8", "genWeight": "f8", "pass_particle": "?", "pass_detector": "?"}
SCALARS = {"run": "u4", "luminosityBlock": "u4"} | _FLAGS

_COMPACT = _LHE | {name: "f4" for name in ("px", "py", "pz", "energy")}
GENERATED = ({"LHEPart": _COMPACT}, {"Generator": RECORDS["Generator"]}, _FLAGS)
_TREES = {"Events": (COLLECTIONS, RECORDS, SCALARS), "Generated": GENERATED}
_BASKET_EVENTS = 4_000


def _as(values: ak.Array, dtype: str) -> ak.Array:
    return ak.values_astype(values, np.dtype(dtype).type if dtype != "?" else np.bool_)


def _branches(events: ak.Array, collections, records, scalars) -> dict[str, ak.Array]:
    """Return what uproot writes: jagged records by collection, flat columns by name."""
    for name, columns in (collections | records).items():
        for key in columns:
            _require_depth("events", f"{name}_{key}", events[name][key], jagged=name in collections)
    out = {
        name: ak.zip({key: _as(events[name][key], dtype) for key, dtype in columns.items()})
        for name, columns in collections.items()
    }
    for name, columns in records.items():
        out |= {f"{name}_{key}": _as(events[name][key], dtype) for key, dtype in columns.items()}
    return out | {name: _as(events[name], dtype) for name, dtype in scalars.items()}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its name only when all went well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _require_depth(where, name, values, *, jagged: bool) -> None:
    if values.ndim != 1 + jagged:
        expected = "a list of numbers" if jagged else "one number"
        raise InputError(f"{where}: '{name}' must hold {expected} for each event")


def _no_events() -> ak.Array:
    nothing = np.empty(0)
    jagged = ak.unflatten(nothing, np.empty(0, np.int64))
    collections = {name: ak.zip(dict.fromkeys(columns, jagged)) for name, columns in COLLECTIONS.items()}
    records = {name: ak.zip(dict.fromkeys(columns, nothing)) for name, columns in RECORDS.items()}
    return ak.zip(collections | records | dict.fromkeys(SCALARS, nothing), depth_limit=1)


def _in_baskets(chunks: Iterable[ak.Array]) -> Iterator[ak.Array]:
    waiting, n_waiting = [], 0
    for chunk in filter(len, chunks):
        waiting.append(chunk)
        n_waiting += len(chunk)
        if n_waiting >= _BASKET_EVENTS:
            yield ak.concatenate(waiting)
            waiting, n_waiting = [], 0
    if n_waiting:
        yield ak.concatenate(waiting)


def _extended(file, tree, name: str, basket: ak.Array):
    collections, records, scalars = _TREES[name]
    if name == "Events":
        kept = {key: columns for key, columns in OPTIONAL_COLLECTIONS.items() if key in basket.fields}
        collections = collections | kept
    branches = _branches(basket, collections, records, scalars)
    if tree is None:
        tree = file.mktree(name, {key: value.type.content for key, value in branches.items()})
    tree.extend(branches)
    return tree


def write(
    path: str | Path,
    events: Iterable[ak.Array],
    about: dict,
    generated: Iterable[ak.Array] = (),
) -> None:
    """Write chunks of events, and of the compact hard processes ``generated``, with the metadata ``about``.

    The file takes its name only when whole. ``Generated`` is left out without a single entry. Raises InputError
    for a column that should hold one number an event and holds a list, or the reverse.
    """
    path = Path(path)
    with (
        replacing(path) as temporary,
        uproot.recreate(temporary, compression=uproot.ZLIB(6)) as file,
    ):
        for name, chunks in (("Events", events), ("Generated", generated)):
            tree = None
            for basket in _in_baskets(chunks):
                tree = _extended(file, tree, name, basket)
            if tree is None and name == "Events":
                _extended(file, tree, name, _no_events())
        file["metadata"] = json.dumps(about, ensure_ascii=False)


@contextmanager
def _opened(path: str | Path):
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; 'rewind simulate' makes one")
    try:
        with uproot.open(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # uproot's own are of many kinds, and come late where a file is cut
        raise InputError(f"{path}: not a readable ROOT file ({_first_line(error)}); simulate it again") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _tree(path, file, name):
    """Return a tree with the collections, records and scalars that it holds."""
    if name not in file:
        raise InputError(f"{path}: holds no tree '{name}', so it is not an event sample of this book")
    tree, (collections, records, scalars) = file[name], _TREES[name]
    there = set(tree.keys())
    if name == "Events":
        kept = {key: columns for key, columns in OPTIONAL_COLLECTIONS.items() if f"n{key}" in there}
        collections = collections | kept
    columns = [f"{group}_{key}" for group, keys in (collections | records).items() for key in keys]
    missing = [column for column in (*columns, *scalars) if column not in there]
    if missing:
        raise InputError(f"{path}: tree '{name}' lacks the branch {', '.join(missing)}")
    return tree, collections, records, scalars


def _read(path, tree_name) -> ak.Array:
    with _opened(path) as file:
        tree, collections, records, scalars = _tree(path, file, tree_name)
        columns = {f"{name}_{key}": name for name, keys in (collections | records).items() for key in keys}
        flat = tree.arrays([*columns, *scalars])
    for name in columns.keys() | scalars.keys():
        _require_depth(path, name, flat[name], jagged=columns.get(name) in collections)
        _require_finite(path, name, flat[name])
    grouped = {
        name: ak.zip({key: flat[f"{name}_{key}"] for key in keys}) for name, keys in (collections | records).items()
    }
    return ak.zip(grouped | {name: flat[name] for name in scalars}, depth_limit=1)


def _require_finite(path, name, values) -> None:
    finite = np.isfinite(values)
    if not ak.all(finite, axis=None):
        first = np.argmin(ak.to_numpy(ak.all(finite, axis=-1) if values.ndim > 1 else finite))
        raise InputError(f"{path}: branch '{name}' is not finite in event {first} (counted from 0)")


def load(path: str | Path) -> ak.Array:
    """Return the events of one of this book's ROOT files; see :func:`rewind.events.readers.samples.load`."""
    return _read(path, "Events")


def load_generated(path: str | Path) -> ak.Array:
    """Return the hard process of generated events, selected or not, with their flags."""
    return _read(path, "Generated")


def metadata(path: str | Path) -> dict:
    """Return the metadata record of a sample: process, settings, seed, versions, counts, cross-section."""
    with _opened(path) as file:
        try:
            return json.loads(str(file["metadata"]))
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: has no metadata record, so it is not an event sample of this book") from error


def summary(path: str | Path) -> str:
    """Return a few lines on what a sample holds, for ``rewind info``."""
    about = metadata(path)
    with _opened(path) as file:
        tree, collections, records, scalars = _tree(path, file, "Events")
        n_events, no_scalars = tree.num_entries, tree.arrays([*scalars], entry_stop=0)
    try:
        lines = _lines(path, about, n_events)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata record is not one of this book's ({error!r})") from error
    lines += [f"  {name}: {', '.join(columns)}" for name, columns in (collections | records).items()]
    return "\n".join([*lines, *(f"  {name}: {no_scalars[name].type.content}" for name in scalars)])


def _lines(path, about: dict, n_events: int) -> list[str]:
    sigma = about["cross_section"]
    return [
        f"{path}: {about['title']}",
        f"process {about['process']}, variant {about['variant']}, seed {about['seed']}",
        f"{n_events} events stored of {about['n_generated']} generated: {about['n_pass_detector']} pass the "
        f"detector-level selection, {about['n_pass_particle']} the particle-level one",
        f"cross-section {sigma['value']:.4g} ± {sigma['error']:.2g} {sigma['unit']} (before selection)",
        "selection: " + ", ".join(f"{name} {value}" for name, value in about["selection"].items()),
        "versions: " + ", ".join(f"{name} {value}" for name, value in about["versions"].items()),
    ]
