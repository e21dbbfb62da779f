"""The matrix element method's integrand, event by event: P(y | θ) = ∫ dX p(y | X) dσ(X | θ)/σ_vis(θ).

X is the hard process of leading order, x1, x2 and all decays, and the recoil's two numbers. Leptons and the directions
of jets are measured exactly and fix most of them. What stays open are a few energies, the resonances' masses, which fix
the others, and for each neutrino an angle (`rewind.physics.circles`): functions of variables in the unit hypercube, in
which Breit–Wigners are flat. Which jet stems from which quark is not measured: all hypotheses are summed.

>>> DileptonIntegrand.dims, TTHIntegrand.dims, TTHLostIntegrand.dims
(8, 9, 11)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.errors import InputError
from rewind.mem.detector_model import DetectorModel
from rewind.mem.measured import Measured, split
from rewind.mem.topologies import DILEPTON, TTH, TTH_LOST, Topology
from rewind.physics.amplitudes import c_tg_polynomial, coupling_polynomial, cp_polynomial
from rewind.physics.constants import M_B
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.hadronic import GEV2_PB, INITIAL, HadronicProcess, luminosities, with_incoming
from rewind.physics.leg_kinematics import along, leptonic_leg, partner, turn_of, unit_vector
from rewind.physics.phase_space import BreitWigner
from rewind.physics.recoil import without_recoil

__all__ = ["DileptonIntegrand", "EventIntegrand", "Point", "TTHCouplingIntegrand", "TTHIntegrand", "TTHLostIntegrand"]

SHIFT, SPREAD = 0.1, 0.2
"""Of ln E about a jet's, where variables are even in a logistic distribution."""

_EDGE = 1e-12
_REACH = 15.0  # widths, as `rewind.physics.hadronic.decay_tree` cuts resonances


class Point(NamedTuple):
    """Hold partons ``(B, n, 4)`` in the laboratory, in the amplitude's order, and dX/du ``(B,)``, zero where none."""

    partons: Tensor
    jacobian: Tensor


