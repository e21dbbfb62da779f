"""The conditioning transformer: symmetries without a seam, momentum balance, weights, training."""

from dataclasses import replace

import pytest
import torch

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.partons import conditioner

SIZE = {"width": 16, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def data():
    return events.load_batch(paths.locate("data/samples/tth_semileptonic.root"), 1)[:300]


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(1)
    model = conditioner.conditioner(14, **SIZE)
    return model.fit_scales(*model.examples(data).values).eval()


@pytest.mark.parametrize(("angle", "signs"), [(2.0, (1, 1)), (-3.1, (-1, 1)), (0.4, (1, -1))])
def test_answers_turn_with_the_event(turned, turned_batch, model, data, angle, signs):
    other = turned_batch(data, angle, signs)
    before, after = (model.predict(model.featurize(d)) for d in (data, other))
    torch.testing.assert_close(after, turned(before, angle, signs), rtol=1e-3, atol=0.1)
    losses = [model.loss(*model.examples(d)) for d in (data, other)]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


def test_jets_count_as_a_set(model, data):
    data = data[data.n_jets < 8]  # so that absent jets come first in all of them
    order = torch.arange(data.jets.shape[1]).flip(0)
    other = replace(data, jets=data.jets[:, order], jet_mask=data.jet_mask[:, order], btag=data.btag[:, order])
    both = [model.predict(model.featurize(d)) for d in (data, other)]
    torch.testing.assert_close(*both, rtol=1e-3, atol=0.05)


def test_the_gluon_balances_and_masses_are_on_shell(model, data):
    partons = model.predict(model.featurize(data))
    assert partons.sum(1)[:, 1:3].abs().max() < 1e-2
    torch.testing.assert_close(
        kinematics.mass(partons).mean(0), torch.tensor([125, 172.5, 172.5, 0.0]).double(), atol=1e-3, rtol=1e-6
    )


def test_true_coordinates_give_back_the_true_partons(model, data):
    target, event = model.examples(data).values
    inside = model.inside(model.standardized(model.coordinates(target, event)))
    torch.testing.assert_close(model.frame(event).leave(inside), target, rtol=1e-3, atol=0.1)


def test_every_parameter_learns_and_a_short_training_helps(data, tmp_path):
    path = tmp_path / "model.safetensors"
    model, record = conditioner.train_conditioner(
        data[:250], data[250:], path, size=SIZE, max_jets=14, epochs=3, batch_size=50
    )
    assert record["losses"][-1]["validation_loss"] < record["losses"][0]["validation_loss"]
    again = conditioner.load_conditioner(path)
    torch.testing.assert_close(again.predict(again.featurize(data)), model.predict(model.featurize(data)))
    model.train().loss(*model.examples(data)).backward()
    assert all(values.grad is not None for values in model.parameters())


def test_weights_count_like_repetition(model, data):
    """Of Huber's losses an event of weight two is two events, and one of weight zero is none."""
    twice = torch.arange(len(data)) % 3
    weighted = replace(data, weight=twice.double())
    copies = data[torch.arange(len(data)).repeat_interleave(twice)]
    with torch.no_grad():
        one = model.terms(*model.examples(weighted), ["huber"])["huber"] * len(data) / int(twice.sum())
        other = model.terms(model.examples(copies).values, None, ["huber"])["huber"]
    torch.testing.assert_close(one.float(), other, rtol=1e-4, atol=1e-5)


def test_answers_need_no_truth(model, data):
    blind = replace(data, truth=None)
    torch.testing.assert_close(model.predict(model.featurize(blind)), model.predict(model.featurize(data)))


REFUSED = [
    (lambda data: conditioner.conditioner(6, **SIZE).featurize(data), "more than the 6 that were seen in training"),
    (lambda _: conditioner.conditioner(5), "max_jets = 5"),
    (lambda _: conditioner.conditioner(6, huber_weight=0.0, huber_max=None, mmd_max=None), "nothing to train on"),
    (lambda data: conditioner.conditioner(14, **SIZE).examples(replace(data, truth=None)), "no true higgs"),
]


@pytest.mark.parametrize(("call", "line"), REFUSED)
def test_wrong_requests_are_refused(data, call, line):
    with pytest.raises(InputError, match=line):
        call(data)
