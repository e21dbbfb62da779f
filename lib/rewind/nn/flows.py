"""Conditional normalizing flows: a density over targets given an event, exact both ways."""

from __future__ import annotations

from collections.abc import Sequence

import normflows as nf
import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.nn.preprocessing import Chart, Standardize
from rewind.nn.training import Trainable

__all__ = ["ConditionalFlow", "coupling_spline_flow", "spline_flow"]

_ROWS_AT_ONCE = 4_096  # what stays in a processor's cache


def _with_permutations(splines: Sequence[nf.flows.Flow], features: int) -> nf.ConditionalNormalizingFlow:
    layers = [splines[0]]
    for spline in splines[1:]:
        layers += [nf.flows.LULinearPermute(features), spline]
    return nf.ConditionalNormalizingFlow(nf.distributions.DiagGaussian(features, trainable=False), layers)


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

    It is a density over ``features`` numbers given ``context`` numbers. Each of ``layers`` splines has
    ``bins`` bins inside ±``tail_bound`` and is the identity outside; a masked residual network with
    ``blocks`` blocks of width ``hidden`` predicts its knots (1906.04032, 1705.07057). The layer next to the
    data takes the features in their own order: put first what the others depend on.
    """
    return _with_permutations(
        [
            nf.flows.AutoregressiveRationalQuadraticSpline(
                features, blocks, hidden, num_context_channels=context, num_bins=bins, tail_bound=tail_bound
            )
            for _ in range(layers)
        ],
        features,
    )


def coupling_spline_flow(
    features: int,
    context: int,
    *,
    layers: int = 8,
    bins: int = 8,
    hidden: int = 128,
    blocks: int = 2,
    tail_bound: float = 4.0,
) -> nf.ConditionalNormalizingFlow:
    """Build a conditional coupling flow, as fast to sample as to evaluate (1906.04032).

    It takes what :func:`spline_flow` takes. Raises InputError for fewer than two features.
    """
    if features < 2:
        raise InputError("a coupling flow splits its features in two: use spline_flow for a single one")
    return _with_permutations(
        [
            nf.flows.CoupledRationalQuadraticSpline(
                features,
                blocks,
                hidden,
                num_context_channels=context,
                num_bins=bins,
                tail_bound=tail_bound,
                reverse_mask=bool(layer % 2),
            )
            for layer in range(layers)
        ],
        features,
    )


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

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return log p(target | event) ``(n,)``: a density in the target's own units."""
        return self._log_prob(target, event, self.encoder(event))

    def _log_prob(self, target: Tensor, event: Tensor, context: Tensor) -> Tensor:
        coordinates, log_det = self.chart(target, event)
        inner = self.flow.log_prob(self.target_scale(coordinates), context=context)
        return inner + self.target_scale.log_det() + log_det

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, features)``, from torch's global generator."""
        context = self.encoder(event).repeat_interleave(n, dim=0)
        inner = [self.flow.sample(len(part), context=part)[0] for part in context.split(_ROWS_AT_ONCE)]
        coordinates = self.target_scale.inverse(torch.cat(inner))
        target = self.chart.inverse(coordinates, event.repeat_interleave(n, dim=0))
        return target.reshape(len(event), n, target.shape[1])

    def loss(self, batch) -> Tensor:
        """Return the negative mean log-likelihood of (target, event)."""
        return -self.log_prob(*batch).mean()
