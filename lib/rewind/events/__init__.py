"""The forward chain: from Pythia's hard process to the detector, and event samples on disk."""

from rewind.events.processes import PROCESSES, VARIANTS, Process, Selection
from rewind.events.simulation import simulate
from rewind.events.store import load, load_generated, metadata

__all__ = ["PROCESSES", "VARIANTS", "Process", "Selection", "load", "load_generated", "metadata", "simulate"]
