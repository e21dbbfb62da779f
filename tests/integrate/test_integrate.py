"""Samplers have the density they claim, learn what they are shown, and estimates know when not to be trusted."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from rewind.errors import InputError
from rewind.integrate import (
    Mapped,
    Mixture,
    Sampler,
    SplineFlow,
    Uniform,
    VegasGrid,
    adapted_grid,
    contest,
    integrate,
    kl_loss,
    largest_weight,
    learnt_shares,
    pareto_shape,
    started_flow,
    summarize,
    train,
    trained_flow,
    unweight,
    unweighting_efficiency,
    variance_loss,
)
from rewind.nn import checkpoints
from rewind.nn.splines import unit_spline
from rewind.physics.phase_space import BreitWigner, DecayTree, Leg, RamboOnDiet, Split
from rewind.toys.integrands import INTEGRANDS, camel


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(n, dims, seed=1):
    return torch.rand(n, dims, generator=seeded(seed), dtype=torch.float64)


def stirred(sampler, size=0.3):
    """Move learnt parameters away from where they start."""
    generator = seeded(7)
    with torch.no_grad():
        for values in sampler.parameters():
            values += size * torch.randn(values.shape, generator=generator, dtype=values.dtype)
    return sampler


def adapted(dims=2, bins=32):
    return VegasGrid(dims, bins).adapt(camel, seeded(), points=2000, iterations=4)


def squares(u):
    return u**2, (2 * u).prod(1)


def roots(x):
    return x.sqrt(), (2 * x.sqrt()).prod(1)


class AtContext(Sampler):
    """A conditional flow at one context."""

    def __init__(self, flow, context):
        super().__init__()
        self.dims, self.flow, self.context = flow.dims, flow, context

    def sample(self, n, generator):
        return self.flow.sample(n, generator, self.context[None], torch.zeros(n, dtype=torch.long))

    def log_prob(self, points):
        return self.flow.log_prob(points, self.context.expand(len(points), -1))


SAMPLERS = {
    "uniform": partial(Uniform, 2),
    "grid": adapted,
    "flow": lambda: stirred(SplineFlow(2, bins=6, hidden=16)),
    "flow of one dimension": lambda: stirred(SplineFlow(1, layers=1, bins=6, hidden=16)),
    "flow after a grid": lambda: stirred(SplineFlow(2, bins=6, hidden=16).start_from(adapted())),
    "flow at a context": lambda: AtContext(
        stirred(SplineFlow(2, 3, bins=6, hidden=16)), torch.tensor([0.3, -1.0, 2.0])
    ),
    "mixture": lambda: Mixture([adapted(), Uniform(2), stirred(SplineFlow(2, bins=4, hidden=8))], [3.0, 1.0, 1.0]),
    "mapped": lambda: Mapped(stirred(SplineFlow(2, bins=6, hidden=16)), squares, roots),
}


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
    assert float(weight.mean()) == pytest.approx(1, abs=4 * float(weight.std()) / 200)


def test_integrals_of_polynomials(sampler):
    found = integrate(lambda x: 1 + (x**2).sum(1), sampler, 20_000, seeded(3))
    assert abs(found.value - (1 + sampler.dims / 3)) < 3.5 * found.error + 1e-12


def test_gradients_reach_every_learnt_parameter(sampler):
    learnt = dict(sampler.named_parameters())
    if not learnt:
        return
    sampler.log_prob(unit(200, sampler.dims)).square().sum().backward()
    missed = [name for name, values in learnt.items() if values.grad is None or not values.grad.any()]
    blind = ["layers.0.weights.0"] if sampler.dims == 1 else []  # a single coordinate sees nothing
    assert missed == blind


def test_spline_is_the_identity_at_zero_and_inverts():
    x = unit(500, 3)
    y, log_slope = unit_spline(x, torch.zeros(500, 3, 19, dtype=torch.float64))
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-12)
    parameters = 2 * torch.randn(500, 3, 19, generator=seeded(), dtype=torch.float64)
    y, log_slope = unit_spline(x, parameters)
    back, inverse_slope = unit_spline(y, parameters, inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse_slope, -log_slope, rtol=0, atol=1e-8)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(unit_spline(ends, parameters[0, :2])[0], ends, rtol=0, atol=1e-12)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(unit_spline(x, parameters)[0].sum(), x)
    torch.testing.assert_close(slope.log(), log_slope)


def test_flow_density_is_autograds_determinant():
    flow = SAMPLERS["flow after a grid"]()

    for x in unit(5, 2):
        determinant = torch.autograd.functional.jacobian(lambda one: flow.latent(one[None])[0][0], x).det().abs()
        torch.testing.assert_close(flow.log_prob(x[None])[0].exp(), determinant, rtol=1e-4, atol=0)


def test_untrained_flow_after_a_grid_draws_almost_from_it():
    grid = adapted()
    flow = SplineFlow(2).start_from(grid)
    x = unit(5000, 2)
    difference = (flow.log_prob(x) - grid.log_prob(x)).detach()
    assert difference.abs().mean() < 0.1
    assert flow.log_prob(x).std() > 5 * difference.std()


def test_flow_survives_a_checkpoint(tmp_path):
    options = {"dims": 2, "context": 1, "bins": 6, "hidden": 16}
    flow = stirred(SplineFlow(**options).start_from(adapted()))
    path = tmp_path / "flow.safetensors"
    checkpoints.save(path, flow, configuration=options, data="", training={})
    loaded = checkpoints.load(path, SplineFlow)
    x, context = unit(50, 2), unit(50, 1)
    assert torch.equal(flow.log_prob(x, context), loaded.log_prob(x, context))


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


@pytest.mark.parametrize("loss", [kl_loss, variance_loss])
def test_losses_have_the_gradient_of_their_divergence(loss):
    """For p = 3x² and q = (1 + a)xᵃ, from points of another density; and no noise at all where q = p."""
    x = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000

    def gradient(start):
        a = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        drawn = x.sqrt()  # of density 2x
        log_q = (1 + a).log() + a * drawn.log()
        ratio = log_q.detach().exp() / (2 * drawn)
        (found,) = torch.autograd.grad(loss(3 * drawn**2 / (2 * drawn), ratio, log_q), a)
        return float(found)

    def divergence(a):
        if loss is kl_loss:  # ∫ p ln(p/q)
            return math.log(3 / (1 + a)) - (2 - a) / 3
        return 9 / ((1 + a) * (5 - a)) - 1  # ∫ p²/q − 1

    for a in (1.0, 1.5, 2.5):
        assert gradient(a) == pytest.approx((divergence(a + 1e-5) - divergence(a - 1e-5)) / 2e-5, rel=1e-3)
    log_q = torch.randn(50, dtype=torch.float64, requires_grad=True)
    same = torch.rand(50, dtype=torch.float64)
    (gradients,) = torch.autograd.grad(loss(same, same, log_q), log_q)
    assert gradients.abs().max() < 1e-15


@pytest.mark.parametrize("losses", [(kl_loss,), (variance_loss,), (kl_loss, variance_loss)], ids=len)
def test_training_beats_the_grid(losses):
    grid = adapted()
    flow = SplineFlow(2, bins=8, hidden=32).start_from(grid)
    before = integrate(camel, grid, 20_000, seeded(1))
    record = train(flow, camel, seeded(), evaluations=60_000, batch=512, losses=losses, explore=grid)
    after = integrate(camel, flow, 20_000, seeded(1))
    value = INTEGRANDS["camel 4D"].value ** 0.5
    assert after.relative_std < 0.3 * before.relative_std
    assert after.unweighting_efficiency > 1.3 * before.unweighting_efficiency
    assert abs(after.value - value) < 4 * after.error
    assert len(record) == 60_000 // 512
    assert np.mean(record[-20:]) < 0.3 * np.mean(record[:20])


def test_training_is_seeded_and_leaves_double_precision():
    flows = [SplineFlow(2, bins=4, hidden=8) for _ in range(2)]
    for flow in flows:
        train(flow, camel, seeded(2), evaluations=4096, batch=512, replays=1)
    x = unit(20, 2)
    assert torch.equal(*(flow.log_prob(x) for flow in flows))
    assert flows[0].log_prob(x).dtype == torch.float64
    assert not flows[0].training


def test_replays_learn_more_from_as_many_evaluations():
    spread = []
    for replays in (0, 3):
        flow = SplineFlow(2, bins=8, hidden=32)
        calls = []

        def counted(x, calls=calls):
            calls.append(len(x))
            return camel(x)

        train(flow, counted, seeded(), evaluations=20_480, batch=512, replays=replays)
        assert sum(calls) == 20_480
        spread.append(integrate(camel, flow, 20_000, seeded(1)).relative_std)
    assert spread[1] < 0.8 * spread[0]


def test_a_far_peak_is_not_dropped():
    """One narrow peak in each corner, of very unequal size: exploration finds both."""

    def peaks(x):
        near, far = ((-(((x - c) / 0.03) ** 2).sum(1)).exp() for c in (0.2, 0.8))
        return 20 * near + far

    flow = SplineFlow(2, bins=8, hidden=32)
    train(flow, peaks, seeded(), evaluations=100_000, batch=512, losses=(kl_loss,))
    found = integrate(peaks, flow, 20_000, seeded(1))
    exact = 21 * math.pi * 0.03**2
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < 0.01 * exact


def test_draws_share_the_contexts_that_they_name():
    flow, contexts = stirred(SplineFlow(3, 2, bins=6, hidden=16)), unit(4, 2)
    which = torch.arange(200) % 4
    shared, log_density = flow.sample(200, seeded(5), contexts, which)
    own, same = flow.sample(200, seeded(5), contexts[which])
    torch.testing.assert_close(shared, own, rtol=0, atol=1e-6)
    torch.testing.assert_close(log_density, same, rtol=0, atol=1e-4)
    torch.testing.assert_close(log_density, flow.log_prob(shared, contexts[which]), rtol=0, atol=1e-4)


def test_single_precision_scatters_densities_a_little_and_does_not_shift_them():
    flow, contexts = stirred(SplineFlow(3, 2, bins=6, hidden=16)), unit(4, 2)
    which = torch.arange(20_000) % 4
    points, log_density = flow.sample(20_000, seeded(5), contexts, which, dtype=torch.float32)
    assert points.dtype == torch.float64
    off = log_density - flow.log_prob(points, contexts[which]).detach()
    assert off.std() < 3e-4
    assert abs(off.mean()) < 5 * off.std() / len(off) ** 0.5


def test_conditional_flow_integrates_at_any_context():
    def bump(x, context):
        return (-(((x - context) / 0.1) ** 2).sum(1)).exp()

    flow = SplineFlow(2, 2, bins=8, hidden=32)
    train(
        flow,
        bump,
        seeded(),
        evaluations=80_000,
        batch=512,
        losses=(kl_loss,),
        draw_context=lambda n, generator: 0.3 + 0.4 * torch.rand(n, 2, generator=generator, dtype=torch.float64),
    )
    for centre in ([0.35, 0.35], [0.5, 0.6]):
        context = torch.tensor(centre, dtype=torch.float64)
        found = integrate(partial(bump, context=context), AtContext(flow, context), 10_000, seeded(1))
        plain = integrate(partial(bump, context=context), Uniform(2), 10_000, seeded(1))
        exact = math.pi / 4 * 0.01
        for c in centre:
            exact *= math.erf(c / 0.1) + math.erf((1 - c) / 0.1)
        assert abs(found.value - exact) < 4 * found.error
        assert found.relative_std < 0.3 * plain.relative_std


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
    assert after.value == pytest.approx(5, abs=4 * after.error + 1e-6)


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
    for found in (mixture, plain):
        assert abs(found.value - exact) < 4 * found.error
    assert mixture.relative_std < 0.5 < 1.5 < plain.relative_std
    assert mixture.relative_std < 0.3 * single.relative_std


def test_errors_cover():
    grid = adapted()
    value = INTEGRANDS["camel 4D"].value ** 0.5
    pulls = []
    for seed in range(300):
        found = integrate(camel, grid, 1000, seeded(seed))
        pulls.append((found.value - value) / found.error)
    pulls = np.array(pulls)
    assert abs(pulls.mean()) < 4 / 300**0.5
    assert pulls.std() == pytest.approx(1, abs=0.15)
    assert (np.abs(pulls) < 1).mean() == pytest.approx(0.683, abs=0.1)


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
    found = summarize(torch.tensor([1.0, 3.0] * 500))
    assert found.value == 2
    assert found.relative_std == pytest.approx(0.5, rel=1e-2)
    assert found.effective_sample_size == pytest.approx(1000 * 4 / 5)
    assert found.unweighting_efficiency == pytest.approx(2 / 3)
    assert found.trusted


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.9])
def test_pareto_shape_is_found(shape):
    rng = np.random.default_rng(2)
    found = [pareto_shape(torch.from_numpy(genpareto.rvs(shape, size=20_000, random_state=rng))) for _ in range(10)]
    assert np.mean(found) == pytest.approx(shape, abs=0.1)


def test_untrusted_errors_are_flagged():
    def steep(x):
        return x[:, 0] ** -0.95

    found = integrate(steep, Uniform(1), 20_000, seeded())
    assert not found.trusted
    assert "Pareto" in " ".join(found.warnings)
    found = integrate(lambda x: (x[:, 0] < 1e-3).double(), Uniform(1), 20_000, seeded())
    assert found.warnings[0].startswith("the integrand is nonzero at")
    found = integrate(lambda x: 1 + 1e6 * (x[:, 0] < 2e-4), Uniform(1), 5000, seeded(4))
    assert "one weight carries" in " ".join(found.warnings)
    assert integrate(camel, Uniform(2), 20_000, seeded()).trusted


def test_zero_everywhere_is_a_flagged_zero():
    found = integrate(lambda x: torch.zeros(len(x)), Uniform(2), 100, seeded())
    assert (found.value, found.error, found.trusted) == (0.0, 0.0, False)
    assert "zero at all 100 points" in found.warnings[0]


def test_constant_integrand_has_no_error():
    found = integrate(lambda x: torch.full((len(x),), 3.0), Uniform(2), 1000, seeded())
    assert (found.value, found.error, found.trusted) == (3.0, 0.0, True)


@pytest.mark.parametrize("name", INTEGRANDS)
def test_integrands_have_their_values(name):
    function, dims, value = INTEGRANDS[name]
    nodes, weights = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(30))
    nodes, precision = nodes + 0.5, 1e-8
    if name == "annulus":  # a ring in polar coordinates
        radius, angle = 0.2 + 0.25 * nodes, math.pi / 2 * nodes
        polar = torch.stack([radius[:, None] * angle.cos(), radius[:, None] * angle.sin()], -1)
        inside = function(polar.reshape(-1, 2)).reshape(30, 30)
        expected = float(weights @ (inside * 0.25 * math.pi / 2 * radius[:, None]) @ weights)
        assert float(function(unit(200_000, 2)).mean()) == pytest.approx(value, abs=0.003)
    elif name == "circles":  # kinks along both circles: midpoints
        middle = (torch.arange(1500, dtype=torch.float64) + 0.5) / 1500
        expected, precision = float(function(torch.cartesian_prod(middle, middle)).mean()), 1e-5
    elif dims == 8:  # bells are products, and both humps of the camel alike
        expected = INTEGRANDS[name.replace("8", "4")].value ** 2
    else:
        grid = torch.cartesian_prod(*[nodes] * dims)
        expected = float(function(grid) @ torch.cartesian_prod(*[weights] * dims).prod(1))
    assert expected == pytest.approx(value, rel=precision)


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


def test_unweighted_points_follow_the_integrand():
    """x², with few pilot points, so that many weights exceed w_max: copies make up for them."""
    generator = torch.Generator().manual_seed(11)

    def parabola(x):
        return 3 * x[:, 0] ** 2

    found = unweight(parabola, Uniform(1), 40_000, generator, pilot=200, events=2, batch=5000)
    x = found.points[:, 0]
    assert found.points.shape == (40_000, 1)
    n_different = len(x.unique())
    assert n_different == 40_000 - found.repeated < 38_000
    for power in (1, 2, 5):
        expected = 3 / (power + 3)
        error = float((x**power).std()) * (2 / 40_000) ** 0.5
        assert abs(float((x**power).mean()) - expected) < 4 * error
    assert abs(found.integral.value - 1) < 3 * found.integral.error
    exact = unweight(parabola, Uniform(1), 1000, generator)
    assert exact.efficiency == pytest.approx(1 / 3, rel=0.03)
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
    for found in (better, plain):
        torch.testing.assert_close(found.points.std(0), torch.full((4,), 0.141, dtype=torch.float64), atol=4e-3, rtol=0)


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


def test_contests_keep_errors_and_costs():
    def line(x):
        return 2 * x[:, 0]

    recipes = {"even": lambda f, dims, n, generator: Uniform(dims), "grid": adapted_grid}
    found = contest(line, 1, recipes, evaluations=20_000, points=20_000, seeds=[1, 2, 3])
    assert {name: len(trials) for name, trials in found.trials.items()} == {"even": 3, "grid": 3}
    even, grid = (trials[0] for trials in found.trials.values())
    assert even.relative_std == pytest.approx(1 / 3**0.5, rel=0.03)
    assert even.efficiency == pytest.approx(0.5, abs=0.01)
    assert grid.relative_std < 0.3 * even.relative_std
    assert all(abs(pull) < 4 for pull in found.pulls(1.0).values())
    assert abs(found.mean() - 1) < 4 * min(t.error for t in found.trials["grid"])
    after = even.error_after([even.training, even.training + 100 * even.each, even.training + 10_000 * even.each])
    assert math.isnan(after[0])
    np.testing.assert_allclose(after[1:], even.relative_std / np.array([10, 100]))
    assert "even" in str(found)
    assert len(str(found).splitlines()) == 2
    alone = contest(line, 1, {"even": recipes["even"]}, evaluations=2000, points=1000, seeds=[1])
    assert "±" not in str(alone)
    with pytest.raises(InputError, match="seeds: at least one is needed"):
        contest(line, 1, recipes, evaluations=2000, points=100, seeds=[])


@pytest.mark.parametrize("recipe", [trained_flow, started_flow])
def test_recipes_spend_no_more_than_they_may(recipe):
    counted = []

    def bell(x):
        counted.append(len(x))
        return INTEGRANDS["gaussian 4D"].function(x)

    generator = torch.Generator().manual_seed(1)
    flow = recipe(bell, 4, 20_000, generator, seed=1, layers=1, hidden=16, bins=8)
    assert 18_000 < sum(counted) <= 20_000
    assert integrate(bell, flow, 20_000, generator).relative_std < 2.0  # 2.4 for even points


def test_learnt_shares_follow_the_peaks():
    """A quarter of the integral under one hump: shares of the channels that hold one each."""

    def hump(x, centre):
        return (-((x[:, 0] - centre) ** 2) / 0.05**2 / 2).exp()

    def humps(x):
        return 0.25 * hump(x, 0.25) + 0.75 * hump(x, 0.75)

    generator = torch.Generator().manual_seed(2)
    grids = [
        adapted_grid(partial(hump, centre=centre), 1, 20_000, generator, bins=32, iterations=10)
        for centre in (0.25, 0.75)
    ]
    mixture = learnt_shares(humps, grids, 60_000, generator)
    torch.testing.assert_close(mixture.shares, torch.tensor([0.25, 0.75], dtype=torch.float64), atol=0.03, rtol=0)
