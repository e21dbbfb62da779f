"""Spin correlations: the axes, the limits at threshold, and amplitudes against the formulas."""

import math

import pytest
import torch

from chance import assert_agrees
from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.amplitudes import Parameters, squared
from rewind.physics.hadronic import decay_tree, with_incoming
from rewind.physics.spin import leading_order_correlation, lepton_directions, opening_cosine


def test_threshold_and_high_energy():
    gluons, quarks = leading_order_correlation(torch.zeros(1), torch.tensor([0.3]))[0]
    torch.testing.assert_close(gluons, -torch.ones(3, dtype=torch.float64))  # a singlet
    assert float(quarks.sum()) == pytest.approx(1.0)  # a triplet, along the beam
    beta, cosine = torch.rand(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    correlation = leading_order_correlation(beta, cosine)
    torch.testing.assert_close(correlation[:, 1].sum(1), torch.ones(100, dtype=torch.float64))
    assert (correlation.abs() <= 1 + 1e-12).all()
    torch.testing.assert_close(correlation, leading_order_correlation(beta, -cosine))
    (fast,) = leading_order_correlation(torch.tensor([1 - 1e-9], dtype=torch.float64), torch.zeros(1))[:, 0]
    torch.testing.assert_close(fast, torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("initial", [0, 1], ids=["gluons", "quarks"])
@pytest.mark.parametrize(("energy", "cosine"), [(360.0, 0.2), (700.0, 0.5), (1500.0, 0.1)])
def test_decayed_amplitudes_have_them(initial, energy, cosine):
    """At fixed production, C of the leptons over all decays, weighted with the squared amplitude."""
    parameters = Parameters.from_constants(w_t=1e-2, w_w=1e-2)
    tree = decay_tree("tt_dilep", parameters)
    r = torch.rand(60_000, tree.dims, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    r[:, 2] = (1 + cosine) / 2  # the top's angle; its mass and the antitop's come before
    momenta, weight = tree.forward(r, energy)
    p = with_incoming(momenta, torch.full((len(r),), energy, dtype=torch.float64))
    weight = weight * squared(("gg_tt_dilep", "uux_tt_dilep")[initial], p, parameters=parameters, check=False)
    top, antitop = momenta[:, :3].sum(1), momenta[:, 3:].sum(1)
    plus, minus = lepton_directions(top, antitop, momenta[:, 0], momenta[:, 3])
    products = -9 * plus * minus
    correlation = (weight[:, None] * products).sum(0) / weight.sum()
    error = (weight[:, None] ** 2 * (products - correlation) ** 2).sum(0).sqrt() / weight.sum()
    beta = math.sqrt(1 - 4 * parameters.m_t**2 / energy**2)
    expected = leading_order_correlation(torch.tensor([beta]), torch.tensor([cosine]))[0, initial]
    assert_agrees(correlation, expected, error)
    assert (error < 0.03).all()


def test_axes_turn_with_the_event_and_boosts_along_the_beam_do_nothing():
    generator = torch.Generator().manual_seed(3)
    parameters = Parameters.from_constants()
    tree = decay_tree("tt_dilep", parameters)
    r = torch.rand(100, tree.dims, dtype=torch.float64, generator=generator)
    p = tree.forward(r, 800.0)[0]

    def directions(p):
        return torch.cat(lepton_directions(p[:, :3].sum(1), p[:, 3:].sum(1), p[:, 0], p[:, 3]), 1)

    at_rest = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64).expand(100, 4)
    moving = torch.tensor([[1.25, 0.0, 0.0, 0.75]], dtype=torch.float64).expand(100, 4)
    boosted = kinematics.boost_between(p, at_rest[:, None], moving[:, None])
    torch.testing.assert_close(directions(boosted), directions(p), rtol=0, atol=1e-7)
    turned = p.clone()
    turned[..., 1], turned[..., 2] = 0.6 * p[..., 1] - 0.8 * p[..., 2], 0.8 * p[..., 1] + 0.6 * p[..., 2]
    torch.testing.assert_close(directions(turned), directions(p), rtol=0, atol=1e-7)
    cosine = opening_cosine(p[:, :3].sum(1), p[:, 3:].sum(1), p[:, 0], p[:, 3])
    torch.testing.assert_close(cosine, (directions(p)[:, :3] * directions(p)[:, 3:]).sum(1))


def test_bad_input():
    with pytest.raises(InputError, match="beta, cosine: the first must lie in"):
        leading_order_correlation(torch.ones(1), torch.zeros(1))
    with pytest.raises(InputError, match="event 0 is not finite"):
        lepton_directions(*(torch.full((1, 4), math.nan) for _ in range(4)))
