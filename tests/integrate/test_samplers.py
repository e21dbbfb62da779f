"""Samplers have the density they claim and learn what they are shown."""

import math

import pytest
import torch

from chance import assert_agrees, assert_mean
from rewind.errors import InputError
from rewind.integrate import (
    Mapped,
    Mixture,
    SplineFlow,
    Uniform,
    VegasGrid,
    integrate,
    kl_loss,
    largest_weight,
    summarize,
    train,
    variance_loss,
)
from rewind.physics.phase_space import BreitWigner, DecayTree, Leg, RamboOnDiet, Split
from rewind.toys.integrands import camel
from unit_samplers import SAMPLERS, adapted, seeded, unit


@pytest.fixture(params=SAMPLERS, ids=str)
def sampler(request):
    return SAMPLERS[request.param]()


def test_samples_carry_their_density(sampler):
    points, log_density = sampler.sample(1000, seeded())
    assert points.shape == (1000, sampler.dims)
    assert points.dtype == torch.float64
    assert ((points >= 0) & (points <= 1)).all()
    torch.testing.assert_close(sampler.log_prob(points).detach(), log_density, rtol=0, atol=1e-4)
    again, _ = sampler.sample(1000, seeded())
    assert torch.equal(points, again)
    assert not torch.equal(points, sampler.sample(1000, seeded(1))[0])


def test_density_integrates_to_one(sampler):
    density = sampler.log_prob(unit(40_000, sampler.dims) ** 2).detach().exp()
    weight = density * (2 * unit(40_000, sampler.dims)).prod(1)
    assert_mean(weight, 1)


def test_integrals_of_polynomials(sampler):
    integral = integrate(lambda x: 1 + (x**2).sum(1), sampler, 20_000, seeded(3))
    assert_agrees(integral.value, 1 + sampler.dims / 3, integral.error, rounding=1e-12)


def test_gradients_reach_every_learnt_parameter(sampler):
    learnt = dict(sampler.named_parameters())
    if not learnt:
        return
    sampler.log_prob(unit(200, sampler.dims)).square().sum().backward()
    missed = [name for name, values in learnt.items() if values.grad is None or not values.grad.any()]
    blind = ["layers.0.weights.0"] if sampler.dims == 1 else []  # a single coordinate sees nothing
    assert missed == blind


def test_grid_finds_the_best_product():
    """For Π 2x_i the ideal grid has equal probability in each bin: edges √(k/K)."""
    grid = VegasGrid(3, 16).adapt(lambda x: (2 * x).prod(1), seeded(), points=50_000, iterations=12)
    expected = torch.linspace(0, 1, 17, dtype=torch.float64).sqrt()
    assert (grid.edges.diff(dim=1) > 0).all()
    # within a bin the integrand varies, which costs the lowest most
    torch.testing.assert_close(grid.edges[:, 2:], expected[2:].expand(3, -1), rtol=0.06, atol=0)
    assert integrate(lambda x: (2 * x).prod(1), grid, 20_000, seeded(1)).relative_std < 0.25


def test_grid_puts_points_where_the_integrand_varies():
    """Both halves contribute alike, but the peak is narrow in the first: its f² asks for more points."""

    def f(x):
        width = torch.where(x[:, 0] < 0.5, 0.02, 0.2)
        return (-(((x[:, 1] - 0.5) / width) ** 2)).exp() / width

    grid = VegasGrid(2).adapt(f, seeded(), points=20_000, iterations=5)
    assert grid.edges[0, 16] < 0.42


def power_channel(exponent):
    """A sampler with the density Π (1 + a) x^a."""
    a = 1 + exponent

    def forward(u):
        x = u ** (1 / a)
        return x, (x ** (1 - a) / a).prod(1)

    def inverse(x):
        return x**a, (x ** (1 - a) / a).prod(1)

    return Mapped(Uniform(2), forward, inverse)


@pytest.mark.parametrize("loss", [kl_loss, variance_loss])
def test_mixture_learns_the_true_shares_whatever_explores(loss):
    def mirror(x):
        return 1 - x, torch.ones_like(x[:, 0])

    channels = [power_channel(3.0), Mapped(power_channel(3.0), mirror, mirror)]

    def f(x):
        return 5 * (0.8 * channels[0].log_prob(x).exp() + 0.2 * channels[1].log_prob(x).exp())

    mixture = Mixture(channels)
    before = integrate(f, mixture, 10_000, seeded(1))
    exploration = {"explore": channels[1], "explored": 0.4}
    train(mixture, f, seeded(), evaluations=60_000, batch=512, learning_rate=0.03, losses=[loss], **exploration)
    after = integrate(f, mixture, 10_000, seeded(1))
    torch.testing.assert_close(mixture.shares, torch.tensor([0.8, 0.2], dtype=torch.float64), rtol=0, atol=0.01)
    assert before.relative_std > 0.3
    assert after.relative_std < 0.02
    assert_agrees(after.value, 5, after.error, rounding=1e-6)


