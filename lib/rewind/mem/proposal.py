"""A flow over an event's variables, learnt from simulation: a posterior by itself, a proposal for the exact one.

>>> outgoing = torch.tensor([[[50.0, 30.0, 40.0, 0.0]]])
>>> [p[0, 0, 2:].tolist() for p in _orientations(outgoing)]
[[40.0, 0.0], [40.0, -0.0], [-40.0, 0.0], [-40.0, -0.0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.integrate import SplineFlow
from rewind.mem.angle_map import AngleMap
from rewind.mem.detector_model import DetectorModel
from rewind.mem.event_integrals import under
from rewind.mem.integrand import EventIntegrand
from rewind.mem.measured import Measured, rows, true_hypothesis
from rewind.mem.proposal_features import featurize
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, weighted_mean
from rewind.random_numbers import optional_generator, require_generator

__all__ = ["Draws", "EventFlow", "Pairs", "Proposal", "learn", "load_proposal", "pairs", "train_proposal"]

_ROUNDS = 10


@dataclass(frozen=True)
class Pairs(Columns):
    """Hold what a proposal learns from: mapped variables ``(B, dims)``, features ``(B, H, F)`` by hypothesis, and which
    of these is true ``(B,)``, each with its ``weight`` ``(B,)``.
    """

    points: Tensor
    features: Tensor
    which: Tensor
    weight: Tensor


class Draws(NamedTuple):
    """Hold hypotheses ``which`` ``(B, n)`` and unit-hypercube variables ``points`` ``(B, n, dims)``, or ``(B,)`` and
    ``(B, dims)`` for one an event.
    """

    which: Tensor
    points: Tensor


def _orientations(outgoing: Tensor) -> list[Tensor]:
    """Return leading-order momenta ``(B, n, 4)`` as they are and reflected in y, in z and in both.

    All are equally likely where couplings conserve CP, but for effects of widths: more to learn from where events are
    few.
    """
    signs = torch.tensor([(1, 1, y, z) for y, z in product((1, -1), repeat=2)]).to(outgoing)
    return [outgoing * sign for sign in signs]


def pairs(
    integrand: EventIntegrand,
    outgoing: Tensor,
    generator: torch.Generator,
    *,
    cuts: dict[str, float] | None = None,
    weight: Tensor | None = None,
) -> Pairs:
    """Return training pairs from leading-order momenta ``(B, n, 4)``, with ``weight`` ``(B,)`` if not all alike, of
    those events that are accepted.

    ``cuts`` changes the selection: a posterior does not depend on it, so that looser cuts cost nothing but events.
    Raises InputError for cuts on jets where the topology lets some be lost, since they decide which.
    """
    topology = integrand.topology
    if topology.lost and {"jet_pt", "jet_eta"} & set(cuts or {}):
        raise InputError("cuts: jet_pt and jet_eta decide which jets are lost, and must stay for this topology")
    topology = replace(topology, selection=topology.selection.changed(**(cuts or {})))
    partons, event, kept = integrand.detector.simulate(outgoing, topology, generator)
    which, partons = true_hypothesis(event, partons, topology)
    every = rows(event, topology)
    features = _features(every, integrand)
    row = every[torch.arange(len(which)), which]
    points, _ = AngleMap(integrand).inverse(integrand.variables(partons, row), row)
    weight = torch.ones(len(outgoing)) if weight is None else weight
    return Pairs(points.float(), features, which, weight[kept])


def _features(rows: Tensor, integrand: EventIntegrand) -> Tensor:
    """Return the features ``(..., F)`` of rows ``(..., R)``."""
    return featurize(rows.flatten(0, -2), integrand.topology, integrand.detector).unflatten(0, rows.shape[:-1])


def learn(
    integrand: EventIntegrand,
    outgoing: Tensor,
    generator: torch.Generator,
    path: str | Path | None = None,
    *,
    cuts: dict[str, float] | None = None,
    at_once: int = 20_000,
    **options: Any,
) -> tuple[Proposal, dict[str, Any]]:
    """Return a proposal trained on leading-order momenta ``(B, n, 4)``, and its record.

    The first ``at_once`` of them validate; each of the others is measured in each of four orientations. ``cuts`` as
    for :func:`pairs`, ``options`` and errors as for :func:`train_proposal`; raises InputError for no more than
    ``at_once`` events.
    """
    if len(outgoing) <= at_once:
        raise InputError(f"{len(outgoing)} events: the first {at_once} only validate; more are needed")
    first, *others = outgoing.split(at_once)
    validation = pairs(integrand, first, generator, cuts=cuts)
    turned = (q for p in others for q in _orientations(p))
    train = Pairs.concatenate([pairs(integrand, p, generator, cuts=cuts) for p in turned])
    return train_proposal(train, validation, integrand.detector, path, **options)


class Proposal(Trainable):
    """Model P(hypothesis | event) and p(v | hypothesis, event) of mapped variables ``(B, dims)``.

    Events are features ``(B, H, n_features)`` under all hypotheses; ``response``, a name that checkpoints keep, is the
    detector model that it learns from, as :meth:`~rewind.mem.detector_model.DetectorModel.to_dict` writes it;
    ``layers``, ``bins``, ``hidden`` and ``blocks`` are those of :class:`~rewind.integrate.flows.SplineFlow`. For
    integrals the share ``uniform`` of the draws is even, which bounds weights where the flow is wrong.
    """

    def __init__(
        self,
        dims: int,
        n_features: int,
        response: dict[str, Any],
        *,
        uniform: float = 0.02,
        layers: int = 3,
        bins: int = 16,
        hidden: int = 64,
        blocks: int = 2,
    ):
        super().__init__()
        self.dims, self.uniform, self.detector = dims, uniform, DetectorModel.from_dict(response)
        self.scale = Standardize(n_features)
        self.flow = SplineFlow(dims, n_features, layers=layers, bins=bins, hidden=hidden, blocks=blocks)
        self.choice = nn.Sequential(
            nn.Linear(n_features, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1)
        )

    def fit_scales(self, points: Tensor, features: Tensor, which: Tensor) -> Proposal:
        """Standardise the features of true hypotheses."""
        self.scale.fit(features[torch.arange(len(which)), which])
        return self

    def log_probability(self, features: Tensor) -> Tensor:
        """Return ln P(hypothesis | event) ``(B, H)``."""
        return self.choice(self.scale(features.float()))[..., 0].log_softmax(1)

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the negative mean log-likelihood of variables and true hypotheses, given features."""
        points, features, which = batch
        event = torch.arange(len(which), device=which.device)
        inner = self.flow.log_prob(points.double(), self.scale(features[event, which]))
        return weighted_mean(-(inner + self.log_probability(features)[event, which]), weight)

    def log_prob(self, which: Tensor, points: Tensor, features: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)`` of what :meth:`sample` draws for events ``(B, H, F)``."""
        event = torch.arange(len(which))
        inner = self.flow.log_prob(points, self.scale(features[event, which].float()))
        return self._mixed(self.log_probability(features)[event, which], features.shape[1]) + self._mixed(inner, 1)

    def _mixed(self, log_density: Tensor, n: int) -> Tensor:
        """Return ln of a density with its even share, 1/``n``."""
        return ((1 - self.uniform) * log_density.double().exp() + self.uniform / n).log()

    @torch.no_grad()
    def posterior(self, features: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``n`` draws an event: hypotheses ``(B, n)`` and mapped variables ``(B, n, dims)``, nothing added."""
        which = torch.multinomial(self.log_probability(features).exp(), n, replacement=True, generator=generator)
        return which, self._inner(features, which, generator)[0].unflatten(0, which.shape)

    def _inner(self, features: Tensor, which: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the flow's mapped variables ``(B n, dims)`` and ln of their density, for hypotheses ``(B, n)``."""
        places = which + features.shape[1] * torch.arange(len(which))[:, None]
        there, place = places.flatten().unique(return_inverse=True)
        given = self.scale(features.flatten(0, 1)[there].float())
        return self.flow.sample(len(place), generator, given, place, dtype=torch.float32)

    @torch.no_grad()
    def sample(self, features: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``n`` draws an event ``(B, H, F)`` for its integral, and the logarithm of their density ``(B, n)``.

        As :meth:`posterior`, but that the share ``uniform`` of hypotheses and that of mapped variables are even.
        """
        log_chance = self._mixed(self.log_probability(features), features.shape[1])
        which = torch.multinomial(log_chance.exp(), n, replacement=True, generator=generator)
        points, log_density = self._inner(features, which, generator)
        even = torch.rand(len(points), self.dims + 1, generator=generator, dtype=torch.float64)
        (chosen,) = (even[:, -1] < self.uniform).nonzero(as_tuple=True)
        points[chosen] = even[chosen, :-1]
        given = under(features, which)[chosen]
        log_density[chosen] = self.flow.log_prob(points[chosen], self.scale(given.float()))
        log_density = self._mixed(log_density, 1).unflatten(0, which.shape)
        return which, points.unflatten(0, which.shape), log_chance.gather(1, which) + log_density


class EventFlow:
    """Draw hypotheses and variables of measured events with a trained proposal; a conditional density of events.

    An event is its rows ``(H, R)``. What is drawn has the proposal's even share: :meth:`posterior` is without. Raises
    InputError for a proposal of other variables or of another detector.
    """

    def __init__(self, integrand: EventIntegrand, proposal: Proposal):
        if proposal.dims != integrand.dims:
            raise InputError(f"a proposal of {proposal.dims} variables: the integrand has {integrand.dims}")
        if proposal.detector.to_dict() != integrand.detector.to_dict():
            raise InputError("the proposal has learnt another detector than the integrand's: give both the same")
        self.integrand, self.proposal, self.angle_map = integrand, proposal, AngleMap(integrand)

    def featurize(self, events: Measured) -> Tensor:
        """Return the rows ``(B, H, R)`` of measured events; raises InputError as `rewind.mem.measured.rows` does."""
        return rows(events, self.integrand.topology)

    def features(self, rows: Tensor) -> Tensor:
        """Return what the proposal reads of rows ``(..., R)``, ``(..., F)``."""
        return _features(rows, self.integrand)

    @torch.no_grad()
    def log_prob(self, target: Draws, rows: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)`` of one hypothesis and its variables an event ``(B, H, R)``."""
        points, log_slope = self.angle_map.inverse(target.points, under(rows, target.which[:, None]))
        return self.proposal.log_prob(target.which, points, self.features(rows)) - log_slope

    def sample(self, rows: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Draws:
        """Return ``n`` draws for each of events ``(B, H, R)``; without ``generator`` by torch's global one."""
        return Draws(*self.sample_and_log_prob(rows, n, optional_generator(generator) or torch.default_generator)[:2])

    @torch.no_grad()
    def sample_and_log_prob(self, rows: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return hypotheses ``(B, n)`` of events ``(B, H, R)``, variables ``(B, n, dims)``, ln of their density."""
        which, points, log_density = self.proposal.sample(self.features(rows), n, generator)
        variables, log_slope = self.angle_map.forward(points.flatten(0, 1), under(rows, which))
        return which, variables.unflatten(0, which.shape), log_density - log_slope.unflatten(0, which.shape)

    @torch.no_grad()
    def posterior(self, rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return partons ``(B, n, particles, 4)`` that the flow draws for events ``(B, H, R)``, without amplitudes.

        Draws that no momenta have are drawn again a few times, so that the flow is normalised where momenta are; what
        is still missing then repeats an event's other draws. Raises InputError for an event that has none.
        """
        partons = self._partons(rows, n, require_generator(generator))
        for _ in range(_ROUNDS):
            missing = partons.isnan().flatten(2).any(2)
            if not missing.any():
                return partons
            event, place = missing.nonzero(as_tuple=True)
            partons[event, place] = self._partons(rows[event], 1, generator)[:, 0]
        there = ~partons.isnan().flatten(2).any(2)
        if not there.any(1).all():
            event = int((~there.any(1)).nonzero()[0])
            raise InputError(f"event {event}: the flow draws nothing that momenta can be; is it of this process?")
        event, place = (~there).nonzero(as_tuple=True)
        other = torch.multinomial(there[event].double(), 1, generator=generator)[:, 0]
        partons[event, place] = partons[event, other]
        return partons

    def _partons(self, rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
        which, points = self.proposal.posterior(self.features(rows), n, generator)
        row = under(rows, which)
        variables, _ = self.angle_map.forward(points.flatten(0, 1), row)
        return self.integrand.points(variables, row).partons.unflatten(0, which.shape)


def train_proposal(
    train: Pairs,
    validation: Pairs,
    detector: DetectorModel,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    start: str | Path | None = None,
    **options: Any,
) -> tuple[Proposal, dict[str, Any]]:
    """Return a proposal trained on pairs, and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :class:`Proposal`; with ``start`` the proposal of that checkpoint is trained on. With
    ``path`` the checkpoint is written there; ``options`` are those of :func:`rewind.nn.training.train`. Raises
    InputError as that does, and for a ``start`` with a size or of another detector.
    """
    if start is None:
        configuration = {"dims": train.points.shape[1], "n_features": train.features.shape[2]}
        configuration |= {"response": detector.to_dict(), **(size or {})}
    else:
        begun, configuration = load_proposal(start), checkpoints.describe(start)["configuration"]
        if size or begun.detector.to_dict() != detector.to_dict():
            raise InputError(f"{start}: a start has its own size, and must have learnt this detector")
    return training.train(
        Proposal,
        configuration,
        train,
        validation,
        path,
        prepare=lambda model: start and model.load_state_dict(begun.state_dict()),
        examples=lambda _, pairs: Examples((pairs.points, pairs.features, pairs.which), pairs.weight),
        **({"batch_size": 1024, "learning_rate": 3e-3, "ema_decay": 0.99} | options),
    )


def load_proposal(path: str | Path) -> Proposal:
    """Return a trained proposal; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, Proposal)
