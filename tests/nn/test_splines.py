"""Rational-quadratic splines of the unit interval."""

import torch

from rewind.nn.splines import unit_spline


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(n, dims, seed=1):
    return torch.rand(n, dims, generator=seeded(seed), dtype=torch.float64)


def test_spline_is_the_identity_at_zero_and_inverts():
    x = unit(500, 3)
    y, log_slope = unit_spline(x, torch.zeros(500, 3, 19, dtype=torch.float64))
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-12)
    parameters = 2 * torch.randn(500, 3, 19, generator=seeded(), dtype=torch.float64)
    y, log_slope = unit_spline(x, parameters)
    back, inverse_slope = unit_spline(y, parameters, inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse_slope, -log_slope, rtol=0, atol=1e-8)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(unit_spline(ends, parameters[0, :2])[0], ends, rtol=0, atol=1e-12)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(unit_spline(x, parameters)[0].sum(), x)
    torch.testing.assert_close(slope.log(), log_slope)
