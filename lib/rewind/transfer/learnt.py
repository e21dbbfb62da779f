"""A transfer function learnt from simulation: which quarks leave a jet, and where, one after the other, then p_T^miss.

p(reco | partons) = Π_i p(jet i exists | …) p(E_i | …) p(η_i, φ_i | E_i, …) · p(p_T^miss | …), each factor given all
quarks and the jets before: what a double Gaussian takes as independent may depend on everything. As in 2310.07752.

>>> torch.manual_seed(0) and None
>>> momenta = torch.tensor([[60.0, 30.0, 40.0, 20.0]]).double().expand(3, 6, 4)
>>> partons = Partons(momenta, momenta[:, 0], momenta[:, 0])
>>> draws = LearntTransfer(width=16, layers=1).sample(partons, 5, torch.Generator().manual_seed(0))
>>> draws.jets.shape, draws.met.shape
(torch.Size([3, 5, 6, 4]), torch.Size([3, 5, 2]))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.integrate import SplineFlow
from rewind.nn import checkpoints, training
from rewind.nn.batches import Examples
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, weighted_mean
from rewind.nn.transformer import SetEncoder
from rewind.random_numbers import optional_generator
from rewind.transfer.quark_jets import LEAST_PT, QUARKS, LogFactors, Partons, QuarkJets, Reconstruction

__all__ = ["LearntTransfer", "load_transfer", "train_transfer"]

_ANGLE, _MISS = 0.03, 20.0  # scales of angles and of p_T^miss in GeV, beyond which coordinates are logarithmic
_STEEP = 1.5  # a logistic function of a standardised coordinate times this is nearly even
_N = len(QUARKS)


class _Factor(nn.Module):
    """The density of some real numbers given a context: a spline flow of the unit cube, behind logistic functions."""

    def __init__(self, dims: int, context: int, **size: int):
        super().__init__()
        self.scale, self.flow = Standardize(dims), SplineFlow(dims, context, layers=1, **size)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the log-density ``(n,)`` of ``x`` ``(n, dims)``."""
        z = _STEEP * self.scale(x.double())
        slope = (nn.functional.logsigmoid(z) + nn.functional.logsigmoid(-z) + math.log(_STEEP)).sum(1)
        return self.flow.log_prob(z.sigmoid(), context) + slope + self.scale.log_det()

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Return one draw ``(n, dims)`` for each ``context``."""
        u, _ = self.flow.sample(len(context), generator, context)
        return self.scale.inverse(u.clip(1e-12, 1 - 1e-12).logit() / _STEEP)


class LearntTransfer(Trainable):
    """Model p(reco | partons), a density of ``Reconstruction`` given ``Partons``.

    A transformer encodes the quarks, a recurrent network goes through them with what was measured of those before.
    """

    def __init__(self, width: int = 64, *, layers: int = 2, bins: int = 12):
        super().__init__()
        self.parton_scale, self.jet_scale = Standardize(6), Standardize(3)
        self.embed = nn.Linear(6 + _N, width)
        self.partons = SetEncoder(width, layers=layers, class_layers=0)
        self.step = nn.GRU(width + 4, width, batch_first=True)
        self.exists = nn.Linear(width, 1)
        size = {"bins": bins, "hidden": width}
        self.energy, self.angles = _Factor(1, width, **size), _Factor(2, width + 1, **size)
        self.met = _Factor(2, width, **size)

    def featurize(self, events: QuarkJets) -> Partons:
        """Return what the density is conditioned on."""
        return events.partons

    def tensors(self, events: QuarkJets) -> tuple[Tensor, ...]:
        """Return features, jets' coordinates, their flags and p_T^miss, as :meth:`loss` takes them."""
        partons, reco = events.partons, events.reconstruction
        missing = _missing(reco.met, partons)
        parts = _features(partons), _coordinates(reco, partons), reco.has_jet, missing
        return tuple(values.float() for values in parts)

    def fit_scales(self, events: QuarkJets) -> LearntTransfer:
        """Take what inputs and coordinates are standardised with from ``events``."""
        partons, reco = events.partons, events.reconstruction
        jets = _coordinates(reco, partons)[reco.has_jet]
        self.parton_scale.fit(_features(partons).flatten(0, 1))
        self.jet_scale.fit(jets)
        self.energy.scale.fit(jets[:, :1])
        self.angles.scale.fit(jets[:, 1:])
        self.met.scale.fit(_missing(reco.met, partons))
        return self

    def _encoded(self, features: Tensor) -> Tensor:
        """Return codes ``(B, 6, width)`` of quarks, each of which knows of the others."""
        kinds = torch.eye(_N).expand(len(features), -1, -1)
        tokens = self.embed(torch.cat([self.parton_scale(features), kinds.to(features)], 2))
        return self.partons.tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def _seen(self, coordinates: Tensor, there: Tensor) -> Tensor:
        """Return what the recurrent network reads ``(..., 4)`` of jets' coordinates ``(..., 3)`` and their flags."""
        return torch.cat([there[..., None], self.jet_scale(coordinates).clip(-5, 5) * there[..., None]], -1)

    def _inner_factors(self, features: Tensor, jets: Tensor, has_jet: Tensor, missing: Tensor) -> LogFactors:
        """Return the factors in the coordinates of the networks."""
        codes = nn.functional.pad(self._encoded(features), (0, 0, 0, 1))  # the seventh place is p_T^miss
        seen = nn.functional.pad(self._seen(jets, has_jet), (0, 0, 1, 0))
        state, _ = self.step(torch.cat([codes, seen], 2))
        there, context = has_jet > 0.5, state[:, :_N][has_jet > 0.5]
        logit, x = self.exists(state[:, :_N])[..., 0], jets[there]
        parts = (
            self.energy.log_prob(x[:, :1], context),
            self.angles.log_prob(x[:, 1:], torch.cat([context, self._energy_seen(x[:, :1])], 1)),
        )
        energy, angles = (torch.zeros(has_jet.shape).to(part).masked_scatter(there, part) for part in parts)
        existence = nn.functional.logsigmoid(torch.where(there, logit, -logit))
        return LogFactors(existence, energy, angles, self.met.log_prob(missing, state[:, _N]))

    def _energy_seen(self, x: Tensor) -> Tensor:
        """Return what the angles' factor reads of the energy's coordinate ``(n, 1)``."""
        return self.energy.scale(x).clip(-5, 5).float()

    def loss(self, batch: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Return the negative mean log-density of what :meth:`tensors` returns."""
        return weighted_mean(-self._inner_factors(*batch).total, weight)

    def log_factors(self, target: Reconstruction, event: Partons) -> LogFactors:
        """Return ln p(reco | partons) of ``B`` targets and as many events, factor by factor."""
        coordinates, missing = _coordinates(target, event), _missing(target.met, event)
        inner = self._inner_factors(*(x.float() for x in (_features(event), coordinates, target.has_jet, missing)))
        measured = torch.where(target.has_jet, target.jets[..., 0], 1.0)
        miss = torch.hypot(torch.tensor(_MISS).double(), _residual(target.met, event)).log().sum(1)
        stretch = torch.hypot(torch.tensor(_ANGLE).double(), _turns(target, event)).log().sum(2) * target.has_jet
        return LogFactors(inner.existence, inner.energy - measured.log(), inner.angles - stretch, inner.met - miss)

    def log_prob(self, target: Reconstruction, event: Partons) -> Tensor:
        """Return ln p(reco | partons) ``(B,)`` of ``B`` targets and as many events."""
        return self.log_factors(target, event).total

    @torch.no_grad()
    def sample(self, event: Partons, n: int = 1, generator: torch.Generator | None = None) -> Reconstruction:
        """Return ``n`` draws an event, ``(len(event), n, …)``, from ``generator`` or torch's global one."""
        generator, event = optional_generator(generator) or torch.default_generator, event.repeated(n)
        codes = self._encoded(_features(event).float())
        seen, state = torch.zeros(len(codes), 4), None
        jets, has_jet = [], []
        for i in range(_N):
            out, state = self.step(torch.cat([codes[:, i], seen], 1)[:, None], state)
            context = out[:, 0]
            chance = self.exists(context)[:, 0].sigmoid()
            there = torch.rand(len(chance), generator=generator) < chance
            energy = self.energy.sample(context, generator)
            angles = self.angles.sample(torch.cat([context, self._energy_seen(energy)], 1), generator)
            x = torch.cat([energy, angles], 1)
            seen = self._seen(x.float(), there.float())
            jets.append(x)
            has_jet.append(there)
        out, _ = self.step(torch.cat([torch.zeros_like(codes[:, 0]), seen], 1)[:, None], state)
        missing = self.met.sample(out[:, 0], generator)
        return _measured(event, torch.stack(jets, 1), torch.stack(has_jet, 1), missing).by_event(n)


def _features(event: Partons) -> Tensor:
    """Return ``(B, 6, 6)`` of quarks: energy, p_T, η, azimuth from the lepton's, and how near to the threshold."""
    p, eta = event.quarks, kinematics.eta(event.quarks)
    turn = kinematics.phi(p) - kinematics.phi(event.lepton)[:, None]
    threshold = (p[..., 0] / (LEAST_PT * eta.cosh())).log()
    columns = (p[..., 0] / 100).log(), (kinematics.pt(p) / 50).log(), eta, turn.cos(), turn.sin(), threshold
    return torch.stack(columns, -1)


def _turns(target: Reconstruction, event: Partons) -> Tensor:
    """Return Δη and Δφ ``(B, 6, 2)`` of jets and their quarks, zero without a jet."""
    jets = torch.where(target.has_jet[..., None], target.jets, event.quarks)
    turn = kinematics.delta_phi(kinematics.phi(jets), kinematics.phi(event.quarks))
    return torch.stack([kinematics.eta(jets) - kinematics.eta(event.quarks), turn], -1)


def _coordinates(target: Reconstruction, event: Partons) -> Tensor:
    """Return ``(B, 6, 3)`` of jets: ln E'/E, and angles on a scale that is logarithmic for large ones."""
    energy = torch.where(target.has_jet, target.jets[..., 0], event.quarks[..., 0])
    ratio = (energy / event.quarks[..., 0]).log()
    return torch.cat([ratio[..., None], torch.asinh(_turns(target, event) / _ANGLE)], -1)


def _residual(met: Tensor, event: Partons) -> Tensor:
    """Return measured less true p_T^miss ``(B, 2)``, along the lepton and across it."""
    unit = event.lepton[:, 1:3] / kinematics.pt(event.lepton)[:, None]
    error = met - event.neutrino[:, 1:3]
    return torch.stack([(error * unit).sum(1), unit[:, 0] * error[:, 1] - unit[:, 1] * error[:, 0]], 1)


def _missing(met: Tensor, event: Partons) -> Tensor:
    return torch.asinh(_residual(met, event) / _MISS)


def _measured(event: Partons, x: Tensor, has_jet: Tensor, missing: Tensor) -> Reconstruction:
    """Return jets, without masses, and p_T^miss at coordinates: the inverse of what is read."""
    energy = event.quarks[..., 0] * x[..., 0].exp()
    eta, phi = (
        angle + _ANGLE * torch.sinh(x[..., i])
        for i, angle in ((1, kinematics.eta(event.quarks)), (2, kinematics.phi(event.quarks)))
    )
    jets = kinematics.from_pt_eta_phi_mass(energy / eta.cosh(), eta, phi, torch.zeros_like(eta))
    along, across = (_MISS * torch.sinh(missing)).unbind(1)
    unit = event.lepton[:, 1:3] / kinematics.pt(event.lepton)[:, None]
    error = torch.stack([along * unit[:, 0] - across * unit[:, 1], along * unit[:, 1] + across * unit[:, 0]], 1)
    return Reconstruction(jets * has_jet[..., None], has_jet, event.neutrino[:, 1:3] + error)


def train_transfer(
    train: QuarkJets,
    validation: QuarkJets,
    path: str | Path | None = None,
    *,
    size: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[LearntTransfer, dict[str, Any]]:
    """Return a trained transfer function and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :class:`LearntTransfer`. With ``path`` the checkpoint is written there; ``options`` are
    those of :func:`rewind.nn.training.train`. Raises InputError as that does.
    """
    return training.train(
        LearntTransfer,
        size or {},
        train,
        validation,
        path,
        prepare=lambda model: model.fit_scales(train),
        examples=lambda model, events: Examples(model.tensors(events), events.weight),
        **({"batch_size": 256, "learning_rate": 2e-3, "ema_decay": 0.995} | options),
    )


def load_transfer(path: str | Path) -> LearntTransfer:
    """Return a trained transfer function; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, LearntTransfer)
