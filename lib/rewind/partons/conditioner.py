"""The conditioning transformer: from jets, lepton and missing momentum to H, t_had, t_lep, the boost and the gluon.

It reads events in their canonical frame; what is regressed there is turned back. Directions are unit vectors, so that
no azimuth has a seam.

>>> model = conditioner(7, width=16, layers=1, heads=2)
>>> model(torch.zeros(3, model.layout.width)).shape
torch.Size([3, 13])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import Block, EventBatch, Frame, Layout
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples
from rewind.nn.mdmm import Multipliers
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable
from rewind.partons.inputs import EventEncoder, event_tensor, layout_of
from rewind.partons.jet_roles import JetRoles, load_roles, roles_network
from rewind.partons.last_copies import N_QUARKS, PARTONS, true_partons
from rewind.physics.constants import M_H, M_TOP
from rewind.stats.distances import mmd_loss

__all__ = ["HUBER_ONLY", "OUTPUTS", "Conditioner", "conditioner", "load_conditioner", "train_conditioner"]

HUBER_ONLY = {"huber_weight": 1.0, "mmd_weight": 0.0, "huber_max": None, "mmd_max": None}
"""Options of a conditioner that minimises the mean of Huber's losses and bounds nothing."""

_N_HEAVY = 3
OUTPUTS = Layout(
    heavy=Block({"log_pt": (), "eta": (), "direction": (2,)}, rows=_N_HEAVY),
    boost=Block({"scaled": ()}),
)
"""What is regressed: 13 outputs, though the recoil leaves nine degrees of freedom to the truth."""

_MASSES = (M_H, M_TOP, M_TOP)
_BOOST, _GLUON = 300.0, (50.0, 50.0, 200.0)  # GeV, where asinh turns from linear to logarithmic


