"""Samplers of the unit hypercube: each draws points with a density that it can also evaluate anywhere.

>>> estimate = integrate(lambda x: x.sum(1), Uniform(2), 10_000, torch.Generator().manual_seed(1))
>>> abs(estimate.value - 1) < 5 * estimate.error
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.integrate.estimates import Integral, summarize
from rewind.random_numbers import require_generator

__all__ = [
    "Integrand",
    "Mapped",
    "Mixture",
    "Sampler",
    "Uniform",
    "VegasGrid",
    "ZeroIntegrandError",
    "evaluated",
    "integrate",
]

Integrand = Callable[..., Tensor]
Change = Callable[[Tensor], tuple[Tensor, Tensor]]


class ZeroIntegrandError(InputError):
    """Say that an integrand vanished wherever it was looked at."""


class Sampler(nn.Module):
    """Give points of the unit hypercube in ``dims`` dimensions; subclasses define both methods."""

    dims: int

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points ``(n, dims)`` in float64 and the logarithm of their density ``(n,)``."""
        raise NotImplementedError

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)`` at ``points`` ``(B, dims)``."""
        raise NotImplementedError


def _uniform(n: int, dims: int, generator: torch.Generator) -> Tensor:
    generator = require_generator(generator)
    return torch.rand(n, dims, generator=generator, dtype=torch.float64, device=generator.device)


def evaluated(integrand: Integrand, points: Tensor, *context: Tensor) -> Tensor:
    """Return ``integrand(points)`` ``(B,)`` in float64, without a graph.

    Raises InputError, with the first point, where its shape is another or it is not finite.
    """
    with torch.no_grad():
        values = torch.as_tensor(integrand(points, *context))
    if values.shape != (len(points),):
        raise InputError(f"integrand: returned shape {tuple(values.shape)} for {len(points)} points; ({len(points)},)")
    bad = ~values.isfinite()
    if bad.any():
        i = int(bad.nonzero()[0])
        where = ", ".join(f"{x:.6g}" for x in points[i].tolist())
        raise InputError(f"integrand: is {float(values[i]):g} at ({where}), {int(bad.sum())} points in all")
    return values.to(torch.float64)


@torch.no_grad()
def integrate(
    integrand: Integrand, sampler: Sampler, n: int, generator: torch.Generator, *, batch: int = 50_000
) -> Integral:
    """Estimate ∫ f over the unit hypercube as the mean of f/q at ``n`` points drawn from ``sampler``.

    ``integrand`` maps points ``(B, dims)`` to ``(B,)``; it sees at most ``batch`` at once. An integrand that is zero
    everywhere gives a flagged zero. Raises InputError for fewer than two points, and where the integrand returns
    another shape or values that are not finite.
    """
    if n < 2 or batch < 1:
        raise InputError(f"n = {n}, batch = {batch}: at least two points and a batch of one are needed")
    weights = []
    for start in range(0, n, batch):
        points, log_density = sampler.sample(min(batch, n - start), generator)
        weights.append(evaluated(integrand, points) * (-log_density.double()).exp())
    return summarize(torch.cat(weights))


class Uniform(Sampler):
    """Draw points evenly: plain Monte Carlo."""

    def __init__(self, dims: int):
        super().__init__()
        self.dims = dims

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points ``(n, dims)`` and zeros ``(n,)``."""
        points = _uniform(n, self.dims, generator)
        return points, torch.zeros_like(points[:, 0])

    def log_prob(self, points: Tensor) -> Tensor:
        """Return zeros ``(B,)``."""
        return torch.zeros_like(points[:, 0])


