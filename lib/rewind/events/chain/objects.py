"""Objects of an event at particle and detector level: leptons, jets, flavours, missing momentum.

Collections are kept flat, ordered by event and falling pT; distances are ΔR in (η, φ), momenta in GeV.

>>> p4 = np.array([[50.0, 30.0, 40.0, 0.0], [90.0, 0.0, 80.0, 30.0], [20.0, 0.0, 20.0, 0.0]])
>>> jets = Collection(p4, event=np.array([0, 0, 2])).by_pt()
>>> jets.pt.round().tolist(), jets.count(n_events=3).tolist(), jets.within(pt=25.0, eta=2.5).event.tolist()
([80.0, 50.0, 20.0], [2, 0, 1], [0, 0])
"""

from __future__ import annotations

from dataclasses import dataclass, field

import awkward as ak
import numpy as np

from rewind import kinematics
from rewind.events.batch.jagged import expand, jagged, pairs, unique_matches
from rewind.events.chain.captured_output import captured_output
from rewind.events.chain.generator import PythiaEvents
from rewind.events.chain.hard_process import HardProcess
from rewind.events.chain.processes import Selection

__all__ = [
    "Collection",
    "cluster",
    "dressed_leptons",
    "hadron_flavours",
    "heavy_hadrons",
    "is_prompt",
    "isolated",
    "lepton_columns",
    "match",
    "partons",
    "passes",
    "without_overlap",
]

RADIUS = 0.4
DRESSING_RADIUS = 0.1
ISOLATION_RADIUS, ISOLATION_MIN_PT, ISOLATION = 0.5, 0.5, {11: 0.12, 13: 0.25}
HEAVY_HADRON_MIN_PT = 5.0


@dataclass(frozen=True)
class Collection:
    """Hold objects of many events: ``p4`` ``(n, 4)``, the ``event`` of each (sorted), further columns by name."""

    p4: np.ndarray
    event: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.event)

    def __getitem__(self, which: np.ndarray | slice) -> Collection:
        columns = {name: values[which] for name, values in self.columns.items()}
        return Collection(self.p4[which], self.event[which], columns)

    @property
    def pt(self) -> np.ndarray:
        """Return transverse momenta."""
        return kinematics.pt(self.p4)

    @property
    def eta(self) -> np.ndarray:
        """Return pseudorapidities."""
        return kinematics.eta(self.p4)

    def by_pt(self) -> Collection:
        """Return the objects in falling order of pT within each event."""
        return self[np.lexsort((-self.pt, self.event))]

    def count(self, n_events: int) -> np.ndarray:
        """Return the number of objects in each event."""
        return np.bincount(self.event, minlength=n_events)

    def within(self, pt: float, eta: float) -> Collection:
        """Return the objects above ``pt`` inside ``|η| < eta``."""
        return self[(self.pt > pt) & (np.abs(self.eta) < eta)]

    def records(self, n_events: int) -> ak.Array:
        """Return the jagged records: pt, eta, phi, mass and the further columns."""
        coordinates = {
            "pt": self.pt,
            "eta": self.eta,
            "phi": kinematics.phi(self.p4),
            "mass": kinematics.mass(self.p4),
        }
        return jagged(coordinates | self.columns, self.count(n_events))


