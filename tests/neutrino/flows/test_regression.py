"""The regression: exact symmetries, a loss whose best answer is the posterior mean, and what follows for two roots."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.neutrino.flows.flow import neutrino_flow
from rewind.neutrino.flows.inputs import MAX_JETS
from rewind.neutrino.flows.regression import NeutrinoRegression, neutrino_regression
from rewind.nn.training import Optimization, fit

SAMPLES = {1: "data/samples/ttbar_semileptonic_validation.root", 2: "data/samples/ttbar_dilepton_validation.root"}
SMALL = {"width": 16, "encoder_layers": 1, "hidden": 24}


@pytest.fixture(scope="module", params=[1, 2], ids=["one neutrino", "two neutrinos"])
def data(request):
    return events.load_batch(SAMPLES[request.param], request.param).with_jets(MAX_JETS)[:400]


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(3)
    model = neutrino_regression(data.n_legs, **SMALL)
    return model.fit_scales(data.truth.neutrinos.float(), model.featurize(data)).double().eval()


def turned(data, angle, flip_z):
    """The events rotated about the beam, and reflected along it."""

    def turn(p):
        *energy, x, y, z = p.unbind(-1)
        x, y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
        return torch.stack([*energy, x, y, flip_z * z], -1)

    met = turn(torch.cat([data.met, torch.zeros_like(data.met[:, :1])], 1))[:, :2]
    truth = replace(data.truth, neutrinos=turn(data.truth.neutrinos))
    return replace(data, met=met, **{name: turn(getattr(data, name)) for name in ("leptons", "jets")}, truth=truth)


@pytest.mark.parametrize("flip_z", [1.0, -1.0])
def test_predictions_turn_with_the_event(data, model, flip_z):
    other = turned(data, 1.1, flip_z)
    predicted = replace(data, truth=replace(data.truth, neutrinos=model.predict(model.featurize(data).double())))
    there = model.predict(model.featurize(other).double())
    torch.testing.assert_close(turned(predicted, 1.1, flip_z).truth.neutrinos, there, rtol=1e-3, atol=1e-2)


def test_loss_is_the_squared_distance_of_predictions_in_units_of_the_spread(data, model):
    event = model.featurize(data).double()
    scale = model.target_scale.scale
    apart = model.chart((model.predict(event) - data.truth.neutrinos).flatten(1), event)[0] / scale
    loss = model.loss((data.truth.neutrinos, event))
    torch.testing.assert_close(loss, (apart**2).mean(), rtol=1e-6, atol=1e-9)


def test_a_constant_head_learns_the_mean(data):
    """Without any information the least mean squared error is at the mean in the canonical frame."""
    model = neutrino_regression(data.n_legs, **SMALL)
    event = model.featurize(data)
    model.fit_scales(data.truth.neutrinos.float(), event)
    model.head = nn.Sequential(nn.Linear(16, 3 * data.n_legs))
    nn.init.zeros_(model.head[0].weight)
    nn.init.zeros_(model.head[0].bias)
    loss = float(model.loss((data.truth.neutrinos.float(), event)).detach())
    assert abs(loss - 399 / 400) < 1e-4
    inside = model.chart(data.truth.neutrinos.float().flatten(1), event)[0].mean(0)
    predicted = model.chart(model.predict(event).flatten(1), event)[0]
    torch.testing.assert_close(predicted, inside.expand_as(predicted), rtol=1e-4, atol=1e-3)


def test_two_equally_likely_answers_are_answered_between(data):
    """Targets ±p_z at random: what is learnt lies between them, and neither is on the W's mass shell."""
    if data.n_legs == 2:
        pytest.skip("one leg is enough")
    torch.manual_seed(1)
    model = neutrino_regression(1, **SMALL)
    event = model.featurize(data)
    neutrinos = data.truth.neutrinos.float().clone()
    neutrinos[..., 2] = 100.0 * (2 * torch.randint(0, 2, (len(data), 1)) - 1)
    model.fit_scales(neutrinos, event)
    optimization = Optimization(learning_rate=3e-3)
    fit(model, (neutrinos, event), (neutrinos, event), epochs=3, optimization=optimization, device="cpu")
    assert (model.predict(event)[..., 2].abs() < 60).double().mean() > 0.9


def test_it_is_as_large_as_the_flow():
    for n_legs in (1, 2):
        sizes = [sum(p.numel() for p in build(n_legs).parameters()) for build in (neutrino_regression, neutrino_flow)]
        assert 0.9 < sizes[0] / sizes[1] < 1.1


def test_predictions_are_neutrinos_for_batches_of_one_and_none(data, model):
    event = model.featurize(data[:5]).double()
    both = model.predict(event)
    assert both.shape == data.truth.neutrinos[:5].shape
    assert torch.isfinite(kinematics.pt(torch.cat([both.norm(dim=-1, keepdim=True), both], -1))).all()
    torch.testing.assert_close(model.predict(event[:1]), both[:1], rtol=0, atol=1e-4)
    assert model.predict(event[:0]).shape == (0, data.n_legs, 3)


def test_bad_input(data, model):
    with pytest.raises(InputError, match="n_legs"):
        neutrino_regression(3)
    with pytest.raises(InputError, match="leptons"):
        neutrino_regression(3 - data.n_legs, **SMALL).featurize(data)
    assert isinstance(model, NeutrinoRegression)
