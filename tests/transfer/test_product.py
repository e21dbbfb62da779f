"""The product of double Gaussians and efficiencies: draws follow it, and energies are normalised above threshold."""

import torch

from chance import assert_agrees
from quark_jet_events import drawn_anew, factors, repeated
from rewind import kinematics
from rewind.physics.recoil import fit_recoil
from rewind.transfer import product


def test_draws_of_the_product_of_gaussians_follow_it(event):
    known = product.fit(event)
    drawn = drawn_anew(known, event, 3)
    chance, n = known.chances(event.partons), drawn.has_jet.numel()
    assert_agrees(chance.mean(), drawn.has_jet.double().mean(), (0.25 / n) ** 0.5)
    assert_agrees(chance.mean(), event.has_jet.double().mean(), (0.25 / n) ** 0.5)  # the fit's own events
    assert (kinematics.pt(drawn.jets)[drawn.has_jet] > 24.99).all()
    error = drawn.met - drawn.neutrino[:, 1:3]
    torch.testing.assert_close(torch.tensor(fit_recoil(error)), torch.tensor(known.met), rtol=0.25, atol=0)
    one = drawn[drawn.has_jet[:, 1]][0]
    threshold = float(25.0 * kinematics.eta(one.jets[0, 1]).cosh())
    energy = torch.linspace(threshold, 4_000, 8_000, dtype=torch.float64)
    many = repeated(one, len(energy))
    many.jets[:, 1] = many.jets[:, 1] / many.jets[:, 1, :1] * energy[:, None]
    assert abs(float(torch.trapezoid(factors(known, many).energy[:, 1].exp(), energy)) - 1) < 0.01
