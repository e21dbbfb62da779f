"""Every flow that the library builds keeps one contract."""

import copy
import math
from functools import partial

import pytest
import torch

from chance import assert_agrees
from rewind.errors import InputError
from rewind.nn import checkpoints, sequential
from rewind.nn.flows import ConditionalFlow, base_noise, draw, spline_flow
from rewind.nn.preprocessing import Chart, Standardize
from rewind.toys import robot_arm

NOISE = 0.1


class Exponential(Chart):
    """A chart with a Jacobian that varies: coordinates are logarithms, shifted by the event."""

    def forward(self, target, event):
        return target.log() - event[:, :1], -target.log().sum(1)

    def inverse(self, coordinates, event):
        return (coordinates + event[:, :1]).exp()


def _gaussian(model, event, n):
    """Propose from a Gaussian as wide as the model's own draws, times 1.5."""
    drawn = model.sample(event, 2000)[0]
    covariance = torch.atleast_2d(torch.cov(drawn.T)) * 1.5**2
    proposal = torch.distributions.MultivariateNormal(drawn.mean(0), covariance)
    x = proposal.sample((n,))
    return x, proposal.log_prob(x)


def _log_normal(model, event, n):
    drawn = model.sample(event, 2000)[0].log()
    proposal = torch.distributions.LogNormal(drawn.mean(0), 1.5 * drawn.std(0))
    x = proposal.sample((n,))
    return x, proposal.log_prob(x).sum(1)


def _arm_by_arm(model, event, n):
    """Propose the first angles from Gaussians, the last from a Cauchy, and the height from the hand's."""
    drawn = model.sample(event, 2000)[0]
    theta3, residual = drawn[:, 1:].sum(1), robot_arm.forward(drawn)[:, 1] - event[0, 1]
    parts = [
        torch.distributions.Normal(drawn[:, 1:3].mean(0), 1.3 * drawn[:, 1:3].std(0)),
        torch.distributions.Cauchy(theta3.mean(), theta3.abs().median()),
        torch.distributions.Normal(residual.mean(), 1.3 * residual.std()),
    ]
    first, theta3, residual = values = [part.sample((n,)) for part in parts]
    x = torch.cat([torch.zeros(n, 1), first, (theta3 - first.sum(1))[:, None]], 1)
    x[:, 0] = event[0, 1] + residual - robot_arm.forward(x)[:, 1]
    log_density = [part.log_prob(value) for part, value in zip(parts, values, strict=True)]
    return x, log_density[0].sum(1) + log_density[1] + log_density[2]


def _plain(build, features, **options):
    model = ConditionalFlow(build(features, 3, hidden=16, **options), features, 3)
    target, event = torch.randn(500, features) * 2 + 1, torch.randn(500, 3) * 3 - 1
    return model.fit_scales(target, event), target, event, _gaussian


def _charted():
    model = ConditionalFlow(spline_flow(2, 3, layers=2, bins=6, hidden=16), 2, 3, chart=Exponential())
    target, event = torch.randn(500, 2).exp(), torch.randn(500, 3)
    return model.fit_scales(target, event), target, event, _log_normal


def _arm(coordinates):
    model = robot_arm.posterior_flow(noise=NOISE, coordinates=coordinates, bins=8, hidden=16)
    target, event = robot_arm.simulate(2000, torch.Generator().manual_seed(5), noise=NOISE)
    return model.fit_scales(target, event), target, event, _gaussian if coordinates == "plain" else _arm_by_arm


FLOWS = {
    "autoregressive": partial(_plain, spline_flow, 3, layers=2, bins=8),
    "autoregressive in one dimension": partial(_plain, spline_flow, 1, layers=2, bins=8),
    "with a chart": _charted,
    "robot arm, plain": partial(_arm, "plain"),
    "robot arm, residual": partial(_arm, "residual"),
    "robot arm, unfolded": partial(_arm, "unfolded"),
}


@pytest.fixture(params=FLOWS, ids=str)
def built(request):
    """A flow away from its initial, nearly trivial state, in double precision, with targets and events."""
    torch.manual_seed(3)
    model, target, event, propose = FLOWS[request.param]()
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.1 * torch.randn_like(values))
    return model.double().eval(), target[:40].double(), event[:40].double(), propose


def _latent(model, target, event):
    coordinates, _ = model.chart(target, event)
    return model.flow.inverse(model.target_scale(coordinates), context=model.encoder(event))


def _from_latent(model, latent, event):
    inner = model.flow(latent, context=model.encoder(event))
    return model.chart.inverse(model.target_scale.inverse(inner), event)


def test_round_trip(built):
    model, target, event, _ = built
    returned = _from_latent(model, _latent(model, target, event), event)
    torch.testing.assert_close(returned, target, rtol=0, atol=1e-4)


def test_log_determinant_is_autograds(built):
    model, target, event, _ = built
    for x, y in zip(target[:8, None], event[:8, None], strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda value, y=y: _latent(model, value, y)[0], x)[:, 0]
        latent = _latent(model, x, y)
        gauss = -0.5 * (latent**2).sum() - 0.5 * latent.shape[1] * math.log(2 * math.pi)
        expected = gauss + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(model.log_prob(x, y)[0], expected, rtol=0, atol=1e-3)


