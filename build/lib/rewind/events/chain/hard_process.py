"""The hard process and its decay chain, dug out of the showered event record.

>>> from rewind.events.chain.generator import generate, start
>>> no_shower = [f"PartonLevel:{part} = off" for part in ("ISR", "FSR", "MPI", "Remnants")]
>>> pythia = start(("Top:gg2ttbar = on", "HadronLevel:all = off", "Check:event = off", *no_shower), seed=1)
>>> events, _ = generate(pythia, 2, seed=2)
>>> find_hard_process(events).les_houches(len(events)).pdgId[0, :4].tolist()
[21, 21, 6, -6]
"""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np

from rewind import kinematics
from rewind.events.batch.jagged import expand, jagged
from rewind.events.chain.generator import PythiaEvents

__all__ = ["HardProcess", "find_hard_process"]

INCOMING, INTERMEDIATE, OUTGOING = -1, 2, 1
_HARD_STATUS = (22, 23)


@dataclass(frozen=True)
class HardProcess:
    """Hold the hard process and its decays, ordered by event and generation, mothers first.

    ``event, pdg_id, mother`` (index into these arrays, −1 for the outgoing of the hard process),
    ``is_final`` and ``p4`` ``(n, 4)``: the momenta before shower and recoil; ``last_copy`` is the entry of
    the event record after all radiation, before decay or hadronisation. The incoming partons, two an
    event, stand apart.
    """

    incoming_id: np.ndarray
    incoming_p4: np.ndarray
    event: np.ndarray
    pdg_id: np.ndarray
    mother: np.ndarray
    is_final: np.ndarray
    p4: np.ndarray
    last_copy: np.ndarray

    def les_houches(self, n_events: int) -> ak.Array:
        """Return the records ``LHEPart``, incoming partons first, with Les Houches status codes."""
        event = np.concatenate([np.repeat(np.arange(n_events), 2), self.event])
        order = np.argsort(event, kind="stable")
        local = _position_in_event(self.event, n_events)
        mother = np.where(self.mother < 0, 0, local[self.mother] + 2)
        p4 = np.concatenate([self.incoming_p4, self.p4])[order]
        status = np.where(self.is_final, OUTGOING, INTERMEDIATE)
        fields = {
            "pdgId": np.concatenate([self.incoming_id, self.pdg_id])[order],
            "status": np.concatenate([np.full(2 * n_events, INCOMING), status])[order],
            "mother": np.concatenate([np.full(2 * n_events, -1), mother])[order],
        }
        fields |= dict(zip(("energy", "px", "py", "pz"), p4.T, strict=True))
        return jagged(fields, np.bincount(event, minlength=n_events))

    def last_copies(self, batch: PythiaEvents) -> ak.Array:
        """Return the records ``GenPart``: the same particles after radiation, mothers by index."""
        local = _position_in_event(self.event, len(batch))
        p4 = batch.p4[self.last_copy]
        fields = {
            "pdgId": self.pdg_id,
            "status": np.abs(batch.status[self.last_copy]),
            "genPartIdxMother": np.where(self.mother < 0, -1, local[self.mother]),
            "pt": kinematics.pt(p4),
            "eta": kinematics.eta(p4),
            "phi": kinematics.phi(p4),
            "mass": batch.mass[self.last_copy],
        }
        return jagged(fields, np.bincount(self.event, minlength=len(batch)))


def _position_in_event(event, n_events):
    counts = np.bincount(event, minlength=n_events)
    return np.arange(len(event)) - np.repeat(np.cumsum(counts) - counts, counts)


def find_hard_process(batch: PythiaEvents) -> HardProcess:
    """Return the hard process of each event before shower and recoil, with its full decay chain.

    Pythia carries decay products along when their parent recoils, by the boost from the parent's momentum in
    the hard process to its momentum at decay; the inverse boost, parent by parent, restores the hard process
    to rounding (2203.11601, "resonance decays").
    """
    incoming = (batch.start[:, None] + (3, 4)).ravel()
    with_mothers = (batch.mother == batch.start[batch.event] + 3) & (
        batch.second_mother == batch.start[batch.event] + 4
    )
    hard = np.isin(np.abs(batch.status), _HARD_STATUS)
    entry = np.flatnonzero(with_mothers & hard)
    p4, mother = batch.p4[entry], np.full(len(entry), -1)

    generations, n_before = [], 0
    while len(entry):
        last = last_copy(batch, entry)
        parent, daughter = expand(*_daughter_range(batch, last))
        is_decay = hard[daughter]
        parent, daughter = parent[is_decay], daughter[is_decay]
        is_final = np.ones(len(entry), dtype=bool)
        is_final[parent] = False
        generations.append((batch.event[entry], batch.id[entry], mother, is_final, p4, last))
        p4 = kinematics.boost_between(batch.p4[daughter], batch.p4[last[parent]], p4[parent])
        mother, n_before = n_before + parent, n_before + len(entry)
        entry = daughter

    event, pdg_id, mother, is_final, p4, last = map(np.concatenate, zip(*generations, strict=True))
    order = np.argsort(event, kind="stable")
    moved_to = np.empty_like(order)
    moved_to[order] = np.arange(len(order))
    mother = np.where(mother < 0, -1, moved_to[mother])
    return HardProcess(
        batch.id[incoming],
        batch.p4[incoming],
        *(values[order] for values in (event, pdg_id, mother, is_final, p4, last)),
    )


def _daughter_range(batch, entry):
    """Return where the daughters of ``entry`` begin and how many there are."""
    first, last = batch.first[entry], batch.last[entry]
    return first, np.where(first < 0, 0, np.maximum(last - first, 0) + 1)


def last_copy(batch: PythiaEvents, entry: np.ndarray) -> np.ndarray:
    """Follow each entry through shower and recoil to its last copy.

    The walk stops where a particle has no daughter of its own kind, or two (a gluon that splits).
    """
    entry = entry.copy()
    moving = np.arange(len(entry))
    while len(moving):
        here = entry[moving]
        first, count = _daughter_range(batch, here)
        apart = (batch.last[here] >= 0) & (batch.last[here] < first)
        parent, daughter = expand(
            np.concatenate([first, batch.last[here][apart]]),
            np.concatenate([count, np.ones(apart.sum(), dtype=int)]),
        )
        parent = np.concatenate([np.arange(len(here)), np.flatnonzero(apart)])[parent]
        same = batch.id[daughter] == batch.id[here][parent]
        parent, daughter = parent[same], daughter[same]
        unique = np.bincount(parent, minlength=len(here)) == 1
        keep = unique[parent]
        moving = moving[parent[keep]]
        entry[moving] = daughter[keep]
    return entry
