"""Integrals over the unit hypercube: one interface over samplers, and estimates that say whether to trust them.

An integrand is a function of points ``(B, dims)`` in [0, 1] that returns ``(B,)``. Any
:class:`~rewind.integrate.samplers.Sampler` draws points with their density;
:func:`~rewind.integrate.samplers.integrate` does the rest.
"""

from rewind.integrate.estimates import Integral, largest_weight, pareto_shape, summarize, unweighting_efficiency
from rewind.integrate.flows import Conditioned, SplineFlow, kl_loss, train, variance_loss
from rewind.integrate.samplers import Mapped, Mixture, Sampler, Uniform, VegasGrid, integrate
from rewind.integrate.unweighting import Unweighted, unweight

__all__ = [
    "Conditioned",
    "Integral",
    "Mapped",
    "Mixture",
    "Sampler",
    "SplineFlow",
    "Uniform",
    "Unweighted",
    "VegasGrid",
    "integrate",
    "kl_loss",
    "largest_weight",
    "pareto_shape",
    "summarize",
    "train",
    "unweight",
    "unweighting_efficiency",
    "variance_loss",
]
