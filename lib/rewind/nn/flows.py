"""Conditional normalizing flows: a density over targets given an event, exact both ways.

>>> target, event = torch.randn(50, 2), torch.randn(50, 3)
>>> model = ConditionalFlow(spline_flow(2, 3, layers=1, hidden=8), 2, 3).fit_scales(target, event)
>>> model.log_prob(target, event).shape, model.sample(event, 4, torch.Generator().manual_seed(1)).shape
(torch.Size([50]), torch.Size([50, 4, 2]))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import normflows as nf
import torch
from torch import Tensor, nn

from rewind.nn.preprocessing import Chart, Standardize
from rewind.nn.training import Trainable, weighted_mean
from rewind.random_numbers import optional_generator

__all__ = ["ConditionalFlow", "base_noise", "draw", "spline_flow"]

_ROWS_AT_ONCE = 4_096  # what stays in a processor's cache


def spline_flow(
    features: int,
    context: int,
    *,
    layers: int = 3,
    bins: int = 16,
    hidden: int = 128,
    blocks: int = 2,
    tail_bound: float = 4.0,
) -> nf.ConditionalNormalizingFlow:
    """Build a conditional autoregressive rational-quadratic spline flow.

    It is a density over ``features`` coordinates given ``context`` variables. Each of ``layers`` splines has
    ``bins`` bins inside ±``tail_bound`` and is the identity outside; a masked residual network with
    ``blocks`` blocks of width ``hidden`` predicts its knots (1906.04032, 1705.07057). The layer next to the
    data takes the features in their own order: put first what the others depend on.
    """
    splines = [
        nf.flows.AutoregressiveRationalQuadraticSpline(
            features, blocks, hidden, num_context_channels=context, num_bins=bins, tail_bound=tail_bound
        )
        for _ in range(layers)
    ]
    steps = [splines[0]]
    for spline in splines[1:]:
        steps += [nf.flows.LULinearPermute(features), spline]
    return nf.ConditionalNormalizingFlow(nf.distributions.DiagGaussian(features, trainable=False), steps)


def base_noise(flow: nf.ConditionalNormalizingFlow, n: int, generator: torch.Generator | None = None) -> Tensor:
    """Return ``n`` draws ``(n, features)`` of the flow's base distribution; those of ``flow.q0`` at the same seed."""
    base, generator = flow.q0, optional_generator(generator)
    device = base.loc.device if generator is None else generator.device
    normal = torch.randn(n, *base.shape, dtype=base.loc.dtype, device=device, generator=generator)
    return base.loc + base.log_scale.exp() * normal.to(base.loc.device)


def draw(flow: nf.ConditionalNormalizingFlow, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return one draw ``(n, features)`` for each ``context`` ``(n, C)``; those of ``flow.sample`` at the same seed."""
    z = base_noise(flow, len(context), generator)
    for layer in flow.flows:
        z = layer(z, context=context)[0]
    return z


class ConditionalFlow(Trainable):
    """Model p(target | event): encoder, chart, standardisation and flow in one trainable density.

    ``encoder`` turns events, a tensor ``(n, …)``, into ``(n, context)`` numbers; the default standardises
    ``(n, context)``. :meth:`fit_scales` takes the standardisation from training data.
    """

    def __init__(
        self,
        flow: nf.ConditionalNormalizingFlow,
        features: int,
        context: int,
        *,
        encoder: nn.Module | None = None,
        chart: Chart | None = None,
    ):
        super().__init__()
        self.flow = flow
        self.chart = chart or Chart()
        self.target_scale = Standardize(features)
        self.encoder = encoder or Standardize(context)

    def fit_scales(self, target: Tensor, event: Tensor) -> ConditionalFlow:
        """Standardise by the coordinates of ``target`` and, where the encoder standardises, by ``event``."""
        self.target_scale.fit(self.chart(target, event)[0])
        if isinstance(self.encoder, Standardize):
            self.encoder.fit(event)
        return self

    def featurize(self, events: Any) -> Tensor:
        """Return the event tensor of measured ``events``: themselves, unless a subclass reads more than a tensor."""
        return events

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return log p(target | event) ``(n,)``: a density in the target's own units."""
        return self._log_prob(target, event, self.encoder(event))

    def _log_prob(self, target: Tensor, event: Tensor, context: Tensor) -> Tensor:
        coordinates, log_det = self.chart(target, event)
        inner = self.flow.log_prob(self.target_scale(coordinates), context=context)
        return inner + self.target_scale.log_det() + log_det

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, features)``, from ``generator`` or torch's global one."""
        context = self.encoder(event).repeat_interleave(n, dim=0)
        inner = [draw(self.flow, part, generator) for part in context.split(_ROWS_AT_ONCE)]
        coordinates = self.target_scale.inverse(torch.cat(inner))
        target = self.chart.inverse(coordinates, event.repeat_interleave(n, dim=0))
        return target.reshape(len(event), n, target.shape[1])

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the negative mean log-likelihood of (target, event)."""
        return weighted_mean(-self.log_prob(*batch), weight)
