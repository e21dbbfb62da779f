"""The ν²-Flow in masses and angles: a density for each pairing of b jets, and the probability of each pairing.

p(ν, ν̄ | event) = Σ_π P(π | event) p(m_W, m_W | …) p(m_t | …) p(m_t̄ | …) p(t | …) p(t̄ | …), each factor given those
before it, in the coordinates of :mod:`~rewind.physics.circles` for the jets that pairing π gives to the legs. Given
the masses, the neutrinos lie on two curves, and p_T^miss says which points of them belong together: both top masses
and both angles start from that guess, and splines learn the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rewind.neutrino.classical.jet_scale import JetScale
from rewind.neutrino.dataset import Dataset
from rewind.neutrino.flows.inputs import Unpacked, event_tensor, unpack
from rewind.neutrino.flows.mass_coordinates import mass_coordinates, masses
from rewind.nn.encoders import ObjectEncoder
from rewind.nn.flows import spline_flow
from rewind.nn.piecewise import PiecewiseDensity, normal_quantile
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, weighted_mean
from rewind.physics.circles import Circles, direction, equal_directions
from rewind.physics.constants import M_TOP, M_W, SQRT_S

__all__ = ["Hypotheses", "MassFlow", "hypotheses"]

_SIGMA, _WIDE_SIGMA = 15.0, 20.0  # of p_T^miss, GeV; the second where an angle's grid is coarse
_FREEDOM = 6.0  # degrees of freedom of p_T^miss' distribution: its tails
_FIRST, _SECOND, _COARSE, _SHOWN = 64, 64, 24, 12  # angles
_FALL, _LEAST_M_TT = 5.0, 200.0  # the density falls with this power of m_tt, before training
_RARITY, _TYPICAL_PT = 2.0, 85.0  # how large p_T of both neutrinos become rare, GeV
_MASSES = 9  # top masses, at equal shares of a standard normal distribution
_EVENTS_AT_ONCE, _ROWS_AT_ONCE, _TABLES_AT_ONCE = 2_000, 4_096, 128


@dataclass(frozen=True)
class Hypotheses:
    """Hold the R pairings of events that may be: the event's number, the pairing's (0 or 1), and what it implies.

    ``visible`` ``(R, 4)`` is the sum of leptons and chosen jets, ``features`` ``(R, F)`` what a network reads.
    """

    event: Tensor
    which: Tensor
    circles: Circles
    visible: Tensor
    met: Tensor
    features: Tensor

    def __getitem__(self, index) -> Hypotheses:
        return Hypotheses(*(value[index] for value in vars(self).values()))


def _jets_of_pairings(parts: Unpacked) -> Tensor:
    """Return the jets ``(n, 2, 2)`` that both pairings give to the legs, in the canonical order of these."""
    return parts.solutions[:, (0, parts.solutions.shape[1] // 2), -2:].long()


def hypotheses(event: Tensor) -> Hypotheses:
    """Return one pairing of each event tensor if it is told, else both orders of the two hardest tagged jets."""
    parts = unpack(event, 2)
    told = parts.jets[..., 6:8].sum((1, 2)) > 0
    number, which = torch.stack([torch.ones_like(told), ~told], 1).nonzero(as_tuple=True)
    taken = _jets_of_pairings(parts)[number, which]
    jets = parts.jets[number].gather(1, taken[..., None].expand(-1, -1, parts.jets.shape[2]))
    leptons, bottoms = (p[..., :4].double() for p in (parts.leptons[number], jets))
    circles, met = Circles.of(leptons, bottoms), parts.met[number]
    pt = bottoms[..., 1:3].norm(dim=-1)
    columns = [
        (M_TOP**2 - circles.least_m_top_squared(torch.full_like(pt, M_W**2))) / M_TOP**2,
        (circles.visible_mass_squared / 100**2).log(),
        (circles.b_minus / 30).log(),
        torch.asinh(circles.b_across / 50),
        (circles.lepton_energy / 80).log(),
        (pt / 60).log(),
        torch.asinh(bottoms[..., 3] / pt),
        (1 + circles.b_mass_squared).log() / 2 - 2.5,
    ]
    features = torch.stack(columns, -1).flatten(1).to(event)
    return Hypotheses(number, which, circles, (leptons + bottoms).sum(1).to(event), met, features)


_N_FEATURES = 2 * 8


def _compressed(log_weight: Tensor) -> Tensor:
    return torch.asinh(log_weight) / 2


def _log_student(squared: Tensor) -> Tensor:
    """Return the logarithm of a bivariate Student's density at a squared distance, up to a constant."""
    return -(_FREEDOM + 2) / 2 * torch.log1p(squared / _FREEDOM)


