"""The matrix element method: from jets to partons to likelihoods."""

from rewind.mem.angle_map import AngleMap, MappedIntegrand
from rewind.mem.detector_model import DetectorModel
from rewind.mem.event_integrals import EventIntegrals, by_vegas, draw, posterior, summarize
from rewind.mem.integrand import (
    DileptonIntegrand,
    EventIntegrand,
    TTHCouplingIntegrand,
    TTHIntegrand,
    TTHLostIntegrand,
)
from rewind.mem.measured import Measured, accepted, rows, split, true_hypothesis
from rewind.mem.proposal import EventFlow, Proposal, load_proposal
from rewind.mem.topologies import DILEPTON, TTH, TTH_LOST, Topology

__all__ = [
    "DILEPTON",
    "TTH",
    "TTH_LOST",
    "AngleMap",
    "DetectorModel",
    "DileptonIntegrand",
    "EventFlow",
    "EventIntegrals",
    "EventIntegrand",
    "MappedIntegrand",
    "Measured",
    "Proposal",
    "TTHCouplingIntegrand",
    "TTHIntegrand",
    "TTHLostIntegrand",
    "Topology",
    "accepted",
    "by_vegas",
    "draw",
    "load_proposal",
    "posterior",
    "rows",
    "split",
    "summarize",
    "true_hypothesis",
]
