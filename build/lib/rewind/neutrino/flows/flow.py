"""ν-Flows and ν²-Flows: the posterior of one or two neutrinos given all that was seen (2207.00664, 2307.02405)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.neutrino.classical.jet_scale import JetScale
from rewind.neutrino.dataset import Dataset
from rewind.neutrino.flows.charts import CHARTS
from rewind.neutrino.flows.inputs import event_encoder, event_tensor
from rewind.neutrino.flows.mass_flow import MassFlow
from rewind.nn.flows import ConditionalFlow, spline_flow

__all__ = ["NeutrinoFlow", "NeutrinoModel", "neutrino_flow"]

_EVENTS_AT_ONCE = 2_000


class NeutrinoFlow(ConditionalFlow):
    """Model p(neutrinos | event) for one or two neutrinos: a density in GeV⁻³ or GeV⁻⁶.

    Events are tensors that :meth:`read` makes, neutrinos ``(n, L, 3)`` in the laboratory by leg.
    """

    def __init__(self, n_legs: int, flow, context: int, *, jet_scale: JetScale, **parts):
        super().__init__(flow, 3 * n_legs, context, **parts)
        self.n_legs, self.jet_scale = n_legs, jet_scale

    def read(self, data: Dataset, pairing: Tensor | None = None) -> Tensor:
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
            found = self._log_prob(sets.flatten(0, 1).flatten(1), part.repeat_interleave(n_sets, 0), context)
            parts.append(found.reshape(len(part), n_sets))
        return torch.cat(parts)

    @torch.no_grad()
    def sample(self, event: Tensor, n: int = 1) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, L, 3)``, from torch's global generator."""
        parts = [super(NeutrinoFlow, self).sample(part, n) for part in event.split(_EVENTS_AT_ONCE)]
        return torch.cat(parts).reshape(len(event), n, self.n_legs, 3)


NeutrinoModel = NeutrinoFlow | MassFlow


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
    coordinates = coordinates or ("masses" if n_legs == 2 else "folded")
    if coordinates not in known:
        raise InputError(f"coordinates '{coordinates}': choose one of {', '.join(known)}")
    in_masses = coordinates == "masses"
    told = not in_masses if solutions is None else solutions
    scale = JetScale(*jet_scale)
    encoder = event_encoder(n_legs, width=width, layers=encoder_layers, solutions=told)
    if in_masses:
        return MassFlow(encoder, width, jet_scale=scale, layers=flow_layers, bins=bins, hidden=hidden)
    splines = spline_flow(3 * n_legs, width, layers=flow_layers, bins=bins, hidden=hidden)
    return NeutrinoFlow(n_legs, splines, width, jet_scale=scale, encoder=encoder, chart=CHARTS[coordinates](n_legs))
