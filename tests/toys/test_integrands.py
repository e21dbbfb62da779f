"""Integrands with known values."""

import math

import numpy as np
import pytest
import torch

from chance import assert_mean
from rewind.toys.integrands import INTEGRANDS


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(n, dims, seed=1):
    return torch.rand(n, dims, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", INTEGRANDS)
def test_integrands_have_their_values(name):
    function, dims, value = INTEGRANDS[name]
    nodes, weights = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(30))
    nodes, precision = nodes + 0.5, 1e-8
    if name == "annulus":  # a ring in polar coordinates
        radius, angle = 0.2 + 0.25 * nodes, math.pi / 2 * nodes
        polar = torch.stack([radius[:, None] * angle.cos(), radius[:, None] * angle.sin()], -1)
        inside = function(polar.reshape(-1, 2)).reshape(30, 30)
        expected = float(weights @ (inside * 0.25 * math.pi / 2 * radius[:, None]) @ weights)
        assert_mean(function(unit(200_000, 2)), value)
    elif name == "circles":  # kinks along both circles: midpoints
        middle = (torch.arange(1500, dtype=torch.float64) + 0.5) / 1500
        expected, precision = float(function(torch.cartesian_prod(middle, middle)).mean()), 1e-5
    elif dims == 8:  # bells are products, and both humps of the camel alike
        expected = INTEGRANDS[name.replace("8", "4")].value ** 2
    else:
        grid = torch.cartesian_prod(*[nodes] * dims)
        expected = float(function(grid) @ torch.cartesian_prod(*[weights] * dims).prod(1))
    assert expected == pytest.approx(value, rel=precision)
