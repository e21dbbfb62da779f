"""Integrands on the unit hypercube with known integrals, each hard in its own way (i-flow, 2001.05486, sec. III).

>>> import torch
>>> round(float(INTEGRANDS['box'].value * 1e10), 4)
1.937
>>> camel(torch.full((1, 4), 0.5).double()).shape
torch.Size([1])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["INTEGRANDS", "Integrand", "annulus", "box", "camel", "circles", "gaussian"]

_WIDTH = 0.2  # of Gaussian and camel


class Integrand(NamedTuple):
    """Hold a ``function`` of points ``(B, dims)`` in the unit hypercube and its integral ``value``."""

    function: Callable[[Tensor], Tensor]
    dims: int
    value: float


def circles(x: Tensor) -> Tensor:
    """Return two entangled circles of radius 0.25, each fading to one side; ``x`` ``(B, 2)``."""
    first, second = x.unbind(-1)
    one = -250 * ((second - 0.6) ** 2 + (first - 0.4) ** 2 - 0.0625).abs()
    other = -250 * ((second - 0.4) ** 2 + (first - 0.6) ** 2 - 0.0625).abs()
    return second**3 * one.exp() + (1 - second) ** 3 * other.exp()


def annulus(x: Tensor) -> Tensor:
    """Return 1 between the radii 0.2 and 0.45 about the origin and 0 elsewhere; ``x`` ``(B, 2)``."""
    radius = x.norm(dim=-1)
    return ((radius > 0.2) & (radius < 0.45)).to(x)


def box(x: Tensor) -> Tensor:
    """Return the Feynman parameters' integrand of gg → gh through a scalar top box, GeV⁻⁴; ``x`` ``(B, 3)``.

    The one-loop box with s12 = 130², s23 = −s12/2, s4 = 125² and four propagators of mass 175 GeV, in four sectors.
    """
    t1, t2, t3 = x.unbind(-1)
    mass = 175.0**2 * (1 + x.sum(-1)) ** 2
    s12, s23, s4 = 130.0**2, -(130.0**2) / 2, 125.0**2
    sectors = (
        mass - s12 * t2 - s23 * t1 * t3 - s4 * t3,
        mass - s23 * t2 - s12 * t1 * t3 - s4 * t2 * t3,
        mass - s12 * t2 - s23 * t1 * t3 - s4 * t1 * t2,
        mass - s23 * t2 - s12 * t1 * t3 - s4 * t1,
    )
    return sum(sector**-2 for sector in sectors)


def _bell(x: Tensor, centre: float) -> Tensor:
    """Return a normalised Gaussian of standard deviation 0.2/√2 in every coordinate."""
    return (-((x - centre) ** 2).sum(-1) / _WIDTH**2).exp() / (_WIDTH * math.sqrt(math.pi)) ** x.shape[-1]


def gaussian(x: Tensor) -> Tensor:
    """Return a Gaussian in the middle of the hypercube; ``x`` ``(B, D)``."""
    return _bell(x, 0.5)


def camel(x: Tensor) -> Tensor:
    """Return the mean of two Gaussians, at a third and at two thirds of the diagonal; ``x`` ``(B, D)``."""
    return (_bell(x, 1 / 3) + _bell(x, 2 / 3)) / 2


def _inside(centre: float, dims: int) -> float:
    """Return the share of a Gaussian of :func:`_bell` inside the hypercube."""
    return ((math.erf(centre / _WIDTH) + math.erf((1 - centre) / _WIDTH)) / 2) ** dims


INTEGRANDS = {
    "circles": Integrand(circles, 2, 0.013684776724733),
    "annulus": Integrand(annulus, 2, math.pi / 4 * (0.45**2 - 0.2**2)),
    "box": Integrand(box, 3, 1.936964024e-10),
    **{f"gaussian {d}D": Integrand(gaussian, d, _inside(0.5, d)) for d in (4, 8)},
    **{f"camel {d}D": Integrand(camel, d, _inside(1 / 3, d)) for d in (4, 8)},
}