class Conditioner(Trainable):
    """Regress (log pT, η, cos φ, sin φ) of H, t_had and t_lep and the boost, 13 outputs, from a set of objects.

    The gluon's three-momentum is the boost along the beam minus the sum of the other three; of the targets, but not of
    answers, the boost is a function of the three. The losses are Huber's of each particle, of the boost and of the
    gluon, and the squared maximum mean discrepancy between predicted and true points, of each particle and of all 13
    outputs. The objective is their means, weighted by ``huber_weight`` and
    ``mmd_weight``; each one for which a bound is given (``huber_max``, ``mmd_max``) is held below it by
    :class:`~rewind.nn.mdmm.Multipliers`. Targets are (B, 4, 3) three-momenta in the laboratory, in the order of
    ``PARTONS``. With ``roles`` the scores of that network, which stays as it is, are further inputs of the jets.
    """

    def __init__(
        self,
        max_jets: int,
        width: int,
        layers: int,
        heads: int,
        weights: tuple[float, float],
        bounds: tuple[float | None, float | None],
        damping: float,
        roles: JetRoles | None = None,
    ):
        super().__init__()
        self.size = {"width": width, "layers": layers, "heads": heads}
        self.max_jets, self.layout = max_jets, layout_of(max_jets, role_scores=roles is not None)
        self.encoder = EventEncoder(self.layout, **self.size)
        self.weights = weights
        self.roles = None if roles is None else roles.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, OUTPUTS.width))
        self.scale = Standardize(2 * _N_HEAVY + 1)
        n_huber, n_mmd = len(PARTONS) + 1, _N_HEAVY + 1
        self.constrained = [kind for kind, bound in zip(("huber", "mmd"), bounds, strict=True) if bound is not None]
        limits = [
            bound for bound, n in zip(bounds, (n_huber, n_mmd), strict=True) if bound is not None for _ in range(n)
        ]
        self.multipliers = Multipliers(limits, damping=damping)

    def featurize(self, batch: EventBatch) -> Tensor:
        """Return events ``(B, F)``, float32, in their canonical frames; raise InputError for more jets than seen."""
        return event_tensor(batch, self.layout, None if self.roles is None else self.roles.scores(batch))

    def frame(self, event: Tensor) -> Frame:
        """Return the canonical frame that an event tensor is in."""
        return Frame.from_columns(self.layout.unpack(event)["frame"])

    def examples(self, batch: EventBatch) -> Examples:
        """Return the targets ``(B, 4, 3)``, events and weights; raise InputError for events without the truth."""
        return Examples((true_partons(batch)[..., 1:].float(), self.featurize(batch)), batch.weight)

    def fit_scales(self, target: Tensor, event: Tensor) -> Conditioner:
        """Standardise log pT, η and the boost by training events."""
        self.scale.fit(_linear(OUTPUTS.unpack(self.coordinates(target, event))))
        return self

    def coordinates(self, target: Tensor, event: Tensor) -> Tensor:
        """Return the 13 outputs of true partons ``(B, 4, 3)``, not standardised."""
        inside = self.frame(event).enter(target)
        heavy = inside[:, :_N_HEAVY]
        pt = heavy[..., :2].norm(dim=-1).clip(1e-3)
        points = {
            "log_pt": pt.log(),
            "eta": torch.asinh(heavy[..., 2] / pt),
            "direction": heavy[..., :2] / pt[..., None],
        }
        return OUTPUTS.pack({"heavy": points, "boost": {"scaled": torch.asinh(inside[..., 2].sum(1) / _BOOST)}})

    def standardized(self, coordinates: Tensor) -> Tensor:
        """Return outputs with log pT, η and the boost standardised."""
        blocks = OUTPUTS.unpack(coordinates)
        return OUTPUTS.pack(_with_linear(blocks, self.scale(_linear(blocks))))

    def forward(self, event: Tensor) -> Tensor:
        """Return the 13 outputs ``(B, 13)`` in the canonical frame: standardised, directions of length one."""
        blocks = OUTPUTS.unpack(self.head(self.encoder(event)))
        direction = blocks["heavy"]["direction"]
        blocks["heavy"]["direction"] = direction / (direction.norm(dim=-1, keepdim=True) + 1e-3)
        return OUTPUTS.pack(blocks)

    def inside(self, out: Tensor) -> Tensor:
        """Return three-momenta ``(B, 4, 3)`` of the partons in the canonical frame from the 13 outputs."""
        blocks = OUTPUTS.unpack(out)
        blocks = _with_linear(blocks, self.scale.inverse(_linear(blocks)))
        heavy, boost = blocks["heavy"], _BOOST * torch.sinh(blocks["boost"]["scaled"].clip(-4, 4))
        pt, eta = heavy["log_pt"].clip(max=9).exp()[..., None], heavy["eta"].clip(-8, 8)[..., None]
        momenta = torch.cat([pt * heavy["direction"], pt * torch.sinh(eta)], -1)
        gluon = nn.functional.pad(boost[:, None], (2, 0)) - momenta.sum(1)
        return torch.cat([momenta, gluon[:, None]], 1)

    def terms(
        self, batch: Sequence[Tensor], weight: Tensor | None = None, kinds: Sequence[str] = ("huber", "mmd")
    ) -> dict[str, Tensor]:
        """Return the losses of a batch (targets, events): ``huber`` ``(5,)`` of PARTONS and boost, ``mmd`` ``(4,)``.

        The last MMD is that of all 13 outputs. Other than Huber's losses, MMDs need weights that are not negative.
        """
        target, event = batch
        out, wanted = self(event), self.standardized(self.coordinates(target, event))
        scale = torch.tensor(_GLUON).to(out)
        gluon = [torch.asinh(p[:, -1] / scale) for p in (self.inside(out), self.frame(event).enter(target))]
        of = {"huber": lambda: _huber((out, wanted), gluon, weight), "mmd": lambda: _discrepancies(out, wanted, weight)}
        return {kind: of[kind]() for kind in kinds}

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the damped Lagrangian in training, and in evaluation the objective with its penalty instead."""
        weights = {kind: w for kind, w in zip(("huber", "mmd"), self.weights, strict=True) if w}
        terms = self.terms(batch, weight, [*weights, *(kind for kind in self.constrained if kind not in weights)])
        objective = sum(w * terms[kind].mean() for kind, w in weights.items())
        if not self.constrained:
            return objective
        values = torch.cat([terms[kind] for kind in self.constrained])
        return objective + (self.multipliers(values) if self.training else self.multipliers.penalty(values))

    @torch.no_grad()
    def predict(self, event: Tensor) -> Tensor:
        """Return four-momenta ``(B, 4, 4)`` in the laboratory, PARTONS on their mass shells."""
        p = self.frame(event).leave(self.inside(self(event))).double()
        return kinematics.with_mass(p, p.new_tensor([*_MASSES, 0.0]))


def _linear(outputs: dict[str, dict[str, Tensor]]) -> Tensor:
    """Return those outputs ``(B, 7)`` that are no directions."""
    heavy = torch.stack([outputs["heavy"]["log_pt"], outputs["heavy"]["eta"]], -1)
    return torch.cat([heavy.flatten(1), outputs["boost"]["scaled"][:, None]], 1)


def _with_linear(outputs: dict[str, dict[str, Tensor]], values: Tensor) -> dict[str, dict[str, Tensor]]:
    """Return outputs with ``values`` in place of what :func:`_linear` returns."""
    heavy, boost = values[:, :-1].unflatten(1, (_N_HEAVY, 2)), values[:, -1]
    log_pt, eta = heavy.unbind(-1)
    return {"heavy": outputs["heavy"] | {"log_pt": log_pt, "eta": eta}, "boost": {"scaled": boost}}


def _split(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs by particle ``(B, 3, 4)``, and of the boost ``(B, 1)``."""
    heavy, boost = outputs.split(OUTPUTS.sizes, 1)
    return heavy.unflatten(1, (_N_HEAVY, -1)), boost


