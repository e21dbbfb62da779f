"""Neural importance sampling: autoregressive spline flows of the unit hypercube, and how samplers learn.

A flow factorises its density, q(x) = Π q(x_k | x_1 … x_{k−1}): a small network for each coordinate predicts a
rational-quadratic spline from those before it (1906.04032). Sampling goes through the coordinates one by one, at the
cost of one evaluation.

>>> flow = SplineFlow(2)
>>> points, log_density = flow.sample(3, torch.Generator().manual_seed(1))
>>> tuple(points.shape), bool(log_density.abs().max() < 1e-6)  # untrained, it is uniform
((3, 2), True)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from tqdm import tqdm

from rewind.errors import InputError
from rewind.integrate.samplers import Integrand, Sampler, Uniform, VegasGrid, evaluated
from rewind.nn.splines import spline, unit_spline
from rewind.nn.training import Optimization
from rewind.progress import visible
from rewind.random_numbers import require_generator

_RECENT = 16  # batches kept for replays
_FORGET = 0.02  # of the integral's running mean, per batch
_ROWS = 8_192  # what stays in a processor's cache

__all__ = ["SplineFlow", "kl_loss", "train", "variance_loss"]


class _Layer(nn.Module):
    """Transform each coordinate by a spline that those before it, and the context, set."""

    def __init__(self, dims: int, context: int, bins: int, hidden: int, blocks: int):
        super().__init__()
        self.dims = dims
        sizes = [dims + context] + [hidden] * blocks + [3 * bins + 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            scale = 0.0 if i == blocks else (2 / n_in) ** 0.5
            self.weights.append(scale * torch.randn(dims, n_in, n_out))
            self.biases.append((scale > 0) * (2 * torch.rand(dims, 1, n_out) - 1))
        seen = torch.ones(dims, 1, dims + context)
        seen[:, 0, :dims] = torch.ones(dims, dims).tril(-1)
        self.register_buffer("seen", seen)

    def given(self, context: Tensor) -> Tensor:
        """Return what contexts ``(B, context)`` add to the first hidden layer, ``(dims, B, hidden)``."""
        context = context.to(self.seen).expand(self.dims, -1, -1)
        return torch.baddbmm(self.biases[0], context, self.weights[0][:, self.dims :])

    def _predicted(self, hidden: Tensor, of: slice) -> Tensor:
        """Return the splines' parameters ``(B, coordinates, 3K + 1)`` for the coordinates ``of``."""
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            hidden = torch.baddbmm(bias[of], hidden.relu(), weight[of])
        return hidden.transpose(0, 1)

    def forward(self, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        inputs = (2 * x.to(given) - 1).expand(self.dims, -1, -1)
        weight = self.seen[..., : self.dims].mT * self.weights[0][:, : self.dims]
        parameters = self._predicted(torch.baddbmm(given, inputs, weight), slice(None))
        z, log_slope = unit_spline(x, parameters.to(x.dtype))
        return z, log_slope.sum(1)

    def inverse(self, z: Tensor, given: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`; ``which`` ``(B,)`` tells the row of ``given``."""
        inputs, x, log_density = z.new_empty(z.shape).to(given), [], 0.0
        for k in range(self.dims):
            hidden = torch.addmm(given[k][which], inputs[:, :k], self.weights[0][k, :k])
            parameters = self._predicted(hidden[None], slice(k, k + 1))[:, 0]
            value, log_slope = unit_spline(z[:, k], parameters.to(z.dtype), inverse=True)
            inputs[:, k] = 2 * value - 1
            x.append(value)
            log_density = log_density - log_slope
        return torch.stack(x, 1), log_density


class SplineFlow(Sampler):
    """Give a learnt density on the unit hypercube of ``dims`` dimensions, given ``context`` variables if any.

    Untrained, it is uniform. ``layers`` autoregressive splines of ``bins`` bins follow one another, in alternating
    order; networks of ``blocks`` hidden layers of width ``hidden`` set them, and start from ``seed``.
    :meth:`start_from` puts a VEGAS grid in front. In training mode splines are evaluated in single
    precision, else in double.
    """

    def __init__(
        self,
        dims: int,
        context: int = 0,
        *,
        layers: int = 3,
        bins: int = 16,
        hidden: int = 64,
        blocks: int = 2,
        grid_bins: int = 32,
        seed: int = 0,
    ):
        super().__init__()
        self.dims, self.context = dims, context
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(_Layer(dims, context, bins, hidden, blocks) for _ in range(layers))
        self.grid_bins = grid_bins
        self.register_buffer("edges", torch.linspace(0, 1, grid_bins + 1, dtype=torch.float64).repeat(dims, 1))
        self.eval()

    def start_from(self, grid: VegasGrid) -> SplineFlow:
        """Learn in the uniform numbers of a VEGAS grid, whose kinks are smoothed: untrained, draw almost from it.

        Raises InputError for a grid of other dimensions or bins.
        """
        if grid.edges.shape != self.edges.shape:
            raise InputError(
                f"grid of {grid.dims} dimensions, {grid.bins} bins: the flow has {self.dims}, and {self.grid_bins} bins"
            )
        self.edges.copy_(grid.edges)
        return self

    def _knots(self) -> tuple[Tensor, ...]:
        """Return the grid as a spline from uniform numbers to points: its knots, with harmonic means of their slopes.

        Monotone by Fritsch and Butland's choice (SIAM J. Sci. Stat. Comput. 5 (1984) 300).
        """
        slope = self.edges.diff(dim=1) * self.grid_bins
        inner = 2 / (1 / slope[:, 1:] + 1 / slope[:, :-1])
        uniform = torch.linspace(0, 1, self.grid_bins + 1).to(self.edges).expand_as(self.edges)
        return uniform, self.edges, torch.cat([slope[:, :1], inner, slope[:, -1:]], 1)

    def _context(self, n: int, context: Tensor | None) -> Tensor:
        context = torch.zeros(n, 0) if context is None else context
        if context.shape != (n, self.context):
            raise InputError(f"context: shape {tuple(context.shape)}; ({n}, {self.context}) is needed")
        return context.to(self.edges.device)

    def latent(self, points: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the uniform numbers ``(B, dims)`` behind ``points`` and the logarithm of the density ``(B,)``."""
        if points.ndim != 2 or points.shape[1] != self.dims:
            raise InputError(f"points: shape {tuple(points.shape)}; (points, {self.dims}) is needed")
        context = self._context(len(points), context)
        z, log_slope = spline(points.to(self.edges), *self._knots(), inverse=True)
        z, log_density = z.to(torch.float32 if self.training else z.dtype), log_slope.sum(1)
        for i, layer in enumerate(self.layers):
            z, log_slope = layer(z.flip(1) if i else z, layer.given(context))
            log_density = log_density + log_slope
        return z, log_density

    def log_prob(self, points: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the logarithm of the density ``(B,)`` of ``points`` ``(B, dims)`` at ``context`` ``(B, context)``."""
        return self.latent(points, context)[1]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator,
        context: Tensor | None = None,
        which: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return points ``(n, dims)`` in float64, and the logarithm of their density.

        Each has a row of ``context``: that which ``which`` ``(n,)`` names, without it the one of its own number.
        Splines are evaluated in ``dtype``, by default as the mode says.
        """
        dtype, generator = dtype or (torch.float32 if self.training else torch.float64), require_generator(generator)
        y = torch.rand(n, self.dims, generator=generator, dtype=dtype, device=generator.device).split(_ROWS)
        if context is not None and which is None:
            own = self._context(n, context).split(_ROWS)
            parts = [
                self._moved(rows, torch.arange(len(rows)).to(some.device), self._given(some))
                for rows, some in zip(y, own, strict=True)
            ]
        else:
            which = torch.zeros(n, dtype=torch.long) if context is None else which
            given = self._given(self._context(1 if context is None else len(context), context))
            parts = [
                self._moved(rows, some.to(self.edges.device), given)
                for rows, some in zip(y, which.split(_ROWS), strict=True)
            ]
        points, log_density = (torch.cat(values) for values in zip(*parts, strict=True))
        return points, log_density

    def _given(self, context: Tensor) -> list[Tensor]:
        return [layer.given(context) for layer in self.layers]

    def _moved(self, y: Tensor, which: Tensor, given: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return points and the logarithm of their density, from uniform numbers, and rows of what layers are given."""
        log_density = 0.0
        for i, layer in reversed(list(enumerate(self.layers))):
            y, part = layer.inverse(y, given[i], which)
            y, log_density = (y.flip(1) if i else y), log_density + part
        points, log_slope = spline(y.to(self.edges), *self._knots())
        return points, log_density - log_slope.sum(1)


def kl_loss(weight: Tensor, ratio: Tensor, log_prob: Tensor) -> Tensor:
    """Return a loss with the gradient of ∫ p ln(p/q) + q − p.

    ``weight`` is p over the density that the points were drawn from, ``ratio`` q over it without a graph, ``log_prob``
    ln q with its graph. The gradient's noise vanishes where q = p: ∇∫q = 0 is subtracted point by point.
    """
    return -((weight - ratio) * log_prob).mean()


def variance_loss(weight: Tensor, ratio: Tensor, log_prob: Tensor) -> Tensor:
    """Return a loss with the gradient of ∫ (p − q)²/q, the variance of p/q; arguments as for :func:`kl_loss`."""
    return -((weight**2 / ratio - ratio) * log_prob).mean()


def train(
    sampler: Sampler,
    integrand: Integrand,
    generator: torch.Generator,
    *,
    evaluations: int = 1_000_000,
    batch: int = 1024,
    replays: int = 0,
    losses: Sequence[Callable[[Tensor, Tensor, Tensor], Tensor]] = (kl_loss, variance_loss),
    learning_rate: float = 3e-3,
    explore: Sampler | None = None,
    explored: float = 0.1,
    draw_context: Callable[[int, torch.Generator], Tensor] | None = None,
) -> list[float]:
    """Train ``sampler`` in place towards ``|f|``/∫``|f|``; return the variance of the weights, step by step.

    Each step evaluates the integrand at a ``batch`` of points, a share ``explored`` of them from ``explore`` (uniform
    by default), so that no peak stays unseen; ``replays`` more steps draw from the last batches. The stages of
    ``losses`` take equal numbers of steps; Adam's rate falls by a cosine to zero. ``draw_context(n, generator)`` gives
    contexts of a conditional flow; the integrand is then called with points and contexts. Raises InputError as
    :func:`~rewind.integrate.samplers.integrate` does, and for an integrand that is zero in all of the first batch.
    """
    explore = Uniform(sampler.dims) if explore is None else explore
    n_explored, steps = round(explored * batch), evaluations // batch * (1 + replays)
    if steps < 1 or not 0 <= n_explored < batch:
        raise InputError(f"evaluations = {evaluations}, batch = {batch}, explored = {explored}: not one step of it")
    plan = Optimization(learning_rate=learning_rate, warmup=0.03)
    parameters = [values for values in sampler.parameters() if values.requires_grad]
    if not parameters:
        raise InputError(f"{type(sampler).__name__}: nothing to learn, it has no free parameters")
    optimizer = torch.optim.Adam(parameters, learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: plan.factor(step, steps))
    recent: deque[tuple[Tensor, ...]] = deque(maxlen=_RECENT)
    scale, record = None, []
    sampler.train()
    try:
        for step in tqdm(range(steps), disable=not visible()):
            fresh = step % (1 + replays) == 0
            if fresh:
                context = () if draw_context is None else (draw_context(batch, generator),)
                x = _drawn(sampler, explore, batch - n_explored, n_explored, generator, context)
            else:
                x, *context, p, q = _replayed(recent, batch, generator)
            log_prob = sampler.log_prob(x, *context).double()
            if not log_prob.isfinite().all():
                raise InputError(f"the training diverged by step {step}; lower the learning rate")
            density = log_prob.detach().exp()
            if fresh:
                p = evaluated(integrand, x, *context).abs()
                q = (1 - n_explored / batch) * density + n_explored / batch * explore.log_prob(
                    x
                ).detach().double().exp()
                recent.append((x, *context, p, q))
                mean = (p / q).mean()
                scale = (
                    mean
                    if scale is None
                    else scale + (mean - scale) * max(_FORGET, (1 + replays) / (step + 1 + replays))
                )
                if scale == 0:
                    raise InputError(f"integrand: zero at all {batch} points; draw larger batches or explore better")
            weight, ratio = p / (scale * q), density / q
            loss = losses[step * len(losses) // steps](weight, ratio, log_prob)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            record.append(float((weight - ratio).square().div(ratio).mean()))
    finally:
        sampler.eval()
    return record


@torch.no_grad()
def _drawn(sampler: Sampler, explore: Sampler, n: int, m: int, generator: torch.Generator, context) -> Tensor:
    """Return ``n`` points of the sampler, at the first contexts, and ``m`` of the explorer."""
    points = sampler.sample(n, generator, *(rows[:n] for rows in context))[0]
    return torch.cat([points, explore.sample(m, generator)[0]]) if m else points


def _replayed(recent: deque[tuple[Tensor, ...]], batch: int, generator: torch.Generator) -> list[Tensor]:
    """Return a random batch of what the ``recent`` ones hold."""
    stored = [torch.cat(values) for values in zip(*recent, strict=True)]
    rows = torch.randint(len(stored[0]), (batch,), generator=generator, device=generator.device)
    return [values[rows] for values in stored]
