"""The conditioning transformer: symmetries without a seam, momentum balance, training, and its rival."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rewind import kinematics
from rewind.errors import InputError
from rewind.partons import assignment, conditioner, dataset, inputs

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
SIZE = {"width": 16, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def data():
    return dataset.load(SAMPLES / "tth_semileptonic.root")[:300]


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(1)
    model = conditioner.conditioner(14, **SIZE)
    return model.fit_scales(*model.tensors(data)).eval()


@pytest.mark.parametrize(("angle", "signs"), [(2.0, (1, 1)), (-3.1, (-1, 1)), (0.4, (1, -1))])
def test_answers_turn_with_the_event(turned, model, data, angle, signs):
    moved = {name: turned(getattr(data, name), angle, signs) for name in ("jets", "lepton", "met", "partons")}
    before, after = (model.predict(model.read(d)) for d in (data, replace(data, **moved)))
    torch.testing.assert_close(after, turned(before, angle, signs), rtol=1e-3, atol=0.1)
    losses = [model.loss(model.tensors(d)) for d in (data, replace(data, **moved))]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


def test_jets_count_as_a_set(model, data):
    data = data[data.jet_mask.sum(1) < 8]  # so that absent jets come first in all of them
    order = torch.arange(data.jets.shape[1]).flip(0)
    other = replace(data, jets=data.jets[:, order], jet_mask=data.jet_mask[:, order], btag=data.btag[:, order])
    torch.testing.assert_close(model.predict(model.read(data)), model.predict(model.read(other)), rtol=1e-3, atol=0.05)
    torch.testing.assert_close(other.padded(7).jets.sum(1), data.jets.sum(1))


def test_the_gluon_balances_and_masses_are_on_shell(model, data):
    partons = model.predict(model.read(data))
    assert partons.sum(1)[:, 1:3].abs().max() < 1e-2
    torch.testing.assert_close(
        kinematics.mass(partons).mean(0), torch.tensor([125, 172.5, 172.5, 0.0]).double(), atol=1e-3, rtol=1e-6
    )


def test_true_coordinates_give_back_the_true_partons(model, data):
    target, event = model.tensors(data)
    inside = model.inside(model._standardized(model._coordinates(target, event)))
    torch.testing.assert_close(inputs.turn_back(inside, event[:, :4]), target, rtol=1e-3, atol=0.1)


def test_every_parameter_learns_and_a_short_training_helps(data, tmp_path):
    path = tmp_path / "model.safetensors"
    model, record = conditioner.train_conditioner(
        data[:250], data[250:], path, size=SIZE, max_jets=14, epochs=3, batch_size=50
    )
    assert record["losses"][-1]["validation_loss"] < record["losses"][0]["validation_loss"]
    again = conditioner.load_conditioner(path)
    torch.testing.assert_close(again.predict(again.read(data)), model.predict(model.read(data)))
    model.train().loss(model.tensors(data)).backward()
    assert all(values.grad is not None for values in model.parameters())


def test_wrong_requests_are_refused(model, data):
    few = conditioner.conditioner(6, **SIZE)
    with pytest.raises(InputError, match="more than the 6 that were seen in training"):
        few.read(data)
    with pytest.raises(InputError, match="max_jets = 5"):
        conditioner.conditioner(5)
    with pytest.raises(InputError, match="nothing to train on"):
        conditioner.conditioner(6, huber_weight=0.0, huber_max=None, mmd_max=None)


@pytest.mark.parametrize(("n", "expected"), [(6, 180), (7, 1260)])
def test_hypotheses_are_all_and_different(n, expected):
    rows = assignment.hypotheses(n)
    assert len(rows) == expected
    assert len({(a, b, frozenset((c, d)), frozenset((e, f))) for a, b, c, d, e, f in rows.tolist()}) == expected
    assert all(len(set(row)) == 6 for row in rows.tolist())
    with pytest.raises(InputError, match="six quarks need six jets"):
        assignment.hypotheses(5)


def _decay(parent, mass_first, mass_second, rng):
    """Return the two children of ``parent`` ``(B, 4)``, isotropic in its frame."""
    m = kinematics.mass(parent)
    momentum = ((m**2 - (mass_first + mass_second) ** 2) * (m**2 - (mass_first - mass_second) ** 2)) ** 0.5 / 2 / m
    direction = torch.from_numpy(rng.normal(size=(len(parent), 3)))
    p = momentum[:, None] * direction / direction.norm(dim=1, keepdim=True)
    first = torch.cat([(momentum**2 + mass_first**2).sqrt()[:, None], p], 1)
    rest = torch.zeros_like(parent)
    rest[:, 0] = m
    first = kinematics.boost_between(first, rest, parent)
    return first, parent - first


def test_the_assignment_finds_perfect_jets(data):
    """With quarks for jets, the true neutrino for missing momentum and narrow masses, χ² gives the truth back."""
    rng = np.random.default_rng(3)
    p = data.partons[:, :3].clone()
    mass = torch.tensor([125.0, 172.5, 172.5]).double()
    p[..., 0] = ((p[..., 1:] ** 2).sum(-1) + mass**2).sqrt()
    b1, b2 = _decay(p[:, 0], 5.0, 5.0, rng)
    w_had, b_had = _decay(p[:, 1], 80.38, 5.0, rng)
    w_lep, b_lep = _decay(p[:, 2], 80.38, 5.0, rng)
    q1, q2 = _decay(w_had, 0.1, 0.1, rng)
    lepton, neutrino = _decay(w_lep, 1e-3, 0.0, rng)
    jets = torch.stack([b1, b_had, b_lep, b2, q1, q2], 1)
    mask = torch.ones(len(jets), 6, dtype=torch.bool)
    tags = mask & (torch.arange(6) < 4)
    perfect = replace(data, jets=jets, jet_mask=mask, btag=tags, lepton=lepton, met=neutrino[:, 1:3])
    narrow = assignment.Masses((125, 1), (80.38, 1), (172.5, 1), (172.5, 1))
    found = assignment.assign(perfect, narrow, n_jets=6)
    right = ((found[:, :3] - p).abs().flatten(1).amax(1) < 1.0).double().mean()
    assert right > 0.9
    torch.testing.assert_close(found[:, 3], dataset.recoil(found[:, :3].sum(1)))
    order, extra = torch.tensor([4, 0, 6, 2, 5, 1, 3]), torch.tensor([20.0, 12.0, 0.0, 16.0]).double()
    seven = torch.cat([jets, extra.expand(len(jets), 1, 4)], 1)[:, order]
    shuffled = replace(perfect, jets=seven, jet_mask=torch.ones(len(jets), 7, dtype=torch.bool))
    shuffled = replace(
        shuffled, btag=torch.cat([tags, tags[:, -1:]], 1)[:, order], roles=torch.full((len(jets), 7), -1)
    )
    names = assignment.scores(shuffled, narrow, n_jets=7, untagged=1e3)
    assert (names.sum(1) == torch.tensor([1.0, 1.0, 2.0, 2.0])).all()
    expected = torch.tensor([3, 1, 0, 3, 2, 2, -1])[order]
    named = torch.where(names.sum(2) > 0, names.argmax(2), -1)
    assert (named == expected).all(1).double().mean() > 0.85
    torch.testing.assert_close(assignment.fit_scale(data.partons, data.partons * 0.5), torch.full((3,), 2.0).double())
    with pytest.raises(InputError, match="at least 100"):
        assignment.fit_masses(data[:20], n_jets=6)


def test_a_scan_is_an_assignment_for_each_price(data):
    masses = assignment.Masses((110, 20), (78, 20), (160, 30), (165, 25))
    prices = (0.0, 4.0, 1e3)
    for price, found in zip(prices, assignment.scan(data[:50], masses, prices, n_jets=6), strict=True):
        torch.testing.assert_close(found, assignment.assign(data[:50], masses, n_jets=6, untagged=price))
