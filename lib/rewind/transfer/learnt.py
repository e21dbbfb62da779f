"""A transfer function learnt from simulation: which quarks leave a jet, and where, one after the other, then p_T^miss.

p(reco | partons) = Π_i p(jet i exists | …) p(E_i | …) p(η_i, φ_i | E_i, …) · p(p_T^miss | …), each factor given all
quarks and the jets before: what a double Gaussian takes as independent may depend on everything. As in 2310.07752.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.integrate import SplineFlow
from rewind.nn import checkpoints
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Trainable, fit_and_save
from rewind.nn.transformer import SetEncoder
from rewind.transfer.quark_jets import LEAST_PT, QUARKS, LogDensity, QuarkJets

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
        z = _STEEP * self.scale(x.double())
        slope = (nn.functional.logsigmoid(z) + nn.functional.logsigmoid(-z) + math.log(_STEEP)).sum(1)
        return self.flow.log_prob(z.sigmoid(), context) + slope + self.scale.log_det()

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        u, _ = self.flow.sample(len(context), generator, context)
        return self.scale.inverse(u.clip(1e-12, 1 - 1e-12).logit() / _STEEP)


class LearntTransfer(Trainable):
    """Model p(reco | partons) of `rewind.transfer.quark_jets.QuarkJets`.

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

    def fit_scales(self, event: QuarkJets) -> LearntTransfer:
        """Take what inputs and coordinates are standardised with from ``event``."""
        jets = _coordinates(event)[event.found]
        self.parton_scale.fit(_features(event).flatten(0, 1))
        self.jet_scale.fit(jets)
        self.energy.scale.fit(jets[:, :1])
        self.angles.scale.fit(jets[:, 1:])
        self.met.scale.fit(_missing(event))
        return self

    def _encoded(self, features: Tensor) -> Tensor:
        """Return codes ``(B, 6, width)`` of quarks, each of which knows of the others."""
        kinds = torch.eye(_N).expand(len(features), -1, -1)
        tokens = self.embed(torch.cat([self.parton_scale(features), kinds.to(features)], 2))
        return self.partons.tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def _seen(self, coordinates: Tensor, found: Tensor) -> Tensor:
        """Return what the recurrent network reads ``(..., 4)`` of jets' coordinates ``(..., 3)`` and their flags."""
        return torch.cat([found[..., None], self.jet_scale(coordinates).clip(-5, 5) * found[..., None]], -1)

    def _factors(self, features: Tensor, jets: Tensor, found: Tensor, missing: Tensor) -> LogDensity:
        """Return the factors in the coordinates of the networks."""
        codes = nn.functional.pad(self._encoded(features), (0, 0, 0, 1))  # the seventh place is p_T^miss
        seen = nn.functional.pad(self._seen(jets, found), (0, 0, 1, 0))
        state, _ = self.step(torch.cat([codes, seen], 2))
        there, context = found > 0.5, state[:, :_N][found > 0.5]
        logit, x = self.exists(state[:, :_N])[..., 0], jets[there]
        parts = (
            self.energy.log_prob(x[:, :1], context),
            self.angles.log_prob(x[:, 1:], torch.cat([context, self._energy_seen(x[:, :1])], 1)),
        )
        energy, angles = (torch.zeros(found.shape).to(part).masked_scatter(there, part) for part in parts)
        existence = nn.functional.logsigmoid(torch.where(there, logit, -logit))
        return LogDensity(existence, energy, angles, self.met.log_prob(missing, state[:, _N]))

    def _energy_seen(self, x: Tensor) -> Tensor:
        """Return what the angles' factor reads of the energy's coordinate ``(n, 1)``."""
        return self.energy.scale(x).clip(-5, 5).float()

    def loss(self, batch) -> Tensor:
        """Return the negative mean log-density of features, jets' coordinates, flags and p_T^miss."""
        return -self._factors(*batch).total.mean()

    def log_prob(self, event: QuarkJets) -> LogDensity:
        """Return ln p(reco | partons), factor by factor."""
        found = self._factors(*_batch(event))
        measured = torch.where(event.found, event.jets[..., 0], 1.0)
        miss = torch.hypot(torch.tensor(_MISS).double(), _residual(event)).log().sum(1)
        stretch = torch.hypot(torch.tensor(_ANGLE).double(), _turns(event)).log().sum(2) * event.found
        return found._replace(energy=found.energy - measured.log(), angles=found.angles - stretch, met=found.met - miss)

    @torch.no_grad()
    def sample(self, event: QuarkJets, generator: torch.Generator) -> QuarkJets:
        """Return events with jets and p_T^miss drawn anew for the quarks of ``event``."""
        codes = self._encoded(_features(event).float())
        seen, state = torch.zeros(len(codes), 4), None
        jets, found = [], []
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
            found.append(there)
        out, _ = self.step(torch.cat([torch.zeros_like(codes[:, 0]), seen], 1)[:, None], state)
        missing = self.met.sample(out[:, 0], generator)
        return _measured(event, torch.stack(jets, 1), torch.stack(found, 1), missing)


