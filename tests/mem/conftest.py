"""Simulated events of each topology at leading order, one detector model, and a flow that learnt a little of them."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from rewind.generation.parton_level import hadronic_process
from rewind.integrate import adapted_grid, unweight
from rewind.mem import proposal
from rewind.mem.detector_model import DetectorModel
from rewind.mem.integrand import DileptonIntegrand, EventIntegrand, TTHIntegrand, TTHLostIntegrand
from rewind.mem.measured import Measured, rows, true_hypothesis
from rewind.physics.double_gaussian import DoubleGaussian

PARAMETERS = [0.74, -9.9, 0.95, 0.07, 1.09, 0.02, -30.0, 0.5, 0.42, 0.0, 66.8]
INTEGRANDS = {"ttbar_dilepton": DileptonIntegrand, "tth_semileptonic": TTHIntegrand, "tth_lost": TTHLostIntegrand}
LOOSE = {"jet_pt": 15.0, "delta_r": 0.1, "lepton_pt": 10.0}


class Case(NamedTuple):
    """Hold a topology's accepted events, their rows under all hypotheses and the true one, and all that was made."""

    integrand: EventIntegrand
    partons: torch.Tensor
    event: Measured
    rows: torch.Tensor
    row: torch.Tensor
    outgoing: torch.Tensor


@pytest.fixture(scope="session")
def detector():
    """A detector model whose b and light quarks have the same transfer function."""
    parameters = torch.tensor(PARAMETERS, dtype=torch.float64)
    function = DoubleGaussian(parameters, torch.eye(11, dtype=torch.float64), (10.0, 1500.0))
    return DetectorModel(function, function, 16.0, (0.64, 30.0, 114.0))


@pytest.fixture(scope="session")
def simulated(detector):
    """Give by name the events of each topology."""
    cases = {}
    for name, integrand in INTEGRANDS.items():
        process = hadronic_process(name.replace("lost", "semileptonic"))
        grid = adapted_grid(process, process.dims, 20_000, torch.Generator().manual_seed(0), iterations=5)
        points = unweight(process, grid, 1_000, torch.Generator().manual_seed(1), pilot=5_000).points
        outgoing = process.collisions(points).momenta[:, 2:]
        topology = integrand.topology
        loose = replace(topology, selection=topology.selection.changed(**LOOSE))
        partons, event, _ = detector.simulate(outgoing, loose, torch.Generator().manual_seed(2))
        which, partons = true_hypothesis(event, partons, topology)
        every = rows(event, loose)
        row = every[torch.arange(len(which)), which]
        cases[name] = Case(integrand(process, detector), partons, event, every, row, outgoing)
    return cases


@pytest.fixture(scope="session")
def event_flow(simulated, detector):
    """A small flow of dilepton events after one epoch."""
    integrand, *_, outgoing = simulated["ttbar_dilepton"]
    learnt = proposal.pairs(integrand, outgoing, torch.Generator().manual_seed(6), cuts=LOOSE)
    size = {"layers": 1, "bins": 4, "hidden": 8}
    model, _ = proposal.train_proposal(learnt, learnt, detector, size=size, epochs=1, batch_size=64)
    return proposal.EventFlow(integrand, model)
