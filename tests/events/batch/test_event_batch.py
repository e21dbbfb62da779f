"""The event batch: choices of events, concatenation, places for jets, truth that is absent, and what is refused."""

from dataclasses import replace

import pytest
import torch

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import EventBatch, Truth


def same(first, second):
    """Say whether two batches hold equal numbers, NaN counting as equal."""
    if (first.truth is None) != (second.truth is None):
        return False
    pairs = [(first, second)] if first.truth is None else [(first, second), (first.truth, second.truth)]
    for one, two in pairs:
        a, b = one.known(), two.known()
        if a.keys() != b.keys():
            return False
        tensors = [name for name in a if name != "truth"]
        if not all(torch.equal(a[k].nan_to_num(-7.0), b[k].nan_to_num(-7.0)) for k in tensors):
            return False
    return True


def with_truth(batch, **fields):
    return replace(batch, truth=replace(batch.truth, **fields))


def changed(values, index, value):
    values = values.clone()
    values[index] = value
    return values


def test_events_are_chosen_as_rows_of_every_field(dilepton):
    chosen = dilepton[torch.tensor([5, 2])]
    assert len(chosen) == 2
    for columns, every in ((chosen, dilepton), (chosen.truth, dilepton.truth)):
        for name, values in columns.known().items():
            if name != "truth":
                torch.testing.assert_close(values, getattr(every, name)[[5, 2]], equal_nan=True)
    assert same(dilepton[-1], dilepton[len(dilepton) - 1 :])
    assert same(dilepton[dilepton.is_muon[:, 0]][:3], dilepton[dilepton.is_muon[:, 0].nonzero()[:3, 0]])
    with pytest.raises(IndexError):
        dilepton[len(dilepton)]


def test_parts_are_joined_with_places_for_the_most_jets(dilepton):
    few, many = dilepton[dilepton.n_jets == 2].with_jets(2), dilepton[dilepton.n_jets > 4][:3]
    both = EventBatch.concatenate([few, many])
    assert both.jets.shape[1] == dilepton.jets.shape[1]
    assert same(both[len(few) :], many)
    assert same(both[: len(few)], dilepton[dilepton.n_jets == 2])
    assert same(EventBatch.concatenate([dilepton[:0], many]), many)
    both.check()


def test_cutting_and_joining_are_inverse(tth):
    assert same(EventBatch.concatenate([tth[:100], tth[100:101], tth[101:]]), tth)


def test_weights_stay_whatever_their_sign(dilepton):
    weight = torch.linspace(-2, 1, len(dilepton), dtype=torch.float64)
    batch = replace(dilepton, weight=weight).check()
    assert torch.equal(batch[::7].weight, weight[::7])
    assert torch.equal(batch.with_jets(3).weight, weight)
    assert torch.equal(EventBatch.concatenate([batch, dilepton]).weight, torch.cat([weight, dilepton.weight]))


def test_absent_truth_stays_absent_and_is_unknown_beside_a_known_one(dilepton):
    data = replace(dilepton[:4], truth=None)
    assert same(EventBatch.concatenate([data, data])[4:], data)
    assert data.with_jets(20).truth is data[1:].truth is None
    assert not data.matched.any()
    partly = with_truth(dilepton[4:6], higgs=None)
    both = EventBatch.concatenate([data, partly])
    assert both.truth.higgs is None
    assert both.truth.tops[:4].isnan().all()
    assert torch.equal(both.truth.tops[4:], partly.truth.tops)
    assert (both.truth.b_jets[:4] == -1).all()
    assert torch.equal(both.matched, torch.cat([data.matched, partly.matched]))


def test_an_empty_truth_is_no_obstacle(dilepton):
    batch = replace(dilepton, truth=Truth())
    assert batch[3:5].check().truth.known() == {}
    assert len(EventBatch.concatenate([batch[:2], batch[2:4]])) == 4


def test_more_places_change_nothing(tth):
    wide = tth.padded(20)
    assert (wide.jets[:, tth.jets.shape[1] :] == 0).all()
    assert (wide.truth.jet_roles[:, tth.jets.shape[1] :] == -1).all()
    assert same(wide.with_jets(tth.jets.shape[1]), tth)
    assert same(wide.check().padded(int(tth.n_jets.max())), tth.padded(int(tth.n_jets.max())))


@pytest.mark.parametrize("n_jets", [1, 2, 4, 6])
def test_of_more_jets_the_tagged_are_kept_and_then_the_hardest(tth, n_jets):
    cut = tth.with_jets(n_jets).check()
    assert torch.equal(cut.n_jets, tth.n_jets.clip(max=n_jets))
    assert torch.equal(cut.btag.sum(1), tth.btag.sum(1).clip(max=n_jets))
    pt = kinematics.pt(tth.jets)
    for tagged in (True, False):  # of either kind none that is harder than a kept one is gone
        of_kind = (tth.btag == tagged) & tth.jet_mask
        kept = (cut.btag == tagged) & cut.jet_mask
        least = kinematics.pt(cut.jets).masked_fill(~kept, torch.inf).amin(1)
        assert torch.equal((of_kind & (pt >= least[:, None])).sum(1), kept.sum(1))


def test_a_match_follows_its_jet(tth):
    cut = tth.with_jets(4)
    for leg in (0, 1):
        before, after = tth.truth.b_jets[:, leg], cut.truth.b_jets[:, leg]
        there = after >= 0
        assert 0 < (there < (before >= 0)).sum() < len(tth)  # some jets went, and no other was taken for them
        rows = there.nonzero()[:, 0]
        assert torch.equal(cut.jets[rows, after[rows]], tth.jets[rows, before[rows]])
        assert (cut.truth.jet_roles[rows, after[rows]] == leg).all()
    for role in range(4):
        counts = (cut.truth.jet_roles == role).sum(1), (tth.truth.jet_roles == role).sum(1)
        assert (counts[0] <= counts[1]).all()


