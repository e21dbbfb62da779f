"""From records to the batch: the order of legs, matching, true legs, missing truth, and records that are refused."""

import awkward as ak
import numpy as np
import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.events.readers import samples


@pytest.fixture(params=["dilepton", "one_lepton", "tth"])
def batch(request):
    return request.getfixturevalue(request.param)


def changed(records, collection, **fields):
    values = records[collection]
    for name, column in fields.items():
        values = ak.with_field(values, column, name)
    return ak.with_field(records, values, collection)


def conjugated(records):
    """Return the same events with particles and antiparticles exchanged."""
    records = changed(records, "Lepton", charge=-records.Lepton.charge)
    return changed(records, "GenPart", pdgId=-records.GenPart.pdgId)


def test_leptons_come_in_the_order_of_the_legs(dilepton, dilepton_records):
    charges = dilepton_records.Lepton.charge
    for leg, charge in enumerate((1, -1)):
        chosen = dilepton_records.Lepton[charges == charge]
        assert torch.equal(dilepton.leptons[:, leg], torch.from_numpy(events.momenta(chosen)))
        assert dilepton.is_muon[:, leg].tolist() == (abs(ak.flatten(chosen.pdgId)) == 13).tolist()
        assert (dilepton.charge[:, leg] == charge).all()


def test_legs_have_the_masses_of_w_and_top(batch):
    """Only with leptons, neutrinos, tops and jets of the same leg are both masses right."""
    batch, n_legs = batch[batch.matched], batch.n_legs
    truth = batch.require_truth("neutrinos", "leptons", "tops", "b_jets")
    neutrinos = kinematics.massless(truth.neutrinos)
    jets = batch.jets.gather(1, truth.b_jets[..., None].expand(-1, -1, 4))[:, :n_legs]
    assert kinematics.mass(batch.leptons + neutrinos).median() == pytest.approx(80.4, abs=0.7)
    assert (kinematics.mass(truth.leptons + neutrinos) - 80.4).abs().median() < 1.5
    assert (kinematics.mass(batch.leptons + neutrinos + jets) - 165).abs().median() < 15
    assert (kinematics.mass(truth.tops) - 172.5).abs().median() < 1.0
    missing = truth.tops[:, :n_legs] - truth.leptons - neutrinos
    angle = torch.nn.functional.cosine_similarity(missing[..., 1:], jets[..., 1:], dim=-1)
    assert angle.median() > 0.98
    if n_legs == 2:
        crossed = torch.nn.functional.cosine_similarity(missing[..., 1:], jets.flip(1)[..., 1:], dim=-1)
        assert crossed.median() < 0.5


def test_true_leptons_are_those_of_the_decay_chain(dilepton, dilepton_records):
    """With all photons they are harder than what is measured, and along the lepton of the record."""
    truth = dilepton.truth
    assert (truth.leptons[..., 0] >= truth.leptons[..., 1:].norm(dim=-1)).all()
    particles = dilepton_records.GenPart
    for leg, sign in enumerate((-1, 1)):  # ℓ⁺ has a negative PDG code
        last = particles[(particles.pdgId == sign * 11) | (particles.pdgId == sign * 13)]
        last = torch.from_numpy(events.momenta(last))
        lost = truth.leptons[:, leg] - last
        assert (lost[:, 0] > -0.01).all()
        assert (lost[:, 0] < 1e-3 * last[:, 0] + 1e-2).double().mean() > 0.6  # many radiate nothing
        assert kinematics.delta_r(truth.leptons[:, leg], last).quantile(0.99) < 0.05
        assert kinematics.delta_r(truth.leptons[:, leg], dilepton.leptons[:, leg]).median() < 0.01


def test_the_leg_of_a_single_lepton_comes_first_whichever_its_charge(one_lepton):
    """Pairing each charge with the other leg would spoil the mass of the top."""
    truth, negative = one_lepton.truth, one_lepton.charge[:, 0] < 0
    assert 0.4 < negative.double().mean() < 0.6
    w = one_lepton.leptons[:, 0] + kinematics.massless(truth.neutrinos[:, 0])
    recoil = kinematics.mass_squared(truth.tops - w[:, None]).abs().sqrt()
    for charge in (negative, ~negative):
        # top − W is a b quark with its radiation on the right leg, far off on the other
        assert recoil[charge, 0].median() < 30
        assert recoil[charge, 1].median() > 100


