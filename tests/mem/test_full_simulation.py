"""What is read off the full simulation: matched jets, the recoil, the detector, measured events."""

from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch

from rewind import events, kinematics, stats
from rewind.errors import InputError
from rewind.mem import full_simulation
from rewind.mem.detector_model import DetectorModel
from rewind.mem.measured import accepted, rows
from rewind.mem.topologies import DILEPTON, TTH
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.recoil import fit_recoil
from rewind.transfer import quark_jets


@pytest.fixture(scope="module")
def records():
    return events.load(Path(__file__).parents[2] / "data/samples/ttbar_dilepton_test.root")[:1500]


def test_recoil_of_two_gaussians_is_found_again():
    function = DoubleGaussian(torch.zeros(11), torch.zeros(11, 11), (1.0, 2.0))
    known = DetectorModel(function, function, 15.0, (0.6, 25.0, 100.0))
    drawn = known.sample_recoil(200_000, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(fit_recoil(drawn), known.recoil, rtol=0.03)
    x = torch.linspace(-600, 600, 601, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1)
    assert abs(float(known.log_recoil(grid).exp().sum() * 4) - 1) < 1e-6
    assert abs(float(known.log_met(grid, torch.zeros(2)).exp().sum() * 4) - 1) < 1e-6


def test_matched_jets_have_about_their_quarks_energy(records):
    kept = full_simulation.matched(records)
    assert kept.is_bottom.all()
    assert len(kept) > 1.5 * len(records)
    ratio = kept.measured / kept.parton
    assert 0.8 < float(ratio.median()) < 1.0
    assert float((ratio.log().abs() < 0.5).double().mean()) > 0.85


def test_dilepton_events_are_rows_of_the_method(records):
    kept = full_simulation.dilepton_events(events.from_records(records, 2))
    inside = accepted(kept, DILEPTON.selection)
    assert inside.double().mean() > 0.95
    assert rows(kept[inside], DILEPTON).shape == (int(inside.sum()), 2, 18)
    np.testing.assert_allclose(kept.met.norm(dim=1), ak.to_numpy(records.MET.pt), rtol=1e-6)
    assert (kinematics.pt(kept.bottoms[:, 0]) > 0.9 * kinematics.pt(kept.bottoms[:, 1])).all()
    batch = events.from_records(records[:5], 2)
    with pytest.raises(InputError, match="event 0: fewer than 2 jets are b-tagged"):
        full_simulation.dilepton_events(replace(batch, btag=batch.btag & False))
    with pytest.raises(InputError, match="events with 2 leptons: 1 are needed"):
        full_simulation.tth_events(batch)


def test_tth_events_are_rows_of_the_method():
    records = events.load(Path(__file__).parents[2] / "data/samples/tth_semileptonic_test.root")[:2000]
    batch = events.from_records(records, 1)
    kept = full_simulation.tth_events(batch)
    assert len(kept.events) == kept.kept.sum() == len(kept.mirrored) > 100
    inside = accepted(kept.events, TTH.selection)
    assert inside.double().mean() > 0.8
    assert rows(kept.events[inside], TTH).shape == (int(inside.sum()), 24, 30)
    truth = quark_jets.from_records(records[kept.kept.numpy()])
    taken = torch.cat([kept.events.bottoms, kept.events.lights], 1)[..., 0].sort(1).values
    same = ((taken - truth.jets[..., 0].sort(1).values).abs() < 1e-3).all(1) & truth.has_jet.all(1)
    torch.testing.assert_close(kept.complete, same)
    assert 0.1 < kept.complete.double().mean() < 0.5
    lepton = records[kept.kept.numpy()].Lepton[:, 0]
    np.testing.assert_array_equal(kept.mirrored.numpy(), ak.to_numpy(lepton.charge) < 0)
    phi = kinematics.phi(kept.events.leptons[:, 0]).numpy() + np.pi * kept.mirrored.numpy()
    np.testing.assert_allclose(np.cos(phi - ak.to_numpy(lepton.phi)), 1, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="no true jet roles"):
        full_simulation.tth_events(replace(batch, truth=None))


def test_the_fitted_model_is_that_of_records_and_truth(records):
    """The error of p_T^miss and the recoil against sums over the truth record itself."""
    one = events.load(Path(__file__).parents[2] / "data/samples/ttbar_semileptonic_test.root")[:500]
    fitted = full_simulation.fit(records, one, DILEPTON.selection)
    kind = abs(records.GenPart.pdgId)
    neutrinos = records.GenPart[(kind == 12) | (kind == 14) | (kind == 16)]
    x, y = (ak.to_numpy(ak.sum(neutrinos.pt * turn(neutrinos.phi), axis=1)) for turn in (np.cos, np.sin))
    met = records.MET.pt * np.cos(records.MET.phi) - x, records.MET.pt * np.sin(records.MET.phi) - y
    assert abs(fitted.met_sigma - stats.width68(np.concatenate(met)) / 2) < 1e-3
    assert 0 < fitted.recoil[0] < 1
    assert fitted.recoil[1] < fitted.recoil[2]
