"""Which jet is which: the true roles, a network for them, and a conditioner that reads its scores."""

from dataclasses import replace
from pathlib import Path

import awkward as ak
import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.partons import conditioner, dataset, jet_roles, unfolding_flow

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
SIZE = {"width": 16, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def data():
    return dataset.load(SAMPLES / "tth_semileptonic.root")[:300]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    return jet_roles.roles_network(14, **SIZE).eval()


def test_roles_are_those_of_the_quarks_next_to_the_jets(data):
    """Jets with the role H make, two by two, the Higgs boson; those of the hadronic top the top."""
    columns = [(data.roles == role).sum(1) for role in range(4)]
    assert all((n <= most).all() for n, most in zip(columns, (1, 1, 2, 2), strict=True))
    assert (data.roles[~data.jet_mask] == -1).all()
    for parton, roles, n in ((0, (3,), 2), (1, (1, 2), 3)):
        mine = torch.stack([data.roles == role for role in roles]).any(0)
        full = mine.sum(1) == n
        total = (data.jets * mine[..., None]).sum(1)[full]
        ratio = kinematics.pt(total) / kinematics.pt(data.partons[full, parton])
        assert full.double().mean() > 0.3
        assert abs(float(ratio.median()) - 1) < 0.15
        assert (kinematics.delta_r(total, data.partons[full, parton]) < 0.4).double().mean() > 0.75


def test_b_quarks_make_most_b_tags(data):
    of_b = (data.roles == 0) | (data.roles == 1) | (data.roles == 3)
    assert data.btag[of_b].double().mean() > 0.6
    assert data.btag[data.roles == 2].double().mean() < 0.3


def test_scores_share_each_roles_quarks_among_jets(model, data):
    scores = model.scores(data)
    assert scores.shape == (len(data), 14, 4)
    torch.testing.assert_close(scores.sum(1), torch.tensor([1.0, 1.0, 2.0, 2.0]).expand(len(data), 4))
    absent = ~data.padded(14).jet_mask
    assert (scores[absent] == 0).all()


def test_scores_do_not_depend_on_the_order_of_jets_nor_on_how_the_event_lies(model, data, turned):
    full = data[data.jet_mask.sum(1) == 7].padded(7)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    columns = {name: getattr(full, name)[:, order] for name in ("jets", "jet_mask", "btag", "roles")}
    again = model.scores(replace(full, **columns))[:, :7]
    torch.testing.assert_close(again, model.scores(full)[:, order], rtol=1e-4, atol=1e-5)
    moved = {name: turned(getattr(data, name), 1.3, (-1, 1)) for name in ("jets", "lepton", "met", "partons")}
    torch.testing.assert_close(model.scores(replace(data, **moved)), model.scores(data), rtol=1e-3, atol=1e-4)


def test_true_roles_as_scores_are_right(data):
    perfect = torch.stack([(data.roles == role).double() for role in range(4)], -1)
    hits = jet_roles.right(perfect, data)
    assert (hits.nan_to_num(1.0) == 1).all()
    assert hits.isnan()[(data.roles == 3).sum(1) < 2, 3].all()
    assert jet_roles.right(-perfect, data).nanmean() < 0.2


def test_a_network_learns_roles_and_a_conditioner_reads_them(data, tmp_path):
    path, second = tmp_path / "roles.safetensors", tmp_path / "conditioner.safetensors"
    training = {"size": SIZE, "epochs": 3, "batch_size": 50}
    network, record = jet_roles.train_roles(data[:250], data[250:], path, max_jets=14, **training)
    assert record["losses"][-1]["train_loss"] < record["losses"][0]["train_loss"]
    torch.testing.assert_close(jet_roles.load_roles(path).scores(data), network.scores(data))

    model, _ = conditioner.train_conditioner(data[:250], data[250:], second, roles=path, **training)
    again = conditioner.load_conditioner(second)
    assert torch.equal(again.read(data), model.read(data))
    torch.testing.assert_close(again.predict(again.read(data)), model.predict(model.read(data)))
    torch.testing.assert_close(model.roles.scores(data), network.scores(data))
    read = model.read(data)
    assert read.shape[1] == model.n_inputs
    blind = read.clone()
    blind[:, 12:].unflatten(1, (14, 10))[..., 6:] = 0.0
    assert (model(read) - model(blind)).abs().max() > 1e-3

    flow = unfolding_flow.unfolding_flow({"max_jets": 14, **SIZE, "roles": SIZE}, hidden=16, bins=4, layers=1)
    target, event = flow.tensors(data[:20])
    assert flow.fit_scales(target, event).log_prob(target, event).isfinite().all()


def test_wrong_requests_are_refused(data):
    with pytest.raises(InputError, match="max_jets = 5"):
        jet_roles.roles_network(5)
    with pytest.raises(InputError, match="more than the 6 that were seen in training"):
        jet_roles.roles_network(6, **SIZE).scores(data)
    records = events.load(SAMPLES / "tth_semileptonic.root")
    records = records[records.pass_detector]
    no_higgs = ak.with_field(records.LHEPart, ak.where(records.LHEPart.pdgId == 25, 23, records.LHEPart.pdgId), "pdgId")
    with pytest.raises(InputError, match="tt̄H with H → bb̄"):
        dataset.from_records(ak.with_field(records, no_higgs, "LHEPart"))
