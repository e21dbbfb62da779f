"""The unfolding flow: exact unit numbers, a normalised density without a preferred azimuth, and momentum balance."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rewind import kinematics
from rewind.errors import InputError
from rewind.nn import checkpoints
from rewind.partons import conditioner, coordinates, dataset, unfolding_flow

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
SMALL = {"width": 16, "layers": 1, "heads": 2}
FLOW = {"latent": 4, "layers": 2, "bins": 6, "hidden": 16, "blocks": 1}


@pytest.fixture(scope="module")
def data():
    return dataset.load(SAMPLES / "tth_semileptonic.root")[:300]


@pytest.fixture(scope="module")
def regressor(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("conditioner") / "conditioner.safetensors"
    conditioner.train_conditioner(data[:250], data[250:], path, size=SMALL, max_jets=14, epochs=2, batch_size=50)
    return path


@pytest.fixture(scope="module")
def trained(data, regressor, tmp_path_factory):
    path = tmp_path_factory.mktemp("flow") / "flow.safetensors"
    options = {"size": FLOW, "epochs": 3, "batch_size": 50, "ema_decay": None}
    return *unfolding_flow.train_unfolding(data[:250], data[250:], regressor, path, **options), path


@pytest.fixture(scope="module")
def model(trained):
    return trained[0]


def test_numbers_give_back_the_partons(data, model):
    event = model.read(data)
    values = model.numbers(data.partons, event)
    partons, fractions = model.partons(values, event)
    expected = coordinates.on_shell(data.partons[:, :3, 1:])
    assert ((values > 0) & (values < 1)).all()
    torch.testing.assert_close(partons, expected, rtol=0, atol=1e-9 * dataset.SQRT_S)
    torch.testing.assert_close(fractions, dataset.momentum_fractions(expected.sum(1)), rtol=1e-9, atol=0)
    torch.testing.assert_close(model.numbers(partons, event), values, rtol=0, atol=1e-9)
    again, _ = model.partons(values.float(), event)
    assert ((again - expected).abs() / expected[..., :1]).quantile(0.99) < 1e-4


def test_the_recoil_is_transverse_at_rest_of_the_whole(data):
    _, rambo = coordinates._rambo(coordinates.on_shell(data.partons[:, :3, 1:]))
    torch.testing.assert_close(rambo[:, 2], torch.full_like(rambo[:, 2], 0.5), rtol=0, atol=1e-9)
    turns, features = coordinates.features(data.partons[..., 1:])
    torch.testing.assert_close(
        turns, coordinates.to_numbers(data.partons[:, :3, 1:])[:, coordinates.AZIMUTHS], rtol=0, atol=2e-3
    )
    assert features.shape == (len(data), 13)


def test_pole_masses_move_the_whole_little(data):
    shells = coordinates.on_shell(data.partons[:, :3, 1:])
    torch.testing.assert_close(shells[..., 1:3], data.partons[..., 1:3])
    ratio = kinematics.mass(shells.sum(1)) / kinematics.mass(data.partons.sum(1))
    assert (ratio - 1).abs().median() < 0.01


def test_the_density_is_that_of_the_change_of_variables(data, model):
    target, event = (values[:6] for values in model.tensors(data))
    normal, log_det = model.chart(target, event)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda u, e: model.chart(u[None], e[None])[0][0].double()))(
        target, event
    )
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1].float(), log_det)
    torch.testing.assert_close(model.chart.inverse(normal, event), target, rtol=1e-4, atol=1e-6)


def test_the_density_integrates_to_one(data, regressor):
    torch.manual_seed(0)
    flow = unfolding_flow.unfolding_flow(checkpoints.describe(regressor)["configuration"], **FLOW).eval()
    event = flow.read(data[:4])
    with torch.no_grad():
        density = flow.log_prob(torch.rand(4, 20_000, 9, dtype=torch.float64), event).exp()
    error = density.std(1) / 20_000**0.5
    assert ((density.mean(1) - 1).abs() < 5 * error + 1e-4).all()
    assert (error < 0.1).all()


@pytest.mark.parametrize(("angle", "signs"), [(2.0, (1, 1)), (-3.1, (-1, 1)), (0.4, (1, -1)), (1.0, (-1, -1))])
def test_the_density_turns_with_the_event(turned, data, model, angle, signs):
    moved = {name: turned(getattr(data, name), angle, signs) for name in ("jets", "lepton", "met", "partons")}
    found = [model.log_prob(*model.tensors(d)) for d in (data, replace(data, **moved))]
    torch.testing.assert_close(*found, rtol=1e-3, atol=0.02)


def test_draws_conserve_momentum(data, model):
    event = model.read(data[:50])
    torch.manual_seed(2)
    draws = model.sample(event, 20)
    assert draws.partons.shape == (50, 20, 4, 4)
    total = draws.partons.sum(2)
    assert (total[..., 1:3].abs() / total[..., :1]).max() < 1e-9
    assert ((draws.fractions > 0) & (draws.fractions < 1)).all()
    torch.testing.assert_close(draws.fractions, dataset.momentum_fractions(total), rtol=1e-6, atol=1e-9)
    masses = torch.tensor([125, 172.5, 172.5, 0.0]).double().expand(50, 20, 4)
    torch.testing.assert_close(kinematics.mass(draws.partons), masses, rtol=1e-4, atol=1e-2)
    again = model.numbers(draws.partons.flatten(0, 1), event.repeat_interleave(20, 0)).reshape(50, 20, 9)
    gap = (again - draws.numbers).abs()
    assert torch.minimum(gap, 1 - gap)[draws.numbers[..., 2] < 1 - 1e-6].max() < 1e-6
    relative = model.relative(draws.numbers, event)
    assert ((relative >= 0) & (relative <= 1)).all()
    assert torch.equal(relative[..., :4], draws.numbers[..., :4])


def test_a_short_training_helps_and_every_parameter_learns(data, trained):
    model, record, path = trained
    assert record["losses"][-1]["validation_loss"] < record["losses"][0]["validation_loss"]
    again = unfolding_flow.load_unfolding(path)
    tensors = model.tensors(data)
    torch.testing.assert_close(again.log_prob(*tensors), model.log_prob(*tensors))
    again.train().sampled_weight = 1.0
    again.loss(tensors).backward()
    learning = [p for name, p in again.named_parameters() if not name.startswith("conditioner.")]
    assert all(values.grad is not None and values.grad.isfinite().all() for values in learning)
    assert all(values.grad is None for values in again.conditioner.parameters())


def test_events_that_one_conditioner_has_seen_are_read_by_the_other(data, regressor, tmp_path):
    other, wide = tmp_path / "other.safetensors", tmp_path / "wide.safetensors"
    training = {"max_jets": 14, "epochs": 1, "batch_size": 50}
    conditioner.train_conditioner(data[100:200], data[250:], other, size=SMALL, **training)
    options = {"size": FLOW, "epochs": 1, "batch_size": 50}
    both = {"crossed": (data[:100], other)}
    model, record = unfolding_flow.train_unfolding(data[100:200], data[250:], regressor, **both, **options)
    assert record["n_training_events"] == 200
    kept = conditioner.load_conditioner(regressor).state_dict()
    for name, values in model.conditioner.state_dict().items():
        torch.testing.assert_close(values, kept[name], rtol=1e-4, atol=1e-5)
    halves = (data[100:200], conditioner.load_conditioner(regressor)), (data[:100], conditioner.load_conditioner(other))
    with torch.no_grad():
        regressed = torch.cat([one(one.read(half)) for half, one in halves])
    expected = regressed.mean(0)
    torch.testing.assert_close(model.encoder.scale.mean[-13:], expected, rtol=1e-3, atol=1e-3)
    conditioner.train_conditioner(data[100:200], data[250:], wide, size=SMALL | {"width": 32}, **training)
    with pytest.raises(InputError, match=r"wide\.safetensors: its configuration is"):
        unfolding_flow.train_unfolding(data[100:200], data[250:], regressor, crossed=(data[:100], wide), **options)


def test_wrong_requests_are_refused(data, model, trained, regressor):
    few = unfolding_flow.unfolding_flow({"max_jets": 6, **SMALL}, **FLOW)
    with pytest.raises(InputError, match="more than the 6 that were seen in training"):
        few.read(data)
    short = replace(data[:1], jet_mask=data.jet_mask[:1] & (torch.arange(data.jets.shape[1]) < 5))
    with pytest.raises(InputError, match="event 0: fewer jets than the 6 quarks"):
        model.read(short)
    with pytest.raises(InputError, match="latent is 4 there, 8 here"):
        unfolding_flow.load_unfolding(trained[2], latent=8)
    with pytest.raises(InputError, match="does not fit"):
        unfolding_flow.load_unfolding(regressor)
    with pytest.raises(InputError, match="latent = -1"):
        unfolding_flow.unfolding_flow({"max_jets": 6}, latent=-1)
    with pytest.raises(InputError, match=r"shape \(3, 10\)"):
        coordinates.to_partons(torch.rand(3, 10))
    with pytest.raises(InputError, match="outside"):
        coordinates.to_partons(torch.full((1, 9), 1.5))