def test_charge_conjugation_exchanges_nothing_for_a_single_lepton(one_lepton_records):
    before, after = (events.from_records(r, 1) for r in (one_lepton_records[:50], conjugated(one_lepton_records[:50])))
    for name, values in before.known().items():
        if name != "truth":
            assert torch.equal(values, getattr(after, name) * (-1 if name == "charge" else 1)), name
    for name, values in before.truth.known().items():
        torch.testing.assert_close(values, getattr(after.truth, name), rtol=0, atol=0, equal_nan=True)


def test_charge_conjugation_exchanges_the_legs_of_two_leptons(dilepton_records):
    before, after = (events.from_records(r, 2) for r in (dilepton_records[:50], conjugated(dilepton_records[:50])))
    for name in ("leptons", "is_muon"):
        assert torch.equal(getattr(before, name).flip(1), getattr(after, name)), name
    for name in ("neutrinos", "leptons", "tops", "b_jets"):
        assert torch.equal(getattr(before.truth, name).flip(1), getattr(after.truth, name)), name
    swapped = torch.tensor([1, 0, 2, 3, -1])  # −1 stays what it is
    assert torch.equal(swapped[before.truth.jet_roles], after.truth.jet_roles)
    assert torch.equal(before.jets, after.jets)


def test_all_jets_are_there_in_falling_pt(tth, tth_records):
    assert torch.equal(tth.n_jets, torch.from_numpy(ak.to_numpy(ak.num(tth_records.Jet))))
    assert (tth.jets[~tth.jet_mask] == 0).all()
    assert not tth.btag[~tth.jet_mask].any()
    pt = kinematics.pt(tth.jets)
    assert (pt[:, 1:] <= pt[:, :-1]).all()
    reverse = ak.with_field(tth_records, tth_records.Jet[:, ::-1], "Jet")
    again = events.from_records(reverse, 1)
    assert torch.equal(again.jets, tth.jets)
    assert torch.equal(again.truth.jet_roles, tth.truth.jet_roles)


def test_jets_of_a_higgs_boson_belong_to_no_leg(tth, tth_records):
    """In tt̄H half of the b quarks are no top's."""
    parton = ak.to_numpy(ak.fill_none(ak.pad_none(tth_records.Jet.partonIdx, tth.jets.shape[1]), -1))
    for leg in (0, 1):
        event = np.flatnonzero(tth.truth.b_jets[:, leg].numpy() >= 0)
        particles, quark = tth_records.GenPart[event], parton[event, tth.truth.b_jets[event, leg]]
        mother = particles.genPartIdxMother[np.arange(len(event)), quark]
        assert (abs(ak.to_numpy(particles.pdgId[np.arange(len(event)), mother])) == 6).all()
        assert len(event) > 500
        assert (tth.truth.jet_roles[event, tth.truth.b_jets[event, leg]] == leg).all()


@pytest.mark.parametrize(("name", "least", "most"), [("W", 70, 85), ("H", 100, 125)])
def test_jets_of_one_role_make_the_mass_of_what_they_stem_from(tth, name, least, most):
    """But for neutrinos in b jets, and for what radiates out of them."""
    of_role = tth.truth.jet_roles == events.ROLES.index(name)
    assert of_role.sum(1).max() == 2
    total = (tth.jets * of_role[..., None]).sum(1)[of_role.sum(1) == 2]
    assert least < kinematics.mass(total).median() < most


def test_a_lone_lepton_of_a_hadron_does_not_decide_its_leg(one_lepton_records, one_lepton):
    wrong = changed(one_lepton_records, "Lepton", charge=-one_lepton_records.Lepton.charge)
    assert torch.equal(events.from_records(wrong, 1).truth.tops, one_lepton.truth.tops)
    kinds = wrong.GenPart.pdgId
    without = changed(wrong, "GenPart", pdgId=ak.where((abs(kinds) == 12) | (abs(kinds) == 14), 0, kinds))
    assert torch.equal(events.from_records(without, 1).truth.tops, one_lepton.truth.tops.flip(1))


ABSENT = {
    "neutrinos": ((12, 14), {"neutrinos", "leptons"}),
    "W bosons": ((24,), {"leptons"}),
    "tops": ((6,), {"tops"}),
    "Higgs bosons": ((25,), {"higgs"}),
}


@pytest.mark.parametrize(("kinds", "unknown"), ABSENT.values(), ids=ABSENT)
def test_truth_that_the_record_lacks_is_unknown(tth, tth_records, kinds, unknown):
    pdg_id = ak.to_numpy(tth_records.GenPart.pdgId).copy()
    pdg_id[3, np.isin(np.abs(pdg_id[3]), kinds)] = 0  # in one event only
    truth = events.from_records(changed(tth_records, "GenPart", pdgId=ak.from_regular(ak.Array(pdg_id))), 1).truth
    others = torch.arange(len(tth)) != 3
    for name in ("neutrinos", "leptons", "tops", "higgs"):
        values, full = getattr(truth, name), getattr(tth.truth, name)
        assert torch.equal(values[others], full[others])
        assert bool(values[3].isnan().all()) == (name in unknown)
        assert values[3].isnan().any() == values[3].isnan().all()


