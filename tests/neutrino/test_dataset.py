"""Events as tensors: the order of legs, padding, matching, and what is refused."""

from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.neutrino import dataset

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def records_of(name):
    records = events.load(SAMPLES / f"{name}.root")
    return records[records.pass_detector]


@pytest.fixture(scope="module")
def dilepton_records():
    return records_of("ttbar_dilepton")


@pytest.fixture(scope="module")
def one_lepton_records():
    return records_of("ttbar_semileptonic")


@pytest.fixture(scope="module")
def dilepton(dilepton_records):
    return dataset.from_records(dilepton_records, 2)


@pytest.fixture(scope="module")
def one_lepton(one_lepton_records):
    return dataset.from_records(one_lepton_records, 1)


def of_leg(data):
    """Return the true neutrinos as four-momenta."""
    return torch.cat([data.neutrinos.norm(dim=-1, keepdim=True), data.neutrinos], -1)


def test_leptons_come_in_the_order_of_the_legs(dilepton, dilepton_records):
    charges = dilepton_records.Lepton.charge
    for leg, charge in enumerate((1, -1)):
        expected = events.momenta(dilepton_records.Lepton[charges == charge])
        torch.testing.assert_close(dilepton.leptons[:, leg], torch.from_numpy(expected))
    muon = abs(ak.flatten(dilepton_records.Lepton[charges == 1]).pdgId) == 13
    assert dilepton.is_muon[:, 0].tolist() == muon.tolist()


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_legs_have_the_masses_of_w_and_top(name, request):
    """Only with leptons, neutrinos, tops and jets of the same leg are both masses right."""
    data = request.getfixturevalue(name)
    data = data[data.matched]
    w = data.leptons + of_leg(data)
    jets = data.jets.gather(1, data.b_jets[..., None].expand(-1, -1, 4))[:, : data.n_legs]
    assert kinematics.mass(w).median() == pytest.approx(80.4, abs=0.7)
    assert (kinematics.mass(w + jets) - 165).abs().median() < 15
    assert (kinematics.mass(data.tops) - 172.5).abs().median() < 1.0
    missing = data.tops[:, : data.n_legs] - w
    angle = torch.nn.functional.cosine_similarity(missing[..., 1:], jets[..., 1:], dim=-1)
    assert angle.median() > 0.98
    if data.n_legs == 2:
        crossed = torch.nn.functional.cosine_similarity(missing[..., 1:], jets.flip(1)[..., 1:], dim=-1)
        assert crossed.median() < 0.5


def test_the_leg_of_a_single_lepton_comes_first_whichever_its_charge(one_lepton, one_lepton_records):
    """Pairing each charge with the other leg would spoil the mass of the top."""
    negative = torch.from_numpy(ak.to_numpy(one_lepton_records.Lepton.charge[:, 0]) < 0)
    assert 0.4 < negative.double().mean() < 0.6
    w = one_lepton.leptons[:, 0] + of_leg(one_lepton)[:, 0]
    recoil = kinematics.mass_squared(one_lepton.tops - w[:, None]).abs().sqrt()
    for charge in (negative, ~negative):
        # top − W is a b quark with its radiation on the right leg, far off on the other
        assert recoil[charge, 0].median() < 30
        assert recoil[charge, 1].median() > 100


def test_charge_conjugation_exchanges_nothing_for_a_single_lepton(one_lepton_records):
    """The same event with all charges reversed has the same tensors."""
    records = one_lepton_records[:50]
    leptons = ak.with_field(records.Lepton, -records.Lepton.charge, "charge")
    particles = ak.with_field(records.GenPart, -records.GenPart.pdgId, "pdgId")
    mirrored = ak.with_field(ak.with_field(records, leptons, "Lepton"), particles, "GenPart")
    for name, values in vars(dataset.from_records(records, 1)).items():
        assert torch.equal(values, getattr(dataset.from_records(mirrored, 1), name)), name


def test_charge_conjugation_exchanges_the_legs_of_two_leptons(dilepton_records):
    records = dilepton_records[:50]
    leptons = ak.with_field(records.Lepton, -records.Lepton.charge, "charge")
    particles = ak.with_field(records.GenPart, -records.GenPart.pdgId, "pdgId")
    mirrored = ak.with_field(ak.with_field(records, leptons, "Lepton"), particles, "GenPart")
    before, after = dataset.from_records(records, 2), dataset.from_records(mirrored, 2)
    for name in ("leptons", "is_muon", "neutrinos", "true_leptons", "tops", "b_jets"):
        assert torch.equal(getattr(before, name).flip(1), getattr(after, name)), name
    assert torch.equal(before.jets, after.jets)


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_true_leptons_belong_to_the_leg_of_their_neutrino(name, request):
    """With it they weigh what a W boson weighs, and the measured lepton flies along."""
    data = request.getfixturevalue(name)
    assert kinematics.mass(data.true_leptons + of_leg(data)).median() == pytest.approx(80.4, abs=0.3)
    angle = torch.nn.functional.cosine_similarity(data.true_leptons[..., 1:], data.leptons[..., 1:], dim=-1)
    assert angle.median() > 0.9999
    assert not torch.equal(data.true_leptons, data.leptons)


