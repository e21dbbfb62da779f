"""Momenta of a decay's legs: masses that are asked for, Jacobians that are autograd's."""

import pytest
import torch

from rewind import kinematics
from rewind.physics.leg_kinematics import along, leptonic_leg, partner, turn_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unit_vectors(n, seed):
    p = torch.randn(n, 3, generator=generator(seed), dtype=torch.float64)
    return p / p.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("mass", [0.0, 4.8])
def test_a_partner_makes_the_mass_and_its_jacobian_is_autograds(mass):
    known = along(40 + 100 * torch.rand(500, generator=generator(), dtype=torch.float64), unit_vectors(500, 1), 4.8)
    squared = torch.full((500,), 120.0**2, dtype=torch.float64, requires_grad=True)
    second = partner(known, unit_vectors(500, 2), mass, squared)
    torch.testing.assert_close(kinematics.mass_squared(known + second.momentum), squared, rtol=1e-9, atol=1e-6)
    (slope,) = torch.autograd.grad(second.momentum[:, 0].sum(), squared)
    torch.testing.assert_close(second.jacobian, slope.abs())


def test_a_partner_that_cannot_be_is_nan():
    known = along(torch.tensor([3_000.0], dtype=torch.float64), unit_vectors(1, 1), 0.0)
    assert partner(known, unit_vectors(1, 1), 0.0, torch.tensor([1e4])).momentum.isnan().any()


def test_a_leptonic_leg_has_its_masses_and_phase_space():
    """d³p/(2E) = J dm_W² dm_t² dturn: autograd's determinant of the neutrino by the three coordinates over 2E."""
    lepton = along(torch.full((100,), 60.0).double(), unit_vectors(100, 3), 0.0)
    bottom = along(torch.full((100,), 90.0).double(), unit_vectors(100, 4), 4.8)
    x = torch.stack([torch.full((100,), 80.0**2), torch.full((100,), 250.0**2), torch.rand(100)], 1).double()

    def neutrino(x, lepton, bottom):
        return leptonic_leg(lepton[None], bottom[None], x[:1], x[1:2], x[2:]).neutrino[0, 1:]

    slopes = torch.func.vmap(torch.func.jacrev(neutrino))(x, lepton, bottom)
    leg = leptonic_leg(lepton, bottom, *x.unbind(1))
    torch.testing.assert_close(torch.linalg.det(slopes).abs() / (2 * leg.neutrino[:, 0]), leg.jacobian)
    torch.testing.assert_close(turn_of(lepton, bottom, leg.neutrino), x[:, 2])
    torch.testing.assert_close(kinematics.mass_squared(lepton + bottom + leg.neutrino), x[:, 1])
