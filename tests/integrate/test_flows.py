"""Spline flows of the unit hypercube: exact densities, losses that mean what they say, training."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from chance import assert_agrees, assert_mean
from rewind.integrate import (
    SplineFlow,
    Uniform,
    integrate,
    kl_loss,
    train,
    variance_loss,
)
from rewind.nn import checkpoints
from rewind.toys.integrands import INTEGRANDS, camel
from unit_samplers import SAMPLERS, AtContext, adapted, seeded, stirred, unit


@pytest.fixture(params=SAMPLERS, ids=str)
def sampler(request):
    return SAMPLERS[request.param]()


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
    checkpoints.save(path, flow, SplineFlow, configuration=options, data="", training={})
    loaded = checkpoints.load(path, SplineFlow)
    x, context = unit(50, 2), unit(50, 1)
    assert torch.equal(flow.log_prob(x, context), loaded.log_prob(x, context))


@pytest.mark.parametrize("loss", [kl_loss, variance_loss])
def test_losses_have_the_gradient_of_their_divergence(loss):
    """For p = 3x² and q = (1 + a)xᵃ, from points of another density; and no noise at all where q = p."""
    x = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000

    def gradient(start):
        a = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        drawn = x.sqrt()  # of density 2x
        log_q = (1 + a).log() + a * drawn.log()
        ratio = log_q.detach().exp() / (2 * drawn)
        (derivative,) = torch.autograd.grad(loss(3 * drawn**2 / (2 * drawn), ratio, log_q), a)
        return float(derivative)

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
    assert_agrees(after.value, value, after.error)
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
    integral = integrate(peaks, flow, 20_000, seeded(1))
    exact = 21 * math.pi * 0.03**2
    assert_agrees(integral.value, exact, integral.error)
    assert integral.error < 0.01 * exact


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
    assert_mean(off)


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
        integral = integrate(partial(bump, context=context), AtContext(flow, context), 10_000, seeded(1))
        plain = integrate(partial(bump, context=context), Uniform(2), 10_000, seeded(1))
        exact = math.pi / 4 * 0.01
        for c in centre:
            exact *= math.erf(c / 0.1) + math.erf((1 - c) / 0.1)
        assert_agrees(integral.value, exact, integral.error)
        assert integral.relative_std < 0.3 * plain.relative_std
