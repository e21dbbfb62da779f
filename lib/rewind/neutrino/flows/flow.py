"""ν-Flows and ν²-Flows: the posterior of one or two neutrinos given all that was seen (2207.00664, 2307.02405).

>>> neutrino_flow(1, width=16, encoder_layers=1, flow_layers=1, hidden=16).n_legs
1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical.jet_scale import JetScale
from rewind.neutrino.flows.charts import CHARTS
from rewind.neutrino.flows.inputs import event_encoder, event_tensor
from rewind.neutrino.flows.mass_flow import MassFlow
from rewind.nn import checkpoints
from rewind.nn.flows import ConditionalFlow, spline_flow

__all__ = ["NeutrinoFlow", "NeutrinoModel", "neutrino_flow"]

_EVENTS_AT_ONCE = 2_000


class NeutrinoFlow(ConditionalFlow):
    """Model p(neutrinos | event) for one or two neutrinos: a density in GeV⁻³ or GeV⁻⁶.

    Events are tensors that :meth:`featurize` makes, neutrinos ``(n, L, 3)`` in the laboratory by leg.
    """

    def __init__(self, n_legs: int, flow: Any, context: int, *, jet_scale: JetScale, **parts: Any):
        super().__init__(flow, 3 * n_legs, context, **parts)
        self.n_legs, self.jet_scale = n_legs, jet_scale

    def featurize(self, data: EventBatch, pairing: Tensor | None = None) -> Tensor:
        """Return the event tensor ``(B, F)`` of ``data`` with raw jets; ``pairing`` ``(B, 2)`` is told, −1: unknown.

        Raises InputError for events with another number of leptons and for what
        :func:`~rewind.neutrino.flows.inputs.event_tensor` refuses.
        """
        return event_tensor(self.jet_scale.apply(data.require_legs(self.n_legs)), pairing)

    def fit_scales(self, target: Tensor, event: Tensor) -> NeutrinoFlow:
        """Standardise the coordinates by the neutrinos of training events."""
        return super().fit_scales(target.flatten(1), event)

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return log p(neutrinos | event) ``(n,)``, or ``(n, m)`` for m sets ``(n, m, L, 3)`` an event."""
        target = target.to(event)
        if target.ndim < 4:
            return super().log_prob(target.flatten(1), event)
        n_sets, parts = target.shape[1], []
        for sets, part in zip(target.split(_EVENTS_AT_ONCE), event.split(_EVENTS_AT_ONCE), strict=True):
            context = self.encoder(part).repeat_interleave(n_sets, 0)
            log_p = self._log_prob(sets.flatten(0, 1).flatten(1), part.repeat_interleave(n_sets, 0), context)
            parts.append(log_p.reshape(len(part), n_sets))
        return torch.cat(parts)

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, L, 3)``, from ``generator`` or torch's global one."""
        parts = [super(NeutrinoFlow, self).sample(part, n, generator) for part in event.split(_EVENTS_AT_ONCE)]
        return torch.cat(parts).reshape(len(event), n, self.n_legs, 3)


NeutrinoModel = NeutrinoFlow | MassFlow


def _with_what_won(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with coordinates and solutions as they won in chapters 4 and 5 where none are given."""
    coordinates = options["coordinates"] or ("masses" if options["n_legs"] == 2 else "folded")
    told = coordinates != "masses" if options["solutions"] is None else options["solutions"]
    return options | {"coordinates": coordinates, "solutions": told}


@checkpoints.resolving(_with_what_won)
def neutrino_flow(
    n_legs: int,
    *,
    coordinates: str | None = None,
    solutions: bool | None = None,
    width: int = 96,
    encoder_layers: int = 2,
    flow_layers: int = 2,
    bins: int = 12,
    hidden: int = 128,
    jet_scale: Sequence[float] = (1.0, 0.0, 0.0, 0.1, 5.0),
) -> NeutrinoModel:
    """Build an untrained model for ``n_legs`` neutrinos.

    ``coordinates`` names one of the charts, or, for two neutrinos, "masses": those of
    :class:`~rewind.neutrino.flows.mass_flow.MassFlow`. With ``solutions`` the network is told the analytic ones. Left
    out, both are what won in chapters 4 and 5: folded with solutions for one neutrino, masses without for two.
    ``jet_scale`` holds the five numbers of :class:`~rewind.neutrino.classical.jet_scale.JetScale`. Raises InputError
    for other numbers of leptons and other coordinates.
    """
    if n_legs not in (1, 2):
        raise InputError(f"n_legs = {n_legs}: the model is for 1 or 2 leptons")
    known = [*CHARTS, "masses"][: None if n_legs == 2 else -1]
    told = _with_what_won({"n_legs": n_legs, "coordinates": coordinates, "solutions": solutions})
    coordinates, solutions = told["coordinates"], told["solutions"]
    if coordinates not in known:
        raise InputError(f"coordinates '{coordinates}': choose one of {', '.join(known)}")
    scale = JetScale(*jet_scale)
    encoder = event_encoder(n_legs, width=width, layers=encoder_layers, solutions=solutions)
    if coordinates == "masses":
        return MassFlow(encoder, width, jet_scale=scale, layers=flow_layers, bins=bins, hidden=hidden)
    splines = spline_flow(3 * n_legs, width, layers=flow_layers, bins=bins, hidden=hidden)
    return NeutrinoFlow(n_legs, splines, width, jet_scale=scale, encoder=encoder, chart=CHARTS[coordinates](n_legs))
