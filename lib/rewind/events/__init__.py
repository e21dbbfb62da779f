"""The forward chain: from Pythia's hard process to the detector, and event samples on disk."""

from rewind.events.batch.tensors import momenta, to_tensors
from rewind.events.chain.processes import PROCESSES, VARIANTS, Process, Selection
from rewind.events.chain.simulation import simulate
from rewind.events.readers.samples import load, metadata, sample, summary
from rewind.events.readers.store import load_generated

__all__ = [
    "PROCESSES",
    "VARIANTS",
    "Process",
    "Selection",
    "load",
    "load_generated",
    "metadata",
    "momenta",
    "sample",
    "simulate",
    "summary",
    "to_tensors",
]