def _huber(points: tuple[Tensor, Tensor], gluons: tuple[Tensor, Tensor], weight: Tensor | None) -> Tensor:
    """Return Huber's losses ``(5,)`` of H, t_had and t_lep, of the gluon and of the boost."""
    distance, of_gluon = (nn.functional.huber_loss(*pair, reduction="none") for pair in (points, gluons))
    if weight is not None:
        distance, of_gluon = (weight[:, None] * values for values in (distance, of_gluon))
    heavy, boost = _split(distance)
    return torch.cat([heavy.mean((0, 2)), torch.stack([of_gluon.mean(), boost.mean()])])


def _discrepancies(out: Tensor, wanted: Tensor, weight: Tensor | None) -> Tensor:
    """Return the squared maximum mean discrepancies ``(4,)`` of H, t_had and t_lep, and of all outputs."""
    pairs = list(zip(*(_split(values)[0].unbind(1) for values in (out, wanted)), strict=True))
    both = None if weight is None else (weight, weight)
    return torch.stack([mmd_loss(*pair, bandwidths=_BANDWIDTHS, weights=both) for pair in [*pairs, (out, wanted)]])


_BANDWIDTHS = (0.3, 1.0, 3.0)


def _with_roles(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with all those of the network that scores jets, if there is one."""
    if options["roles"] is None:
        return options
    roles = checkpoints.complete(roles_network, options["roles"] | {"max_jets": options["max_jets"]})
    return options | {"roles": {name: value for name, value in roles.items() if name != "max_jets"}}


@checkpoints.resolving(_with_roles)
def conditioner(
    max_jets: int,
    *,
    width: int = 64,
    layers: int = 4,
    heads: int = 4,
    huber_weight: float = 1.0,
    mmd_weight: float = 0.0,
    huber_max: float | None = 0.25,
    mmd_max: float | None = 0.001,
    damping: float = 10.0,
    roles: dict | None = None,
) -> Conditioner:
    """Build an untrained conditioner for at most ``max_jets`` jets; bounds as in CMS-DP-2023-85, None for no bound.

    ``roles`` are options of :func:`rewind.partons.jet_roles.roles_network`, if its scores are to be inputs. Raises
    InputError for fewer jets than the six quarks, and where neither a weight nor a bound is there to train on.
    """
    if max_jets < N_QUARKS:
        raise InputError(f"max_jets = {max_jets}: at least the 6 quarks of the hard process are needed")
    if huber_weight == mmd_weight == 0 and huber_max is None and mmd_max is None:
        raise InputError("neither a weight nor a bound: nothing to train on")
    network = None if roles is None else roles_network(max_jets, **roles)
    weights, bounds = (huber_weight, mmd_weight), (huber_max, mmd_max)
    return Conditioner(max_jets, width, layers, heads, weights, bounds, damping, network)


def train_conditioner(
    train: EventBatch,
    validation: EventBatch,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    max_jets: int | None = None,
    roles: str | Path | None = None,
    **options: Any,
) -> tuple[Conditioner, dict[str, Any]]:
    """Return a conditioner trained on ``train`` and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :func:`conditioner`; ``max_jets`` is the most of any training event unless given. With
    ``path`` the checkpoint is written there; ``options`` are those of :func:`rewind.nn.training.train`.
    ``roles`` is the checkpoint of a network, trained on other events, whose scores become inputs; ``max_jets`` is then
    that network's. Raises InputError as that does.
    """
    network = None if roles is None else load_roles(roles)
    configuration = {"max_jets": max_jets or int(train.n_jets.max()), **(size or {})}
    if network is not None:
        about = checkpoints.describe(roles)["configuration"]
        configuration |= {"max_jets": about.pop("max_jets"), "roles": about}
    return training.train(
        conditioner,
        configuration,
        train,
        validation,
        path,
        prepare=lambda model: network and model.roles.load_state_dict(network.state_dict()),
        examples=Conditioner.examples,
        **({"batch_size": 512, "learning_rate": 2e-3} | options),
    )


def load_conditioner(path: str | Path) -> Conditioner:
    """Return a trained conditioner; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, conditioner)
