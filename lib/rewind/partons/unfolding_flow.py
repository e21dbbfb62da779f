"""The unfolding flow: the posterior of the partons given all that was seen (2210.00019, CMS-DP-2023-85).

A conditional autoregressive spline flow in the coordinates of :mod:`rewind.partons.coordinates`. Its condition is the
regressed partons of a trained :class:`~rewind.partons.conditioner.Conditioner`, which stays as it is, and a free
latent: what a transformer of its own reads in the event.

>>> flow = unfolding_flow({"max_jets": 7, "width": 16, "layers": 1}, layers=1, bins=4, hidden=16)
>>> flow.layout.blocks["regressed"].width, len(coordinates.NAMES)
(29, 9)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import normflows as nf
import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.events import Block, EventBatch, Frame, Layout
from rewind.nn import checkpoints, sequential, training
from rewind.nn.batches import Examples
from rewind.nn.flows import ConditionalFlow, spline_flow
from rewind.nn.piecewise import normal_quantile
from rewind.nn.preprocessing import Chart, Standardize
from rewind.partons import conditioner as regression
from rewind.partons import coordinates
from rewind.partons.inputs import EventEncoder, layout_of
from rewind.partons.last_copies import require_usable, true_partons
from rewind.random_numbers import optional_generator
from rewind.stats.distances import mmd_loss

__all__ = ["Draws", "UnfoldingFlow", "load_unfolding", "train_unfolding", "unfolding_flow"]

_N = len(coordinates.NAMES)
_REGRESSED = Block(
    {
        "azimuths": (len(coordinates.AZIMUTHS),),
        "features": (coordinates.N_FEATURES,),
        "outputs": (regression.OUTPUTS.width,),
    }
)
_N_REGRESSED = _REGRESSED.width - len(coordinates.AZIMUTHS)
_EVENTS_AT_ONCE, _ROWS_AT_ONCE = 500, 4_096
_N_COMPARED, _BANDWIDTHS = 256, (0.3, 1.0, 3.0)


class Draws(NamedTuple):
    """Hold posterior draws: ``partons`` ``(B, n, 4, 4)`` in the laboratory, GeV, ``fractions`` ``(B, n, 2)``.

    ``coordinates`` ``(B, n, 9)`` are the same points in the measure of the density.
    """

    partons: Tensor
    fractions: Tensor
    coordinates: Tensor


class _NormalQuantiles(Chart):
    """Make coordinates standard normal where phase space is flat; azimuths count from the regressed ones.

    The seam of each azimuth lies opposite to the regressed parton, where there is least to cut.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout

    def _shifted(self, values: Tensor, event: Tensor, sign: int) -> Tensor:
        regressed, shift = self.layout.unpack(event)["regressed"], torch.zeros_like(values)
        shift[:, coordinates.AZIMUTHS] = sign * (0.5 - regressed["azimuths"].to(values))
        moved = values + shift
        return torch.where(shift == 0, values, moved % 1.0)

    def relative(self, target: Tensor, event: Tensor) -> Tensor:
        """Return coordinates with azimuths, in turns, 0.5 at the regressed partons'."""
        return self._shifted(target.double(), event, 1)

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return normal variables ``(n, 9)`` and log-Jacobian of coordinates ``(n, 9)`` on the unit hypercube."""
        normal = normal_quantile(self.relative(target, event))
        return normal.to(event), ((normal**2).sum(1) + _N * math.log(2 * math.pi)).to(event) / 2

    def inverse(self, normal: Tensor, event: Tensor) -> Tensor:
        """Return coordinates on the unit hypercube, float64."""
        return self._shifted(torch.special.ndtr(normal.double()), event, -1)


class _Context(nn.Module):
    """Turn event tensors into the flow's condition: regressed partons, standardised, and the free latent."""

    def __init__(self, layout: Layout, size: dict[str, int], latent: int):
        super().__init__()
        self.layout = layout
        self.events = EventEncoder(layout, **size) if latent else None
        self.latent = nn.Linear(size["width"], latent) if latent else None
        self.scale = Standardize(_N_REGRESSED)

    def regressed(self, event: Tensor) -> Tensor:
        """Return the regressed partons ``(n, 26)``: features of their coordinates, then the conditioner's outputs."""
        block = self.layout.unpack(event)["regressed"]
        return torch.cat([block["features"], block["outputs"]], 1)

    def forward(self, event: Tensor) -> Tensor:
        """Return ``(n, 26 + latent)``."""
        regressed = self.scale(self.regressed(event)).clip(-6, 6)
        if self.events is None:
            return regressed
        return torch.cat([regressed, self.latent(self.events(event))], 1)