def test_two_of_a_kind_are_no_truth(tth_records):
    """Which of two Higgs bosons is meant nobody can say."""
    doubled = ak.concatenate([tth_records.GenPart, tth_records.GenPart[tth_records.GenPart.pdgId == 25]], axis=1)
    batch = events.from_records(ak.with_field(tth_records, doubled, "GenPart")[:10], 1)
    assert batch.truth.higgs.isnan().all()
    assert batch.truth.tops.isfinite().all()


def test_records_without_truth_have_none(dilepton, dilepton_records):
    data = events.from_records(dilepton_records[[name for name in dilepton_records.fields if name != "GenPart"]], 2)
    assert data.truth is None
    assert torch.equal(data.jets, dilepton.jets)
    nothing = ak.with_field(dilepton_records, dilepton_records.GenPart[:, :0], "GenPart")
    truth = events.from_records(changed(nothing, "Jet", partonIdx=-1 + 0 * nothing.Jet.partonIdx), 2).truth
    assert all(
        (values.isnan() if values.is_floating_point() else values == -1).all() for values in vars(truth).values()
    )


def test_no_events_and_no_jets_are_fine(dilepton_records, one_lepton_records):
    empty = events.from_records(dilepton_records[:0], 2)
    assert (len(empty), empty.n_legs, empty.truth.tops.shape) == (0, 2, (0, 2, 4))
    bare = ak.with_field(one_lepton_records[:3], one_lepton_records.Jet[:3, :0], "Jet")
    assert events.from_records(bare, 1).with_jets(4).jets.shape == (3, 4, 4)
    assert (events.from_records(bare, 1).truth.b_jets == -1).all()


def test_a_negative_weight_is_kept(dilepton_records):
    weight = ak.to_numpy(dilepton_records.genWeight).copy()
    weight[3] = -2.5
    batch = events.from_records(ak.with_field(dilepton_records, weight, "genWeight"), 2)
    assert batch.weight[3] == -2.5


REFUSED = {
    "three leptons": ("dilepton_records", 3, lambda r: r, "n_leptons = 3: the methods are for 1 or 2"),
    "two leptons": ("dilepton_records", 1, lambda r: r, r"event 0 \(\d+ such events\): one lepton is needed"),
    "one lepton": (
        "one_lepton_records",
        2,
        lambda r: r,
        r"event 0 \(\d+ such events\): two leptons of opposite charge are needed",
    ),
    "no lepton": (
        "tth_records",
        1,
        lambda r: ak.with_field(r, r.Lepton[:, :0], "Lepton"),
        "event 0 .*: one lepton is needed; select events first",
    ),
    "like charges": (
        "dilepton_records",
        2,
        lambda r: changed(r, "Lepton", charge=abs(r.Lepton.charge)),
        "two leptons of opposite charge are needed",
    ),
    "match beyond the particles": (
        "tth_records",
        1,
        lambda r: ak.with_field(r, r.GenPart[:, :4], "GenPart"),
        r"event 0: Jet.partonIdx is \d+, but GenPart has 4 entries",
    ),
    "mother beyond the particles": (
        "tth_records",
        1,
        lambda r: changed(r, "GenPart", genPartIdxMother=13 + 0 * r.GenPart.pdgId),
        "event 0: GenPart.genPartIdxMother is 13, but GenPart has 13 entries",
    ),
    "jet without momentum": (
        "tth_records",
        1,
        lambda r: changed(r, "Jet", pt=0 * r.Jet.pt),
        "event 0: a jet has no momentum",
    ),
}


@pytest.mark.parametrize(("name", "n_leptons", "change", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_records_are_refused(name, n_leptons, change, message, request):
    with pytest.raises(InputError, match=message):
        events.from_records(change(request.getfixturevalue(name)), n_leptons)


def test_samples_are_loaded_as_a_batch(dilepton):
    batch = events.load_batch(samples.paths.locate("data/samples/ttbar_dilepton.root"), 2)
    assert torch.equal(batch.jets, dilepton.jets)


@pytest.mark.parametrize(
    ("process", "seeds", "message"),
    [("ttbar_dilepton", [], "seeds: at least one"), ("tt", [1], "unknown process 'tt'")],
)
def test_simulations_that_cannot_be_are_refused(process, seeds, message):
    with pytest.raises(InputError, match=message):
        events.simulated(process, 10, seeds)
