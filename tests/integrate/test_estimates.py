"""Estimates cover, and know when not to be trusted."""

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from chance import assert_agrees, assert_mean, assert_spread
from rewind.integrate import (
    Uniform,
    integrate,
    largest_weight,
    pareto_shape,
    summarize,
    unweighting_efficiency,
)
from rewind.toys.integrands import INTEGRANDS, camel
from unit_samplers import adapted, seeded, unit


def test_errors_cover():
    grid = adapted()
    value = INTEGRANDS["camel 4D"].value ** 0.5
    pulls = []
    for seed in range(300):
        integral = integrate(camel, grid, 1000, seeded(seed))
        pulls.append((integral.value - value) / integral.error)
    pulls = np.array(pulls)
    assert_agrees(pulls.mean(), 0, 1 / 300**0.5)
    assert_spread(pulls)
    assert_agrees((np.abs(pulls) < 1).mean(), 0.683, (0.683 * 0.317 / 300) ** 0.5)


def test_batches_do_not_matter_to_the_mean():
    one = integrate(camel, Uniform(2), 1000, seeded())
    many = integrate(camel, Uniform(2), 1000, seeded(), batch=100)
    assert one.value == pytest.approx(many.value, rel=1e-12)
    assert one.error == pytest.approx(float(camel(unit(1000, 2, 0)).std()) / 1000**0.5, rel=1e-9)


def test_unweighting_efficiency_by_hand():
    weights = torch.tensor([1.0, 4.0, 2.0, 1.0])
    assert unweighting_efficiency(weights) == pytest.approx(0.5)
    # of two draws, the largest is at most 2 with probability (3/4)² ≥ 1/2, at most 1 with (1/2)²
    assert largest_weight(weights, events=2) == 2
    assert largest_weight(weights, events=1) == 1
    assert unweighting_efficiency(-weights, events=2) == pytest.approx(1.0)
    assert unweighting_efficiency(torch.tensor([0.0, 0.0, 3.0, 0.0])) == pytest.approx(0.25)


def test_largest_weight_is_the_median_over_replicas():
    weights = torch.from_numpy(np.random.default_rng(1).exponential(size=1000))
    for events in (50, 300):
        rows = torch.randint(1000, (4001, events), generator=seeded())
        replicas = weights[rows].amax(1).sort().values
        low, high = replicas[1900], replicas[2100]
        assert low <= largest_weight(weights, events) <= high


def test_figures_of_merit():
    integral = summarize(torch.tensor([1.0, 3.0] * 500))
    assert integral.value == 2
    assert integral.relative_std == pytest.approx(0.5, rel=1e-2)
    assert integral.effective_sample_size == pytest.approx(1000 * 4 / 5)
    assert integral.unweighting_efficiency == pytest.approx(2 / 3)
    assert integral.trusted


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.9])
def test_pareto_shape_is_found(shape):
    rng = np.random.default_rng(2)
    shapes = [pareto_shape(torch.from_numpy(genpareto.rvs(shape, size=20_000, random_state=rng))) for _ in range(10)]
    assert_mean(shapes, shape, rounding=0.02)  # the prior's pull


def test_untrusted_errors_are_flagged():
    def steep(x):
        return x[:, 0] ** -0.95

    integral = integrate(steep, Uniform(1), 20_000, seeded())
    assert not integral.trusted
    assert "Pareto" in " ".join(integral.warnings)
    integral = integrate(lambda x: (x[:, 0] < 1e-3).double(), Uniform(1), 20_000, seeded())
    assert integral.warnings[0].startswith("the integrand is nonzero at")
    integral = integrate(lambda x: 1 + 1e6 * (x[:, 0] < 2e-4), Uniform(1), 5000, seeded(4))
    assert "one weight carries" in " ".join(integral.warnings)
    assert integrate(camel, Uniform(2), 20_000, seeded()).trusted


def test_zero_everywhere_is_a_flagged_zero():
    integral = integrate(lambda x: torch.zeros(len(x)), Uniform(2), 100, seeded())
    assert (integral.value, integral.error, integral.trusted) == (0.0, 0.0, False)
    assert "zero at all 100 points" in integral.warnings[0]


def test_constant_integrand_has_no_error():
    integral = integrate(lambda x: torch.full((len(x),), 3.0), Uniform(2), 1000, seeded())
    assert (integral.value, integral.error, integral.trusted) == (3.0, 0.0, True)
