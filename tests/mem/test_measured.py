"""Rows of measured events, and which jet is whose."""

import torch

from rewind.mem.measured import split


def test_jets_are_given_to_their_quarks(simulated):
    """Under the true hypothesis each quark flies along its jet, also where the jets' order was exchanged."""
    for integrand, partons, _, _, row, _ in simulated.values():
        topology = integrand.topology
        event = split(row, topology)
        for jets, places in ((event.bottoms, topology.bottoms), (event.lights, topology.lights)):
            quarks = partons[:, places]
            for one, two in zip(jets.unbind(1), quarks.unbind(1), strict=True):
                cosine = (one[:, 1:] * two[:, 1:]).sum(1) / (one[:, 1:].norm(dim=1) * two[:, 1:].norm(dim=1))
                torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-9)


def test_rows_name_their_columns(simulated):
    """A row under a hypothesis is split into the same event, its jets in the order that the hypothesis says."""
    for integrand, _, event, rows, _, _ in simulated.values():
        for place, (bottoms, lights) in enumerate(integrand.topology.hypotheses):
            back = split(rows[:, place], integrand.topology)
            for there, here in (
                (back.leptons, event.leptons),
                (back.bottoms, event.bottoms[:, bottoms]),
                (back.lights, event.lights[:, lights]),
                (back.met, event.met),
            ):
                torch.testing.assert_close(there, here, rtol=0, atol=0)
