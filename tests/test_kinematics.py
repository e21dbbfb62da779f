import numpy as np
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
