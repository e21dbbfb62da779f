"""The unfolding flow: exact coordinates, a normalised density without a preferred azimuth, and momentum balance."""

from dataclasses import replace

import pytest
import torch

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.nn import checkpoints
from rewind.partons import conditioner, coordinates, unfolding_flow
from rewind.partons.last_copies import true_partons
from rewind.physics.constants import SQRT_S
from rewind.physics.phase_space import momentum_fractions

SMALL = {"width": 16, "layers": 1, "heads": 2}
FLOW = {"latent": 4, "layers": 2, "bins": 6, "hidden": 16, "blocks": 1}


@pytest.fixture(scope="module")
def data():
    return events.load_batch(paths.locate("data/samples/tth_semileptonic.root"), 1)[:300]


@pytest.fixture(scope="module")
def partons(data):
    return true_partons(data)


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


def test_coordinates_give_back_the_partons(data, partons, model):
    event = model.featurize(data)
    values = model.coordinates(partons, event)
    again, fractions = model.partons(values, event)
    expected = coordinates.on_shell(partons[:, :3, 1:])
    assert ((values > 0) & (values < 1)).all()
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-9 * SQRT_S)
    torch.testing.assert_close(fractions, momentum_fractions(expected.sum(1)), rtol=1e-9, atol=0)
    torch.testing.assert_close(model.coordinates(again, event), values, rtol=0, atol=1e-9)
    again, _ = model.partons(values.float(), event)
    assert ((again - expected).abs() / expected[..., :1]).quantile(0.99) < 1e-4


def test_the_density_is_that_of_the_change_of_variables(data, model):
    target, event = (values[:6] for values in model.examples(data).values)
    normal, log_det = model.chart(target, event)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda u, e: model.chart(u[None], e[None])[0][0].double()))(
        target, event
    )
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1].float(), log_det)
    torch.testing.assert_close(model.chart.inverse(normal, event), target, rtol=1e-4, atol=1e-6)


def test_the_density_integrates_to_one(data, regressor):
    torch.manual_seed(0)
    flow = unfolding_flow.unfolding_flow(checkpoints.describe(regressor)["configuration"], **FLOW).eval()
    event = flow.featurize(data[:4])
    with torch.no_grad():
        points = torch.rand(4 * 20_000, 9, dtype=torch.float64)
        density = flow.log_prob(points, event.repeat_interleave(20_000, 0)).exp().reshape(4, -1)
    error = density.std(1) / 20_000**0.5
    assert ((density.mean(1) - 1).abs() < 5 * error + 1e-4).all()
    assert (error < 0.1).all()


@pytest.mark.parametrize(("angle", "signs"), [(2.0, (1, 1)), (-3.1, (-1, 1)), (0.4, (1, -1)), (1.0, (-1, -1))])
def test_the_density_turns_with_the_event(turned_batch, data, model, angle, signs):
    densities = [model.log_prob(*model.examples(d).values) for d in (data, turned_batch(data, angle, signs))]
    torch.testing.assert_close(*densities, rtol=1e-3, atol=0.02)


def test_draws_conserve_momentum(data, model):
    event = model.featurize(data[:50])
    draws = model.draws(event, 20, torch.Generator().manual_seed(2))
    assert torch.equal(draws.coordinates, model.sample(event, 20, torch.Generator().manual_seed(2)))
    assert draws.partons.shape == (50, 20, 4, 4)
    total = draws.partons.sum(2)
    assert (total[..., 1:3].abs() / total[..., :1]).max() < 1e-9
    assert ((draws.fractions > 0) & (draws.fractions < 1)).all()
    torch.testing.assert_close(draws.fractions, momentum_fractions(total), rtol=1e-6, atol=1e-9)
    masses = torch.tensor([125, 172.5, 172.5, 0.0]).double().expand(50, 20, 4)
    torch.testing.assert_close(kinematics.mass(draws.partons), masses, rtol=1e-4, atol=1e-2)
    again = model.coordinates(draws.partons.flatten(0, 1), event.repeat_interleave(20, 0)).reshape(50, 20, 9)
    gap = (again - draws.coordinates).abs()
    assert torch.minimum(gap, 1 - gap)[draws.coordinates[..., 2] < 1 - 1e-6].max() < 1e-6
    relative = model.relative(draws.coordinates, event)
    assert ((relative >= 0) & (relative <= 1)).all()
    assert torch.equal(relative[..., :4], draws.coordinates[..., :4])


def test_a_short_training_helps_and_every_parameter_learns(data, trained):
    model, record, path = trained
    assert record["losses"][-1]["validation_loss"] < record["losses"][0]["validation_loss"]
    again = unfolding_flow.load_unfolding(path)
    tensors = model.examples(data).values
    torch.testing.assert_close(again.log_prob(*tensors), model.log_prob(*tensors))
    again.train().sampled_weight = 1.0
    again.loss(tensors, data.weight).backward()
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
        regressed = torch.cat([one(one.featurize(half)) for half, one in halves])
    expected = regressed.mean(0)
    torch.testing.assert_close(model.encoder.scale.mean[coordinates.N_FEATURES :], expected, rtol=1e-3, atol=1e-3)
    conditioner.train_conditioner(data[100:200], data[250:], wide, size=SMALL | {"width": 32}, **training)
    with pytest.raises(InputError, match=r"wide\.safetensors: its configuration is"):
        unfolding_flow.train_unfolding(data[100:200], data[250:], regressor, crossed=(data[:100], wide), **options)


def few_places(data, *_):
    unfolding_flow.unfolding_flow({"max_jets": 6, **SMALL}, **FLOW).featurize(data)


def few_jets(data, model, *_):
    model.featurize(replace(data[:1], jet_mask=data.jet_mask[:1] & (torch.arange(data.jets.shape[1]) < 5)))


REFUSED = [
    (few_places, "more than the 6 that were seen in training"),
    (few_jets, "event 0: fewer than 6 jets"),
    (lambda data, model, *_: model.examples(replace(data, truth=None)), "no true higgs"),
    (lambda _data, model, *_: model.sample(torch.zeros(1, model.layout.width), 1, 7), "generator: int given"),
    (lambda _data, _model, flow, _: unfolding_flow.load_unfolding(flow, latent=8), "latent is 4 there, 8 here"),
    (lambda _data, _model, _flow, regressor: unfolding_flow.load_unfolding(regressor), "does not fit"),
    (lambda *_: unfolding_flow.unfolding_flow({"max_jets": 6}, latent=-1), "latent = -1"),
]


@pytest.mark.parametrize(("call", "line"), REFUSED)
def test_wrong_requests_are_refused(data, trained, regressor, call, line):
    with pytest.raises(InputError, match=line):
        call(data, trained[0], trained[2], regressor)
