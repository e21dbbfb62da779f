"""The truth record: ranks of quarks, their momenta before radiation, and processes that do not fit."""

import awkward as ak
import numpy as np
import pytest

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.truth_record import INCOMING, UNRANKED, before_radiation, by_charge, quark_ranks, tth_ranks


def test_ranks_name_the_quarks_of_each_parent(tth_records):
    ranks, hard = tth_ranks(tth_records.LHEPart), tth_records.LHEPart
    kind, mother = ak.to_numpy(hard.pdgId), ak.to_numpy(hard.mother)
    of = np.take_along_axis(kind, np.maximum(mother, 0), 1)
    for rank, number, parent in ((0, 1, 6), (1, 1, 6), (2, 1, 24), (3, 1, 24), (4, 2, 25)):
        assert ((ranks == rank).sum(1) == number).all()
        assert (np.abs(of[ranks == rank]) == parent).all()
    assert (ranks[:, :INCOMING] == UNRANKED).all()
    assert (np.abs(kind[ranks == 2]) % 2 == 1).all()
    assert (np.sign(of[ranks == 0]) == -np.sign(of[ranks == 1])).all()
    neutrino = np.sign(kind[np.isin(np.abs(kind), (12, 14))])
    assert (np.sign(of[ranks == 0]) == neutrino).all()


def test_ranks_of_the_record_and_of_the_hard_process_agree(tth_records):
    particles = tth_records.GenPart
    kind, mother = ak.to_numpy(particles.pdgId), ak.to_numpy(particles.genPartIdxMother)
    of = np.where(mother >= 0, np.take_along_axis(kind, np.maximum(mother, 0), 1), 0)
    first = np.sign((kind * np.isin(np.abs(kind), (12, 14))).sum(1))
    assert (quark_ranks(kind, of, first) == tth_ranks(tth_records.LHEPart)[:, INCOMING:]).all()


def test_quarks_before_radiation_make_their_parents(tth_records):
    """The two quarks of the Higgs boson, moved to where it recoiled, are together its last copy."""
    ranks = tth_ranks(tth_records.LHEPart)
    event, place = np.nonzero(ranks == 4)
    quarks, kinds = before_radiation(tth_records, event, place)
    assert set(np.abs(kinds)) == {5}
    total = quarks.reshape(-1, 2, 4).sum(1)
    higgs = by_charge(tth_records.GenPart, (25,))[0][:, 0]
    np.testing.assert_allclose(total, higgs, atol=1e-3)
    np.testing.assert_allclose(kinematics.mass(quarks), 4.8, atol=1e-3)


REFUSED = {
    "no quark of a decay": (
        lambda r: before_radiation(r, np.array([0]), np.array([0])),
        "event 0: a quark descends from no top or Higgs boson",
    ),
    "no events": (lambda r: tth_ranks(r.LHEPart[:0]), "records: no events"),
    "several lengths": (
        lambda r: tth_ranks(ak.concatenate([r.LHEPart[:1], r.LHEPart[1:2, :-1]])),
        "hard processes of different lengths",
    ),
    "two leptons": (lambda r: tth_ranks(r.LHEPart), "event 0: tt̄H with H → bb̄, one neutrino"),
}


@pytest.mark.parametrize(("use", "message"), REFUSED.values(), ids=REFUSED)
def test_other_processes_are_refused(dilepton_records, use, message):
    with pytest.raises(InputError, match=message):
        use(dilepton_records)