class VegasGrid(Sampler):
    """Draw from a product of histograms whose bins hold equal probability (Lepage, J. Comput. Phys. 27 (1978) 192).

    ``edges`` ``(dims, bins + 1)`` start equidistant; :meth:`adapt` moves them. ``forward`` maps uniform numbers to
    points, ``inverse`` back; both return the logarithm of ``|dx/dy|`` as well.
    """

    def __init__(self, dims: int, bins: int = 32):
        super().__init__()
        if dims < 1 or bins < 2:
            raise InputError(f"dims = {dims}, bins = {bins}: at least one dimension and two bins are needed")
        self.dims, self.bins = dims, bins
        self.register_buffer("edges", torch.linspace(0, 1, bins + 1, dtype=torch.float64).repeat(dims, 1))

    def _bin(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower edges and widths ``(B, dims)`` of the bins ``k`` ``(B, dims)``."""
        return self.edges[:, :-1].T.gather(0, k), self.edges.diff(dim=1).T.gather(0, k)

    def _which(self, y: Tensor) -> Tensor:
        return (y * self.bins).long().clip(0, self.bins - 1)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return points at uniform numbers ``y`` ``(B, dims)``, and ln ``|dx/dy|`` ``(B,)``."""
        k = self._which(y)
        low, width = self._bin(k)
        return low + (y * self.bins - k) * width, (width * self.bins).log().sum(1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return uniform numbers at points ``x`` ``(B, dims)``, and ln ``|dx/dy|`` ``(B,)``."""
        k = (torch.searchsorted(self.edges, x.to(self.edges).T.contiguous(), right=True) - 1).T.clip(0, self.bins - 1)
        low, width = self._bin(k)
        return (k + (x - low) / width) / self.bins, (width * self.bins).log().sum(1)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points ``(n, dims)`` and the logarithm of their density."""
        points, log_jacobian = self.forward(_uniform(n, self.dims, generator))
        return points, -log_jacobian

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)``."""
        return -self.inverse(points)[1]

    @torch.no_grad()
    def adapt(
        self,
        integrand: Integrand,
        generator: torch.Generator,
        *,
        points: int = 10_000,
        iterations: int = 10,
        damping: float = 0.7,
    ) -> VegasGrid:
        """Move the edges, ``iterations`` times, as :meth:`refine` does after ``points`` points.

        Raises InputError as :func:`integrate` does, and for an integrand that is zero at all points.
        """
        for _ in range(iterations):
            y = _uniform(points, self.dims, generator)
            x, log_jacobian = self.forward(y)
            self.refine(y, evaluated(integrand, x) * log_jacobian.exp(), damping=damping)
        return self

    @torch.no_grad()
    def refine(self, y: Tensor, weights: Tensor, *, damping: float = 0.7) -> None:
        """Move the edges once, so that all bins hold alike of Σ (f/q)², of ``weights`` f/q ``(B,)`` at uniform ``y``.

        Before that the sums are averaged with their neighbours' (1 : 6 : 1) and compressed, m = ((1 − s)/ln(1/s)) to
        the power ``damping`` of shares s. Raises ZeroIntegrandError where all weights vanish.
        """
        squared = weights**2
        if not squared.any():
            raise ZeroIntegrandError(
                f"integrand: zero at all {len(y)} points; nothing to adapt to, draw more or look closer"
            )
        sums = torch.zeros_like(self.edges[:, 1:]).T
        sums.scatter_add_(0, self._which(y), squared[:, None].expand_as(y))
        self.edges.copy_(self._moved(sums.T, damping))

    def _moved(self, sums: Tensor, damping: float) -> Tensor:
        padded = torch.cat([sums[:, :1], sums, sums[:, -1:]], 1)
        share = (padded[:, :-2] + 6 * sums + padded[:, 2:]) / (8 * sums.sum(1, keepdim=True))
        share = share.clip(1e-30, 1 - 1e-12)
        importance = ((1 - share) / -share.log()) ** damping
        climb = nn.functional.pad((importance / importance.sum(1, keepdim=True)).cumsum(1), (1, 0))
        target = torch.arange(1, self.bins, device=climb.device).to(climb) / self.bins
        target = target.expand(self.dims, -1).contiguous()
        k = (torch.searchsorted(climb, target, right=True) - 1).clip(0, self.bins - 1)
        low, high = climb.gather(1, k), climb.gather(1, k + 1)
        left, right = self.edges.gather(1, k), self.edges.gather(1, k + 1)
        edges = self.edges.clone()
        edges[:, 1:-1] = left + (target - low) / (high - low) * (right - left)
        return edges


class Mixture(Sampler):
    """Draw from several samplers with learnt shares: a multi-channel sampler (Kleiss and Pittau, hep-ph/9405257).

    The density is Σ α_i q_i, so that a point counts with it whatever channel it came from. ``shares`` start equal
    unless given; training learns them with the channels unless ``learn`` is False (a defensive admixture). Raises
    InputError for channels of different dimensions and shares that are not positive.
    """

    def __init__(self, channels: Sequence[Sampler], shares: Sequence[float] | None = None, *, learn: bool = True):
        super().__init__()
        dims = {channel.dims for channel in channels}
        shares = torch.as_tensor([1.0] * len(channels) if shares is None else shares, dtype=torch.float64)
        if len(dims) != 1:
            raise InputError(f"channels of {sorted(dims)} dimensions: all must have the same number")
        if len(shares) != len(channels) or not (shares > 0).all():
            raise InputError(f"shares {shares.tolist()}: {len(channels)} positive numbers are needed")
        self.dims = dims.pop()
        self.channels = nn.ModuleList(channels)
        self.logits = nn.Parameter(shares.log(), requires_grad=learn)

    @property
    def shares(self) -> Tensor:
        """Return the channels' shares of the points ``(channels,)``."""
        return self.logits.detach().softmax(0)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points ``(n, dims)`` in random order, and the logarithm of their density.

        The counts are systematic: nα_i in the mean, and within one of it.
        """
        generator, ends = require_generator(generator), n * self.shares.cumsum(0) / self.shares.sum()
        shift = torch.rand(1, generator=generator, dtype=torch.float64, device=generator.device).to(ends)
        ends = (ends + shift).floor().long()
        ends[-1] = n
        counts = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
        points = torch.cat([c.sample(k, generator)[0] for c, k in zip(self.channels, counts, strict=True) if k])
        points = points[torch.randperm(n, generator=generator, device=generator.device).to(points.device)]
        return points, self.log_prob(points).detach()

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)``."""
        parts = torch.stack([channel.log_prob(points) for channel in self.channels], -1)
        return (self.logits.log_softmax(0) + parts).logsumexp(-1)


class Mapped(Sampler):
    """See another sampler through a change of variables: a channel.

    ``forward`` maps its points ``(B, dims)`` to those of this one and returns ``|dx/du|`` ``(B,)`` as well; ``inverse``
    goes back with the same ``|dx/du|``.
    """

    def __init__(self, inner: Sampler, forward: Change, inverse: Change):
        super().__init__()
        self.dims, self.inner = inner.dims, inner
        self._out, self._back = forward, inverse

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points ``(n, dims)`` and the logarithm of their density."""
        u, log_density = self.inner.sample(n, generator)
        points, jacobian = self._out(u)
        return points, log_density - jacobian.log()

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)``."""
        u, jacobian = self._back(points)
        return self.inner.log_prob(u) - jacobian.log()
