"""A detector known exactly: from partons to what is measured, as densities and as a simulation.

Directions and leptons are measured perfectly, quarks' energies by transfer functions, p_T^miss is the neutrinos' with a
Gaussian error, and the hard system recoils against jets that nobody looks at. Its numbers are fitted to the full
simulation, so that the model is near to it; what matters is that the same model can be drawn from and evaluated.

>>> numbers = [0.7, -10.0, 0.95, 0.07, 1.1, 0.02, -30.0, 0.5, 0.4, 0.0, 67.0]
>>> function = DoubleGaussian(torch.tensor(numbers).double(), torch.eye(11).double(), (10.0, 1500.0))
>>> detector = DetectorModel(function, function, 16.0, (0.6, 30.0, 114.0))
>>> tuple(detector.sample_recoil(5, torch.Generator().manual_seed(1)).shape)
(5, 2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind import kinematics
from rewind.events.chain.processes import Selection
from rewind.mem.measured import Measured, accepted, in_acceptance
from rewind.mem.topologies import Topology
from rewind.physics.constants import M_B
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.leg_kinematics import along, unit_vector
from rewind.physics.recoil import log_recoil, recoiling
from rewind.random_numbers import require_generator

__all__ = ["DetectorModel"]


@dataclass(frozen=True)
class DetectorModel:
    """Hold transfer functions of b and light quarks, σ of p_T^miss, and how the hard system recoils.

    ``met_sigma`` per component in GeV. The transverse recoil is a mixture of two round Gaussians: ``recoil`` holds the
    narrow one's share and both σ per component in GeV.
    """

    bottom: DoubleGaussian
    light: DoubleGaussian
    met_sigma: float
    recoil: tuple[float, float, float]

    def to_dict(self) -> dict:
        """Return the model as plain numbers, for checkpoints."""
        functions = {name: getattr(self, name).to_dict() for name in ("bottom", "light")}
        return {**functions, "met_sigma": self.met_sigma, "recoil": list(self.recoil)}

    @classmethod
    def from_dict(cls, values: dict) -> DetectorModel:
        """Return the model that :meth:`to_dict` wrote."""
        functions = {name: DoubleGaussian.from_dict(values[name]) for name in ("bottom", "light")}
        return cls(**functions, met_sigma=values["met_sigma"], recoil=tuple(values["recoil"]))

    def log_met(self, met: Tensor, neutrinos: Tensor) -> Tensor:
        """Return the log-density ``(...)`` of measured ``met`` ``(..., 2)`` for true ones ``neutrinos``, in GeV⁻²."""
        squared = ((met - neutrinos) / self.met_sigma).square().sum(-1)
        return -squared / 2 - math.log(2 * math.pi * self.met_sigma**2)

    def log_recoil(self, recoil: Tensor) -> Tensor:
        """Return the log-density ``(...)`` of transverse momenta ``(..., 2)`` of the hard system, in GeV⁻²."""
        return log_recoil(recoil.square().sum(-1), *self.recoil)

    def sample_recoil(self, n: int, generator: torch.Generator) -> Tensor:
        """Return transverse momenta ``(n, 2)`` of the hard system, GeV."""
        share, narrow, wide = self.recoil
        generator = require_generator(generator)
        first = torch.rand(n, 1, generator=generator, dtype=torch.float64) < share
        return torch.where(first, narrow, wide) * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def log_lost(self, quarks: Tensor, selection: Selection) -> Tensor:
        """Return ln P ``(...)`` that light ``quarks`` ``(..., 4)`` make no jet: too soft, or out of the detector.

        Below the transfer function's range nothing is seen; above it no event is selected.
        """
        low, high = self.light.energy_range
        energy, eta = quarks[..., 0], kinematics.eta(quarks)
        seen = self.light.survival(selection.jet_pt * eta.cosh(), energy.clip(low, high))
        seen = torch.where((eta.abs() < selection.jet_eta) & (energy >= low), seen, 0.0)
        return torch.where(energy <= high, 1 - seen, 0.0).log()

    def measure(
        self, partons: Tensor, topology: Topology, generator: torch.Generator
    ) -> tuple[Tensor, Measured, Tensor]:
        """Return ``partons`` ``(B, n, 4)`` of recoiling systems, what is measured of them, and which are accepted.

        Where the topology lets quarks be lost, those that are come to stand behind the others. Events with a quark
        outside the transfer functions' range are not accepted, but for light ones below it where they may be lost.
        """
        places = topology.lights + topology.lost
        bottoms, is_bottom = self._jets(self.bottom, partons[:, topology.bottoms], M_B, generator)
        lights, is_light = self._jets(self.light, partons[:, places], 0.0, generator)
        inside = is_bottom.all(1)
        if topology.lost:
            seen = is_light & in_acceptance(lights, topology.selection)
            order = (~seen).long().argsort(dim=1, stable=True)
            partons = partons.clone()
            partons[:, places] = partons[:, places].gather(1, order[..., None].expand(-1, -1, 4))
            lights = lights.gather(1, order[..., None].expand(-1, -1, 4))[:, : len(topology.lights)]
            soft = (partons[:, places, 0] <= self.light.energy_range[1]).all(1)
            inside = inside & soft & (seen.sum(1) == len(topology.lights))
        else:
            inside = inside & is_light.all(1)
        noise = self.met_sigma * torch.randn(len(partons), 2, generator=generator, dtype=torch.float64)
        met = partons[:, topology.neutrinos, 1:3].sum(1) + noise
        event = Measured(partons[:, topology.leptons], _falling(bottoms), _falling(lights), met)
        return partons, event, inside & accepted(event, topology.selection)

    @staticmethod
    def _jets(
        function: DoubleGaussian, quarks: Tensor, mass: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return a jet for each of ``quarks`` ``(B, n, 4)``, and which of these the function covers."""
        energy = quarks[..., 0]
        smeared = function.sample(energy.clip(*function.energy_range).flatten(), generator).reshape(energy.shape)
        return along(smeared.clip(mass), unit_vector(quarks), mass), function.covers(energy)

    def simulate(
        self, outgoing: Tensor, topology: Topology, generator: torch.Generator
    ) -> tuple[Tensor, Measured, Tensor]:
        """Return recoiling partons ``(B', n, 4)`` and measurements of accepted events, and which ``(B,)`` they are.

        ``outgoing`` ``(B, n, 4)`` are leading-order momenta, without transverse momentum.
        """
        partons = recoiling(outgoing, self.sample_recoil(len(outgoing), generator))
        partons, event, kept = self.measure(partons, topology, generator)
        return partons[kept], event[kept], kept


def _falling(jets: Tensor) -> Tensor:
    """Return jets ``(B, n, 4)`` in falling p_T."""
    order = kinematics.pt(jets).argsort(1, descending=True)
    return jets.gather(1, order[..., None].expand_as(jets))