class EventIntegrand:
    """Evaluate p(y | X) dσ(X) as a polynomial in couplings, for `rewind.mem.measured.rows`.

    ``process`` gives amplitudes' parameters and parton densities, ``detector`` what the detector does. Densities are
    those in d³p/(2E) of leptons, jets' directions and energies, and p_T^miss, in pb and GeV. Subclasses solve a
    topology's decays. Raises InputError for a process with another final state.
    """

    topology: Topology
    dims: int
    angles: tuple[int, ...]  # places of the neutrinos' angles

    def __init__(self, process: HadronicProcess, detector: DetectorModel):
        if process.final != self.topology.final:
            raise InputError(f"final state {process.final!r}: {self.topology.final!r} is needed")
        self.process, self.detector = process, detector
        p = process.parameters
        masses = {"w": (p.m_w, p.w_w), "top": (p.m_t, p.w_t), "higgs": (p.m_h, p.w_h)}
        self._resonances = {name: BreitWigner(*values, _REACH) for name, values in masses.items()}

    def _solve(self, u: Tensor, event: Measured) -> tuple[list[Tensor], Tensor]:
        """Return the partons in the amplitude's order and dX/du, NaN where there is no solution."""
        raise NotImplementedError

    def _variables(self, partons: Tensor, event: Measured) -> list[Tensor]:
        """Return the variables of partons, the inverse of ``_solve``."""
        raise NotImplementedError

    def _form(self, process: str, momenta: Tensor) -> Tensor:
        """Return the coefficients ``(B, K)`` of ``|M|²`` in the topology's couplings."""
        raise NotImplementedError

    def points(self, u: Tensor, row: Tensor) -> Point:
        """Return partons at unit-hypercube variables ``u`` ``(B, dims)``, and ``|dX/du|`` of the open Π d³p/(2E)."""
        partons, jacobian = self._solve(u, split(row, self.topology))
        partons = torch.stack(partons, 1)
        quarks = self._energies(partons)
        inside = torch.cat([function.covers(energy) for function, energy in quarks], 1).all(1)
        return Point(partons, torch.where(inside, jacobian, 0.0).nan_to_num(0.0))

    def variables(self, partons: Tensor, row: Tensor) -> Tensor:
        """Return the variables ``u`` ``(B, dims)`` of ``partons`` ``(B, n, 4)``: the inverse of :meth:`points`."""
        return torch.stack(self._variables(partons, split(row, self.topology)), 1)

    def polynomial(self, u: Tensor, row: Tensor) -> Tensor:
        """Return the integrand's coefficients ``(B, K)`` in the couplings: their means over u make the integral."""
        partons, jacobian = self.points(u, row)
        (there,) = (jacobian > 0).nonzero(as_tuple=True)
        partons, jacobian, row = partons[there], jacobian[there], row[there]
        values = self.density(partons) * (jacobian * self._log_transfer(partons, row).exp())[:, None]
        return values.new_zeros(len(u), values.shape[1]).index_put((there,), values)

    def density(self, partons: Tensor) -> Tensor:
        """Return dσ ``(B, K)`` by Π d³p/(2E) of recoiling partons, in pb and GeV; zero above the beams' energy."""
        hard, n = without_recoil(partons), partons.shape[1]
        x = hard.fractions(self.process.sqrt_s)
        fine = (x < 1).all(1)
        momenta = with_incoming(hard.momenta, hard.sqrt_s)
        densities = luminosities(self.process.pdf, x.clip(max=1 - 1e-9), self.process.scale)
        squares = sum(
            luminosity[:, None] * self._form(f"{initial}_{self.topology.final}", momenta)
            for initial, luminosity in zip(INITIAL, densities.unbind(1), strict=True)
        )
        flux = GEV2_PB * (2 * torch.pi) ** (4 - 3 * n) / (hard.sqrt_s**2 * self.process.sqrt_s**2)
        return squares * torch.where(fine, flux * self.detector.log_recoil(hard.recoil).exp(), 0.0)[:, None]

    def _energies(self, partons: Tensor) -> list[tuple[DoubleGaussian, Tensor]]:
        """Return transfer functions and the quarks' energies ``(B, n)`` that they smear."""
        places = (self.topology.bottoms, self.topology.lights)
        functions = (self.detector.bottom, self.detector.light)
        return [(f, partons[:, place, 0]) for f, place in zip(functions, places, strict=True)]

    def _log_transfer(self, partons: Tensor, row: Tensor) -> Tensor:
        """Return ln p(y | X) ``(B,)`` but for what is measured exactly."""
        event = split(row, self.topology)
        jets = (event.bottoms[..., 0], event.lights[..., 0])
        transfer = [
            function.log_prob(measured, energy).sum(1)
            for measured, (function, energy) in zip(jets, self._energies(partons), strict=True)
        ]
        lost = self.detector.log_lost(partons[:, self.topology.lost], self.topology.selection).sum(1)
        neutrinos = partons[:, self.topology.neutrinos, 1:3].sum(1)
        return sum(transfer) + lost + self.detector.log_met(event.met, neutrinos)

    def _mass(self, name: str, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return a resonance's mass squared at its variable, and the derivative."""
        return self._resonances[name].forward(u, torch.zeros_like(u), torch.full_like(u, self.process.sqrt_s**2))

    def _variable_of_mass(self, name: str, system: Tensor) -> Tensor:
        s = kinematics.mass_squared(system)
        return self._resonances[name].inverse(s, torch.zeros_like(s), torch.full_like(s, self.process.sqrt_s**2))[0]


def _free(u: Tensor, jet: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """Return a quark along its jet with an energy spread about the jet's, and d³p/(2E) by du and the direction."""
    share = u.clip(_EDGE, 1 - _EDGE)
    energy = jet[:, 0] * (SHIFT + SPREAD * share.logit()).exp()
    quark = along(torch.where(energy > mass, energy, math.nan), unit_vector(jet), mass)
    return quark, energy * SPREAD / (share * (1 - share)) * quark[:, 1:].norm(dim=1) / 2


def _variable_of_free(quark: Tensor, jet: Tensor) -> Tensor:
    return (((quark[:, 0] / jet[:, 0]).log() - SHIFT) / SPREAD).sigmoid()


def _bound(known: Tensor, jet: Tensor, mass: float, squared: Tensor) -> tuple[Tensor, Tensor]:
    """Return a quark along its jet that makes, with ``known``, a mass, and d³p/(2E) by dm² and the direction."""
    other = partner(known, unit_vector(jet), mass, squared)
    return other.momentum, other.jacobian * other.momentum[:, 1:].norm(dim=1) / 2


class _LeptonicTop:
    """A top that decays to a lepton: four variables, the b quark's energy, the W's and the top's mass, an angle."""

    def _leptonic(self, u: Tensor, lepton: Tensor, jet: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return neutrino and b quark, and dX/du."""
        bottom, slope = _free(u[:, 0], jet, M_B)
        (w, dw), (top, dtop) = self._mass("w", u[:, 1]), self._mass("top", u[:, 2])
        leg = leptonic_leg(lepton, bottom, w, top, u[:, 3])
        return leg.neutrino, bottom, slope * dw * dtop * leg.jacobian

    def _leptonic_variables(self, lepton: Tensor, neutrino: Tensor, bottom: Tensor, jet: Tensor) -> list[Tensor]:
        return [
            _variable_of_free(bottom, jet),
            self._variable_of_mass("w", lepton + neutrino),
            self._variable_of_mass("top", lepton + neutrino + bottom),
            turn_of(lepton, bottom, neutrino),
        ]


class DileptonIntegrand(_LeptonicTop, EventIntegrand):
    """tt̄ → dilepton: 8 variables, (E_b, m_W, m_t, angle) of t, then of t̄; coefficients in 1, c_tG, c_tG²."""

    topology, dims, angles = DILEPTON, 8, (3, 7)

    def _solve(self, u: Tensor, event: Measured) -> tuple[list[Tensor], Tensor]:
        partons, jacobian = [], torch.ones_like(u[:, 0])
        for leg in range(2):
            lepton = event.leptons[:, leg]
            neutrino, bottom, slope = self._leptonic(u[:, 4 * leg : 4 * leg + 4], lepton, event.bottoms[:, leg])
            partons += [lepton, neutrino, bottom]
            jacobian = jacobian * slope
        return partons, jacobian

    def _variables(self, partons: Tensor, event: Measured) -> list[Tensor]:
        legs = (partons[:, :3].unbind(1), partons[:, 3:].unbind(1))
        return [x for i, leg in enumerate(legs) for x in self._leptonic_variables(*leg, event.bottoms[:, i])]

    def _form(self, process: str, momenta: Tensor) -> Tensor:
        return c_tg_polynomial(process, momenta, parameters=self.process.parameters, check=False)


class TTHIntegrand(_LeptonicTop, EventIntegrand):
    """tt̄H(bb̄) with an ℓ⁺: 9 variables; coefficients in cos²α, cos α sin α, sin²α.

    (E_b, m_W, m_t, angle) of t, then the first light quark's energy, m_W and m_t of t̄, then the first b quark's energy
    and the mass of H. Events with an ℓ⁻ are those of the CP mirror.
    """

    topology, dims, angles = TTH, 9, (3,)

    def _solve(self, u: Tensor, event: Measured) -> tuple[list[Tensor], Tensor]:
        lepton = event.leptons[:, 0]
        b_lep, b_had, b_one, b_two = event.bottoms.unbind(1)
        neutrino, bottom, jacobian = self._leptonic(u[:, :4], lepton, b_lep)
        (w, dw), (top, dtop), (h, dh) = (self._mass(n, u[:, i]) for n, i in (("w", 5), ("top", 6), ("higgs", 8)))
        down, slope = _free(u[:, 4], event.lights[:, 0], 0.0)
        direction, up_slope = self._direction(u, event)
        up, bound_slope = _bound(down, direction, 0.0, w)
        antibottom, b_slope = _bound(down + up, b_had, M_B, top)
        first, first_slope = _free(u[:, 7], b_one, M_B)
        second, second_slope = _bound(first, b_two, M_B, h)
        jacobian = jacobian * slope * up_slope * bound_slope * dw * b_slope * dtop * first_slope * second_slope * dh
        return [lepton, neutrino, bottom, down, up, antibottom, first, second], jacobian

    def _variables(self, partons: Tensor, event: Measured) -> list[Tensor]:
        lepton, neutrino, bottom, down, up, antibottom, first, second = partons.unbind(1)
        return [
            *self._leptonic_variables(lepton, neutrino, bottom, event.bottoms[:, 0]),
            _variable_of_free(down, event.lights[:, 0]),
            self._variable_of_mass("w", down + up),
            self._variable_of_mass("top", down + up + antibottom),
            _variable_of_free(first, event.bottoms[:, 2]),
            self._variable_of_mass("higgs", first + second),
        ]

    def _direction(self, u: Tensor, event: Measured) -> tuple[Tensor, Tensor]:
        """Return a momentum ``(B, 4)`` along the second light quark, and dΩ/du of its open coordinates."""
        return event.lights[:, 1], torch.ones_like(u[:, 0])

    def _form(self, process: str, momenta: Tensor) -> Tensor:
        return cp_polynomial(process, momenta, parameters=self.process.parameters, check=False)


class TTHLostIntegrand(TTHIntegrand):
    """As TTHIntegrand, where one quark of the W boson left no jet: two more numbers, its direction from the other's.

    They are (1 + cos θ)/2 and the azimuth in turns about the other quark's jet, from the plane with the beam. The
    density is summed over which of both quarks was lost.
    """

    topology, dims = TTH_LOST, 11

    def density(self, partons: Tensor) -> Tensor:
        """Return dσ ``(B, K)``, as :meth:`EventIntegrand.density`, summed over both types of the lost quark."""
        exchanged = partons.clone()
        exchanged[:, TTH.lights] = partons[:, TTH.lights[::-1]]
        return super().density(partons) + super().density(exchanged)

    def _direction(self, u: Tensor, event: Measured) -> tuple[Tensor, Tensor]:
        cosine, turn = 2 * u[:, 9] - 1, 2 * torch.pi * u[:, 10]
        parts = torch.stack([torch.cos(turn), torch.sin(turn)], 1) * (1 - cosine**2).clip(0).sqrt()[:, None]
        unit = (_axes(event.lights[:, 0]) @ torch.cat([parts, cosine[:, None]], 1)[..., None])[..., 0]
        return along(torch.ones_like(turn), unit, 0.0), torch.full_like(turn, 4 * torch.pi)

    def _variables(self, partons: Tensor, event: Measured) -> list[Tensor]:
        lost = unit_vector(partons[:, self.topology.lost[0]])
        first, second, cosine = (lost[:, None] @ _axes(event.lights[:, 0]))[:, 0].unbind(1)
        turn = torch.atan2(second, first) / (2 * torch.pi)
        return [*super()._variables(partons, event), (1 + cosine) / 2, turn.remainder(1.0)]


def _axes(jet: Tensor) -> Tensor:
    """Return unit vectors ``(B, 3, 3)`` as columns, the last along ``jet`` ``(B, 4)``, the first near to the beam."""
    along_jet = unit_vector(jet)
    beam = torch.tensor([0.0, 0.0, 1.0]).to(jet).expand_as(along_jet)
    second = nn.functional.normalize(torch.linalg.cross(along_jet, beam), dim=1)
    return torch.stack([torch.linalg.cross(second, along_jet), second, along_jet], 2)


class TTHCouplingIntegrand(TTHIntegrand):
    """As TTHIntegrand, with the 15 coefficients of `rewind.physics.amplitudes.coupling_polynomial`."""

    def _form(self, process: str, momenta: Tensor) -> Tensor:
        return coupling_polynomial(process, momenta, parameters=self.process.parameters, check=False)