def test_fixed_shares_stay():
    mixture = Mixture([adapted(), Uniform(2)], [0.9, 0.1], learn=False)
    assert [name for name, values in mixture.named_parameters() if values.requires_grad] == []
    points, _ = mixture.sample(1001, seeded())
    assert len(points) == 1001


def test_two_resonances_need_two_channels():
    """(12) and (23) resonate: no single tree flattens both; their mixture does, and is unbiased."""
    m, width, sqrt_s = 90.0, 3.0, 300.0
    rambo = RamboOnDiet([0.0] * 3)
    pole = BreitWigner(m, width)

    def f(r):
        momenta, weight = rambo.forward(r, sqrt_s)
        poles = 0
        for i, j in ((0, 1), (1, 2)):
            pair = momenta[:, i] + momenta[:, j]
            s = pair[:, 0] ** 2 - pair[:, 1:].square().sum(1)
            poles = poles + m * width / math.pi / ((s - m**2) ** 2 + (m * width) ** 2)
        return weight * poles

    trees = [
        DecayTree(Split(Split(Leg(0), Leg(1), pole), Leg(2))),
        DecayTree(Split(Split(Leg(1), Leg(2), pole), Leg(0))),
    ]

    def moved(numbers, start, end):
        momenta, weight = start.forward(numbers, sqrt_s)
        numbers, other = end.inverse(momenta)
        return numbers, weight / other

    def channel(tree):
        def back(r):
            u, jacobian = moved(r, rambo, tree)
            return u, 1 / jacobian

        return Mapped(Uniform(5), lambda u: moved(u, tree, rambo), back)

    channels = [channel(tree) for tree in trees]
    mixture = integrate(f, Mixture(channels), 20_000, seeded(2))
    single, plain = integrate(f, channels[0], 20_000, seeded(2)), integrate(f, Uniform(5), 20_000, seeded(2))
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    angle = [math.atan(x / (m * width)) for x in (-(m**2), sqrt_s**2 - m**2)]
    s = m**2 + m * width * torch.tan(angle[0] + u * (angle[1] - angle[0]))
    exact = 2 * (math.pi / 2) ** 2 * float((1 - s / sqrt_s**2).mean()) * (angle[1] - angle[0]) / math.pi
    for one in (mixture, plain):
        assert_agrees(one.value, exact, one.error)
    assert mixture.relative_std < 0.5 < 1.5 < plain.relative_std
    assert mixture.relative_std < 0.3 * single.relative_std


def bad(value):
    return lambda x: torch.where(x[:, 0] > 0.5, value, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: integrate(bad(math.nan), Uniform(2), 100, seeded()),
            r"integrand: is nan at \(0\.\d+, 0\.\d+\), \d+ points",
        ),
        (lambda: integrate(bad(math.inf), Uniform(2), 100, seeded()), "integrand: is inf at"),
        (lambda: integrate(lambda x: x, Uniform(2), 100, seeded()), r"returned shape \(100, 2\) for 100 points"),
        (lambda: integrate(camel, Uniform(2), 1, seeded()), "n = 1"),
        (lambda: VegasGrid(2).adapt(lambda x: 0 * x[:, 0], seeded()), "zero at all 10000 points"),
        (lambda: VegasGrid(2).adapt(bad(math.nan), seeded()), "is nan at"),
        (lambda: VegasGrid(0), "dims = 0"),
        (lambda: train(SplineFlow(2), lambda x: 0 * x[:, 0], seeded()), "zero at all 1024 points"),
        (lambda: train(SplineFlow(2), bad(math.nan), seeded()), "is nan at"),
        (lambda: train(SplineFlow(2), camel, seeded(), evaluations=10), "not one step"),
        (lambda: train(SplineFlow(2), camel, seeded(), explored=1.5), "explored = 1.5"),
        (lambda: train(Uniform(2), camel, seeded()), "nothing to learn"),
        (lambda: train(SplineFlow(2), camel, seeded(), learning_rate=1e30, evaluations=90_000), "diverged by step"),
        (lambda: SplineFlow(2).start_from(VegasGrid(3)), "grid of 3 dimensions, 32 bins"),
        (lambda: SplineFlow(2, 1).log_prob(unit(5, 2)), r"context: shape \(5, 0\); \(5, 1\)"),
        (lambda: SplineFlow(2).log_prob(unit(5, 3)), r"points: shape \(5, 3\); \(points, 2\)"),
        (lambda: Mixture([Uniform(2), Uniform(3)]), r"channels of \[2, 3\] dimensions"),
        (lambda: Mixture([Uniform(2)], [0.0]), "1 positive numbers"),
        (lambda: summarize(torch.tensor([1.0, math.nan])), "1 of 2 are not finite"),
        (lambda: summarize(torch.ones(3, 2)), r"weights: shape \(3, 2\)"),
        (lambda: largest_weight(torch.ones(3), events=0), "events = 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
