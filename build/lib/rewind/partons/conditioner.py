"""The conditioning transformer: from jets, lepton and missing momentum to H, t_had, t_lep, the boost and the gluon.

It reads events in the canonical frame of :mod:`rewind.partons.inputs`; what is regressed there is turned back.
Directions are unit vectors, so that no azimuth has a seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewind.errors import InputError
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples
from rewind.nn.mdmm import Multipliers
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable
from rewind.partons.dataset import PARTONS, ROLES, Dataset
from rewind.partons.inputs import EventEncoder, event_columns, event_tensor, turn, turn_back
from rewind.partons.jet_roles import JetRoles, load_roles, roles_network
from rewind.physics.constants import M_H, M_TOP
from rewind.stats.distances import mmd_loss

__all__ = ["BASELINE", "Conditioner", "conditioner", "load_conditioner", "train_conditioner"]

BASELINE = {"huber_weight": 1.0, "mmd_weight": 0.0, "huber_max": None, "mmd_max": None}
_N_HEAVY = 3
_MASSES = (M_H, M_TOP, M_TOP)
_BOOST, _GLUON = 300.0, (50.0, 50.0, 200.0)  # GeV, where asinh turns from linear to logarithmic


class Conditioner(Trainable):
    """Regress (log pT, η, cos φ, sin φ) of H, t_had and t_lep and the boost, 13 numbers, from a set of objects.

    The gluon's three-momentum is the boost along the beam minus the sum of the other three. The losses are Huber's of
    each particle, of the boost and of the gluon, and the squared maximum mean discrepancy between predicted and true
    points, of each particle and of all 13 numbers. The objective is their means, weighted by ``huber_weight`` and
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
        bounds,
        damping: float,
        roles: JetRoles | None = None,
    ):
        super().__init__()
        self.encoder = EventEncoder(width, layers, heads, 0 if roles is None else len(ROLES))
        self.max_jets, self.weights = max_jets, weights
        self.roles = None if roles is None else roles.requires_grad_(False)
        n_out = 4 * _N_HEAVY + 1
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, n_out))
        self.scale = Standardize(2 * _N_HEAVY + 1)
        n_huber, n_mmd = len(PARTONS) + 1, _N_HEAVY + 1
        self.constrained = [kind for kind, bound in zip(("huber", "mmd"), bounds, strict=True) if bound is not None]
        limits = [
            bound for bound, n in zip(bounds, (n_huber, n_mmd), strict=True) if bound is not None for _ in range(n)
        ]
        self.multipliers = Multipliers(limits, damping=damping)

    @property
    def n_inputs(self) -> int:
        """Return the number of columns F of what :meth:`read` returns."""
        return event_columns(self.max_jets, self.encoder.size[3])

    def read(self, data: Dataset) -> Tensor:
        """Return events ``(B, F)``, float32, in the canonical frame, the frame itself in the first columns.

        Raises InputError for events with more jets than the model is for.
        """
        return event_tensor(data, self.max_jets, None if self.roles is None else self.roles.scores(data))

    def tensors(self, data: Dataset) -> tuple[Tensor, Tensor]:
        """Return the targets ``(B, 4, 3)`` and events that :func:`rewind.nn.training.fit` needs."""
        return data.partons[..., 1:].float(), self.read(data)

    def fit_scales(self, target: Tensor, event: Tensor) -> Conditioner:
        """Standardise log pT, η and the boost by training events."""
        self.scale.fit(self._straight(self._coordinates(target, event)))
        return self

    def _coordinates(self, target: Tensor, event: Tensor) -> Tensor:
        """Return the 13 numbers of true partons, not standardised."""
        inside = turn(target, event[:, :4])
        heavy = inside[:, :_N_HEAVY]
        pt = heavy[..., :2].norm(dim=-1).clip(1e-3)
        points = torch.stack([pt.log(), torch.asinh(heavy[..., 2] / pt), heavy[..., 0] / pt, heavy[..., 1] / pt], -1)
        boost = torch.asinh(inside[..., 2].sum(1, keepdim=True) / _BOOST)
        return torch.cat([points.flatten(1), boost], 1)

    @staticmethod
    def _straight(coordinates: Tensor) -> Tensor:
        """Return those of the 13 numbers that are no directions."""
        points = coordinates[:, :-1].unflatten(1, (_N_HEAVY, 4))
        return torch.cat([points[..., :2].flatten(1), coordinates[:, -1:]], 1)

    def _standardized(self, coordinates: Tensor) -> Tensor:
        points = coordinates[:, :-1].unflatten(1, (_N_HEAVY, 4))
        straight = self.scale(self._straight(coordinates))
        heavy = torch.cat([straight[:, :-1].unflatten(1, (_N_HEAVY, 2)), points[..., 2:]], -1)
        return torch.cat([heavy.flatten(1), straight[:, -1:]], 1)

    def forward(self, event: Tensor) -> Tensor:
        """Return the 13 numbers ``(B, 13)`` in the canonical frame: standardised, directions of length one."""
        out = self.head(self.encoder(event))
        points = out[:, :-1].unflatten(1, (_N_HEAVY, 4))
        direction = points[..., 2:] / (points[..., 2:].norm(dim=-1, keepdim=True) + 1e-3)
        return torch.cat([torch.cat([points[..., :2], direction], -1).flatten(1), out[:, -1:]], 1)

    def inside(self, out: Tensor) -> Tensor:
        """Return three-momenta ``(B, 4, 3)`` of the partons in the canonical frame from the 13 numbers."""
        points = out[:, :-1].unflatten(1, (_N_HEAVY, 4))
        straight = self.scale.inverse(self._straight(out))
        log_pt, eta = straight[:, :-1].unflatten(1, (_N_HEAVY, 2)).unbind(-1)
        pt, eta = log_pt.clip(max=9).exp(), eta.clip(-8, 8)
        heavy = torch.stack([pt * points[..., 2], pt * points[..., 3], pt * torch.sinh(eta)], -1)
        boost = _BOOST * torch.sinh(straight[:, -1].clip(-4, 4))
        gluon = nn.functional.pad(boost[:, None], (2, 0)) - heavy.sum(1)
        return torch.cat([heavy, gluon[:, None]], 1)

    def terms(
        self, batch: Sequence[Tensor], weight: Tensor | None = None, kinds: Sequence[str] = ("huber", "mmd")
    ) -> dict[str, Tensor]:
        """Return the losses of a batch (targets, events): ``huber`` ``(5,)`` of PARTONS and boost, ``mmd`` ``(4,)``.

        The last MMD is that of all 13 numbers. Other than Huber's losses, MMDs need weights that are not negative.
        """
        target, event = batch
        out, wanted = self(event), self._standardized(self._coordinates(target, event))
        scale = torch.tensor(_GLUON).to(out)
        gluon = [torch.asinh(p[:, -1] / scale) for p in (self.inside(out), turn(target, event[:, :4]))]
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
        p = turn_back(self.inside(self(event)), event[:, :4]).double()
        masses = p.new_tensor([*_MASSES, 0.0])
        return torch.cat([((p**2).sum(-1) + masses**2).sqrt()[..., None], p], -1)


