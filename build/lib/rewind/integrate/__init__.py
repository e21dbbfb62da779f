"""Integrals over the unit hypercube: one interface over samplers, and estimates that say whether to trust them.

An integrand is a function of points ``(B, dims)`` in [0, 1] that returns ``(B,)``. Any
:class:`~rewind.integrate.samplers.Sampler` draws points with their density;
:func:`~rewind.integrate.samplers.integrate` does the rest.
"""

from rewind.integrate.contest import Contest, Trial, contest, trial
from rewind.integrate.estimates import Integral, largest_weight, pareto_shape, summarize, unweighting_efficiency
from rewind.integrate.flows import SplineFlow, kl_loss, train, variance_loss
from rewind.integrate.recipes import adapted_grid, learnt_shares, started_flow, trained_flow
from rewind.integrate.samplers import Mapped, Mixture, Sampler, Uniform, VegasGrid, ZeroIntegrandError, integrate
from rewind.integrate.unweighting import Unweighted, unweight

__all__ = [
    "Contest",
    "Integral",
    "Mapped",
    "Mixture",
    "Sampler",
    "SplineFlow",
    "Trial",
    "Uniform",
    "Unweighted",
    "VegasGrid",
    "ZeroIntegrandError",
    "adapted_grid",
    "contest",
    "integrate",
    "kl_loss",
    "largest_weight",
    "learnt_shares",
    "pareto_shape",
    "started_flow",
    "summarize",
    "train",
    "trained_flow",
    "trial",
    "unweight",
    "unweighting_efficiency",
    "variance_loss",
]
