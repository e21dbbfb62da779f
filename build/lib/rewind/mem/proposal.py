"""A flow over the unknowns of an event, learnt from simulation: a posterior by itself, a proposal for the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.integrate import SplineFlow
from rewind.mem.angle_map import Guide
from rewind.mem.detector_model import Response, rows, truth
from rewind.mem.event_integrals import under
from rewind.mem.integrand import Unknowns
from rewind.mem.proposal_features import read
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, weighted_mean

__all__ = ["EventFlow", "Pairs", "Proposal", "learn", "load_proposal", "pairs", "train_proposal"]

_ROUNDS = 10


@dataclass(frozen=True)
class Pairs(Columns):
    """Hold what a proposal learns from: guided numbers ``(B, dims)``, features ``(B, H, F)`` by hypothesis, and which
    of these is true ``(B,)``, each with its ``weight`` ``(B,)``.
    """

    points: Tensor
    features: Tensor
    which: Tensor
    weight: Tensor


def _orientations(outgoing: Tensor) -> list[Tensor]:
    """Return leading-order momenta ``(B, n, 4)`` as they are and reflected in y, in z and in both.

    All are equally likely where couplings conserve CP, but for effects of widths: more to learn from where events are
    few.
    """
    signs = torch.tensor([(1, 1, y, z) for y, z in product((1, -1), repeat=2)]).to(outgoing)
    return [outgoing * sign for sign in signs]


def pairs(
    unknowns: Unknowns,
    outgoing: Tensor,
    generator: torch.Generator,
    *,
    cuts: dict | None = None,
    weight: Tensor | None = None,
) -> Pairs:
    """Return training pairs from leading-order momenta ``(B, n, 4)``, with ``weight`` ``(B,)`` if not all alike, of
    those events that are accepted.

    ``cuts`` changes the selection: a posterior does not depend on it, so that looser cuts cost nothing but events.
    Raises InputError for cuts on jets where the topology lets some be lost, since they decide which.
    """
    topology, response = unknowns.topology, unknowns.response
    if topology.lost and {"jet_pt", "jet_eta"} & set(cuts or {}):
        raise InputError("cuts: jet_pt and jet_eta decide which jets are lost, and must stay for this topology")
    topology = replace(topology, selection=topology.selection.changed(**(cuts or {})))
    partons, event, kept = response.simulate(outgoing, topology, generator)
    which, partons = truth(event, partons, topology)
    found = rows(event, topology)
    features = read(found.flatten(0, 1), topology, response).unflatten(0, found.shape[:2])
    row = found[torch.arange(len(which)), which]
    points, _ = Guide(unknowns).from_units(unknowns.units(partons, row), row)
    weight = torch.ones(len(outgoing)) if weight is None else weight
    return Pairs(points.float(), features, which, weight[kept])


def learn(
    unknowns: Unknowns,
    outgoing: Tensor,
    generator: torch.Generator,
    path: str | Path | None = None,
    *,
    cuts: dict | None = None,
    at_once: int = 20_000,
    **options,
) -> tuple[Proposal, dict[str, Any]]:
    """Return a proposal trained on leading-order momenta ``(B, n, 4)``, and its record.

    The first ``at_once`` of them validate; each of the others is measured in each of four orientations. ``cuts`` as
    for :func:`pairs`, ``options`` and errors as for :func:`train_proposal`; raises InputError for no more than
    ``at_once`` events.
    """
    if len(outgoing) <= at_once:
        raise InputError(f"{len(outgoing)} events: the first {at_once} only validate; more are needed")
    first, *others = outgoing.split(at_once)
    validation = pairs(unknowns, first, generator, cuts=cuts)
    turned = (q for p in others for q in _orientations(p))
    train = Pairs.concatenate([pairs(unknowns, p, generator, cuts=cuts) for p in turned])
    return train_proposal(train, validation, unknowns.response, path, **options)


class Proposal(Trainable):
    """Model P(hypothesis | event) and p(v | hypothesis, event) of guided unit numbers ``(B, dims)``.

    Events are features ``(B, H, n_features)`` under all hypotheses; ``response`` is what it learns from, as
    :meth:`rewind.mem.detector_model.Response.to_dict` writes it; ``layers``, ``bins``, ``hidden`` and ``blocks`` are
    those of :class:`~rewind.integrate.flows.SplineFlow`. For integrals the share ``uniform`` of the draws is even,
    which bounds weights where the flow is wrong.
    """

    def __init__(
        self,
        dims: int,
        n_features: int,
        response: dict,
        *,
        uniform: float = 0.02,
        layers: int = 3,
        bins: int = 16,
        hidden: int = 64,
        blocks: int = 2,
    ):
        super().__init__()
        self.dims, self.uniform, self.response = dims, uniform, Response.from_dict(response)
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
        """Return the negative mean log-likelihood of unit numbers and true hypotheses, given features."""
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
        """Return ``n`` draws an event: hypotheses ``(B, n)`` and guided numbers ``(B, n, dims)``, nothing added."""
        which = torch.multinomial(self.log_probability(features).exp(), n, replacement=True, generator=generator)
        return which, self._inner(features, which, generator)[0].unflatten(0, which.shape)

    def _inner(self, features: Tensor, which: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the flow's guided numbers ``(B n, dims)`` and ln of their density, for hypotheses ``(B, n)``."""
        places = which + features.shape[1] * torch.arange(len(which))[:, None]
        there, place = places.flatten().unique(return_inverse=True)
        given = self.scale(features.flatten(0, 1)[there].float())
        return self.flow.sample(len(place), generator, given, place, dtype=torch.float32)

    @torch.no_grad()
    def sample(self, features: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``n`` draws an event ``(B, H, F)`` for its integral, and the logarithm of their density ``(B, n)``.

        As :meth:`posterior`, but that the share ``uniform`` of hypotheses and that of guided numbers are even.
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
    """Draw the unknowns of measured events with a trained proposal: what `rewind.mem.event_integrals.draw` asks for.

    Raises InputError for a proposal of other unknowns or of another response.
    """

    def __init__(self, unknowns: Unknowns, proposal: Proposal):
        if proposal.dims != unknowns.dims:
            raise InputError(f"a proposal of {proposal.dims} unknowns: the integrand has {unknowns.dims}")
        if proposal.response.to_dict() != unknowns.response.to_dict():
            raise InputError("the proposal has learnt another response than the integrand's: give both the same")
        self.unknowns, self.proposal, self.guide = unknowns, proposal, Guide(unknowns)

    def read(self, found: Tensor) -> Tensor:
        """Return the features ``(..., F)`` of rows ``(..., R)``."""
        topology, response = self.unknowns.topology, self.unknowns.response
        return read(found.flatten(0, -2), topology, response).unflatten(0, found.shape[:-1])

    @torch.no_grad()
    def sample(self, rows: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return hypotheses ``(B, n)`` of events ``(B, H, R)``, unit numbers ``(B, n, dims)``, ln of their density."""
        which, points, log_density = self.proposal.sample(self.read(rows), n, generator)
        units, log_slope = self.guide.to_units(points.flatten(0, 1), under(rows, which))
        return which, units.unflatten(0, which.shape), log_density - log_slope.unflatten(0, which.shape)

    @torch.no_grad()
    def posterior(self, found: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return partons ``(B, n, particles, 4)`` that the flow draws for events ``(B, H, R)``, without amplitudes.

        Draws that no momenta have are drawn again a few times, so that the flow is normalised where momenta are; what
        is still missing then repeats an event's other draws. Raises InputError for an event that has none.
        """
        partons = self._partons(found, n, generator)
        for _ in range(_ROUNDS):
            missing = partons.isnan().flatten(2).any(2)
            if not missing.any():
                return partons
            event, place = missing.nonzero(as_tuple=True)
            partons[event, place] = self._partons(found[event], 1, generator)[:, 0]
        there = ~partons.isnan().flatten(2).any(2)
        if not there.any(1).all():
            event = int((~there.any(1)).nonzero()[0])
            raise InputError(f"event {event}: the flow draws nothing that momenta can be; is it of this process?")
        event, place = (~there).nonzero(as_tuple=True)
        other = torch.multinomial(there[event].double(), 1, generator=generator)[:, 0]
        partons[event, place] = partons[event, other]
        return partons

    def _partons(self, found: Tensor, n: int, generator: torch.Generator) -> Tensor:
        which, points = self.proposal.posterior(self.read(found), n, generator)
        row = under(found, which)
        units, _ = self.guide.to_units(points.flatten(0, 1), row)
        return self.unknowns.points(units, row).partons.unflatten(0, which.shape)


def train_proposal(
    train: Pairs,
    validation: Pairs,
    response: Response,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    start: str | Path | None = None,
    **options: Any,
) -> tuple[Proposal, dict[str, Any]]:
    """Return a proposal trained on pairs, and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :class:`Proposal`; with ``start`` the proposal of that checkpoint is trained on. With
    ``path`` the checkpoint is written there; ``options`` are those of :func:`rewind.nn.training.train`.
    Raises InputError as that does, and for a ``start`` with a size or of another response.
    """
    if start is None:
        configuration = {"dims": train.points.shape[1], "n_features": train.features.shape[2]}
        configuration |= {"response": response.to_dict(), **(size or {})}
    else:
        begun, configuration = load_proposal(start), checkpoints.describe(start)["configuration"]
        if size or begun.response.to_dict() != response.to_dict():
            raise InputError(f"{start}: a start has its own size, and must have learnt this response")
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