def _huber(points: tuple[Tensor, Tensor], gluons: tuple[Tensor, Tensor], weight: Tensor | None) -> Tensor:
    """Return Huber's losses ``(5,)`` of H, t_had and t_lep, of the gluon and of the boost."""
    distance, of_gluon = (nn.functional.huber_loss(*pair, reduction="none") for pair in (points, gluons))
    if weight is not None:
        distance, of_gluon = (weight[:, None] * values for values in (distance, of_gluon))
    by_particle = distance[:, :-1].unflatten(1, (_N_HEAVY, 4)).mean((0, 2))
    return torch.cat([by_particle, torch.stack([of_gluon.mean(), distance[:, -1].mean()])])


def _discrepancies(out: Tensor, wanted: Tensor, weight: Tensor | None) -> Tensor:
    """Return the squared maximum mean discrepancies ``(4,)`` of H, t_had and t_lep, and of all numbers."""
    pairs = [(out[:, 4 * i : 4 * i + 4], wanted[:, 4 * i : 4 * i + 4]) for i in range(_N_HEAVY)]
    both = None if weight is None else (weight, weight)
    return torch.stack([mmd_loss(*pair, bandwidths=_BANDWIDTHS, weights=both) for pair in [*pairs, (out, wanted)]])


_BANDWIDTHS = (0.3, 1.0, 3.0)


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
    if max_jets < 6:
        raise InputError(f"max_jets = {max_jets}: at least the 6 quarks of the hard process are needed")
    if huber_weight == mmd_weight == 0 and huber_max is None and mmd_max is None:
        raise InputError("neither a weight nor a bound: nothing to train on")
    network = None if roles is None else roles_network(max_jets, **roles)
    weights, bounds = (huber_weight, mmd_weight), (huber_max, mmd_max)
    return Conditioner(max_jets, width, layers, heads, weights, bounds, damping, network)


def train_conditioner(
    train: Dataset,
    validation: Dataset,
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
    configuration = {"max_jets": max_jets or int(train.jet_mask.sum(1).max()), **(size or {})}
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
        examples=lambda model, data: Examples(model.tensors(data), data.weight),
        **({"batch_size": 512, "learning_rate": 2e-3} | options),
    )


def load_conditioner(path: str | Path) -> Conditioner:
    """Return a trained conditioner; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, conditioner)