def _features(event: QuarkJets) -> Tensor:
    """Return ``(B, 6, 6)`` of quarks: energy, p_T, η, azimuth from the lepton's, and how near to the threshold."""
    p, eta = event.quarks, kinematics.eta(event.quarks)
    turn = kinematics.phi(p) - kinematics.phi(event.lepton)[:, None]
    threshold = (p[..., 0] / (LEAST_PT * eta.cosh())).log()
    columns = (p[..., 0] / 100).log(), (kinematics.pt(p) / 50).log(), eta, turn.cos(), turn.sin(), threshold
    return torch.stack(columns, -1)


def _turns(event: QuarkJets) -> Tensor:
    """Return Δη and Δφ ``(B, 6, 2)`` of jets and their quarks, zero without a jet."""
    jets = torch.where(event.found[..., None], event.jets, event.quarks)
    turn = kinematics.delta_phi(kinematics.phi(jets), kinematics.phi(event.quarks))
    return torch.stack([kinematics.eta(jets) - kinematics.eta(event.quarks), turn], -1)


def _coordinates(event: QuarkJets) -> Tensor:
    """Return ``(B, 6, 3)`` of jets: ln E'/E, and angles on a scale that is logarithmic for large ones."""
    energy = torch.where(event.found, event.jets[..., 0], event.quarks[..., 0])
    ratio = (energy / event.quarks[..., 0]).log()
    return torch.cat([ratio[..., None], torch.asinh(_turns(event) / _ANGLE)], -1)


def _residual(event: QuarkJets) -> Tensor:
    """Return measured less true p_T^miss ``(B, 2)``, along the lepton and across it."""
    unit = event.lepton[:, 1:3] / kinematics.pt(event.lepton)[:, None]
    error = event.met - event.neutrino[:, 1:3]
    return torch.stack([(error * unit).sum(1), unit[:, 0] * error[:, 1] - unit[:, 1] * error[:, 0]], 1)


def _missing(event: QuarkJets) -> Tensor:
    return torch.asinh(_residual(event) / _MISS)


def _batch(event: QuarkJets) -> tuple[Tensor, ...]:
    return tuple(x.float() for x in (_features(event), _coordinates(event), event.found, _missing(event)))


def _measured(event: QuarkJets, x: Tensor, found: Tensor, missing: Tensor) -> QuarkJets:
    """Return events whose jets, without masses, and p_T^miss are at coordinates: the inverse of what is read."""
    energy = event.quarks[..., 0] * x[..., 0].exp()
    eta, phi = (
        angle + _ANGLE * torch.sinh(x[..., i])
        for i, angle in ((1, kinematics.eta(event.quarks)), (2, kinematics.phi(event.quarks)))
    )
    jets = kinematics.from_pt_eta_phi_mass(energy / eta.cosh(), eta, phi, torch.zeros_like(eta))
    along, across = (_MISS * torch.sinh(missing)).unbind(1)
    unit = event.lepton[:, 1:3] / kinematics.pt(event.lepton)[:, None]
    error = torch.stack([along * unit[:, 0] - across * unit[:, 1], along * unit[:, 1] + across * unit[:, 0]], 1)
    return replace(event, jets=jets * found[..., None], found=found, met=event.neutrino[:, 1:3] + error)


def train_transfer(
    train: QuarkJets,
    validation: QuarkJets,
    path: str | Path | None = None,
    *,
    size: dict | None = None,
    seed: int = 0,
    **training,
) -> tuple[LearntTransfer, dict]:
    """Return a trained transfer function and its record; keep the weights of the lowest ``validation`` loss.

    ``size`` holds options of :class:`LearntTransfer`. With ``path`` the checkpoint is written there; ``training``
    holds options of :func:`rewind.nn.training.fit_and_save`. Raises InputError as that does.
    """
    torch.manual_seed(seed)
    configuration = dict(size or {})
    model = LearntTransfer(**configuration).fit_scales(train)
    record = fit_and_save(
        model,
        _batch(train),
        _batch(validation),
        path,
        configuration=configuration,
        n_events=len(train),
        seed=seed,
        **({"batch_size": 256, "learning_rate": 2e-3, "ema_decay": 0.995} | training),
    )
    return model, record


def load_transfer(path: str | Path) -> LearntTransfer:
    """Return a trained transfer function; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, LearntTransfer)
