"""Samplers of the unit hypercube that several tests look at, and random numbers for them."""

from functools import partial

import torch

from rewind.integrate import Mapped, Mixture, Sampler, SplineFlow, Uniform, VegasGrid
from rewind.toys.integrands import camel


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(n, dims, seed=1):
    return torch.rand(n, dims, generator=seeded(seed), dtype=torch.float64)


def stirred(sampler, size=0.3):
    """Move learnt parameters away from where they start."""
    generator = seeded(7)
    with torch.no_grad():
        for values in sampler.parameters():
            values += size * torch.randn(values.shape, generator=generator, dtype=values.dtype)
    return sampler


def adapted(dims=2, bins=32):
    return VegasGrid(dims, bins).adapt(camel, seeded(), points=2000, iterations=4)


def squares(u):
    return u**2, (2 * u).prod(1)


def roots(x):
    return x.sqrt(), (2 * x.sqrt()).prod(1)


class AtContext(Sampler):
    """A conditional flow at one context."""

    def __init__(self, flow, context):
        super().__init__()
        self.dims, self.flow, self.context = flow.dims, flow, context

    def sample(self, n, generator):
        return self.flow.sample(n, generator, self.context[None], torch.zeros(n, dtype=torch.long))

    def log_prob(self, points):
        return self.flow.log_prob(points, self.context.expand(len(points), -1))


SAMPLERS = {
    "uniform": partial(Uniform, 2),
    "grid": adapted,
    "flow": lambda: stirred(SplineFlow(2, bins=6, hidden=16)),
    "flow of one dimension": lambda: stirred(SplineFlow(1, layers=1, bins=6, hidden=16)),
    "flow after a grid": lambda: stirred(SplineFlow(2, bins=6, hidden=16).start_from(adapted())),
    "flow at a context": lambda: AtContext(
        stirred(SplineFlow(2, 3, bins=6, hidden=16)), torch.tensor([0.3, -1.0, 2.0])
    ),
    "mixture": lambda: Mixture([adapted(), Uniform(2), stirred(SplineFlow(2, bins=4, hidden=8))], [3.0, 1.0, 1.0]),
    "mapped": lambda: Mapped(stirred(SplineFlow(2, bins=6, hidden=16)), squares, roots),
}
