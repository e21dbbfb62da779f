"""Two ways to one integral, known integrals and weights, posteriors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chance import assert_agrees, assert_mean, assert_spread
from rewind.errors import InputError
from rewind.mem import event_integrals
from rewind.mem.angle_map import MappedIntegrand
from rewind.mem.measured import row_layout, split
from rewind.mem.topologies import DILEPTON


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_jets_times(factor, row):
    """Return dilepton rows (B, R) whose jets have ``factor`` times the momentum."""
    event = split(row, DILEPTON)
    blocks = {name: {"momentum": p} for name, p in vars(replace(event, bottoms=factor * event.bottoms)).items()}
    return row_layout(DILEPTON).pack(blocks, row.dtype)


class Even:
    """Draw variables evenly: a proposal without knowledge."""

    def sample_and_log_prob(self, rows, n, generator):
        which = torch.randint(rows.shape[1], (len(rows), n), generator=generator)
        points = torch.rand(len(rows), n, 8, generator=generator, dtype=torch.float64)
        return which, points, torch.full((len(rows), n), -math.log(rows.shape[1]), dtype=torch.float64)


class Steps:
    """An integrand whose hypotheses are boxes: the row's number where the first coordinate is below a half."""

    dims = 2

    def polynomial(self, u, row):
        return (row[:, :1] * (u[:, :1] < 0.5)).double()


def test_even_draws_and_vegas_agree(simulated):
    integrand, _, _, rows, _, _ = simulated["ttbar_dilepton"]
    rows = rows[:12]
    even = event_integrals.summarize(event_integrals.draw(integrand, Even(), rows, 16_000, generator(3)).weights)
    vegas = event_integrals.by_vegas(integrand, rows, 8_000, generator(4))
    pull = (even.value[:, 0] - vegas.value[:, 0]) / (even.error**2 + vegas.error**2).sqrt()
    assert pull.abs().max() < 4
    assert vegas.effective.median() > 3 * even.effective.median()


def test_integrals_of_known_weights():
    weights = torch.zeros(3, 4, 2, dtype=torch.float64)
    weights[0, :, 0] = torch.tensor([2.0, 0.0, 2.0, 1.0]).double()
    weights[1, 0, 0] = 5.0
    integrals = event_integrals.summarize(weights)
    torch.testing.assert_close(integrals.value[:, 0], torch.tensor([1.25, 1.25, 0.0]).double())
    torch.testing.assert_close(integrals.effective, torch.tensor([25 / 9 / 4, 1 / 4, 0.0]).double())
    torch.testing.assert_close(integrals.largest, torch.tensor([0.4, 1.0, 0.0]).double())
    torch.testing.assert_close(integrals.error[0], torch.tensor(2.75 / 3 / 4).double().sqrt())
    assert not integrals.trusted.any()


def test_vegas_gives_points_to_the_hypotheses_that_scatter():
    rows = torch.tensor([[[0.0], [1.0], [9.0]]]).double()
    runs = [event_integrals.by_vegas(Steps(), rows, 900, generator(i), bins=3) for i in range(200)]
    value, error = (torch.stack([getattr(x, name) for x in runs]).flatten() for name in ("value", "error"))
    assert_mean(value, 5)
    assert_spread(value / error.square().mean().sqrt())
    counts = event_integrals._counts(torch.tensor([0.0, 1.0, 9.0]).double(), 1_006)
    assert sum(counts) == 1_006
    np.testing.assert_allclose(counts, [35, 125, 845], atol=1)
    np.testing.assert_allclose(event_integrals._counts(torch.zeros(2).double(), 101), 50.5, atol=0.5)


def test_posterior_follows_the_weights():
    points = torch.rand(1, 6, 5, dtype=torch.float64)
    which = torch.tensor([[0, 0, 0, 1, 1, 1]])
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0, 5.0, 0.0]).double().reshape(1, 6, 1)
    drawn, chosen = event_integrals.posterior(event_integrals.Weighted(which, points, weights), 8_000, generator())
    share = [float((chosen[0] == points[0, i]).all(1).double().mean()) for i in (0, 2, 4)]
    assert_agrees(share, [1 / 8, 2 / 8, 5 / 8], 0.5 / 8_000**0.5)
    assert_agrees(drawn.double().mean(), 5 / 8, 0.5 / 8_000**0.5)
    with pytest.raises(InputError, match="event 0: all weights are zero"):
        event_integrals.posterior(event_integrals.Weighted(which, points, 0 * weights), 8, generator())


def test_an_event_without_solutions_is_flagged(simulated):
    """Jets of a thousand times the energy: no recoil, no transfer function reaches them."""
    integrand, _, _, rows, _, _ = simulated["ttbar_dilepton"]
    far = torch.stack([with_jets_times(1e3, row) for row in rows[:1].unbind(1)], 1)
    integrals = event_integrals.by_vegas(integrand, far, 400, generator())
    assert float(integrals.value[0, 0]) == 0
    assert not integrals.trusted.any()


def test_vegas_with_the_angle_map_finds_the_same_integral(simulated):
    integrand, _, _, rows, _, _ = simulated["ttbar_dilepton"]
    plain, better = (
        event_integrals.by_vegas(one, rows[:8], 6_000, generator(8)) for one in (integrand, MappedIntegrand(integrand))
    )
    pull = (plain.value[:, 0] - better.value[:, 0]) / (plain.error**2 + better.error**2).sqrt()
    assert pull.abs().max() < 4
    assert better.effective.median() > 3 * plain.effective.median()


def test_a_hypothesis_without_solutions_does_not_spoil_the_other(simulated):
    integrand, _, _, rows, _, _ = simulated["ttbar_dilepton"]
    some = torch.stack([rows[:6, 0], with_jets_times(1e3, rows[:6, 1])], 1)
    integrals = event_integrals.by_vegas(MappedIntegrand(integrand), some, 8_000, generator(14))
    alone = event_integrals.by_vegas(MappedIntegrand(integrand), rows[:6, :1], 4_000, generator(15))
    pull = (integrals.value[:, 0] - alone.value[:, 0]) / (integrals.error**2 + alone.error**2).sqrt()
    assert pull.abs().median() < 2


def test_hypotheses_share_the_weights():
    which = torch.tensor([[0, 1, 1, 2], [0, 0, 2, 2]])
    weights = torch.tensor([[1.0, 2.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]).double()[..., None]
    probabilities = event_integrals.hypotheses(event_integrals.Weighted(which, torch.zeros(2, 4, 1), weights), 4)
    torch.testing.assert_close(probabilities[0], torch.tensor([1.0, 5.0, 2.0, 0.0]).double() / 8)
    assert probabilities[1].isnan().all()