def distances(first: Collection, second: Collection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (a, b, ΔR) for all pairs of objects that share an event, each η and φ worked out once."""
    a, b = pairs(first.event, second.event)
    eta = (first.eta[a] - second.eta[b]) if len(a) else np.zeros(0)
    phi = kinematics.delta_phi(kinematics.phi(first.p4)[a], kinematics.phi(second.p4)[b])
    return a, b, np.hypot(eta, phi)


def nearest(first: Collection, second: Collection, within: float) -> np.ndarray:
    """Return for each object of ``first`` its nearest in ``second`` (index, −1 where none is ``within``)."""
    a, b, distance = distances(first, second)
    order = np.lexsort((-distance, a))
    order = order[distance[order] < within]
    partner = np.full(len(first), -1)
    partner[a[order]] = b[order]
    return partner


def match(first: Collection, second: Collection) -> np.ndarray:
    """Return for each of ``first`` the position within its event of its unique partner, −1 for none.

    Pairs closer than ΔR = 0.4 are formed in the order of their distance.
    """
    a, b, distance = distances(first, second)
    partner = unique_matches(a, b, distance, len(first), within=RADIUS)
    start = np.searchsorted(second.event, first.event)
    return np.where(partner < 0, -1, partner - start)


def is_prompt(batch: PythiaEvents, entry: np.ndarray) -> np.ndarray:
    """Say which leptons and photons do not come from a hadron's decay."""
    ancestor = entry.copy()
    moving = np.arange(len(entry))
    while len(moving):
        kind = np.abs(batch.id[ancestor[moving]])
        moving = moving[((kind >= 11) & (kind <= 16)) | (kind == 22)]
        moving = moving[batch.mother[ancestor[moving]] >= 0]
        ancestor[moving] = batch.mother[ancestor[moving]]
    return np.abs(batch.id[ancestor]) < 100


def dressed_leptons(batch: PythiaEvents, stable: np.ndarray) -> tuple[Collection, np.ndarray]:
    """Return prompt electrons and muons with the prompt photons within ΔR < 0.1, and all entries used."""
    kind = np.abs(batch.id[stable])
    lepton = stable[(kind == 11) | (kind == 13)]
    lepton = lepton[is_prompt(batch, lepton)]
    photon = stable[kind == 22]
    photon = photon[is_prompt(batch, photon)]
    bare = Collection(batch.p4[lepton], batch.event[lepton], lepton_columns(batch.id[lepton]))
    owner = nearest(Collection(batch.p4[photon], batch.event[photon]), bare, DRESSING_RADIUS)
    dressed = bare.p4.copy()
    np.add.at(dressed, owner[owner >= 0], batch.p4[photon[owner >= 0]])
    used = np.concatenate([lepton, photon[owner >= 0]])
    return Collection(dressed, bare.event, bare.columns).by_pt(), used


def lepton_columns(pdg_id: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of a lepton collection."""
    return {"pdgId": pdg_id, "charge": -np.sign(pdg_id)}


def isolated(candidates: Collection, surroundings: Collection) -> np.ndarray:
    """Say which leptons are isolated: ΣpT within ΔR < 0.5, itself left out, below 0.12 (e), 0.25 (μ) of its pT."""
    visible = surroundings[surroundings.pt > ISOLATION_MIN_PT]
    a, b, distance = distances(candidates, visible)
    near = distance < ISOLATION_RADIUS
    total = np.bincount(a[near], visible.pt[b[near]], minlength=len(candidates))
    limit = np.where(np.abs(candidates.columns["pdgId"]) == 11, ISOLATION[11], ISOLATION[13])
    return total - candidates.pt < limit * candidates.pt


def passes(leptons: Collection, selection: Selection, n_events: int) -> np.ndarray:
    """Say which events meet the lepton requirement: their number and, for two, opposite charges (and one flavour)."""
    enough = leptons.count(n_events) == selection.n_leptons
    if selection.n_leptons == 2:
        pdg_id = leptons.columns["pdgId"]
        enough &= np.bincount(leptons.event, np.sign(pdg_id), minlength=n_events) == 0
        if selection.same_flavour:
            enough &= np.bincount(leptons.event, pdg_id, minlength=n_events) == 0
    return enough


def cluster(particles: Collection, n_events: int, *, min_pt: float) -> tuple[Collection, ak.Array]:
    """Return anti-kT jets (0802.1189, R = 0.4) in falling pT and the particle indices of each.

    The indices are jagged, one list a jet, and point into ``particles``.
    """
    import fastjet  # takes a twentieth of a second

    counts = particles.count(n_events)
    columns = dict(zip(("E", "px", "py", "pz"), particles.p4.T, strict=True))
    with captured_output():  # FastJet's banner
        sequence = fastjet.ClusterSequence(
            jagged(columns, counts), fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
        )
    clustered = sequence.inclusive_jets(min_pt=min_pt)
    n_jets = ak.to_numpy(ak.num(clustered.px))
    event = np.repeat(np.arange(n_events), n_jets)
    p4 = np.stack([ak.to_numpy(ak.flatten(clustered[name])) for name in ("E", "px", "py", "pz")], axis=1)
    index = ak.flatten(sequence.constituent_index(min_pt=min_pt)) + (np.cumsum(counts) - counts)[event]
    order = np.lexsort((-kinematics.pt(p4), event))
    return Collection(p4[order], event[order]), index[order]


def without_overlap(jets: Collection, leptons: Collection, within: float) -> np.ndarray:
    """Say which jets keep ``within`` in ΔR from every lepton."""
    return nearest(jets, leptons, within) < 0


def heavy_hadrons(batch: PythiaEvents, quark: int) -> np.ndarray:
    """Return the entries of hadrons with a ``quark`` (5 or 4) that decay into none with it."""
    digits = np.abs(batch.id) % 10_000
    is_hadron = (np.abs(batch.id) > 100) & ((digits // 10) % 10 > 0)
    contains = is_hadron & ((digits // 1000 == quark) | (digits // 100 % 10 == quark) & (digits < 1000))
    entry = np.flatnonzero(contains)
    first, last = batch.first[entry], batch.last[entry]
    parent, daughter = expand(first, np.where(first < 0, 0, np.maximum(last - first, 0) + 1))
    excited = np.zeros(len(entry), dtype=bool)
    excited[parent[contains[daughter]]] = True
    return entry[~excited]


def hadron_flavours(jets: Collection, batch: PythiaEvents) -> np.ndarray:
    """Return each jet's flavour: 5 or 4 where it is the nearest jet (ΔR < 0.4) of such a hadron above 5 GeV, else 0."""
    flavour = np.zeros(len(jets), dtype=np.int64)
    for quark in (4, 5):
        entry = heavy_hadrons(batch, quark)
        hadrons = Collection(batch.p4[entry], batch.event[entry])
        hadrons = hadrons[hadrons.pt > HEAVY_HADRON_MIN_PT]
        owner = nearest(hadrons, jets, RADIUS)
        flavour[owner[owner >= 0]] = quark
    return flavour


def partons(batch: PythiaEvents, chain: HardProcess) -> tuple[Collection, np.ndarray]:
    """Return the quarks and gluons that end the decay chain, after radiation, and their positions in ``GenPart``."""
    coloured = (np.abs(chain.pdg_id) <= 5) | (chain.pdg_id == 21)
    which = np.flatnonzero(chain.is_final & coloured)
    start = np.searchsorted(chain.event, chain.event[which])
    return Collection(batch.p4[chain.last_copy[which]], chain.event[which]), which - start