class UnfoldingFlow(ConditionalFlow):
    """Model p(partons | event) as a density of coordinates ``(n, 9)`` of :mod:`rewind.partons.coordinates`.

    Even ones have density one; neither rotations about the beam nor reflections of event and partons change it.
    Events are tensors that :meth:`featurize` makes. With ``sampled_weight`` the training's loss also holds the squared
    maximum mean discrepancy between drawn and true partons, in log pT and η.
    """

    def __init__(
        self,
        model: regression.Conditioner,
        context: _Context,
        flow: nf.ConditionalNormalizingFlow,
        sampled_weight: float,
    ):
        super().__init__(flow, _N, 0, encoder=context, chart=_NormalQuantiles(context.layout))
        self.conditioner, self.layout = model.requires_grad_(False), context.layout
        self.sampled_weight = sampled_weight

    def featurize(self, batch: EventBatch) -> Tensor:
        """Return the event tensor ``(B, F)``, float32, with the regressed partons in its last block.

        Raises InputError for events with more jets than were seen in training, and as
        :func:`rewind.partons.last_copies.require_usable` does.
        """
        event = self.conditioner.featurize(require_usable(batch))
        with torch.no_grad():
            outputs = torch.cat([self.conditioner(part) for part in event.split(_EVENTS_AT_ONCE)])
        azimuths, features = coordinates.features(self.conditioner.inside(outputs))
        regressed = {"azimuths": azimuths, "features": features, "outputs": outputs}
        return self.layout.pack(self.conditioner.layout.unpack(event) | {"regressed": regressed})

    def examples(self, batch: EventBatch) -> Examples:
        """Return true coordinates ``(B, 9)``, float64, events, float32, and weights; raise InputError without truth."""
        event = self.featurize(batch)
        return Examples((self.coordinates(true_partons(batch), event), event), batch.weight)

    def fit_scales(self, target: Tensor, event: Tensor) -> UnfoldingFlow:
        """Standardise coordinates and regressed partons by training events."""
        self.encoder.scale.fit(self.encoder.regressed(event))
        return super().fit_scales(target, event)

    def _exact_frame(self, event: Tensor) -> Frame:
        return Frame.from_columns(self.layout.unpack(event)["frame"]).exact()

    def coordinates(self, partons: Tensor, event: Tensor) -> Tensor:
        """Return the coordinates ``(B, 9)``, float64, of ``partons`` ``(B, 4, 4)`` in the laboratory.

        Only the three-momenta of H, t_had and t_lep count.
        """
        return coordinates.to_unit_hypercube(self._exact_frame(event).enter(partons[:, :3, 1:].double()))

    def partons(self, values: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return partons ``(B, 4, 4)`` in the laboratory, GeV, and momentum fractions ``(B, 2)`` at coordinates."""
        inside, fractions = coordinates.from_unit_hypercube(values)
        frame = self._exact_frame(event)
        exchanged = torch.where(frame.flip_z[:, None] < 0, fractions.flip(1), fractions)
        return frame.leave(inside), exchanged

    def relative(self, values: Tensor, event: Tensor) -> Tensor:
        """Return coordinates ``(B, n, 9)`` with azimuths counted from half a turn before the regressed partons'."""
        flat = self.chart.relative(values.flatten(0, 1), event.repeat_interleave(values.shape[1], 0))
        return flat.reshape(values.shape)

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Return coordinates ``(len(event), n, 9)`` of ``n`` draws an event, from ``generator`` or the global one."""
        generator, parts = optional_generator(generator), []
        for some in event.split(_EVENTS_AT_ONCE):
            context = self.encoder(some).repeat_interleave(n, 0)
            parts += [sequential.sample(self.flow, rows, generator) for rows in context.split(_ROWS_AT_ONCE)]
        inner = self.target_scale.inverse(torch.cat(parts))
        return self.chart.inverse(inner, event.repeat_interleave(n, 0)).unflatten(0, (-1, n))

    def draws(self, event: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Draws:
        """Return what :meth:`sample` does as :class:`Draws`: with partons and momentum fractions."""
        values = self.sample(event, n, generator)
        partons, fractions = self.partons(values.flatten(0, 1), event.repeat_interleave(n, 0))
        return Draws(partons.unflatten(0, (-1, n)), fractions.unflatten(0, (-1, n)), values)

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the mean of −ln q of (coordinates, event), in training with the loss of drawn partons."""
        likelihood = super().loss(batch, weight)
        if self.sampled_weight == 0 or not self.training:
            return likelihood
        few = [values[:_N_COMPARED] for values in batch]
        return likelihood + self.sampled_weight * self._discrepancy(
            *few, None if weight is None else weight[:_N_COMPARED]
        )

    def _discrepancy(self, target: Tensor, event: Tensor, weight: Tensor | None) -> Tensor:
        drawn = self.flow.sample(len(event), context=self.encoder(event))[0]
        drawn = self.chart.inverse(self.target_scale.inverse(drawn), event)
        pair, both = (_spectrum(drawn), _spectrum(target)), None if weight is None else (weight, weight)
        return mmd_loss(*pair, bandwidths=_BANDWIDTHS, weights=both)


def _spectrum(values: Tensor) -> Tensor:
    """Return log pT and η ``(B, 8)`` of the partons at coordinates."""
    momenta = coordinates.from_unit_hypercube(values)[0][..., 1:]
    pt = momenta[..., :2].norm(dim=-1).clip(1e-3)
    return torch.cat([pt.log(), torch.asinh(momenta[..., 2] / pt)], 1).float()


@checkpoints.resolving(
    lambda options: options | {"conditioner": checkpoints.complete(regression.conditioner, options["conditioner"])}
)
def unfolding_flow(
    conditioner: dict[str, Any],
    *,
    latent: int = 32,
    encoder_layers: int = 2,
    layers: int = 3,
    bins: int = 16,
    hidden: int = 192,
    blocks: int = 2,
    sampled_weight: float = 0.0,
) -> UnfoldingFlow:
    """Build an untrained flow beside a conditioner of that configuration.

    ``latent`` features of the event are free, by a transformer of ``encoder_layers`` layers, as wide as the
    conditioner's; with 0 the regressed partons are all it knows. ``layers``, ``bins``, ``hidden`` and ``blocks`` are
    those of :func:`~rewind.nn.flows.spline_flow`. Raises InputError for a negative latent or weight, and as the
    conditioner.
    """
    if latent < 0 or sampled_weight < 0:
        raise InputError(f"latent = {latent}, sampled_weight = {sampled_weight:g}: neither may be negative")
    model = regression.conditioner(**conditioner)
    layout = layout_of(model.max_jets, role_scores=model.roles is not None, regressed=_REGRESSED)
    context = _Context(layout, model.size | {"layers": encoder_layers}, latent)
    flow = spline_flow(_N, _N_REGRESSED + latent, layers=layers, bins=bins, hidden=hidden, blocks=blocks, tail_bound=6)
    return UnfoldingFlow(model, context, flow, sampled_weight)


def train_unfolding(
    train: EventBatch,
    validation: EventBatch,
    conditioner: str | Path,
    path: str | Path | None = None,
    *,
    crossed: tuple[EventBatch, str | Path] | None = None,
    size: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[UnfoldingFlow, dict[str, Any]]:
    """Return a flow trained on ``train`` and its record; keep the weights of the lowest ``validation`` loss.

    ``conditioner`` is a checkpoint: its weights stay frozen inside, and the free latent's transformer starts from a
    copy of those it shares. It must not have seen the events of ``train``. Those that it has seen can be used as well
    (cross-fitting, 1608.00060): ``crossed`` holds them, and the checkpoint of a conditioner of the same configuration
    that has not. ``size`` holds options of :func:`unfolding_flow`. With ``path`` the checkpoint is written there;
    ``options`` are those of :func:`rewind.nn.training.train`. Raises InputError as that and
    :func:`rewind.nn.checkpoints.load` do, and for conditioners of other configurations.
    """
    regressor = regression.load_conditioner(conditioner)
    configuration = {"conditioner": checkpoints.describe(conditioner)["configuration"], **(size or {})}

    def prepare(model: UnfoldingFlow) -> None:
        model.conditioner.load_state_dict(regressor.state_dict())
        if model.encoder.events is not None:
            begin, given = model.encoder.events.state_dict(), regressor.encoder.state_dict()
            model.encoder.events.load_state_dict(begin | {k: v for k, v in given.items() if k in begin})

    def examples(model: UnfoldingFlow, batch: EventBatch) -> Examples:
        parts = [model.examples(batch)]
        if batch is train and crossed is not None:
            parts.append(_examples(*crossed, configuration))
        values, weights = zip(*parts, strict=True)
        return Examples(tuple(torch.cat(pair) for pair in zip(*values, strict=True)), torch.cat(weights))

    return training.train(
        unfolding_flow,
        configuration,
        train,
        validation,
        path,
        prepare=prepare,
        examples=examples,
        **({"batch_size": 256, "learning_rate": 2e-3, "ema_decay": 0.999} | options),
    )


def _examples(batch: EventBatch, conditioner: str | Path, configuration: dict[str, Any]) -> Examples:
    """Return :meth:`UnfoldingFlow.examples` of ``batch`` as a flow with another conditioner has them."""
    other = checkpoints.describe(conditioner)["configuration"]
    if other != configuration["conditioner"]:
        raise InputError(f"{conditioner}: its configuration is {other}, the other's {configuration['conditioner']}")
    model = unfolding_flow(**configuration)
    model.conditioner.load_state_dict(regression.load_conditioner(conditioner).state_dict())
    return model.examples(batch)


def load_unfolding(path: str | Path, **expected: Any) -> UnfoldingFlow:
    """Return a trained flow; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, unfolding_flow, **expected)
