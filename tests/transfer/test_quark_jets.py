"""Quarks and their jets: the order of quarks, jets near them, and events that are refused."""

import awkward as ak
import pytest

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.physics.constants import M_H
from rewind.transfer import quark_jets


def test_quarks_stand_in_their_order(records, event):
    top_lep = event.quarks[:, 0] + event.neutrino
    higgs, w, top = event.quarks[:, 4:].sum(1), event.quarks[:, 2:4].sum(1), event.quarks[:, 1:4].sum(1)
    assert abs(float(kinematics.mass(higgs).median()) - M_H) < 0.1
    assert 78 < float(kinematics.mass(w).median()) < 82
    assert 170 < float(kinematics.mass(top).median()) < 175
    assert (kinematics.mass(top_lep) < 172).double().mean() > 0.9
    assert (event.quarks[:, 4, 0] >= event.quarks[:, 5, 0]).all()
    parton = abs(records.LHEPart.pdgId[records.Jet.partonIdx[records.Jet.partonIdx >= 0] + 2])
    assert int(event.has_jet.sum()) == int(ak.sum(parton <= 5))


def test_jets_lie_near_their_quarks(event):
    distance = kinematics.delta_r(event.jets, event.quarks)[event.has_jet]
    assert float((distance < 0.2).double().mean()) > 0.9
    assert (event.jets[~event.has_jet] == 0).all()


def without_higgs(records):
    return events.load(paths.locate("data/samples/ttbar_semileptonic_test.root"))[:5]


def without_leptons(records):
    return ak.with_field(records, records.Lepton[:, :0], "Lepton")


def of_uneven_lengths(records):
    few, cut = records[:2], ak.Array([list(range(14)), list(range(15))])
    return ak.with_field(few, few.LHEPart[cut], "LHEPart")


REFUSED = [
    (without_higgs, "H → bb̄, one neutrino and two light quarks is needed"),
    (without_leptons, "event 0: 0 leptons; exactly one is needed"),
    (of_uneven_lengths, "hard processes of different lengths"),
]


@pytest.mark.parametrize(("change", "line"), REFUSED, ids=lambda given: getattr(given, "__name__", ""))
def test_other_events_are_refused(records, change, line):
    with pytest.raises(InputError, match=line):
        quark_jets.from_records(change(records))
