"""What the matrix element method refuses, one row a case, each with one clear line."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rewind.errors import InputError
from rewind.generation.parton_level import hadronic_process
from rewind.mem import categories, event_integrals, likelihood, mass_fit, proposal
from rewind.mem.integrand import DileptonIntegrand
from rewind.mem.measured import rows, split
from rewind.mem.topologies import DILEPTON, TTH

KNOWN = likelihood.VisibleCrossSection(torch.ones(1).double(), torch.zeros(1, 1).double())
LOOSE = {"jet_pt": 15.0}


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def given(simulated, event_flow, detector):
    """What the cases take: dilepton events, their rows, both integrands, a flow, another detector."""
    integrand, _, event, every, _, _ = simulated["ttbar_dilepton"]
    lost = simulated["tth_lost"]
    other = DileptonIntegrand(integrand.process, replace(detector, met_sigma=17.0))
    return SimpleNamespace(
        integrand=integrand, event=event, rows=every, flow=event_flow, detector=detector, lost=lost, other=other
    )


CASES = {
    "a jet too soft": (
        lambda x: rows(replace(x.event, bottoms=x.event.bottoms * 1e-3), DILEPTON),
        "event 0: it lies outside the acceptance",
    ),
    "a topology of other leptons": (lambda x: rows(x.event, TTH), "events with 2 leptons: 1 are needed"),
    "a momentum that is none": (
        lambda x: rows(replace(x.event, met=x.event.met * math.nan), DILEPTON),
        "event 0: a momentum is not finite",
    ),
    "rows of another topology": (lambda x: split(x.rows[:, 0], TTH), r"\(events, 30\) is expected"),
    "a process of another final state": (
        lambda x: DileptonIntegrand(hadronic_process("tth_semileptonic"), x.detector),
        "final state 'tth_semilep_bb': 'tt_dilep' is needed",
    ),
    "one draw": (
        lambda x: event_integrals.draw(x.integrand, x.flow, x.rows[:1], 1, generator()),
        "n = 1: at least two draws",
    ),
    "a seed for a generator": (
        lambda x: event_integrals.draw(x.integrand, x.flow, x.rows[:1], 9, 1),
        "generator: int given; a torch generator is needed",
    ),
    "too few evaluations": (
        lambda x: event_integrals.by_vegas(x.integrand, x.rows[:1], 4, generator()),
        "evaluations = 4: too few",
    ),
    "no event": (
        lambda x: event_integrals.by_vegas(x.other, torch.zeros(0, 2, 18), 400, generator()),
        "no event to integrate",
    ),
    "a generator of NumPy": (
        lambda x: x.flow.sample(x.rows[:1], 2, np.random.default_rng(1)),
        "generator: Generator given; a torch generator is needed",
    ),
    "an integral that is zero": (
        lambda x: likelihood.log_likelihood(torch.tensor([[1.0], [0.0]]).double(), KNOWN, likelihood.powers([0.0], 0)),
        "event 1: its integral is not positive",
    ),
    "a scan that ends too soon": (
        lambda x: likelihood.fit(np.array([[0.0, 1.0, 2.0]]), np.array([0.0, 1.0, 2.0])),
        "scan 0: the likelihood is largest at the end",
    ),
    "a proposal of other variables": (
        lambda x: proposal.EventFlow(x.lost.integrand, x.flow.proposal),
        "8 variables: the integrand has 11",
    ),
    "a proposal of another detector": (
        lambda x: proposal.EventFlow(x.other, x.flow.proposal),
        "another detector",
    ),
    "cuts that decide what is lost": (
        lambda x: proposal.pairs(x.lost.integrand, x.lost.outgoing, generator(), cuts=LOOSE),
        "decide which jets are lost",
    ),
    "categories of two detectors": (
        lambda x: categories.measured({"one": x.flow, "two": SimpleNamespace(integrand=x.other)}, x.lost.outgoing, 1),
        "flows of different detectors",
    ),
    "a mass fit to few events": (lambda x: mass_fit.fit(x.lost.row[:20]), "20 events: at least 50"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_line(given, name):
    call, message = CASES[name]
    with pytest.raises(InputError, match=message) as caught:
        call(given)
    assert "\n" not in str(caught.value)
