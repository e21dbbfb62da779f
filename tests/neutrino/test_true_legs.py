"""The true members of both legs: constraints that hold by physics, and records of other processes."""

import pytest
import torch

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.neutrino import true_legs
from rewind.neutrino.classical import ellipse


@pytest.fixture(scope="module")
def records():
    sample = events.load(paths.locate("data/samples/ttbar_dilepton.root"))
    return sample[sample.pass_detector]


def test_the_hard_process_balances_and_its_quarks_have_their_mass(records):
    legs = true_legs.before_shower(records)
    assert legs.tops.shape == (len(records), 2, 4)
    assert legs.tops.sum(1)[:, 1:3].abs().max() < 1e-9
    assert (kinematics.mass(legs.bottoms) - 4.8).abs().quantile(0.99) < 1e-6


@pytest.mark.parametrize("level", [true_legs.before_shower, true_legs.after_radiation])
def test_each_member_is_the_sum_of_its_products(records, level):
    legs = level(records)
    assert (legs.leptons + legs.neutrinos - legs.w_bosons).abs().max() < 1e-9
    scale = legs.tops[..., :1]
    assert ((legs.w_bosons + legs.bottoms - legs.tops).abs() / scale).max() < 1e-5
    assert (legs.leptons[..., 0] >= legs.leptons[..., 1:].norm(dim=-1)).all()


def test_radiation_moves_the_tops_and_leaves_the_masses(records):
    hard, soft = true_legs.before_shower(records), true_legs.after_radiation(records)
    assert kinematics.pt(soft.tops.sum(1)).median() > 5
    for name in ("tops", "w_bosons"):
        change = kinematics.mass(getattr(soft, name)) - kinematics.mass(getattr(hard, name))
        assert change.abs().median() < 1e-3


def test_legs_agree_with_the_dataset(records):
    data, legs = events.from_records(records, 2), true_legs.after_radiation(records)
    known = torch.isfinite(data.truth.neutrinos).flatten(1).all(1)
    assert (legs.neutrinos[known, :, 1:] - data.truth.neutrinos[known]).abs().max() < 1e-6
    near = (kinematics.pt(legs.leptons) / kinematics.pt(data.leptons) - 1).abs()
    assert near.median() < 0.03


def test_the_solver_finds_the_truth_with_true_masses(records):
    legs = true_legs.before_shower(records)
    solved = ellipse.solve(*legs.leptons.unbind(1), *legs.bottoms.unbind(1), legs.met, **legs.masses)
    miss = legs.distance(solved.neutrino, solved.antineutrino).nan_to_num(torch.inf).amin(1)
    assert (miss < 1e-6 * legs.neutrinos[..., 0].sum(1)).double().mean() >= 0.999


def test_distance_adds_all_six_components(records):
    legs = true_legs.before_shower(records[:3])
    shifted = legs.neutrinos[:, None, :, 1:] + torch.tensor([3.0, 0.0, 4.0])
    distance = legs.distance(shifted[:, :, 0], shifted[:, :, 1])
    assert torch.allclose(distance, torch.full((3, 1), 50.0**0.5, dtype=torch.float64))


def test_particle_jets_lie_near_their_quarks(records):
    data, jets = events.from_records(records, 2), true_legs.particle_b_jets(records)
    known = jets.isfinite().all(-1)
    assert 0.9 < known.double().mean() < 1
    quark = true_legs.after_radiation(records).bottoms
    delta_eta = (kinematics.eta(jets) - kinematics.eta(quark))[known]
    assert delta_eta.abs().median() < 0.1
    detected = data.jets.gather(1, data.truth.b_jets.clip(0)[..., None].expand(-1, -1, 4))
    both = known & (data.truth.b_jets >= 0)
    assert (kinematics.pt(detected)[both] / kinematics.pt(jets)[both]).median() == pytest.approx(0.95, abs=0.06)


def test_another_process_is_refused(records):
    sample = events.load(paths.locate("data/samples/ttbar_semileptonic.root"))
    with pytest.raises(InputError, match="two leptonic tops"):
        true_legs.after_radiation(sample)
