"""The ν²-Flow in masses and angles: a density for each pairing of b jets, and the probability of each pairing.

p(ν, ν̄ | event) = Σ_π P(π | event) p(m_W, m_W | …) p(m_t | …) p(m_t̄ | …) p(t | …) p(t̄ | …), each factor given those
before it, in the coordinates of :mod:`~rewind.physics.circles` for the jets that pairing π gives to the legs. Given
the masses, the neutrinos lie on two curves, and p_T^miss says which points of them belong together: both top masses
and both angles start from the density that this suggests, and splines learn the rest.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)[:4]
>>> from rewind.neutrino.flows.flow import neutrino_flow
>>> model = neutrino_flow(2, width=16, encoder_layers=1, flow_layers=1, hidden=16)
>>> event = model.featurize(data)
>>> tuple(model.fit_scales(data.truth.neutrinos.float(), event).sample(event, 2).shape)
(4, 2, 2, 3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rewind.events import EventBatch
from rewind.neutrino.classical.jet_scale import JetScale
from rewind.neutrino.flows.hypotheses import N_FEATURES, Hypotheses, hypotheses, jets_of_pairings
from rewind.neutrino.flows.inputs import event_tensor, unpack
from rewind.neutrino.flows.mass_coordinates import mass_coordinates, masses
from rewind.neutrino.flows.neutrino_density import (
    N_DIRECTIONS,
    N_MASSES,
    Recoil,
    angle_features,
    compressed,
    first_angle_density,
    second_angle_density,
    top_mass_density,
    top_mass_fits,
)
from rewind.nn.encoders import ObjectEncoder
from rewind.nn.flows import draw, spline_flow
from rewind.nn.piecewise import PiecewiseDensity, normal_quantile
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, weighted_mean
from rewind.physics.circles import direction, equal_directions
from rewind.physics.constants import SQRT_S
from rewind.random_numbers import optional_generator

__all__ = ["MassFlow"]

_SIGMA = 15.0  # of p_T^miss, GeV, before training
_FALL = 5.0  # the density falls with this power of m_tt, before training
_EVENTS_AT_ONCE, _ROWS_AT_ONCE = 2_000, 4_096


class MassFlow(Trainable):
    """Model p(ν, ν̄ | event), a density in GeV⁻⁶, as a mixture over the pairings of b jets.

    Events are tensors that :meth:`featurize` makes, neutrinos ``(n, 2, 3)`` in the laboratory by leg; ``encoder`` turns
    events into ``(n, width)``.
    """

    n_legs = 2

    def __init__(self, encoder: ObjectEncoder, width: int, *, jet_scale: JetScale, layers: int, bins: int, hidden: int):
        super().__init__()
        self.jet_scale, self.encoder = jet_scale, encoder
        self.feature_scale, self.mass_scale = Standardize(N_FEATURES), Standardize(4)
        known = width + N_FEATURES + 1 + N_MASSES
        shape = {"bins": bins, "hidden": hidden}
        self.choice = nn.Sequential(nn.Linear(known, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self.bosons = spline_flow(2, known, layers=layers, **shape)
        self.tops = nn.ModuleList(spline_flow(1, known + n + N_MASSES, layers=1, **shape) for n in (2, 3))
        self.recoil = nn.Sequential(nn.Linear(known + 4, hidden), nn.GELU(), nn.Linear(hidden, 6))
        self.angles = nn.ModuleList(spline_flow(1, known + n + 2 * N_DIRECTIONS, layers=1, **shape) for n in (4, 7))

    def featurize(self, data: EventBatch, pairing: Tensor | None = None) -> Tensor:
        """Return the event tensor ``(B, F)`` of ``data`` with raw jets; ``pairing`` ``(B, 2)`` is told, −1: unknown.

        Raises InputError for events without two leptons and for what :func:`~rewind.neutrino.flows.inputs.event_tensor`
        refuses.
        """
        data = self.jet_scale.apply(data.require_legs(2))
        return event_tensor(data, pairing, solutions="solution" in self.encoder.kinds)

    def fit_scales(self, target: Tensor, event: Tensor) -> MassFlow:
        """Standardise features and masses by training events, those with a told pairing if there are two."""
        told = unpack(event, 2).is_told
        if told.sum() > 1:
            target, event = target[told], event[told]
        rows = hypotheses(event)
        self.feature_scale.fit(rows.features)
        self.mass_scale.fit(self._enter(target[:, None], event, rows)[0][:, :4])
        return self

    def _enter(self, target: Tensor, event: Tensor, rows: Hypotheses) -> tuple[Tensor, Tensor]:
        """Return coordinates ``(R m, 6)`` and log-Jacobian of m pairs ``(n, m, 2, 3)`` an event under each pairing."""
        frame = unpack(event, 2).frame
        inside = frame.by_leg(frame.enter(target.movedim(2, 1))).movedim(1, 2)[rows.event].flatten(0, 1).double()
        circles = rows.circles
        if target.shape[1] > 1:
            circles = circles[torch.arange(len(rows.event), device=event.device).repeat_interleave(target.shape[1])]
        m_w_squared, excess, angle, log_det = circles.enter(inside)
        w, top, change = mass_coordinates(circles, m_w_squared, excess)
        return torch.cat([w, top, angle], 1), (log_det + change).sum(1).to(event)

    def _known(self, event: Tensor, rows: Hypotheses) -> tuple[Tensor, Tensor]:
        """Return what is known of each pairing before any coordinate ``(R, K)``, and how well masses fit."""
        with torch.no_grad():
            tops = self.mass_scale.mean[2:], self.mass_scale.scale[2:]
            fits = torch.cat([top_mass_fits(part, *tops) for part in rows.split(_ROWS_AT_ONCE // 8)])
        shown = compressed(torch.cat([fits.logsumexp((1, 2))[:, None], fits.logsumexp(2)], 1))
        context = self.encoder(event)[rows.event]
        return torch.cat([context, self.feature_scale(rows.features), shown], 1), fits

    def _curves(self, rows: Hypotheses, z: Tensor) -> Tensor:
        """Return the neutrinos' curves ``(R, 2, 3, 3)`` for standardised masses ``z``."""
        coordinates = self.mass_scale.inverse(z).double()
        return rows.circles.curve(*masses(rows.circles, coordinates[:, :2], coordinates[:, 2:]))

    def _recoil(self, known: Tensor, z: Tensor, curves: Tensor, rows: Hypotheses) -> Recoil:
        """Return what p_T^miss is compared with, and the fall with m_tt: all learnt, depending on the masses."""
        shift, log_scale, tilt, fall = self.recoil(torch.cat([known, z], 1)).split((2, 2, 1, 1), 1)
        scale = log_scale.clip(-3, 3).exp() / _SIGMA
        zero = torch.zeros_like(tilt)
        whiten = torch.cat([scale[:, :1], zero, tilt / _SIGMA, scale[:, 1:]], 1).unflatten(1, (2, 2))
        across = curves[:, :, :2].to(known)
        centre = across[..., 2].sum(1) - rows.met - _SIGMA * shift
        return whiten[:, None] @ across[..., :2], (whiten @ centre[..., None])[..., 0], _FALL + fall

    def _density(self, coordinates: Tensor, known: Tensor, fits: Tensor, rows: Hypotheses) -> Tensor:
        """Return log p(coordinates | pairing) ``(R,)``."""
        z = self.mass_scale(coordinates[:, :4].to(known))
        log_p = self.bosons.log_prob(z[:, :2], context=known) + self.mass_scale.log_det()
        for top, flow in enumerate(self.tops):
            density, shown = top_mass_density(fits, z[:, : 2 + top])
            log_p = log_p + _through(flow, density, z[:, 2 + top], torch.cat([known, z[:, : 2 + top], shown], 1))
        curves = self._curves(rows, z)
        recoil, curves = self._recoil(known, z, curves, rows), curves.to(known)
        turns, (first, second) = coordinates[:, 4:].to(known), self.angles
        around = curves[:, 0] @ equal_directions(N_DIRECTIONS, known)
        given = torch.cat([known, z, angle_features(around, curves, rows)], 1)
        log_p = log_p + _around(first, first_angle_density(recoil, curves, rows), turns[:, 0], given)
        at = direction(turns[:, 0])
        point = curves[:, 0] @ at[..., None]
        given = torch.cat([known, z, at, angle_features(point, curves, rows)], 1)
        return log_p + _around(second, second_angle_density(recoil, curves, rows, at), turns[:, 1], given)

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return log p(neutrinos | event) ``(n,)``, or ``(n, m)`` for m pairs ``(n, m, 2, 3)`` an event."""
        sets = target.to(event) if target.ndim == 4 else target.to(event).reshape(-1, 1, 2, 3)
        parts = zip(sets.split(_EVENTS_AT_ONCE), event.split(_EVENTS_AT_ONCE), strict=True)
        log_p = torch.cat([self._log_prob(*part) for part in parts])
        return log_p if target.ndim == 4 else log_p[:, 0]

    def _log_prob(self, sets: Tensor, event: Tensor) -> Tensor:
        rows, m = hypotheses(event), sets.shape[1]
        known, fits = self._known(event, rows)
        coordinates, log_det = self._enter(sets, event, rows)
        many = torch.arange(len(rows.event), device=event.device).repeat_interleave(m)
        chunks = zip(many.split(_ROWS_AT_ONCE), coordinates.split(_ROWS_AT_ONCE), strict=True)
        log_p = torch.cat([self._density(c, known[i], fits[i], rows[i]) for i, c in chunks]) + log_det
        prior = self._log_prior(known, rows, len(event))
        return (prior[..., None] + rows.by_pairing(log_p.unflatten(0, (-1, m)), len(event))).logsumexp(1)

    def _log_prior(self, known: Tensor, rows: Hypotheses, n: int) -> Tensor:
        return rows.by_pairing(self.choice(known), n)[..., 0].log_softmax(1)

    def pairing_probability(self, event: Tensor) -> Tensor:
        """Return P(pairing | event) ``(n, 2)``: as the two hardest tagged jets stand for (t, t̄), and exchanged."""
        rows = hypotheses(event)
        return self._log_prior(self._known(event, rows)[0], rows, len(event)).exp()

    def choose(self, event: Tensor) -> Tensor:
        """Return the more probable pairing ``(n, 2)``: for t and t̄ the positions of their jets."""
        parts = unpack(event, 2)
        best = self.pairing_probability(event).argmax(1)
        return parts.frame.by_leg(jets_of_pairings(parts)[torch.arange(len(event)), best])

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the negative mean log-likelihood of (neutrinos, events)."""
        return weighted_mean(-self.log_prob(*batch), weight)

    def sample(self, event: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, 2, 3)``, from ``generator`` or torch's global one.

        A pair with more than a beam's energy is drawn again; the density makes no allowance for it. The shipped model
        does so for 3 in 100,000 draws.
        """
        generator = optional_generator(generator)
        with torch.inference_mode():
            draws = torch.cat([self._sample(part, n, generator) for part in event.split(_EVENTS_AT_ONCE)])
        return draws.clone()

    def _sample(self, event: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        rows = hypotheses(event)
        known, fits = self._known(event, rows)
        prior = self._log_prior(known, rows, len(event)).exp()
        place = rows.by_pairing(torch.arange(len(rows.event), device=event.device)[:, None], len(event), fill=0)
        if len(event):
            which = torch.multinomial(prior, n, replacement=True, generator=generator)
        else:
            which = prior[:, :1].long().expand(0, n)
        index = place[..., 0].gather(1, which).flatten()
        parts = index.split(_ROWS_AT_ONCE)
        draws = torch.cat([self._draw(known[part], fits[part], rows[part], generator) for part in parts])
        while len(wild := (draws.norm(dim=-1) > SQRT_S / 2).any(1).nonzero()[:, 0]):
            again = index[wild]
            draws[wild] = self._draw(known[again], fits[again], rows[again], generator)
        inside = draws.reshape(len(event), n, 2, 3).to(event)
        frame = unpack(event, 2).frame
        return frame.leave(frame.by_leg(inside.movedim(2, 1))).movedim(1, 2)

    def _draw(self, known: Tensor, fits: Tensor, rows: Hypotheses, generator: torch.Generator | None) -> Tensor:
        """Return one draw ``(R, 2, 3)`` for each row, in the canonical frame."""
        z = draw(self.bosons, known, generator)
        for flow in self.tops:
            density, shown = top_mass_density(fits, z)
            share = density.to_share(_drawn(flow, torch.cat([known, z, shown], 1), generator))
            z = torch.cat([z, normal_quantile(share)[:, None].to(z)], 1)
        curves = self._curves(rows, z)
        recoil, seen = self._recoil(known, z, curves, rows), curves.to(known)
        first, second = self.angles
        around = seen[:, 0] @ equal_directions(N_DIRECTIONS, known)
        given = torch.cat([known, z, angle_features(around, seen, rows)], 1)
        turn = 2 * math.pi * first_angle_density(recoil, seen, rows).to_share(_drawn(first, given, generator))
        at = direction(turn).to(known)
        point = curves[:, 0] @ direction(turn)[..., None]
        given = torch.cat([known, z, at, angle_features(point.to(known), seen, rows)], 1)
        other = 2 * math.pi * second_angle_density(recoil, seen, rows, at).to_share(_drawn(second, given, generator))
        return torch.stack([point[..., 0], (curves[:, 1] @ direction(other)[..., None])[..., 0]], 1)


def _through(flow: Any, density: PiecewiseDensity, z: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of a roughly normal ``z`` that starts from ``density`` times the normal density."""
    z = z.double()
    inner, slope = density.to_normal(torch.special.ndtr(z))
    slope = slope - (z**2 + math.log(2 * math.pi)) / 2
    return flow.log_prob(inner[:, None].to(context), context=context) + slope.to(context)


def _around(flow: Any, density: PiecewiseDensity, angle: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of an angle that starts from ``density``."""
    inner, slope = density.to_normal(angle.double().remainder(2 * math.pi) / (2 * math.pi))
    slope = slope - math.log(2 * math.pi)
    return flow.log_prob(inner[:, None].to(context), context=context) + slope.to(context)


def _drawn(flow: Any, context: Tensor, generator: torch.Generator | None) -> Tensor:
    return draw(flow, context, generator)[:, 0]
