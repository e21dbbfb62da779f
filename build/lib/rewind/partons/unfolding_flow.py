"""The unfolding flow: the posterior of the partons given all that was seen (2210.00019, CMS-DP-2023-85).

A conditional autoregressive spline flow in the unit numbers of :mod:`rewind.partons.coordinates`. Its condition is the
regressed partons of a trained :class:`~rewind.partons.conditioner.Conditioner`, which stays as it is, and a free
latent: what a transformer of its own reads in the event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.nn import checkpoints, sequential, training
from rewind.nn.batches import Examples
from rewind.nn.flows import ConditionalFlow, spline_flow
from rewind.nn.piecewise import normal_quantile
from rewind.nn.preprocessing import Chart, Standardize
from rewind.partons import conditioner as regression
from rewind.partons import coordinates
from rewind.partons.dataset import Dataset
from rewind.partons.inputs import EventEncoder, turn, turn_back
from rewind.stats.distances import mmd_loss

__all__ = ["Draws", "UnfoldingFlow", "load_unfolding", "train_unfolding", "unfolding_flow"]

_N = len(coordinates.NAMES)
_N_TURNS, _N_POINT, _N_REGRESSED = len(coordinates.AZIMUTHS), 13, 26
_EVENTS_AT_ONCE, _ROWS_AT_ONCE = 500, 4_096
_N_COMPARED, _BANDWIDTHS = 256, (0.3, 1.0, 3.0)


class Draws(NamedTuple):
    """Hold posterior draws: ``partons`` ``(B, n, 4, 4)`` in the laboratory, GeV, ``fractions`` ``(B, n, 2)``.

    ``numbers`` ``(B, n, 9)`` are the same points in the measure of the density.
    """

    partons: Tensor
    fractions: Tensor
    numbers: Tensor


class _NormalNumbers(Chart):
    """Make unit numbers standard normal where phase space is flat; azimuths count from the regressed ones.

    The seam of each azimuth lies opposite to the regressed parton, where there is least to cut.
    """

    def __init__(self, first: int):
        super().__init__()
        self.columns = slice(first, first + _N_TURNS)

    def _shifted(self, values: Tensor, event: Tensor, sign: int) -> Tensor:
        shift = torch.zeros_like(values)
        shift[:, coordinates.AZIMUTHS] = sign * (0.5 - event[:, self.columns].to(values))
        moved = values + shift
        return torch.where(shift == 0, values, moved % 1.0)

    def relative(self, target: Tensor, event: Tensor) -> Tensor:
        """Return unit numbers with azimuths, in turns, 0.5 at the regressed partons'."""
        return self._shifted(target.double(), event, 1)

    def forward(self, target: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return normal variables ``(n, 9)`` and log-Jacobian of unit numbers ``(n, 9)``."""
        normal = normal_quantile(self.relative(target, event))
        return normal.to(event), ((normal**2).sum(1) + _N * math.log(2 * math.pi)).to(event) / 2

    def inverse(self, coordinates: Tensor, event: Tensor) -> Tensor:
        """Return unit numbers, float64."""
        return self._shifted(torch.special.ndtr(coordinates.double()), event, -1)


class _Context(nn.Module):
    """Turn event tensors into the flow's condition: regressed partons, standardised, and the free latent."""

    def __init__(self, n_event: int, size: tuple[int, int, int, int], latent: int):
        super().__init__()
        self.n_event = n_event
        self.events = EventEncoder(*size) if latent else None
        self.latent = nn.Linear(size[0], latent) if latent else None
        self.scale = Standardize(_N_REGRESSED)

    def forward(self, event: Tensor) -> Tensor:
        """Return ``(n, 26 + latent)``."""
        regressed = self.scale(event[:, -_N_REGRESSED:]).clip(-6, 6)
        if self.events is None:
            return regressed
        return torch.cat([regressed, self.latent(self.events(event[:, : self.n_event]))], 1)


class UnfoldingFlow(ConditionalFlow):
    """Model p(partons | event) as a density of the unit numbers ``(n, 9)`` of :mod:`rewind.partons.coordinates`.

    Uniform numbers have density one; neither rotations about the beam nor reflections of event and partons change it.
    Events are tensors that :meth:`read` makes. With ``sampled_weight`` the training's loss also holds the squared
    maximum mean discrepancy between drawn and true partons, in log pT and η.
    """

    def __init__(self, model: regression.Conditioner, context: _Context, flow, sampled_weight: float):
        super().__init__(flow, _N, 0, encoder=context, chart=_NormalNumbers(context.n_event))
        self.conditioner, self.sampled_weight = model.requires_grad_(False), sampled_weight

    def read(self, data: Dataset) -> Tensor:
        """Return the event tensor ``(B, F)`` of ``data``, float32, with the regressed partons in the last columns.

        Raises InputError for events with more jets than were seen in training, and as
        :meth:`rewind.partons.dataset.Dataset.check` does.
        """
        event = self.conditioner.read(data.check())
        with torch.no_grad():
            out = torch.cat([self.conditioner(part) for part in event.split(_EVENTS_AT_ONCE)])
        turns, point = coordinates.features(self.conditioner.inside(out))
        return torch.cat([event, turns.to(event), point.to(event), out], 1)

    def tensors(self, data: Dataset) -> tuple[Tensor, Tensor]:
        """Return the true numbers ``(B, 9)``, float64, and events, float32, that training needs."""
        event = self.read(data)
        return self.numbers(data.partons, event), event

    def fit_scales(self, target: Tensor, event: Tensor) -> UnfoldingFlow:
        """Standardise coordinates and regressed partons by training events."""
        self.encoder.scale.fit(event[:, -_N_REGRESSED:])
        return super().fit_scales(target, event)

    def numbers(self, partons: Tensor, event: Tensor) -> Tensor:
        """Return the unit numbers ``(B, 9)``, float64, of ``partons`` ``(B, 4, 4)`` in the laboratory.

        Only the three-momenta of H, t_had and t_lep count.
        """
        return coordinates.to_numbers(turn(partons[:, :3, 1:].double(), _exact_frame(event)))

    def partons(self, values: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return partons ``(B, 4, 4)`` in the laboratory, GeV, and momentum fractions ``(B, 2)`` of unit numbers."""
        inside, fractions = coordinates.to_partons(values)
        frame = _exact_frame(event)
        swapped = torch.where(frame[:, 3:] < 0, fractions.flip(1), fractions)
        return torch.cat([inside[..., :1], turn_back(inside[..., 1:], frame)], -1), swapped

    def relative(self, values: Tensor, event: Tensor) -> Tensor:
        """Return unit numbers ``(B, n, 9)`` with azimuths counted from half a turn before the regressed partons'."""
        flat = self.chart.relative(values.flatten(0, 1), event.repeat_interleave(values.shape[1], 0))
        return flat.reshape(values.shape)

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return the log-density ``(n,)`` of unit numbers ``(n, 9)``, or ``(n, m)`` of m points an event."""
        if target.ndim == 2:
            return super().log_prob(target, event)
        n = target.shape[1]
        context = self.encoder(event).repeat_interleave(n, 0)
        return self._log_prob(target.flatten(0, 1), event.repeat_interleave(n, 0), context).reshape(-1, n)

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1) -> Draws:
        """Return ``n`` :class:`Draws` an event, from torch's global generator."""
        parts = []
        for some in event.split(_EVENTS_AT_ONCE):
            context = self.encoder(some).repeat_interleave(n, 0)
            parts += [sequential.sample(self.flow, rows) for rows in context.split(_ROWS_AT_ONCE)]
        inner, event = self.target_scale.inverse(torch.cat(parts)), event.repeat_interleave(n, 0)
        values = self.chart.inverse(inner, event)
        partons, fractions = self.partons(values, event)
        return Draws(*(found.unflatten(0, (-1, n)) for found in (partons, fractions, values)))

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the negative mean log-likelihood of (numbers, event), in training with the loss of drawn partons."""
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


def _exact_frame(event: Tensor) -> Tensor:
    """Return the canonical frame ``(B, 4)`` in float64, its cosine and sine of unit length."""
    turned, signs = event[:, :2].double(), event[:, 2:4].double()
    return torch.cat([turned / turned.norm(dim=1, keepdim=True), signs], 1)


def _spectrum(values: Tensor) -> Tensor:
    """Return log pT and η ``(B, 8)`` of the partons at unit numbers."""
    momenta = coordinates.to_partons(values)[0][..., 1:]
    pt = momenta[..., :2].norm(dim=-1).clip(1e-3)
    return torch.cat([pt.log(), torch.asinh(momenta[..., 2] / pt)], 1).float()


def unfolding_flow(
    conditioner: dict,
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

    ``latent`` numbers of the event are free, by a transformer of ``encoder_layers`` layers, as wide as the
    conditioner's; with 0 the regressed partons are all it knows. ``layers``, ``bins``, ``hidden`` and ``blocks`` are
    those of :func:`~rewind.nn.flows.spline_flow`. Raises InputError for a negative latent or weight, and as the
    conditioner.
    """
    if latent < 0 or sampled_weight < 0:
        raise InputError(f"latent = {latent}, sampled_weight = {sampled_weight:g}: neither may be negative")
    model = regression.conditioner(**conditioner)
    width, _, heads, more = model.encoder.size
    context = _Context(model.n_inputs, (width, encoder_layers, heads, more), latent)
    flow = spline_flow(_N, _N_REGRESSED + latent, layers=layers, bins=bins, hidden=hidden, blocks=blocks, tail_bound=6)
    return UnfoldingFlow(model, context, flow, sampled_weight)


def train_unfolding(
    train: Dataset,
    validation: Dataset,
    conditioner: str | Path,
    path: str | Path | None = None,
    *,
    crossed: tuple[Dataset, str | Path] | None = None,
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

    def examples(model: UnfoldingFlow, data: Dataset) -> Examples:
        parts = [(model.tensors(data), data.weight)]
        if data is train and crossed is not None:
            parts.append((_tensors(*crossed, configuration), crossed[0].weight))
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


def _tensors(data: Dataset, conditioner: str | Path, configuration: dict) -> tuple[Tensor, Tensor]:
    """Return :meth:`UnfoldingFlow.tensors` of ``data`` as a flow with another conditioner has them."""
    found = checkpoints.describe(conditioner)["configuration"]
    if found != configuration["conditioner"]:
        raise InputError(f"{conditioner}: its configuration is {found}, the other's {configuration['conditioner']}")
    model = unfolding_flow(**configuration)
    model.conditioner.load_state_dict(regression.load_conditioner(conditioner).state_dict())
    return model.tensors(data)


def load_unfolding(path: str | Path, **expected) -> UnfoldingFlow:
    """Return a trained flow; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, unfolding_flow, **expected)
