"""The classical transfer function of whole events: each quark for itself, a double Gaussian and an efficiency.

>>> efficiency = Efficiency(floor=0.0, peak=0.9, turn_on=0.0, rise=0.2, edge=2.5, width=0.1)
>>> quarks = kinematics.from_pt_eta_phi_mass(*torch.tensor([[25.0, 200.0], *3 * [[0.0, 0.0]]]).double())
>>> efficiency.of(quarks).round(decimals=2).tolist()
[0.45, 0.9]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics import double_gaussian
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.leg_kinematics import along, unit_vector
from rewind.physics.recoil import fit_recoil, log_recoil
from rewind.random_numbers import optional_generator
from rewind.transfer.quark_jets import LEAST_PT, LogFactors, Partons, QuarkJets, Reconstruction

__all__ = ["KINDS", "Efficiency", "ProductTransfer", "fit"]

KINDS = ((0, 1, 4, 5), (2, 3))
"""Places of b and of light quarks in `rewind.transfer.quark_jets.QUARKS`: each kind has its function."""

_SURE = 1e-6
_TRIES = 100


@dataclass(frozen=True)
class Efficiency:
    """Hold P(jet) = floor + (peak − floor) s((ln(p_T/25 GeV) − turn_on)/rise) s((edge − ``|η|``)/width), s logistic."""

    floor: float
    peak: float
    turn_on: float
    rise: float
    edge: float
    width: float

    def of(self, quarks: Tensor) -> Tensor:
        """Return the probability ``(...)`` that ``quarks`` ``(..., 4)`` leave a jet."""
        above = torch.sigmoid(((kinematics.pt(quarks) / LEAST_PT).log() - self.turn_on) / self.rise)
        inside = torch.sigmoid((self.edge - kinematics.eta(quarks).abs()) / self.width)
        return (self.floor + (self.peak - self.floor) * above * inside).clip(_SURE, 1 - _SURE)


@dataclass(frozen=True)
class ProductTransfer:
    """Hold for each of ``KINDS`` a double Gaussian and an efficiency, and p_T^miss's error: two round Gaussians."""

    functions: tuple[DoubleGaussian, ...]
    efficiencies: tuple[Efficiency, ...]
    met: tuple[float, float, float]

    def featurize(self, events: QuarkJets) -> Partons:
        """Return what the density is conditioned on."""
        return events.partons

    def chances(self, event: Partons) -> Tensor:
        """Return the probabilities ``(B, 6)`` that quarks leave a jet."""
        out = torch.zeros(event.quarks.shape[:2], dtype=torch.float64)
        for places, efficiency in zip(KINDS, self.efficiencies, strict=True):
            out[:, places] = efficiency.of(event.quarks[:, places])
        return out

    def log_factors(self, target: Reconstruction, event: Partons) -> LogFactors:
        """Return ln p(reco | partons) factor by factor, as the learnt function does; angles are exact, and zero here.

        Energies are among those above the threshold at their jets' η, which favours this function a little.
        """
        chance = self.chances(event)
        existence = torch.where(target.has_jet, chance, 1 - chance).log()
        energy = torch.zeros_like(chance)
        for places, function in zip(KINDS, self.functions, strict=True):
            for i in places:
                there = target.has_jet[:, i]
                jet, known = target.jets[there, i], event.quarks[there, i, 0].clip(*function.energy_range)
                threshold = (LEAST_PT * kinematics.eta(jet).cosh()).clip(max=jet[:, 0])
                energy[there, i] = function.log_prob(jet[:, 0], known, least=threshold)
        error = target.met - event.neutrino[:, 1:3]
        return LogFactors(existence, energy, torch.zeros_like(energy), log_recoil(error.square().sum(1), *self.met))

    def log_prob(self, target: Reconstruction, event: Partons) -> Tensor:
        """Return ln p(reco | partons) ``(B,)`` of ``B`` targets and as many events, their directions taken as exact."""
        return self.log_factors(target, event).total

    def sample(self, event: Partons, n: int = 1, generator: torch.Generator | None = None) -> Reconstruction:
        """Return ``n`` draws an event, ``(len(event), n, …)``: jets along their quarks, and p_T^miss.

        Quarks' energies count within the functions' range. A jet that a hundred draws leave below the threshold, of a
        quark that has one by the efficiency alone, is put onto it. A ``generator`` of None is torch's global one.
        """
        generator, event = optional_generator(generator), event.repeated(n)
        draw = torch.rand(event.quarks.shape[:2], generator=generator, dtype=torch.float64)
        has_jet = draw < self.chances(event)
        energy = torch.zeros_like(draw)
        threshold = LEAST_PT * kinematics.eta(event.quarks).cosh()
        for places, function in zip(KINDS, self.functions, strict=True):
            for i in places:
                known = event.quarks[:, i, 0].clip(*function.energy_range)
                for _ in range(_TRIES):
                    low = has_jet[:, i] & (energy[:, i] < threshold[:, i])
                    energy[low, i] = function.sample(known[low], generator)
        energy = torch.where(energy < threshold, threshold, energy)
        share, *sigmas = self.met
        first = torch.rand(len(event), 1, generator=generator, dtype=torch.float64) < share
        error = torch.where(first, *sigmas) * torch.randn(len(event), 2, generator=generator, dtype=torch.float64)
        jets = along(energy, unit_vector(event.quarks), 0.0) * has_jet[..., None]
        return Reconstruction(jets, has_jet, event.neutrino[:, 1:3] + error).by_event(n)


def fit(events: QuarkJets) -> ProductTransfer:
    """Return the weighted fit by maximum likelihood; raises InputError as what it fits with does."""
    functions, efficiencies = [], []
    for places in KINDS:
        has_jet, quarks, jets = (getattr(events, name)[:, places] for name in ("has_jet", "quarks", "jets"))
        weight = events.weight[:, None].expand(has_jet.shape)
        measured, energy = jets[has_jet][:, 0], quarks[has_jet][:, 0]
        least = (LEAST_PT * kinematics.eta(jets[has_jet]).cosh()).clip(max=measured)
        functions.append(double_gaussian.fit(measured, energy, least=least, weights=weight[has_jet]))
        efficiencies.append(_efficiency(quarks.flatten(0, 1), has_jet.flatten(), weight.flatten()))
    error = events.met - events.neutrino[:, 1:3]
    return ProductTransfer(tuple(functions), tuple(efficiencies), fit_recoil(error, weights=events.weight))


def _efficiency(quarks: Tensor, has_jet: Tensor, weight: Tensor) -> Efficiency:
    from scipy.optimize import minimize  # takes half a second
    from scipy.special import expit

    def read(x: NDArray) -> Efficiency:
        return Efficiency(*(float(expit(v)) for v in x[:2]), float(x[2]), *np.exp(x[3:]).tolist())

    def loss(x: NDArray) -> float:
        chance = read(x).of(quarks)
        return -float((weight * torch.where(has_jet, chance, 1 - chance).log()).sum() / weight.sum())

    start = (-4.0, 3.0, 0.2, math.log(0.2), math.log(2.5), math.log(0.1))
    best = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 5_000, "maxfev": 5_000})
    if not best.success:
        raise InputError(f"efficiency: no fit to {len(quarks)} quarks; use more events")
    return read(best.x)
