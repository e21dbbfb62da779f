"""Integrands and their inverses, exact Jacobians, every factor once, what symmetries say."""

import math

import pytest
import torch

from rewind import kinematics
from rewind.mem.integrand import TTHCouplingIntegrand, TTHIntegrand
from rewind.mem.measured import split
from rewind.mem.topologies import TTH
from rewind.physics import amplitudes
from rewind.physics.recoil import without_recoil

NAMES = ("ttbar_dilepton", "tth_semileptonic", "tth_lost")


@pytest.mark.parametrize("name", NAMES)
def test_integrand_and_partons_are_inverses(simulated, name):
    integrand, partons, _, _, row, _ = simulated[name]
    u = integrand.variables(partons, row)
    assert ((u >= 0) & (u <= 1)).all()
    point = integrand.points(u, row)
    torch.testing.assert_close(point.partons, partons, rtol=1e-9, atol=1e-8)
    assert (point.jacobian > 0).all()


@pytest.mark.parametrize("name", ["ttbar_dilepton", "tth_semileptonic"])
def test_density_is_that_of_the_hadronic_process(simulated, name, detector):
    """dσ/dr of the generator and dσ by Π d³p/(2E) differ by the phase space's weight and the recoil's density."""
    integrand, outgoing = simulated[name][0], simulated[name][-1]
    process, hard = integrand.process, without_recoil(outgoing)
    u, weight = process.mapping.inverse(hard.momenta)
    r = torch.cat([process.fractions.inverse(hard.fractions(process.sqrt_s))[0], u], 1)
    collision = process.collisions(r.clip(0, 1))
    jacobian = process.fractions.forward(r[:, :2])[1] * weight
    x, recoil = collision.x, detector.log_recoil(hard.recoil).exp()
    # dx1 dx2 δ²(p_T) = (2/s) δ⁴ P d²q
    expected = collision.cross_section.sum(1) / jacobian * 2 / process.sqrt_s**2 * recoil
    assert (x < 1).all()
    torch.testing.assert_close(integrand.density(outgoing)[:, 0], expected, rtol=1e-6, atol=0)


def test_a_lost_quark_may_be_of_either_type(simulated, detector):
    integrand, outgoing = simulated["tth_lost"][0], simulated["tth_lost"][-1]
    both = TTHIntegrand(integrand.process, detector)
    down, up = TTH.lights
    exchanged = outgoing.clone()
    exchanged[:, [down, up]] = outgoing[:, [up, down]]
    expected = both.density(outgoing) + both.density(exchanged)
    torch.testing.assert_close(integrand.density(outgoing), expected)
    torch.testing.assert_close(integrand.density(exchanged), expected)


@pytest.mark.parametrize("name", NAMES)
def test_jacobian_is_autograds(simulated, name):
    """√det(JᵀJ) is a volume of neutrinos' momenta and quarks' sizes, whose directions are fixed; Π d³p/(2E) from it."""
    integrand, partons, _, _, row, _ = simulated[name]
    u = integrand.variables(partons, row).clip(0.02, 0.98)[:50]
    row = row[:50]

    def momenta(u, row):
        solution, _ = integrand._solve(u[None], split(row[None], integrand.topology))
        return torch.cat([p[0, 1:] for p in solution])

    slopes = torch.func.vmap(torch.func.jacrev(momenta))(u, row)
    point = integrand.points(u, row)
    volume = (slopes.mT @ slopes).det().sqrt()
    measure = [point.partons[:, i, 0] * 2 for i in integrand.topology.neutrinos + integrand.topology.lost]
    for place in integrand.topology.bottoms + integrand.topology.lights:
        p = point.partons[:, place]
        measure.append(2 * p[:, 0] / p[:, 1:].square().sum(1))
    expected = volume / torch.stack(measure).prod(0)
    fine = point.jacobian > 0
    assert fine.sum() > 30
    torch.testing.assert_close(point.jacobian[fine], expected[fine], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_integrand_is_the_product_of_its_parts(simulated, name, detector):
    """dσ, W of each jet, P of what left none, and p_T^miss: each of them once."""
    integrand, partons, event, _, row, _ = simulated[name]
    u = integrand.variables(partons, row)[:40]
    point = integrand.points(u, row[:40])
    t, p = integrand.topology, point.partons
    jets = split(row[:40], t)
    expected = integrand.density(p) * point.jacobian[:, None]
    for places, seen in ((t.bottoms, jets.bottoms), (t.lights, jets.lights)):
        for i, place in enumerate(places):
            expected = expected * detector.bottom.log_prob(seen[:, i, 0], p[:, place, 0]).exp()[:, None]
    for place in t.lost:
        least = t.selection.jet_pt * kinematics.eta(p[:, place]).cosh()
        chance = 1 - detector.bottom.survival(least, p[:, place, 0].clip(min=detector.bottom.energy_range[0]))
        outside = (kinematics.eta(p[:, place]).abs() > 2.5) | (p[:, place, 0] < detector.bottom.energy_range[0])
        expected = expected * torch.where(outside, 1.0, chance)[:, None]
    error = event.met[:40] - p[:, t.neutrinos, 1:3].sum(1)
    expected = expected * (-error.square().sum(1) / (2 * 16.0**2)).exp()[:, None] / (2 * math.pi * 16.0**2)
    torch.testing.assert_close(integrand.polynomial(u, row[:40]), expected, rtol=1e-8, atol=0)


def test_all_couplings_of_an_event_contain_its_cp_phase(simulated, detector):
    integrand, partons, _, _, row, _ = simulated["tth_semileptonic"]
    u = integrand.variables(partons, row)[:30]
    many = TTHCouplingIntegrand(integrand.process, detector).polynomial(u, row[:30])
    alpha = torch.tensor([0.0, 0.7, -1.2]).double()
    three = integrand.polynomial(u, row[:30]) @ amplitudes.cp_monomials(alpha).T
    torch.testing.assert_close(many @ amplitudes.coupling_monomials(1.0, alpha, 0.0).T, three, rtol=1e-8, atol=0)