def test_matched_events_have_tagged_b_jets_of_both_legs(dilepton, one_lepton):
    for batch in (dilepton, one_lepton):
        assert 0.7 < batch.matched.double().mean() < 1
        chosen = batch[batch.matched]
        assert chosen.btag.gather(1, chosen.truth.b_jets).all()
        assert (chosen.truth.b_jets[:, 0] != chosen.truth.b_jets[:, 1]).all()
        assert not replace(chosen, btag=torch.zeros_like(chosen.btag)).matched.any()


def test_unknown_truth_is_told_where_it_is_needed(dilepton):
    unknown = with_truth(dilepton, neutrinos=changed(dilepton.truth.neutrinos, 4, torch.nan))
    assert unknown.check() is unknown
    assert unknown.require_truth("tops", "b_jets") is unknown.truth
    with pytest.raises(InputError, match=f"1 of {len(dilepton)} events have no true neutrinos"):
        unknown.require_truth("tops", "neutrinos")
    assert len(dilepton[:0].check().require_truth("neutrinos").neutrinos) == 0


CHANGES = {
    "met is not finite": ("met", (7, 0), torch.nan, "event 7: .*not finite"),
    "jet is not finite": ("jets", (7, 0), torch.inf, "event 7: .*not finite"),
    "lepton is not finite": ("leptons", (7, 1, 2), torch.nan, "event 7: .*not finite"),
    "weight is not finite": ("weight", 7, torch.nan, "event 7: the weight is not finite"),
    "lepton without momentum": ("leptons", (7, 1), 0.0, "event 7: a lepton has no momentum"),
    "jet without momentum": ("jets", (7, 0), 0.0, "event 7: a jet has no momentum"),
    "lepton is space-like": ("leptons", (7, 0, 0), 1.0, r"event 7: a lepton has E < \|p\|"),
    "jet is space-like": ("jets", (7, 0, 0), 1.0, r"event 7: a jet has E < \|p\|"),
    "lepton along the beam": ("leptons", (7, 0, slice(1, 3)), 0.0, "event 7: a lepton or jet is along the beam"),
    "jet along the beam": ("jets", (7, 1, slice(1, 3)), 0.0, "event 7: a lepton or jet is along the beam"),
    "gap between jets": ("jet_mask", (7, 0), False, "event 7: an absent jet stands before a present one"),
}


@pytest.mark.parametrize(("field", "index", "value", "message"), CHANGES.values(), ids=CHANGES)
def test_events_that_no_method_can_use_are_named(dilepton, field, index, value, message):
    bad = replace(dilepton, **{field: changed(getattr(dilepton, field), index, value)})
    with pytest.raises(InputError, match=rf"{message} \(1 such events\)"):
        bad.check()


REFUSED = {
    "identical leptons": (
        lambda b: replace(b, leptons=changed(b.leptons, (2, 1), b.leptons[2, 0])).check(),
        r"event 2: both leptons are identical \(1 such",
    ),
    "no jet": (
        lambda b: replace(b, jet_mask=changed(b.jet_mask, 7, False)).check().require_jets(1),
        "event 7: there is no jet",
    ),
    "too few jets": (lambda b: b.with_jets(2).require_jets(6), "event 0: fewer than 6 jets"),
    "too few tags": (
        lambda b: replace(b, btag=changed(b.btag, (7, slice(1, None)), False)).require_tags(2),
        "event 7: fewer than 2 jets are b-tagged",
    ),
    "too many jets": (lambda b: b.padded(1), r"event 0: \d jets, more than the 1 that were seen"),
    "another number of legs": (lambda b: b.require_legs(1), "events with 2 leptons: 1 are needed here"),
    "three legs": (lambda b: replace(b, leptons=b.leptons[:, [0, 1, 0]]).check(), "3 leptons: 1 or 2 are needed"),
    "shape of jets": (lambda b: replace(b, jets=b.jets[:, 1:]).check(), r"jet_mask: shape .* is needed"),
    "shape of weights": (lambda b: replace(b, weight=b.weight[:, None]).check(), r"weight: shape .* is needed"),
    "shape of truth": (
        lambda b: with_truth(b, tops=b.truth.tops[:, :1]).check(),
        r"true tops: shape \(\d+, 1, 4\); \(\d+, 2, 4\) is needed",
    ),
    "no truth at all": (
        lambda b: replace(b, truth=None).require_truth("tops"),
        r"(\d+) of \1 events have no true tops",
    ),
    "truth of another process": (lambda b: b.require_truth("higgs"), r"(\d+) of \1 events have no true higgs"),
    "no match in any event": (
        lambda b: with_truth(b, b_jets=b.truth.b_jets * 0 - 1).require_truth("b_jets"),
        "have no true b jets",
    ),
    "truth of no name": (lambda b: b.require_truth("top"), "truth has no field top: it has neutrinos, leptons, tops"),
    "nothing to join": (lambda b: EventBatch.concatenate([]), "0 parts"),
}


@pytest.mark.parametrize(("use", "message"), REFUSED.values(), ids=REFUSED)
def test_uses_that_cannot_be_are_refused(dilepton, use, message):
    with pytest.raises(InputError, match=message):
        use(dilepton)


def test_events_of_other_legs_are_not_joined(dilepton, one_lepton):
    with pytest.raises(InputError, match=r"2 parts with \[1, 2\] leptons"):
        EventBatch.concatenate([dilepton, one_lepton])
