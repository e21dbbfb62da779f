"""The partons of tt̄H events: momentum conservation, the recoil, the legs, and what is refused."""

from dataclasses import replace

import awkward as ak
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.partons import last_copies
from rewind.physics.constants import SQRT_S
from rewind.physics.phase_space import momentum_fractions


@pytest.fixture(scope="module")
def records():
    records = events.load(paths.locate("data/samples/tth_semileptonic.root"))
    return records[records.pass_detector]


@pytest.fixture(scope="module")
def batch(records):
    return events.from_records(records, 1)


@pytest.fixture(scope="module")
def partons(batch):
    return last_copies.true_partons(batch)


def test_momentum_is_conserved_with_the_fractions(partons):
    total = partons.sum(1)
    assert total[:, 1:3].abs().max() < 1e-9
    x = momentum_fractions(total)
    torch.testing.assert_close(x.sum(1) * SQRT_S / 2, total[:, 0])
    torch.testing.assert_close((x[:, 0] - x[:, 1]) * SQRT_S / 2, last_copies.boost(partons))
    assert ((x > 0) & (x < 1)).all()


def test_the_boost_is_that_of_the_heavy_ones_in_units_of_the_recoil(partons):
    """The p_z of the whole follows from the three heavy partons alone."""
    heavy = partons[:, :3].sum(1)
    expected = heavy[:, 3] * (
        1 + kinematics.pt(heavy) / (kinematics.mass_squared(heavy) + kinematics.pt(heavy) ** 2).sqrt()
    )
    torch.testing.assert_close(last_copies.boost(partons), expected)


@given(st.floats(1, 500), st.floats(-3, 3), st.floats(-3, 3), st.floats(10, 1000), st.floats(-2, 2))
def test_the_recoil_makes_the_least_mass_of_all_massless_ones(pt, eta, phi, mass, other):
    system = torch.stack([*kinematics.from_pt_eta_phi_mass(*(torch.tensor(v).double() for v in (pt, eta, phi, mass)))])
    gluon = last_copies.recoil(system)
    torch.testing.assert_close(gluon[1:3], -system[1:3])
    assert abs(kinematics.mass_squared(gluon)) < 1e-6 * gluon[0] ** 2

    def rapidity(p):
        return torch.atanh(p[3] / p[0])

    torch.testing.assert_close(rapidity(gluon), rapidity(system))
    at = kinematics.eta(gluon) + other
    moved = torch.stack([kinematics.pt(gluon) * at.cosh(), *gluon[1:3], kinematics.pt(gluon) * at.sinh()])
    assert kinematics.mass(system + gluon) <= kinematics.mass(system + moved) * (1 + 1e-9)


def test_partons_have_their_masses_and_the_right_leg(partons, records):
    masses = kinematics.mass(partons).median(0).values
    torch.testing.assert_close(masses, torch.tensor([125.0, 172.5, 172.5, 0.0]).double(), atol=2, rtol=0)
    kinds = records.GenPart.pdgId
    neutrino = kinds[(abs(kinds) == 12) | (abs(kinds) == 14)][:, 0]
    leptonic = events.momenta(records.GenPart[kinds == ak.where(neutrino > 0, 6, -6)])
    torch.testing.assert_close(partons[:, 2], torch.from_numpy(leptonic))


def without_higgs(records):
    kinds = ak.where(records.GenPart.pdgId == 25, 23, records.GenPart.pdgId)
    return events.from_records(ak.with_field(records, ak.with_field(records.GenPart, kinds, "pdgId"), "GenPart"), 1)


def with_five_jets(records):
    return events.from_records(ak.with_field(records, records.Jet[:, :5], "Jet"), 1)


def with_two_leptons(_records):
    return events.load_batch(paths.locate("data/samples/ttbar_dilepton.root"), 2)


def without_truth(records):
    return replace(events.from_records(records, 1), truth=None)


def with_a_broken_met(records):
    batch = events.from_records(records, 1)
    met = batch.met.clone()
    met[4] = torch.nan
    return replace(batch, met=met)


REFUSED = [
    (without_higgs, last_copies.true_partons, "events have no true higgs"),
    (without_truth, last_copies.true_partons, "events have no true higgs"),
    (with_two_leptons, last_copies.true_partons, "events with 2 leptons: 1 are needed"),
    (with_two_leptons, last_copies.require_usable, "events with 2 leptons: 1 are needed"),
    (with_five_jets, last_copies.require_usable, "event 0: fewer than 6 jets"),
    (with_a_broken_met, last_copies.require_usable, "event 4: .* is not finite"),
]


@pytest.mark.parametrize(("make", "call", "line"), REFUSED)
def test_wrong_events_are_refused(records, make, call, line):
    with pytest.raises(InputError, match=line):
        call(make(records))
