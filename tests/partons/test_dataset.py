"""tt̄H events as tensors: momentum conservation, the recoil, padding, and what is refused."""

from dataclasses import replace
from pathlib import Path

import awkward as ak
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.partons import dataset
from rewind.physics.constants import SQRT_S

PATH = Path(__file__).parents[2] / "data" / "samples" / "tth_semileptonic.root"


@pytest.fixture(scope="module")
def records():
    found = events.load(PATH)
    return found[found.pass_detector]


@pytest.fixture(scope="module")
def data(records):
    return dataset.from_records(records)


def test_momentum_is_conserved_with_the_fractions(data):
    total = data.partons.sum(1)
    assert total[:, 1:3].abs().max() < 1e-9
    half = SQRT_S / 2
    torch.testing.assert_close(data.fractions.sum(1) * half, total[:, 0])
    torch.testing.assert_close((data.fractions[:, 0] - data.fractions[:, 1]) * half, data.boost)
    assert ((data.fractions > 0) & (data.fractions < 1)).all()


@given(st.floats(1, 500), st.floats(-3, 3), st.floats(-3, 3), st.floats(10, 1000), st.floats(-2, 2))
def test_the_recoil_makes_the_least_mass_of_all_massless_ones(pt, eta, phi, mass, other):
    system = torch.stack([*kinematics.from_pt_eta_phi_mass(*(torch.tensor(v).double() for v in (pt, eta, phi, mass)))])
    gluon = dataset.recoil(system)
    torch.testing.assert_close(gluon[1:3], -system[1:3])
    assert abs(kinematics.mass_squared(gluon)) < 1e-6 * gluon[0] ** 2

    def rapidity(p):
        return torch.atanh(p[3] / p[0])

    torch.testing.assert_close(rapidity(gluon), rapidity(system))
    at = kinematics.eta(gluon) + other
    moved = torch.stack([kinematics.pt(gluon) * at.cosh(), *gluon[1:3], kinematics.pt(gluon) * at.sinh()])
    assert kinematics.mass(system + gluon) <= kinematics.mass(system + moved) * (1 + 1e-9)


def test_partons_have_their_masses_and_the_right_leg(data, records):
    masses = kinematics.mass(data.partons).median(0).values
    torch.testing.assert_close(masses, torch.tensor([125.0, 172.5, 172.5, 0.0]).double(), atol=2, rtol=0)
    kinds = records.GenPart.pdgId
    neutrino = kinds[(abs(kinds) == 12) | (abs(kinds) == 14)][:, 0]
    leptonic = events.momenta(records.GenPart[kinds == ak.where(neutrino > 0, 6, -6)])
    torch.testing.assert_close(data.partons[:, 2], torch.from_numpy(leptonic))


def test_parts_of_other_widths_are_joined(data):
    short = data[data.jet_mask.sum(1) == 6].padded(6)
    both = dataset.concatenate([short, data[0]])
    assert both.jets.shape[1] == data.jets.shape[1]
    assert torch.equal(both.partons[-1], data.partons[0])
    assert (both.jets[~both.jet_mask] == 0).all()
    assert len(data[3]) == 1


def test_wrong_events_are_refused(data, records):
    with pytest.raises(InputError, match="event 0: 0 Higgs bosons in the truth"):
        dataset.from_records(ak.with_field(records, records.GenPart[records.GenPart.pdgId != 25], "GenPart"))
    with pytest.raises(InputError, match="event 0: fewer jets than the 6 quarks"):
        dataset.from_records(ak.with_field(records, records.Jet[:, :5], "Jet"))
    with pytest.raises(InputError, match="event 0: exactly one lepton"):
        dataset.from_records(ak.with_field(records, records.Lepton[:, :0], "Lepton"))
    most = int(data.jet_mask.sum(1).max())
    with pytest.raises(InputError, match=f"{most} jets, more than the {most - 1} that were seen"):
        data.padded(most - 1)
    met = data.met.clone()
    met[4] = torch.nan
    with pytest.raises(InputError, match="event 4: a momentum is not finite"):
        replace(data, met=met).check()
    with pytest.raises(InputError, match="seeds: at least one"):
        dataset.simulated(10, [])