def _squared_sums(first: Tensor, second: Tensor) -> Tensor:
    """Return |a + b|² ``(R, n, m)`` of vectors ``(R, 2, n)`` and ``(R, 2, m)``."""
    squares = first.square().sum(1)[:, :, None] + second.square().sum(1)[:, None]
    return (squares + 2 * first.mT @ second).clip(0.0)


def _log_m_tt(first: Tensor, second: Tensor, visible: Tensor) -> Tensor:
    """Return ln(m_tt/400 GeV) ``(R, n, m)`` with neutrinos at ``(R, 3, n)`` and ``(R, 3, m)``."""
    metric = first.new_tensor([1.0, -1.0, -1.0, -1.0])
    one, two = (torch.cat([p.norm(dim=1, keepdim=True), p], 1) for p in (first, second))
    lowered = metric * visible
    one, two = (p + visible[..., None] for p in (one, two))
    constant = (lowered * visible).sum(1)[:, None, None]
    squares = 2 * ((metric[:, None] * one).mT @ two) - constant
    return squares.clip(_LEAST_M_TT**2).log() / 2 - 6


class MassFlow(Trainable):
    """Model p(ν, ν̄ | event), a density in GeV⁻⁶, as a mixture over the pairings of b jets.

    Events are tensors that :meth:`read` makes, neutrinos ``(n, 2, 3)`` in the laboratory by leg; ``encoder`` turns
    events into ``(n, width)``.
    """

    n_legs = 2

    def __init__(self, encoder: ObjectEncoder, width: int, *, jet_scale: JetScale, layers: int, bins: int, hidden: int):
        super().__init__()
        self.jet_scale, self.encoder = jet_scale, encoder
        self.feature_scale, self.mass_scale = Standardize(_N_FEATURES), Standardize(4)
        known = width + _N_FEATURES + 1 + _MASSES
        shape = {"bins": bins, "hidden": hidden}
        self.choice = nn.Sequential(nn.Linear(known, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self.bosons = spline_flow(2, known, layers=layers, **shape)
        self.tops = nn.ModuleList(spline_flow(1, known + n + _MASSES, layers=1, **shape) for n in (2, 3))
        self.recoil = nn.Sequential(nn.Linear(known + 4, hidden), nn.GELU(), nn.Linear(hidden, 6))
        self.angles = nn.ModuleList(spline_flow(1, known + n + 2 * _SHOWN, layers=1, **shape) for n in (4, 7))

    def read(self, data: Dataset, pairing: Tensor | None = None) -> Tensor:
        """Return the event tensor ``(B, F)`` of ``data`` with raw jets; ``pairing`` ``(B, 2)`` is told, −1: unknown.

        Raises InputError for events without two leptons and for what :func:`~rewind.neutrino.flows.inputs.event_tensor`
        refuses.
        """
        data = self.jet_scale.apply(data.require_legs(2))
        return event_tensor(data, pairing, solutions="solution" in self.encoder.kinds)

    def fit_scales(self, target: Tensor, event: Tensor) -> MassFlow:
        """Standardise features and masses by training events, those with a told pairing if there are two."""
        told = unpack(event, 2).jets[..., 6:8].sum((1, 2)) > 0
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

    def _fits(self, rows: Hypotheses) -> Tensor:
        """Return how well pairs of top masses fit p_T^miss, ``(R, _MASSES, _MASSES)``, both W bosons on shell.

        For each point of the first curve the distance to the second one is that of first order.
        """
        shares = torch.linspace(0.01, 0.99, _MASSES).to(rows.met)
        nodes = normal_quantile(shares)
        circles, curves = rows.circles.float(), []
        for leg in range(2):
            one = circles[:, leg, None]
            top = (nodes * self.mass_scale.scale[2 + leg] + self.mass_scale.mean[2 + leg]).float()
            top = top.expand(len(rows.met), -1)
            curves.append(one.curve(*masses(one, torch.zeros_like(top), top))[:, :, :2])
        points = (curves[0] @ equal_directions(_COARSE, curves[0])).movedim(2, 1).flatten(2)
        squares = points.square().sum(1) + (points - rows.met.float()[..., None]).square().sum(1)
        rare = _RARITY * torch.log1p(squares / _TYPICAL_PT**2)
        (a, b, x), (c, d, y) = (row.unbind(-1) for row in curves[1].unbind(-2))
        det = a * d - b * c
        det = torch.where(det < 0, -1.0, 1.0) * det.abs().maximum(0.02 * (a**2 + b**2 + c**2 + d**2))
        x, y = rows.met[:, :1].float() - x, rows.met[:, 1:].float() - y
        a, b, c, d = (value[:, None] for value in (a / det, b / det, c / det, d / det))
        u = (d[:, 0] * x - b[:, 0] * y)[:, None] - points.mT @ torch.cat([d, -b], 1)
        v = (a[:, 0] * y - c[:, 0] * x)[:, None] - points.mT @ torch.cat([-c, a], 1)
        radius = (u**2 + v**2).sqrt()
        slope = ((d * u - c * v) ** 2 + (a * v - b * u) ** 2).sqrt().clip(1e-9)
        distance = (radius - 1) * radius / slope / _WIDE_SIGMA
        fits = (_log_student(distance**2) - rare[..., None]).unflatten(1, (_MASSES, _COARSE)).logsumexp(2)
        return (fits - 0.5 * det.abs().log()[:, None]).to(rows.met)

    def _known(self, event: Tensor, rows: Hypotheses) -> tuple[Tensor, Tensor]:
        """Return what is known of each pairing before any coordinate ``(R, K)``, and how well masses fit."""
        with torch.no_grad():
            fits = torch.cat([self._fits(part) for part in _split(rows, _ROWS_AT_ONCE // 8)])
        shown = _compressed(torch.cat([fits.logsumexp((1, 2))[:, None], fits.logsumexp(2)], 1))
        context = self.encoder(event)[rows.event]
        return torch.cat([context, self.feature_scale(rows.features), shown], 1), fits

    @staticmethod
    def _top_guide(fits: Tensor, before: Tensor) -> tuple[PiecewiseDensity, Tensor]:
        """Return the guess for a top mass given the masses ``before`` it, and its logarithm as features."""
        if before.shape[1] == 2:
            log_values = fits.logsumexp(2)
        else:
            place = torch.special.ndtr(before[:, 2]) * (_MASSES - 1)
            cell = place.long().clip(0, _MASSES - 2)
            part = (place - cell)[:, None]
            rows = fits.gather(1, torch.stack([cell, cell + 1], 1)[..., None].expand(-1, -1, _MASSES))
            log_values = (1 - part) * rows[:, 0] + part * rows[:, 1]
        log_values = log_values - log_values.logsumexp(1, keepdim=True)
        return PiecewiseDensity(log_values), _compressed(log_values)

    def _curves(self, rows: Hypotheses, z: Tensor) -> Tensor:
        """Return the neutrinos' curves ``(R, 2, 3, 3)`` for standardised masses ``z``."""
        coordinates = self.mass_scale.inverse(z).double()
        return rows.circles.curve(*masses(rows.circles, coordinates[:, :2], coordinates[:, 2:]))

    def _recoil(self, known: Tensor, z: Tensor, curves: Tensor, rows: Hypotheses) -> tuple[Tensor, Tensor, Tensor]:
        """Return the curves' transverse parts in units of the resolution of p_T^miss, what the sum of centres misses
        of its expectation, and the power by which the density falls with m_tt: all learnt, depending on the masses.
        """
        shift, log_scale, tilt, fall = self.recoil(torch.cat([known, z], 1)).split((2, 2, 1, 1), 1)
        scale = log_scale.clip(-3, 3).exp() / _SIGMA
        zero = torch.zeros_like(tilt)
        whiten = torch.cat([scale[:, :1], zero, tilt / _SIGMA, scale[:, 1:]], 1).unflatten(1, (2, 2))
        across = curves[:, :, :2].to(known)
        centre = across[..., 2].sum(1) - rows.met - _SIGMA * shift
        return whiten[:, None] @ across[..., :2], (whiten @ centre[..., None])[..., 0], _FALL + fall

    @staticmethod
    def _first_guide(recoil: tuple[Tensor, Tensor, Tensor], curves: Tensor, rows: Hypotheses) -> PiecewiseDensity:
        """Return the guess for the first angle, the second one integrated out."""
        first, second = (equal_directions(n, curves) for n in (_FIRST, _SECOND))
        log_values = []
        for (arms, centre, fall), curve, visible in _few(recoil, curves, rows.visible):
            missing = _squared_sums(arms[:, 0] @ first[:2] + centre[..., None], arms[:, 1] @ second[:2])
            log_mass = _log_m_tt(curve[:, 0] @ first, curve[:, 1] @ second, visible)
            log_values.append((_log_student(missing) - fall[..., None] * log_mass).logsumexp(2))
        return PiecewiseDensity.on_circle(torch.cat(log_values))

    @staticmethod
    def _second_guide(
        recoil: tuple[Tensor, Tensor, Tensor], curves: Tensor, rows: Hypotheses, at: Tensor
    ) -> PiecewiseDensity:
        """Return the guess for the second angle, the first one's direction ``at`` ``(R, 3)`` given."""
        arms, centre, fall = recoil
        second = equal_directions(_SECOND, centre)
        point = arms[:, 0] @ at[:, :2, None] + centre[..., None]
        missing = (point + arms[:, 1] @ second[:2]).square().sum(1)
        log_mass = _log_m_tt(curves[:, 0] @ at[..., None], curves[:, 1] @ second, rows.visible)[:, 0]
        return PiecewiseDensity.on_circle(_log_student(missing) - fall * log_mass)

    @staticmethod
    def _shown(first: Tensor, curves: Tensor, rows: Hypotheses) -> Tensor:
        """Return features of an angle's choices: fits to p_T^miss and ln m_tt, for points ``first`` ``(R, 3, n)``."""
        second = curves[:, 1] @ equal_directions(_SHOWN, first)
        missing = _squared_sums(first[:, :2] - rows.met[..., None], second[:, :2])
        fits = _log_student(missing / _WIDE_SIGMA**2)
        log_mass = _log_m_tt(first, second, rows.visible)
        if first.shape[2] == 1:
            return torch.cat([_compressed(fits[:, 0]), log_mass[:, 0]], 1)
        return torch.cat([_compressed(fits.logsumexp(2)), (fits.softmax(2) * log_mass).sum(2)], 1)

    def _density(self, coordinates: Tensor, known: Tensor, fits: Tensor, rows: Hypotheses) -> Tensor:
        """Return log p(coordinates | pairing) ``(R,)``."""
        z = self.mass_scale(coordinates[:, :4].to(known))
        log_p = self.bosons.log_prob(z[:, :2], context=known) + self.mass_scale.log_det()
        for top, flow in enumerate(self.tops):
            guide, shown = self._top_guide(fits, z[:, : 2 + top])
            log_p = log_p + _through(flow, guide, z[:, 2 + top], torch.cat([known, z[:, : 2 + top], shown], 1))
        curves = self._curves(rows, z)
        recoil, curves = self._recoil(known, z, curves, rows), curves.to(known)
        turns, (first, second) = coordinates[:, 4:].to(known), self.angles
        around = curves[:, 0] @ equal_directions(_SHOWN, known)
        given = torch.cat([known, z, self._shown(around, curves, rows)], 1)
        log_p = log_p + _around(first, self._first_guide(recoil, curves, rows), turns[:, 0], given)
        at = direction(turns[:, 0])
        point = curves[:, 0] @ at[..., None]
        given = torch.cat([known, z, at, self._shown(point, curves, rows)], 1)
        return log_p + _around(second, self._second_guide(recoil, curves, rows, at), turns[:, 1], given)

    def log_prob(self, target: Tensor, event: Tensor) -> Tensor:
        """Return log p(neutrinos | event) ``(n,)``, or ``(n, m)`` for m pairs ``(n, m, 2, 3)`` an event."""
        sets = target.to(event) if target.ndim == 4 else target.to(event).reshape(-1, 1, 2, 3)
        parts = zip(sets.split(_EVENTS_AT_ONCE), event.split(_EVENTS_AT_ONCE), strict=True)
        found = torch.cat([self._log_prob(*part) for part in parts])
        return found if target.ndim == 4 else found[:, 0]

    def _log_prob(self, sets: Tensor, event: Tensor) -> Tensor:
        rows, m = hypotheses(event), sets.shape[1]
        known, fits = self._known(event, rows)
        coordinates, log_det = self._enter(sets, event, rows)
        many = torch.arange(len(rows.event), device=event.device).repeat_interleave(m)
        chunks = zip(many.split(_ROWS_AT_ONCE), coordinates.split(_ROWS_AT_ONCE), strict=True)
        found = torch.cat([self._density(c, known[i], fits[i], rows[i]) for i, c in chunks]) + log_det
        prior = self._log_prior(known, rows, len(event))
        return (prior[..., None] + _by_pairing(found.unflatten(0, (-1, m)), rows, len(event))).logsumexp(1)

    def _log_prior(self, known: Tensor, rows: Hypotheses, n: int) -> Tensor:
        return _by_pairing(self.choice(known), rows, n)[..., 0].log_softmax(1)

    def pairing_probability(self, event: Tensor) -> Tensor:
        """Return P(pairing | event) ``(n, 2)``: as the two hardest tagged jets stand for (t, t̄), and exchanged."""
        rows = hypotheses(event)
        return self._log_prior(self._known(event, rows)[0], rows, len(event)).exp()

    def choose(self, event: Tensor) -> Tensor:
        """Return the more probable pairing ``(n, 2)``: for t and t̄ the positions of their jets."""
        parts = unpack(event, 2)
        best = self.pairing_probability(event).argmax(1)
        return parts.frame.by_leg(_jets_of_pairings(parts)[torch.arange(len(event)), best])

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the negative mean log-likelihood of (neutrinos, events)."""
        return weighted_mean(-self.log_prob(*batch), weight)

    def sample(self, event: Tensor, n: int = 1) -> Tensor:
        """Return ``n`` draws an event, ``(len(event), n, 2, 3)``, from torch's global generator.

        A pair with more than a beam's energy is drawn again; the density makes no allowance for it. The shipped model
        does so for 3 in 100,000 draws.
        """
        with torch.inference_mode():
            draws = torch.cat([self._sample(part, n) for part in event.split(_EVENTS_AT_ONCE)])
        return draws.clone()

    def _sample(self, event: Tensor, n: int) -> Tensor:
        rows = hypotheses(event)
        known, fits = self._known(event, rows)
        prior = self._log_prior(known, rows, len(event)).exp()
        place = _by_pairing(torch.arange(len(rows.event), device=event.device)[:, None], rows, len(event), fill=0)
        which = torch.multinomial(prior, n, replacement=True) if len(event) else prior[:, :1].long().expand(0, n)
        index = place[..., 0].gather(1, which).flatten()
        draws = torch.cat([self._draw(known[part], fits[part], rows[part]) for part in index.split(_ROWS_AT_ONCE)])
        while len(wild := (draws.norm(dim=-1) > SQRT_S / 2).any(1).nonzero()[:, 0]):
            draws[wild] = self._draw(known[index[wild]], fits[index[wild]], rows[index[wild]])
        inside = draws.reshape(len(event), n, 2, 3).to(event)
        frame = unpack(event, 2).frame
        return frame.leave(frame.by_leg(inside.movedim(2, 1))).movedim(1, 2)

    def _draw(self, known: Tensor, fits: Tensor, rows: Hypotheses) -> Tensor:
        """Return one draw ``(R, 2, 3)`` for each row, in the canonical frame."""
        z = self.bosons.sample(len(known), context=known)[0]
        for flow in self.tops:
            guide, shown = self._top_guide(fits, z)
            share = guide.to_share(_drawn(flow, torch.cat([known, z, shown], 1)))
            z = torch.cat([z, normal_quantile(share)[:, None].to(z)], 1)
        curves = self._curves(rows, z)
        recoil, seen = self._recoil(known, z, curves, rows), curves.to(known)
        first, second = self.angles
        around = seen[:, 0] @ equal_directions(_SHOWN, known)
        given = torch.cat([known, z, self._shown(around, seen, rows)], 1)
        turn = 2 * math.pi * self._first_guide(recoil, seen, rows).to_share(_drawn(first, given))
        at = direction(turn).to(known)
        point = curves[:, 0] @ direction(turn)[..., None]
        given = torch.cat([known, z, at, self._shown(point.to(known), seen, rows)], 1)
        other = 2 * math.pi * self._second_guide(recoil, seen, rows, at).to_share(_drawn(second, given))
        return torch.stack([point[..., 0], (curves[:, 1] @ direction(other)[..., None])[..., 0]], 1)


def _few(recoil: tuple[Tensor, ...], *values: Tensor):
    """Give a few rows at a time, so that tables of all pairs of angles stay in the cache."""
    parts = zip(*(value.split(_TABLES_AT_ONCE) for value in recoil), strict=True)
    yield from zip(parts, *(value.split(_TABLES_AT_ONCE) for value in values), strict=True)


def _split(rows: Hypotheses, n: int) -> list[Hypotheses]:
    return [rows[i : i + n] for i in range(0, max(len(rows.event), 1), n)]


def _by_pairing(values: Tensor, rows: Hypotheses, n: int, fill: float = -math.inf) -> Tensor:
    """Return ``(n, 2, m)`` from ``values`` ``(R, m)`` of the rows, ``fill`` where a pairing does not count."""
    table = values.new_full((n, 2, values.shape[1]), fill)
    return table.index_put((rows.event, rows.which), values)


def _through(flow, guide: PiecewiseDensity, z: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of a roughly normal ``z`` whose guess is ``guide`` times the normal density."""
    z = z.double()
    inner, slope = guide.to_normal(torch.special.ndtr(z))
    slope = slope - (z**2 + math.log(2 * math.pi)) / 2
    return flow.log_prob(inner[:, None].to(context), context=context) + slope.to(context)


def _around(flow, guide: PiecewiseDensity, angle: Tensor, context: Tensor) -> Tensor:
    """Return the log-density of an angle whose guess is ``guide``."""
    inner, slope = guide.to_normal(angle.double().remainder(2 * math.pi) / (2 * math.pi))
    slope = slope - math.log(2 * math.pi)
    return flow.log_prob(inner[:, None].to(context), context=context) + slope.to(context)


def _drawn(flow, context: Tensor) -> Tensor:
    return flow.sample(len(context), context=context)[0][:, 0]
