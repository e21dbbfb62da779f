"""The forward chain: from Pythia's hard process to the detector, and event samples on disk."""

from rewind.events.processes import PROCESSES, VARIANTS, Process, Selection
from rewind.events.samples import load, metadata, sample, summary
from rewind.events.simulation import simulate
from rewind.events.store import load_generated
from rewind.events.tensors import momenta, to_tensors

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
