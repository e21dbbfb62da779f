"""What is read off the full simulation: matched jets, the recoil, the response, measured events."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.mem import full_simulation
from rewind.mem.detector_model import DILEPTON, TTH, Response, accepted, rows
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.recoil import fit_recoil
from rewind.transfer import quark_jets


@pytest.fixture(scope="module")
def records():
    return events.load(Path(__file__).parents[2] / "data/samples/ttbar_dilepton_test.root")[:1500]


def test_recoil_of_two_gaussians_is_found_again():
    function = DoubleGaussian(torch.zeros(11), torch.zeros(11, 11), (1.0, 2.0))
    known = Response(function, function, 15.0, (0.6, 25.0, 100.0))
    drawn = known.sample_recoil(200_000, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(fit_recoil(drawn), known.recoil, rtol=0.03)
    x = torch.linspace(-600, 600, 601, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1)
    assert abs(float(known.log_recoil(grid).exp().sum() * 4) - 1) < 1e-6
    assert abs(float(known.log_met(grid, torch.zeros(2)).exp().sum() * 4) - 1) < 1e-6


def test_matched_jets_have_about_their_quarks_energy(records):
    found = full_simulation.matched(records)
    assert found.is_bottom.all()
    assert len(found) > 1.5 * len(records)
    ratio = found.measured / found.parton
    assert 0.8 < float(ratio.median()) < 1.0
    assert float((ratio.log().abs() < 0.5).double().mean()) > 0.85


def test_dilepton_events_are_rows_of_the_method(records):
    found = full_simulation.dilepton_events(records)
    inside = accepted(found, DILEPTON.selection)
    assert inside.double().mean() > 0.95
    assert rows(found[inside], DILEPTON).shape == (int(inside.sum()), 2, 18)
    np.testing.assert_allclose(found.met.norm(dim=1), ak.to_numpy(records.MET.pt), rtol=1e-6)
    assert (kinematics.pt(found.bottoms[:, 0]) > 0.9 * kinematics.pt(found.bottoms[:, 1])).all()
    untagged = ak.with_field(records, ak.with_field(records.Jet, 0 * records.Jet.btag, "btag"), "Jet")
    with pytest.raises(InputError, match="event 0: one lepton of each charge and two b-tagged jets"):
        full_simulation.dilepton_events(untagged)


def test_tth_events_are_rows_of_the_method():
    records = events.load(Path(__file__).parents[2] / "data/samples/tth_semileptonic_test.root")[:2000]
    found = full_simulation.tth_events(records)
    assert len(found.events) == found.kept.sum() == len(found.mirrored) > 100
    inside = accepted(found.events, TTH.selection)
    assert inside.double().mean() > 0.8
    assert rows(found.events[inside], TTH).shape == (int(inside.sum()), 24, 30)
    truth = quark_jets.from_records(records[found.kept])
    taken = torch.cat([found.events.bottoms, found.events.lights], 1)[..., 0].sort(1).values
    same = ((taken - truth.jets[..., 0].sort(1).values).abs() < 1e-3).all(1) & truth.has_jet.all(1)
    torch.testing.assert_close(found.complete, same)
    assert 0.1 < found.complete.double().mean() < 0.5
    charge = ak.to_numpy(records[found.kept].Lepton.charge[:, 0])
    np.testing.assert_array_equal(found.mirrored.numpy(), charge < 0)
    phi = kinematics.phi(found.events.leptons[:, 0]).numpy() + np.pi * found.mirrored.numpy()
    np.testing.assert_allclose(np.cos(phi - ak.to_numpy(records[found.kept].Lepton.phi[:, 0])), 1, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="event 0: one lepton is needed"):
        full_simulation.tth_events(ak.with_field(records, records.Lepton[:, :0], "Lepton"))
