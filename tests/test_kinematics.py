import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind import kinematics as k

momentum = st.floats(-500, 500, allow_nan=False)


def vectors(*components, mass):
    p = np.array(components, dtype=float)
    return np.array([np.sqrt((p**2).sum() + mass**2), *p])


@given(px=momentum, py=momentum, pz=momentum, qx=momentum, qz=momentum, mass=st.floats(1, 200))
def test_boost_carries_source_into_target_and_back(px, py, pz, qx, qz, mass):
    source, target = vectors(px, py, pz, mass=mass), vectors(qx, 3.0, qz, mass=mass)
    np.testing.assert_allclose(k.boost_between(source, source, target), target, rtol=1e-8, atol=1e-6)
    other = vectors(5.0, -7.0, 11.0, mass=2.0)
    there = k.boost_between(other, source, target)
    np.testing.assert_allclose(k.boost_between(there, target, source), other, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(k.mass_squared(there), 4.0, rtol=1e-4, atol=1e-4 * there[0])


@given(pt=st.floats(0.1, 1e3), eta=st.floats(-5, 5), phi=st.floats(-3.14, 3.14), mass=st.floats(0, 200))
def test_collider_coordinates_round_trip(pt, eta, phi, mass):
    p = k.from_pt_eta_phi_mass(*(np.array(value) for value in (pt, eta, phi, mass)))
    np.testing.assert_allclose([k.pt(p), k.eta(p), k.phi(p)], [pt, eta, phi], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(k.mass(p), mass, atol=1e-6 * p[0])
    as_tensor = torch.tensor(p)
    np.testing.assert_allclose(k.eta(as_tensor), k.eta(p))


@given(a=st.floats(-10, 10), b=st.floats(-10, 10))
def test_delta_phi_is_wrapped_and_equivalent(a, b):
    d = k.delta_phi(a, b)
    assert -np.pi <= d <= np.pi
    np.testing.assert_allclose(np.exp(1j * d), np.exp(1j * (a - b)), atol=1e-9)


def test_delta_r_crosses_the_seam_of_azimuths():
    first, second = (k.from_pt_eta_phi_mass(*map(np.float64, x)) for x in ((30, 0.5, 3.1, 0), (50, 0.1, -3.1, 5)))
    turn = 2 * np.pi - 6.2
    expected = np.hypot(k.eta(first) - k.eta(second), turn)
    np.testing.assert_allclose(k.delta_r(first, second), expected)
    np.testing.assert_allclose(k.delta_r(torch.from_numpy(first), torch.from_numpy(second)).numpy(), expected)


KINDS = [
    (np.array, np.float64, 1e-12),
    (np.array, np.float32, 1e-5),
    (torch.tensor, torch.float64, 1e-12),
    (torch.tensor, torch.float32, 1e-5),
]
kinds = pytest.mark.parametrize(("make", "dtype", "slack"), KINDS, ids=["numpy64", "numpy32", "torch64", "torch32"])


def momenta(n, make, dtype, mass=80.0, seed=1):
    space = np.random.default_rng(seed).normal(0, 60, (n, 3))
    return make(np.concatenate([np.sqrt((space**2).sum(-1) + mass**2)[:, None], space], 1).tolist(), dtype=dtype)


@kinds
def test_rest_frames_are_entered_and_left(make, dtype, slack):
    p, frame = momenta(50, make, dtype, mass=5.0), momenta(50, make, dtype, seed=2)
    inside = k.to_rest(p, frame)
    assert inside.dtype == dtype
    np.testing.assert_allclose(k.from_rest(inside, frame), p, atol=400 * slack)
    np.testing.assert_allclose(k.to_rest(frame, frame)[:, 1:], 0 * p[:, 1:], atol=400 * slack)
    np.testing.assert_allclose(k.mass_squared(inside), 25.0, atol=4e4 * slack)
    np.testing.assert_allclose(k.to_rest(p, frame, k.mass(frame)), inside)


@kinds
def test_a_rest_frame_is_reached_by_the_boost_between_it_and_rest(make, dtype, slack):
    p, frame = momenta(50, make, dtype, mass=5.0), momenta(50, make, dtype, seed=2)
    rest = 0 * frame
    rest[:, 0] = k.mass(frame)
    np.testing.assert_allclose(k.to_rest(p, frame), k.boost_between(p, frame, rest), atol=1e3 * slack)


def test_several_particles_share_a_frame_and_a_slow_one_changes_little():
    p, frame = momenta(12, torch.tensor, torch.float64).reshape(4, 3, 4), momenta(4, torch.tensor, torch.float64)
    inside = k.to_rest(p, p.sum(1, keepdim=True))
    np.testing.assert_allclose(inside.sum(1)[:, 1:], np.zeros((4, 3)), atol=1e-10)
    slow = frame[:, None] * torch.tensor([1.0, 1e-9, 1e-9, 1e-9])
    np.testing.assert_allclose(k.to_rest(p, slow), p, rtol=1e-6, atol=1e-6)


@kinds
def test_four_momenta_from_three(make, dtype, slack):
    space = momenta(20, make, dtype)[:, 1:]
    space[0] = 0
    light, heavy = k.massless(space), k.with_mass(space, 80.0)
    assert light.dtype == heavy.dtype == dtype
    np.testing.assert_array_equal(light[:, 1:], space)
    np.testing.assert_allclose(light[:, 0], ((space**2).sum(-1)) ** 0.5, rtol=slack)
    np.testing.assert_allclose(k.mass(heavy), 80.0, rtol=20 * slack)
    np.testing.assert_allclose(k.with_mass(space, 0.0), light, rtol=slack)
    masses = heavy[:, 0] * 0 + 3.0
    np.testing.assert_allclose(k.with_mass(space, masses), k.with_mass(space, 3.0))
