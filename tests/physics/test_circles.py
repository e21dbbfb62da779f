"""Masses and an angle as coordinates of a neutrino: exact masses, exact Jacobians, the ellipse in the laboratory."""

import pytest
import torch

from rewind import kinematics
from rewind.neutrino.classical import ellipse
from rewind.neutrino.flows.mass_coordinates import mass_coordinates, masses
from rewind.nn.piecewise import PiecewiseDensity
from rewind.physics.circles import Circles, direction, equal_directions
from rewind.physics.constants import M_TOP, M_W


def vectors(seed, n=2000, scale=70.0):
    return scale * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def four(p, mass=0.0):
    return torch.cat([(p.square().sum(-1, keepdim=True) + mass**2).sqrt(), p], -1)


LEPTON, BOTTOM, NEUTRINO = four(vectors(1)), four(vectors(2), 8.0), vectors(3)
CIRCLES = Circles.of(LEPTON, BOTTOM)


def test_coordinates_are_the_masses_and_are_undone():
    m_w_squared, excess, angle, _ = CIRCLES.enter(NEUTRINO)
    nu = four(NEUTRINO)
    torch.testing.assert_close(m_w_squared, kinematics.mass_squared(LEPTON + nu), rtol=1e-9, atol=1e-6)
    m_t_squared = CIRCLES.least_m_top_squared(m_w_squared) + excess
    torch.testing.assert_close(m_t_squared, kinematics.mass_squared(LEPTON + nu + BOTTOM), rtol=1e-9, atol=1e-6)
    back = (CIRCLES.curve(m_w_squared, excess) @ direction(angle)[..., None])[..., 0]
    torch.testing.assert_close(back, NEUTRINO, rtol=0, atol=1e-7)


def test_jacobian_is_autograds():
    def coordinates(p, lepton, bottom):
        circles = Circles.of(lepton, bottom)
        m_w_squared, excess, angle, _ = circles.enter(p)
        return torch.stack([*mass_coordinates(circles, m_w_squared, excess)[:2], angle])

    some = slice(0, 200)
    jacobian = torch.func.vmap(torch.func.jacrev(coordinates))(NEUTRINO[some], LEPTON[some], BOTTOM[some])
    m_w_squared, excess, _, log_det = CIRCLES.enter(NEUTRINO)
    log_det = log_det + mass_coordinates(CIRCLES, m_w_squared, excess)[2]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[some], rtol=0, atol=1e-7)


def test_mass_coordinates_are_undone_and_vanish_on_shell():
    m_w_squared, excess, _, _ = CIRCLES.enter(NEUTRINO)
    w, top, _ = mass_coordinates(CIRCLES, m_w_squared, excess)
    back = masses(CIRCLES, w, top)
    torch.testing.assert_close(back[0], m_w_squared, rtol=1e-9, atol=0)
    torch.testing.assert_close(back[1], excess, rtol=1e-6, atol=1e-6)
    on_shell = torch.full_like(m_w_squared, M_W**2)
    room = M_TOP**2 - CIRCLES.least_m_top_squared(on_shell)
    far = room > 0.5 * M_TOP**2
    assert far.sum() > 100
    w, top, _ = mass_coordinates(CIRCLES, on_shell, room)
    assert (w.abs() < 1e-12).all()
    assert (top[far].abs() < 0.04).all()
    assert masses(CIRCLES, torch.zeros_like(w), torch.full_like(w, -50.0))[1].min() >= 0


def test_curves_are_the_ellipses():
    """The circle at nominal masses is the ellipse of chapter 3, where there is one."""
    legs = ellipse.leg_ellipse(LEPTON, BOTTOM)
    real = legs.is_real
    on_shell = torch.full_like(CIRCLES.b_minus, M_W**2)
    room = M_TOP**2 - CIRCLES.least_m_top_squared(on_shell)
    assert torch.equal(real, room > 0)
    curve = CIRCLES.curve(on_shell, room.clip(0))
    points = (curve @ equal_directions(5, curve)).mT
    away = torch.linalg.solve(legs.H[real], points[real].mT)  # (cos, sin, 1) of the ellipse
    torch.testing.assert_close(away[:, 2], torch.ones_like(away[:, 2]), rtol=0, atol=1e-6)
    torch.testing.assert_close(away[:, :2].norm(dim=1), torch.ones_like(away[:, 2]), rtol=0, atol=1e-6)


def test_collinear_lepton_and_b():
    lepton, bottom = four(torch.tensor([[0.0, 30.0, 40.0]])), four(torch.tensor([[0.0, 60.0, 80.0]]), 5.0)
    circles = Circles.of(lepton.double(), bottom.double())
    entered = circles.enter(NEUTRINO[:1])
    assert all(torch.isfinite(value).all() for value in entered)


@pytest.mark.parametrize("circle", [False, True])
def test_a_guide_is_a_density(circle):
    values = 3 * torch.randn(50, 17, generator=torch.Generator().manual_seed(0))
    guide = PiecewiseDensity.on_circle(values) if circle else PiecewiseDensity(values)
    share = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    normal, log_slope = guide.to_normal(share)
    (slope,) = torch.autograd.grad(normal.sum(), share)
    torch.testing.assert_close(slope.log(), log_slope, rtol=0, atol=1e-9)
    torch.testing.assert_close(guide.to_share(normal.detach()), share.detach(), rtol=0, atol=1e-9)
    grid = torch.linspace(1e-9, 1 - 1e-9, 4001, dtype=torch.float64)
    dense = [PiecewiseDensity(values[:1]).to_normal(x[None]) for x in grid]
    density = torch.stack([slope - (z**2 / 2) for z, slope in dense])[:, 0].exp() / (2 * torch.pi) ** 0.5
    assert abs(torch.trapezoid(density, grid) - 1) < 1e-3


def test_a_guide_excludes_nothing():
    guide = PiecewiseDensity(torch.tensor([[0.0, -1e4, -1e4, 0.0]]))
    normal, log_slope = guide.to_normal(torch.tensor([0.5]))
    assert abs(float(normal)) < 1e-9
    assert abs(float(log_slope.exp() / (2 * torch.pi) ** 0.5) - 1e-3) < 1e-6