def test_padding_is_zero_and_untagged(dilepton, dilepton_records):
    n_jets = torch.from_numpy(ak.to_numpy(ak.num(dilepton_records.Jet))).clip(max=dataset.MAX_JETS)
    assert torch.equal(dilepton.jet_mask.sum(1), n_jets)
    assert (dilepton.jets[~dilepton.jet_mask] == 0).all()
    assert not dilepton.btag[~dilepton.jet_mask].any()
    pt = kinematics.pt(dilepton.jets)
    assert (pt[:, 1:] <= pt[:, :-1]).all()


def test_tagged_jets_are_kept_before_the_hardest(one_lepton_records):
    """Light jets harder than all others push out light ones only."""
    records = one_lepton_records[:20]
    light = records.Jet[records.Jet.btag == 0][:, :1]
    light = ak.with_field(ak.with_field(light, 500 + 0 * light.pt, "pt"), -1 + 0 * light.partonIdx, "partonIdx")
    more = ak.with_field(records, ak.concatenate([*[light] * 9, records.Jet], axis=1), "Jet")
    more, records = more[ak.num(light) > 0], records[ak.num(light) > 0]
    before, data = dataset.from_records(records, 1), dataset.from_records(more, 1)
    assert data.jet_mask.all()
    assert torch.equal(data.btag.sum(1), before.btag.sum(1))
    pt = kinematics.pt(data.jets)
    assert (pt[:, 1:] <= pt[:, :-1]).all()
    both = before.matched
    assert torch.equal(data.matched, both)
    chosen = [part.jets.gather(1, part.b_jets[..., None].expand(-1, -1, 4)) for part in (data[both], before[both])]
    torch.testing.assert_close(*chosen)


def test_matched_jets_are_there_tagged_and_different(dilepton, one_lepton):
    for data in (dilepton, one_lepton):
        assert 0.7 < data.matched.double().mean() < 1
        chosen = data[data.matched]
        assert chosen.btag.gather(1, chosen.b_jets).all()
        assert (chosen.b_jets[:, 0] != chosen.b_jets[:, 1]).all()
        untagged = replace(chosen, btag=torch.zeros_like(chosen.btag))
        assert not untagged.matched.any()


def test_jets_of_a_higgs_boson_belong_to_no_leg():
    """In tt̄H half of the b quarks are no top's."""
    records = records_of("tth_semileptonic")
    data = dataset.from_records(records, 1)
    parton = ak.to_numpy(ak.fill_none(ak.pad_none(records.Jet.partonIdx, 10, clip=True), -1))
    for leg in (0, 1):
        event = np.flatnonzero(data.b_jets[:, leg].numpy() >= 0)
        particles, quark = records.GenPart[event], parton[event, data.b_jets[event, leg]]
        mother = particles.genPartIdxMother[np.arange(len(event)), quark]
        assert (abs(ak.to_numpy(particles.pdgId[np.arange(len(event)), mother])) == 6).all()
    assert len(event) > 500


def test_empty_and_single_batches(dilepton, dilepton_records):
    empty = dataset.from_records(dilepton_records[:0], 2)
    assert len(empty) == 0
    assert empty.n_legs == 2
    assert len(empty.check().require_truth()) == 0
    both = dataset.Dataset.concatenate([empty, dilepton[3], dilepton[-1]])
    assert len(both) == 2
    assert torch.equal(both.met[1], dilepton.met[-1])


def test_wrong_events_are_refused(dilepton_records, one_lepton_records):
    with pytest.raises(InputError, match="n_leptons = 3"):
        dataset.from_records(dilepton_records, 3)
    with pytest.raises(InputError, match=r"event 0 .*one lepton is needed"):
        dataset.from_records(dilepton_records, 1)
    with pytest.raises(InputError, match=r"event 0 .*two leptons of opposite charge are needed"):
        dataset.from_records(one_lepton_records, 2)
    like = ak.with_field(dilepton_records.Lepton, abs(dilepton_records.Lepton.charge), "charge")
    with pytest.raises(InputError, match="opposite charge"):
        dataset.from_records(ak.with_field(dilepton_records, like, "Lepton"), 2)


def changed(values, index, value):
    values = values.clone()
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("met", (7, 0), np.nan, "event 7: .*not finite"),
        ("jets", (7, 0), np.inf, "event 7: .*not finite"),
        ("leptons", (7, 1), 0.0, "event 7: a lepton has no momentum"),
        ("jets", (7, 0), 0.0, "event 7: a jet has no momentum"),
        ("leptons", (7, 0, 0), 1.0, r"event 7: a lepton has E < \|p\|"),
        ("jets", (7, 0, 0), 1.0, r"event 7: a jet has E < \|p\|"),
        ("jet_mask", 7, False, "event 7: there is no jet"),
        ("btag", (7, slice(1, None)), False, "event 7: fewer than two jets are b-tagged"),
    ],
)
def test_unusable_events_are_named(dilepton, field, index, value, message):
    bad = replace(dilepton, **{field: changed(getattr(dilepton, field), index, value)})
    with pytest.raises(InputError, match=message):
        bad.check()


def test_identical_leptons_are_refused(dilepton):
    leptons = changed(dilepton.leptons, (2, 1), dilepton.leptons[2, 0])
    with pytest.raises(InputError, match=r"event 2: both leptons are identical \(1 such"):
        replace(dilepton, leptons=leptons).check()


def test_unknown_truth_is_told(dilepton):
    unknown = replace(dilepton, neutrinos=changed(dilepton.neutrinos, 4, torch.nan))
    assert not unknown.has_truth
    assert unknown.check() is unknown
    with pytest.raises(InputError, match=f"1 of {len(dilepton)} events have no true neutrinos"):
        unknown.require_truth()
