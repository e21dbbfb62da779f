"""Which jet is which: the true roles, a network for them, and a conditioner that reads its scores."""

from dataclasses import replace

import pytest
import torch

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.partons import conditioner, jet_roles, unfolding_flow
from rewind.partons.last_copies import true_partons

SIZE = {"width": 16, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def data():
    return events.load_batch(paths.locate("data/samples/tth_semileptonic.root"), 1)[:300]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    return jet_roles.roles_network(14, **SIZE).eval()


def test_roles_are_those_of_the_quarks_next_to_the_jets(data):
    """Jets with the role H make, two by two, the Higgs boson; those of the hadronic top the top."""
    partons, jet_roles = true_partons(data), data.truth.jet_roles
    columns = [(jet_roles == role).sum(1) for role in range(4)]
    assert all((n <= most).all() for n, most in zip(columns, (1, 1, 2, 2), strict=True))
    assert (jet_roles[~data.jet_mask] == -1).all()
    for parton, roles, n in ((0, (3,), 2), (1, (1, 2), 3)):
        mine = torch.stack([jet_roles == role for role in roles]).any(0)
        full = mine.sum(1) == n
        total = (data.jets * mine[..., None]).sum(1)[full]
        ratio = kinematics.pt(total) / kinematics.pt(partons[full, parton])
        assert full.double().mean() > 0.3
        assert abs(float(ratio.median()) - 1) < 0.15
        assert (kinematics.delta_r(total, partons[full, parton]) < 0.4).double().mean() > 0.75


def test_b_quarks_make_most_b_tags(data):
    roles = data.truth.jet_roles
    of_b = (roles == 0) | (roles == 1) | (roles == 3)
    assert data.btag[of_b].double().mean() > 0.6
    assert data.btag[roles == 2].double().mean() < 0.3


def test_scores_share_each_roles_quarks_among_jets(model, data):
    scores = model.scores(data)
    assert scores.shape == (len(data), 14, 4)
    torch.testing.assert_close(scores.sum(1), torch.tensor([1.0, 1.0, 2.0, 2.0]).expand(len(data), 4))
    absent = ~data.padded(14).jet_mask
    assert (scores[absent] == 0).all()


def test_scores_do_not_depend_on_the_order_of_jets_nor_on_how_the_event_lies(model, data, turned_batch):
    full = data[data.n_jets == 7].padded(7)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    columns = {name: getattr(full, name)[:, order] for name in ("jets", "jet_mask", "btag")}
    again = model.scores(replace(full, **columns))[:, :7]
    torch.testing.assert_close(again, model.scores(full)[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.scores(turned_batch(data, 1.3, (-1, 1))), model.scores(data), rtol=1e-3, atol=1e-4)


def test_true_roles_as_scores_are_right(data):
    roles = data.truth.jet_roles
    perfect = torch.stack([(roles == role).double() for role in range(4)], -1)
    hits = jet_roles.right(perfect, data)
    assert (hits.nan_to_num(1.0) == 1).all()
    assert hits.isnan()[(roles == 3).sum(1) < 2, 3].all()
    assert jet_roles.right(-perfect, data).nanmean() < 0.2


def test_a_network_learns_roles_and_a_conditioner_reads_them(data, tmp_path):
    path, second = tmp_path / "roles.safetensors", tmp_path / "conditioner.safetensors"
    training = {"size": SIZE, "epochs": 3, "batch_size": 50}
    network, record = jet_roles.train_roles(data[:250], data[250:], path, max_jets=14, **training)
    assert record["losses"][-1]["train_loss"] < record["losses"][0]["train_loss"]
    torch.testing.assert_close(jet_roles.load_roles(path).scores(data), network.scores(data))

    model, _ = conditioner.train_conditioner(data[:250], data[250:], second, roles=path, **training)
    again = conditioner.load_conditioner(second)
    assert torch.equal(again.featurize(data), model.featurize(data))
    torch.testing.assert_close(again.predict(again.featurize(data)), model.predict(model.featurize(data)))
    torch.testing.assert_close(model.roles.scores(data), network.scores(data))
    event = model.featurize(data)
    blocks = model.layout.unpack(event)
    blocks["jets"]["role_scores"] = torch.zeros_like(blocks["jets"]["role_scores"])
    assert (model(event) - model(model.layout.pack(blocks))).abs().max() > 1e-3

    flow = unfolding_flow.unfolding_flow({"max_jets": 14, **SIZE, "roles": SIZE}, hidden=16, bins=4, layers=1)
    target, event = flow.examples(data[:20]).values
    assert flow.fit_scales(target, event).log_prob(target, event).isfinite().all()


REFUSED = [
    (lambda _: jet_roles.roles_network(5), "max_jets = 5"),
    (lambda data: jet_roles.roles_network(6, **SIZE).scores(data), "more than the 6 that were seen in training"),
    (lambda data: jet_roles.roles_network(14).examples(replace(data, truth=None)), "have no true jet roles"),
    (lambda data: jet_roles.right(torch.zeros(1), replace(data, truth=None)), "have no true jet roles"),
]


@pytest.mark.parametrize(("call", "line"), REFUSED)
def test_wrong_requests_are_refused(data, call, line):
    with pytest.raises(InputError, match=line):
        call(data)
