"""The detector against its card, and the objects made of what it sees."""

import awkward as ak
import numpy as np
import pytest

from chance import assert_agrees
from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.jagged import expand, pairs, unique_matches
from rewind.events.chain import detector, objects
from rewind.events.chain.objects import Collection


def gun(pdg_id, pt, eta, n=20_000, seed=1, mass=0.0):
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-np.pi, np.pi, n)
    p4 = kinematics.from_pt_eta_phi_mass(np.full(n, pt), np.full(n, eta), phi, np.full(n, mass))
    charged = np.full(n, abs(pdg_id) not in (22, 130, 2112, 310, 3122))
    return p4, detector.energy_flow(np.full(n, pdg_id), p4, charged, rng)


@pytest.mark.parametrize(
    ("pdg_id", "pt", "eta", "expected"),
    [(13, 50, 0.3, 0.99), (13, 50, 2.0, 0.98), (13, 0.5, 0.3, 0.75), (13, 50, 2.6, 0.0)],
)
def test_muons_are_seen_with_the_cards_efficiency(pdg_id, pt, eta, expected):
    _, flow = gun(pdg_id, pt, eta)
    assert_agrees(len(flow.source) / 20_000, expected, 0.5 / 20_000**0.5)


def test_track_resolution_is_the_cards():
    for pdg_id, eta, a, b in ((211, 0.2, 0.01, 1.5e-4), (11, 1.0, 0.05, 1.7e-3), (13, 2.0, 0.025, 3.5e-4)):
        true, flow = gun(pdg_id, 80.0, eta, mass=0.5)
        tracks = flow.p4[kinematics.mass(flow.p4) > 0.4]  # towers count as massless
        spread = np.std(kinematics.pt(tracks) / 80)
        assert spread == pytest.approx(np.hypot(a, b * 80), rel=0.05)
        np.testing.assert_allclose(kinematics.pt(true), 80)


@pytest.mark.parametrize(
    ("pdg_id", "pt", "eta"),
    [(211, 20, 0.2), (22, 30, 1.2), (130, 80, 0.5), (13, 40, 2.0), (11, 50, 0.3)],
)
def test_response_moments_are_those_of_many_shots(pdg_id, pt, eta):
    p4, flow = gun(pdg_id, pt, eta, n=40_000)
    seen = np.zeros(len(p4))
    np.add.at(seen, flow.source, kinematics.pt(flow.p4) / pt)
    charged = np.full(len(p4), abs(pdg_id) not in (22, 130))
    mean, variance = (values[0] for values in detector.response_moments(np.full(len(p4), pdg_id), p4, charged))
    assert seen.mean() == pytest.approx(mean, abs=0.02)
    assert seen.std() == pytest.approx(variance**0.5, abs=0.02)


def test_calorimeters_keep_the_mean_and_have_the_cards_width():
    for pdg_id, eta, sigma in ((22, 0.0, detector.ecal_resolution), (130, 4.0, detector.hcal_resolution)):
        true, flow = gun(pdg_id, 200.0, eta)
        energy, measured = true[0, 0], flow.p4[:, 0]
        assert measured.mean() == pytest.approx(energy, rel=0.005)
        assert measured.std() == pytest.approx(float(sigma(energy, eta)), rel=0.03)


def test_formulas_at_points_computed_by_hand():
    assert detector.ecal_resolution(100.0, 0.0) == pytest.approx(np.sqrt(0.64 + 1.21 + 0.16))
    assert detector.ecal_resolution(100.0, 2.0) == pytest.approx(2.16 * np.sqrt(0.64 + 1.21 + 0.16))
    assert detector.hcal_resolution(100.0, 1.0) == pytest.approx(np.sqrt(25 + 225))
    assert detector.hcal_resolution(100.0, 4.0) == pytest.approx(np.sqrt(169 + 729))
    assert detector.b_tag_efficiency(5, 100.0) == pytest.approx(0.85 * np.tanh(0.25) * 25 / 7.3)
    assert detector.b_tag_efficiency(0, 100.0) == pytest.approx(0.0138)


def test_neutrinos_and_far_forward_particles_are_lost_and_soft_neutrals_stay_below_threshold():
    assert len(gun(12, 50.0, 0.0)[1].source) == 0
    assert len(gun(22, 50.0, 5.2)[1].source) == 0
    assert len(gun(2112, 1.0, 0.0)[1].source) < 200
    assert np.isclose(gun(2112, 100.0, 0.0)[1].p4[:, 0].mean(), 100.0, rtol=0.01)


def test_the_same_seed_measures_the_same():
    np.testing.assert_array_equal(gun(211, 20.0, 1.0)[1].p4, gun(211, 20.0, 1.0)[1].p4)


def test_cluster_gives_back_isolated_particles_and_their_indices():
    p4 = kinematics.from_pt_eta_phi_mass(
        np.array([50.0, 30.0, 1.0, 40.0]), np.array([0.0, 1.5, 1.6, -1.0]), np.array([0.0, 2.0, 2.1, 1.0]), np.zeros(4)
    )
    jets, inside = objects.cluster(Collection(p4, np.array([0, 0, 0, 2])), 3, min_pt=10)
    np.testing.assert_array_equal(jets.event, [0, 0, 2])
    assert [sorted(one) for one in ak.to_list(inside)] == [[0], [1, 2], [3]]
    np.testing.assert_allclose(jets.p4, [p4[0], p4[1] + p4[2], p4[3]])


def test_ranges_and_pairs():
    which, index = expand(np.array([5, 0, 9]), np.array([2, 0, 3]))
    np.testing.assert_array_equal(which, [0, 0, 2, 2, 2])
    np.testing.assert_array_equal(index, [5, 6, 9, 10, 11])
    a, b = pairs(np.array([0, 2, 2]), np.array([0, 0, 1, 2]))
    assert list(zip(a, b, strict=True)) == [(0, 0), (0, 1), (1, 3), (2, 3)]


def test_matching_is_unique_and_takes_the_nearest_first():
    a = np.array([0, 0, 1, 1, 2])
    b = np.array([0, 1, 0, 1, 1])
    distance = np.array([0.2, 0.3, 0.1, 0.25, 0.39])
    np.testing.assert_array_equal(unique_matches(a, b, distance, 3, within=0.4), [1, 0, -1])
    np.testing.assert_array_equal(unique_matches(a, b, distance, 3, within=0.15), [-1, 0, -1])
    np.testing.assert_array_equal(unique_matches(a[:0], b[:0], distance[:0], 2, within=0.4), [-1, -1])


def test_another_source_of_random_numbers_is_refused():
    with pytest.raises(InputError, match="rng: int given; a NumPy generator is needed"):
        detector.energy_flow(np.array([211]), np.array([[50.0, 50.0, 0.0, 0.0]]), np.array([True]), 1)
