"""Events of weight one follow the integrand."""

import numpy as np
import pytest
import torch

from chance import assert_agrees
from rewind.errors import InputError
from rewind.integrate import (
    Mapped,
    Mixture,
    Uniform,
    VegasGrid,
    unweight,
)
from rewind.toys.integrands import INTEGRANDS


def test_the_integral_does_not_depend_on_when_enough_points_are_kept():
    """A tenth of all points has weight 10, one is kept, two are tried at once: stopping there gives 2.05 for 1."""
    generator = torch.Generator().manual_seed(12)

    def tenth(x):
        return 10.0 * (x[:, 0] < 0.1)

    options = {"pilot": 300, "events": 300, "batch": 2}
    values = [unweight(tenth, Uniform(1), 1, generator, **options).integral.value for _ in range(1_000)]
    assert abs(np.mean(values) - 1) < 5 * np.std(values) / len(values) ** 0.5


def test_unweighted_points_follow_the_integrand():
    """x², with few pilot points, so that many weights exceed w_max: copies make up for them."""
    generator = torch.Generator().manual_seed(11)

    def parabola(x):
        return 3 * x[:, 0] ** 2

    unweighted = unweight(parabola, Uniform(1), 40_000, generator, pilot=200, events=2, batch=5000)
    x = unweighted.points[:, 0]
    assert unweighted.points.shape == (40_000, 1)
    n_different = len(x.unique())
    assert n_different == 40_000 - unweighted.repeated < 38_000
    for power in (1, 2, 5):
        expected = 3 / (power + 3)
        error = float((x**power).std()) * (2 / 40_000) ** 0.5
        assert_agrees((x**power).mean(), expected, error)
    assert_agrees(unweighted.integral.value, 1, unweighted.integral.error)
    exact = unweight(parabola, Uniform(1), 1000, generator)
    assert_agrees(exact.efficiency, 1 / 3, (2 / 3 / 1000) ** 0.5 / 3)
    assert exact.repeated < 5


def test_unweighting_a_mixture_loses_no_channel():
    halves = [
        Mapped(Uniform(1), lambda u, a=a: ((u + a) / 2, torch.full((len(u),), 0.5)), lambda x: (x, torch.ones(len(x))))
        for a in (0, 1)
    ]
    points, _ = Mixture(halves, learn=False).sample(1000, torch.Generator().manual_seed(1))
    first = points[:300, 0]
    assert 0.35 < float((first < 0.5).double().mean()) < 0.65
    assert len(first) == 300


def test_unweighting_an_adapted_grid_keeps_more():
    generator = torch.Generator().manual_seed(12)
    integrand = INTEGRANDS["gaussian 4D"].function
    grid = VegasGrid(4).adapt(integrand, generator, points=5000, iterations=5)
    better, plain = (unweight(integrand, s, 20_000, generator) for s in (grid, Uniform(4)))
    assert better.efficiency > 3 * plain.efficiency
    for one in (better, plain):
        torch.testing.assert_close(one.points.std(0), torch.full((4,), 0.141, dtype=torch.float64), atol=4e-3, rtol=0)


@pytest.mark.parametrize(
    ("integrand", "n", "message"),
    [
        (lambda x: x[:, 0] - 0.5, 10, "negative at .* of .* points; events need f ≥ 0"),
        (lambda x: 0 * x[:, 0], 10, "zero at most of 50000 points"),
        (lambda x: x[:, 0] / 0, 10, "integrand: is inf at"),
        (lambda x: x[:, 0], 0, "n = 0, batch = 50000"),
    ],
)
def test_what_cannot_be_unweighted(integrand, n, message):
    with pytest.raises(InputError, match=message):
        unweight(integrand, Uniform(2), n, torch.Generator().manual_seed(1))