def test_gradients_reach_every_parameter(built):
    model, target, event, _ = built
    model.loss((target, event)).backward()
    buffers = dict(model.named_buffers())
    missed = [
        name
        for name, values in model.named_parameters()
        if (values.grad is None or not values.grad.any())
        and buffers.get(name.replace("weight", "mask"), torch.ones(values.shape)).any()
    ]
    assert not missed


def test_density_integrates_to_one(built):
    model, _, event, propose = built
    n = 40_000
    x, log_density = propose(model, event[:1], n)
    with torch.no_grad():
        weight = (model.log_prob(x, event[:1].expand(n, -1)) - log_density).exp()
    error = weight.std() / n**0.5
    assert error < 0.03
    assert_agrees(weight.mean(), 1, error)


def test_samples_follow_the_density(built):
    """The mean of log p over samples is minus the entropy, which importance weights give independently."""
    model, _, event, propose = built
    n = 40_000
    x, log_density = propose(model, event[:1], n)
    y = event[:1].expand(n, -1)
    with torch.no_grad():
        log_prob = model.log_prob(x, y)
        weighted = (log_prob - log_density).exp() * log_prob
        sampled = model.log_prob(model.sample(event[:1], 4000)[0], y[:4000])
    error = (weighted.var() / n + sampled.var() / 4000).sqrt()
    assert_agrees(weighted.mean(), sampled.mean(), error)


def test_same_density_after_save_and_load(built, tmp_path):
    model, target, event, _ = built
    torch.manual_seed(11)
    blank = copy.deepcopy(model)
    with torch.no_grad():
        for values in blank.parameters():
            values.normal_()
    checkpoints.save(tmp_path / "flow.safetensors", model, lambda: blank, configuration={}, data="", training={})
    loaded = checkpoints.load(tmp_path / "flow.safetensors", lambda: blank)
    assert torch.equal(loaded.log_prob(target, event), model.log_prob(target, event))


def test_event_matters(built):
    model, target, event, _ = built
    with torch.no_grad():
        change = model.log_prob(target, event) - model.log_prob(target, event.roll(1, 0))
    assert change.abs().median() > 1e-3


def test_sampling_is_seeded_and_shaped(built):
    model, _, event, _ = built
    torch.manual_seed(1)
    first = model.sample(event[:3], 5)
    torch.manual_seed(1)
    assert torch.equal(first, model.sample(event[:3], 5))
    assert torch.equal(first, model.sample(event[:3], 5, torch.Generator().manual_seed(1)))
    with pytest.raises(InputError, match="generator: int given; a torch generator is needed"):
        model.sample(event[:3], 5, 1)
    assert first.shape[:2] == (3, 5)
    assert torch.isfinite(first).all()


def test_single_precision_samples_stay_finite():
    torch.manual_seed(0)
    model = ConditionalFlow(spline_flow(2, 1, layers=2, bins=24, hidden=16), 2, 1).eval()
    assert torch.isfinite(model.sample(torch.randn(10, 1), 5_000)).all()


def test_standardize_gives_unit_moments_and_undoes():
    values = torch.randn(1000, 3) * torch.tensor([1e-3, 1.0, 1e3]) + 5
    values[:, 1] = 7.0
    scale = Standardize(3).fit(values)
    inside = scale(values)
    torch.testing.assert_close(inside.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(inside.std(0), torch.tensor([1.0, 0.0, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(scale.inverse(inside), values)


def test_bad_input():
    with pytest.raises(InputError, match="not finite"):
        Standardize(1).fit(torch.tensor([[1.0], [math.nan]]))


@pytest.mark.parametrize("features", [2, 5])
def test_sequential_draws_are_those_of_a_plain_inversion(features):
    torch.manual_seed(3)
    flow = spline_flow(features, 4, layers=3, bins=6, hidden=20).double()
    with torch.no_grad():
        for values in flow.parameters():
            values += 0.05 * torch.randn_like(values)
        context, drawn = torch.randn(300, 4).double(), []
        for sample in (draw, sequential.sample):
            drawn.append(sample(flow, context, torch.Generator().manual_seed(4)))
    torch.testing.assert_close(*drawn, rtol=1e-9, atol=1e-9)


def test_draws_are_those_of_normflows_at_the_same_seed():
    flow, context = spline_flow(3, 2, layers=2, hidden=16), torch.randn(50, 2)
    with torch.no_grad():
        torch.manual_seed(4)
        expected = flow.sample(50, context=context)[0]
        torch.manual_seed(4)
        assert torch.equal(draw(flow, context), expected)
        assert torch.equal(draw(flow, context, torch.Generator().manual_seed(4)), expected)
        torch.manual_seed(4)
        assert torch.equal(flow.q0(7)[0], base_noise(flow, 7, torch.Generator().manual_seed(4)))
