"""Readers of the public neutrino data sets, into the same event record as our own files.

The layouts are those of ν²-Flows (Zenodo 8113516), ν-Flows (6782987) and PIPPIN (12117432): HDF5, group ``delphes``,
structured arrays in GeV, jets padded with zeros.

>>> load("public.h5")
Traceback (most recent call last):
    ...
rewind.errors.InputError: public.h5: no such file
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import h5py
import numpy as np

from rewind.errors import InputError
from rewind.events.readers.store import COLLECTIONS, RECORDS, SCALARS

__all__ = ["load", "metadata", "summary"]

_GROUP = "delphes"
_FIELDS = {
    "MET": ("MET", "phi"),
    "jets": ("pt", "eta", "phi", "energy", "is_tagged"),
    "leptons": ("pt", "eta", "phi", "energy", "charge", "type"),
}
_NEUTRINO_TABLES = ("neutrinos", "truth_neutrinos")
_NEUTRINO_FIELDS = ("PDGID", "pt", "eta", "phi", "mass")
_LEPTON_ID = np.array([11, 13])
_NO_PARTON, _BOTTOM = -1, {0: 5, 1: -5}


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.Group]:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        file = h5py.File(path)
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file; download it again") from error
    with file:
        if _GROUP not in file:
            raise InputError(f"{path}: has no group '{_GROUP}', so it is none of the public neutrino sets")
        yield file[_GROUP]


def load(path: str | Path) -> ak.Array:
    """Return the events of a public HDF5 file with the fields of :func:`rewind.events.readers.samples.load`.

    ``GenPart`` holds the neutrinos and, where the file says which jets they are, the b quarks with their jets'
    coordinates; particle-level and Les Houches collections are empty, and all events pass at detector level.
    Raises InputError for a file of another kind, without events, with a missing table or column or tables of
    different lengths, and for entries that are not finite or of no known meaning.
    """
    with _opened(path) as group:
        tables = {name: _table(path, group, name, fields) for name, fields in _FIELDS.items()}
        tables_of_neutrinos = [name for name in _NEUTRINO_TABLES if name in group]
        if not tables_of_neutrinos:
            raise InputError(f"{path}: lacks the table '{_GROUP}/{_NEUTRINO_TABLES[0]}'")
        neutrinos = _table(path, group, tables_of_neutrinos[0], _NEUTRINO_FIELDS)
        indices = np.asarray(group["jets_indices"]) if "jets_indices" in group else None
    jets, leptons = tables["jets"], tables["leptons"]
    if len(jets) == 0:
        raise InputError(f"{path}: holds no events")
    for name, table in (*tables.items(), (tables_of_neutrinos[0], neutrinos)):
        if len(table) != len(jets):
            raise InputError(f"{path}: {len(jets)} events in 'jets', {len(table)} in '{name}'")
    if indices is not None and indices.shape != jets.shape:
        raise InputError(f"{path}: 'jets_indices' has the shape {indices.shape}, 'jets' {jets.shape}")
    if not np.isin(leptons["type"][leptons["pt"] > 0], range(len(_LEPTON_ID))).all():
        raise InputError(f"{path}: table '{_GROUP}/leptons', column 'type' has entries other than 0 (e) and 1 (μ)")
    return _events(tables, neutrinos, indices)


def metadata(path: str | Path) -> dict:
    """Return what is known of a public file: title, process and the number of events."""
    with _opened(path) as group:
        n_events = len(_table_of(path, group, "jets"))
    return {"title": "public neutrino data set", "process": "public", "n_events": n_events}


def summary(path: str | Path) -> str:
    """Return a few lines on the tables of a public file."""
    about = metadata(path)
    with _opened(path) as group:
        columns = {
            name: table.dtype.names or (table.dtype.name,)
            for name, table in group.items()
            if isinstance(table, h5py.Dataset)
        }
    lines = [f"  {name}: {', '.join(names)}" for name, names in columns.items()]
    return "\n".join([f"{path}: {about['title']}", f"{about['n_events']} events stored", *lines])


def _table_of(path, group, name) -> h5py.Dataset:
    if not isinstance(group.get(name), h5py.Dataset):
        raise InputError(f"{path}: lacks the table '{_GROUP}/{name}'")
    return group[name]


def _table(path, group, name, fields) -> np.ndarray:
    table = np.asarray(_table_of(path, group, name))
    missing = [field for field in fields if field not in (table.dtype.names or ())]
    if missing:
        raise InputError(f"{path}: table '{_GROUP}/{name}' lacks the column {', '.join(missing)}")
    for field in fields:
        if not np.isfinite(table[field]).all():
            raise InputError(f"{path}: table '{_GROUP}/{name}', column '{field}' has entries that are not finite")
    return table


def _mass(table) -> np.ndarray:
    momentum = table["pt"].astype(np.float64) * np.cosh(table["eta"].astype(np.float64))
    return np.sqrt(np.clip(table["energy"].astype(np.float64) ** 2 - momentum**2, 0.0, None))


def _filled(columns: dict[str, np.ndarray], there: np.ndarray, dtypes: dict[str, str]) -> ak.Array:
    """Return jagged records of the entries that are ``there``; columns without a value are −1."""
    counts = there.sum(1)
    absent = np.full(there.sum(), -1)
    flat = {name: np.asarray(columns[name])[there] if name in columns else absent for name in dtypes}
    return ak.zip({name: ak.unflatten(flat[name].astype(dtype), counts) for name, dtype in dtypes.items()})


def _events(tables, neutrinos, indices) -> ak.Array:
    jets, leptons, met = tables["jets"], tables["leptons"], tables["MET"].reshape(-1)
    n_events = len(met)
    leptons, neutrinos = leptons.reshape(n_events, -1), neutrinos.reshape(n_events, -1)
    is_jet = jets["pt"] > 0
    if indices is None:
        indices = np.full(jets.shape, _NO_PARTON)
    bottoms = np.zeros((n_events, 2), dtype=jets.dtype)
    has_bottom = np.zeros((n_events, 2), dtype=bool)
    for which in _BOTTOM:
        event, jet = np.nonzero((indices == which) & is_jet)
        bottoms[event, which], has_bottom[event, which] = jets[event, jet], True
    n_neutrinos = neutrinos.shape[1]
    local = np.concatenate([np.full(n_events, n_neutrinos)[:, None], has_bottom], 1).cumsum(1)[:, :2]
    parton = np.full(jets.shape, _NO_PARTON)
    for which in _BOTTOM:
        parton = np.where((indices == which) & is_jet, local[:, which, None], parton)

    spherical = ("pt", "eta", "phi")
    jet_columns = {name: jets[name] for name in spherical} | {
        "mass": _mass(jets),
        "btag": jets["is_tagged"],
        "partonIdx": parton,
        "hadronFlavour": np.where(parton >= 0, 5, 0),
    }
    is_lepton = leptons["pt"] > 0
    kind = _LEPTON_ID[np.where(is_lepton, leptons["type"], 0).astype(int)]
    lepton_columns = {name: leptons[name] for name in spherical} | {
        "mass": _mass(leptons),
        "charge": leptons["charge"],
        "pdgId": -np.sign(leptons["charge"]).astype(int) * kind,
    }
    truth = {name: np.concatenate([neutrinos[name], bottoms[name]], 1) for name in spherical} | {
        "mass": np.concatenate([neutrinos["mass"], _mass(bottoms)], 1),
        "pdgId": np.concatenate([neutrinos["PDGID"], np.tile(list(_BOTTOM.values()), (n_events, 1))], 1),
        "status": np.ones((n_events, n_neutrinos + 2)),
    }
    there = np.concatenate([np.ones((n_events, n_neutrinos), dtype=bool), has_bottom], 1)
    filled = {
        "Jet": _filled(jet_columns, is_jet, COLLECTIONS["Jet"]),
        "Lepton": _filled(lepton_columns, is_lepton, COLLECTIONS["Lepton"]),
        "GenPart": _filled(truth, there, COLLECTIONS["GenPart"]),
    }
    nothing = np.zeros((n_events, 1), dtype=bool)
    empty = {name: _filled({}, nothing, dtypes) for name, dtypes in COLLECTIONS.items() if name not in filled}
    total = ak.to_numpy(neutrinos["pt"]) * np.exp(1j * neutrinos["phi"].astype(np.float64))
    records = {
        "MET": {"pt": met["MET"], "phi": met["phi"]},
        "GenMET": {"pt": np.abs(total.sum(1)), "phi": np.angle(total.sum(1))},
        "Generator": {name: np.full(n_events, -1) for name in RECORDS["Generator"]},
    }
    scalars = {
        "run": np.ones(n_events),
        "luminosityBlock": np.ones(n_events),
        "event": np.arange(1, n_events + 1),
        "genWeight": np.ones(n_events),
        "pass_particle": np.zeros(n_events),
        "pass_detector": np.ones(n_events),
    }
    flat = {
        name: ak.zip({key: columns[key].astype(RECORDS[name][key]) for key in columns})
        for name, columns in records.items()
    }
    flat |= {name: scalars[name].astype(dtype) for name, dtype in SCALARS.items()}
    return ak.zip({**filled, **empty, **flat}, depth_limit=1)
