"""One answer an event: the baseline that a posterior replaces, and what it can't do.

The network is as large as that of the flow and reads the same events; it is trained for the least mean squared error,
so that the best it can learn is the mean of the posterior.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)[:5]
>>> model = neutrino_regression(2, width=16, encoder_layers=1)
>>> event = model.featurize(data)
>>> model.fit_scales(data.truth.neutrinos.float(), event).predict(event).shape
torch.Size([5, 2, 3])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical.jet_scale import JetScale
from rewind.neutrino.flows.charts import CanonicalChart
from rewind.neutrino.flows.inputs import event_encoder, event_tensor
from rewind.nn import checkpoints
from rewind.nn.encoders import ObjectEncoder
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, weighted_mean

__all__ = ["NeutrinoRegression", "neutrino_regression"]


_HIDDEN = {1: 448, 2: 832}  # as many parameters as the flow has


class NeutrinoRegression(Trainable):
    """Predict the momenta of one or two neutrinos in the canonical frame, standardised, with mean squared error.

    Events are tensors that :meth:`featurize` makes, neutrinos ``(n, L, 3)`` in the laboratory by leg.
    """

    def __init__(self, n_legs: int, encoder: ObjectEncoder, head: nn.Module, *, jet_scale: JetScale):
        super().__init__()
        self.n_legs, self.jet_scale = n_legs, jet_scale
        self.encoder, self.head = encoder, head
        self.chart, self.target_scale = CanonicalChart(n_legs), Standardize(3 * n_legs)

    def featurize(self, data: EventBatch, pairing: Tensor | None = None) -> Tensor:
        """Return the event tensor ``(B, F)`` of ``data``, as ``NeutrinoFlow.featurize`` does."""
        return event_tensor(self.jet_scale.apply(data.require_legs(self.n_legs)), pairing)

    def fit_scales(self, target: Tensor, event: Tensor) -> NeutrinoRegression:
        """Standardise by the neutrinos of training events."""
        self.target_scale.fit(self.chart(target.flatten(1), event)[0])
        return self

    def forward(self, event: Tensor) -> Tensor:
        """Return standardised momenta ``(n, 3 L)`` in the canonical frame."""
        return self.head(self.encoder(event))

    @torch.no_grad()
    def predict(self, event: Tensor) -> Tensor:
        """Return neutrinos ``(n, L, 3)`` in the laboratory."""
        inside = self.target_scale.inverse(self(event))
        return self.chart.inverse(inside, event).reshape(-1, self.n_legs, 3)

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the mean squared error of (neutrinos, events), each component in units of its spread."""
        target, event = batch
        wanted = self.target_scale(self.chart(target.flatten(1), event)[0])
        return weighted_mean((self(event) - wanted).square().mean(1), weight)


@checkpoints.resolving(lambda options: options | {"hidden": options["hidden"] or _HIDDEN.get(options["n_legs"])})
def neutrino_regression(
    n_legs: int,
    *,
    solutions: bool = True,
    width: int = 96,
    encoder_layers: int = 2,
    hidden: int | None = None,
    jet_scale: Sequence[float] = (1.0, 0.0, 0.0, 0.1, 5.0),
) -> NeutrinoRegression:
    """Build an untrained regression with the encoder of :func:`~rewind.neutrino.flows.flow.neutrino_flow`.

    A network with two layers of width ``hidden`` stands where the flow is; by default both models have the same
    number of parameters, to a few per cent. Raises InputError for another number of legs than 1 or 2.
    """
    if n_legs not in (1, 2):
        raise InputError(f"n_legs = {n_legs}: the model is for 1 or 2 leptons")
    hidden = hidden or _HIDDEN[n_legs]
    encoder = event_encoder(n_legs, width=width, layers=encoder_layers, solutions=solutions)
    head = nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 3 * n_legs)
    )
    return NeutrinoRegression(n_legs, encoder, head, jet_scale=JetScale(*jet_scale))
