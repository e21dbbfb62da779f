"""Events: the forward chain from hard process to detector, readers of samples, and the one batch that methods read."""

from rewind.events.batch.event_batch import ROLES, EventBatch, Truth
from rewind.events.batch.frame import Frame, canonical_frame
from rewind.events.batch.from_records import from_records
from rewind.events.batch.layout import Block, Layout, canonical_blocks, event_layout
from rewind.events.batch.tensors import momenta, to_tensors
from rewind.events.chain.processes import PROCESSES, VARIANTS, Process, Selection
from rewind.events.chain.simulation import simulate
from rewind.events.readers.samples import load, load_batch, metadata, sample, simulated, summary
from rewind.events.readers.store import load_generated

__all__ = [
    "PROCESSES",
    "ROLES",
    "VARIANTS",
    "Block",
    "EventBatch",
    "Frame",
    "Layout",
    "Process",
    "Selection",
    "Truth",
    "canonical_blocks",
    "canonical_frame",
    "event_layout",
    "from_records",
    "load",
    "load_batch",
    "load_generated",
    "metadata",
    "momenta",
    "sample",
    "simulate",
    "simulated",
    "summary",
    "to_tensors",
]
