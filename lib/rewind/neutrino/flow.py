"""ν-Flows and ν²-Flows: the posterior of one or two neutrinos given everything that was seen (2207.00664, 2307.02405)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.neutrino.charts import CHARTS
from rewind.neutrino.inputs import TokenFeatures
from rewind.nn.flows import ConditionalFlow, coupling_spline_flow
from rewind.nn.transformer import SetEncoder

__all__ = ["EventEncoder", "NeutrinoFlow", "neutrino_flow"]


class EventEncoder(nn.Module):
    """Encode an event tensor: tokens of leptons, jets and the event, a transformer, one vector."""

    def __init__(self, n_legs: int, *, width: int, layers: int):
        super().__init__()
        self.features = TokenFeatures(n_legs, width)
        self.encoder = SetEncoder(width, layers=layers)

    def forward(self, event: Tensor) -> Tensor:
        """Return ``(n, width)`` for events ``(n, F)``."""
        return self.encoder(*self.features(event))


class NeutrinoFlow(ConditionalFlow):
    """Model p(neutrinos | event) for one or two neutrinos: a density in GeV⁻³ or GeV⁻⁶.

    Events are tensors of :func:`~rewind.neutrino.inputs.event_tensor`, neutrinos ``(n, L, 3)`` in the laboratory.
    """

    def __init__(self, n_legs: int, flow, context: int, **parts):
        super().__init__(flow, 3 * n_legs, context, **parts)
        self.n_legs = n_legs

    def fit_scales(self, target: Tensor, event: Tensor) -> NeutrinoFlow:
        """Standardise the coordinates by the neutrinos of training events."""
        return super().fit_scales(target.flatten(1), event)

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return log p(neutrinos | event) ``(n,)``."""
        return super().log_prob(target.flatten(1), event)

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, L, 3)``, from torch's global generator."""
        return super().sample(event, n).reshape(len(event), n, self.n_legs, 3)


def neutrino_flow(
    n_legs: int,
    *,
    coordinates: str = "folded",
    width: int = 64,
    encoder_layers: int = 2,
    flow_layers: int = 8,
    bins: int = 10,
    hidden: int = 96,
) -> NeutrinoFlow:
    """Build an untrained model for ``n_legs`` neutrinos; ``coordinates`` names one of the charts."""
    if coordinates not in CHARTS:
        raise InputError(f"coordinates '{coordinates}': choose one of {', '.join(CHARTS)}")
    splines = coupling_spline_flow(3 * n_legs, width, layers=flow_layers, bins=bins, hidden=hidden)
    encoder = EventEncoder(n_legs, width=width, layers=encoder_layers)
    return NeutrinoFlow(n_legs, splines, width, encoder=encoder, chart=CHARTS[coordinates](n_legs))
