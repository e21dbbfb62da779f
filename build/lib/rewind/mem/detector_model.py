"""A detector's response known exactly: from partons to what is measured, as densities and as a simulation.

Directions and leptons are measured perfectly, quarks' energies by transfer functions, p_T^miss is the neutrinos' with a
Gaussian error, and the hard system recoils against jets that nobody looks at. Its numbers are fitted to the full
simulation, so that the model is near to it; what matters is that the same model can be drawn from and evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.chain.processes import PROCESSES, Selection
from rewind.physics.constants import M_B
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.leg_kinematics import along, unit_vector
from rewind.physics.recoil import log_recoil, recoiling

__all__ = [
    "DILEPTON",
    "TTH",
    "TTH_LOST",
    "Measured",
    "Response",
    "Topology",
    "accepted",
    "rows",
    "split",
    "truth",
]


@dataclass(frozen=True)
class Topology:
    """Say which outgoing particles of an amplitude are what, and which events are selected.

    ``final`` is the amplitude's name without the initial state; the next four, and ``lost``, are places among its
    outgoing particles. ``hypotheses`` say which jets may stem from the quarks: for each the b jets, then the others, in
    that order. Light quarks that are ``lost`` leave no jet; they stand after those that do.
    """

    final: str
    leptons: tuple[int, ...]
    neutrinos: tuple[int, ...]
    bottoms: tuple[int, ...]
    lights: tuple[int, ...]
    hypotheses: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    selection: Selection
    lost: tuple[int, ...] = ()


_TOPS = tuple((order, ()) for order in permutations(range(2)))
_TOPS_AND_HIGGS = tuple(
    (order, lights) for order in permutations(range(4)) if order[2] < order[3] for lights in permutations(range(2))
)
DILEPTON = Topology("tt_dilep", (0, 3), (1, 4), (2, 5), (), _TOPS, PROCESSES["ttbar_dilepton"].selection)
TTH = Topology(
    "tth_semilep_bb", (0,), (1,), (2, 5, 6, 7), (3, 4), _TOPS_AND_HIGGS, PROCESSES["tth_semileptonic"].selection
)
"""Both b quarks of the Higgs boson are alike; of the W boson's, the first is of the down type."""
TTH_LOST = replace(
    TTH,
    lights=TTH.lights[:1],
    lost=TTH.lights[1:],
    hypotheses=tuple((bottoms, lights[:1]) for bottoms, lights in _TOPS_AND_HIGGS if lights[0] == 0),
)
"""As TTH, but one of the W boson's quarks left no jet; its type is not known then, and its place the second."""


@dataclass(frozen=True)
class Measured(Columns):
    """Hold measured events; four-momenta (E, px, py, pz) in GeV.

    ``leptons`` ``(B, L, 4)`` in the topology's order, ``bottoms`` ``(B, n_b, 4)`` and ``lights`` ``(B, n_q, 4)`` in
    falling p_T, ``met`` ``(B, 2)``.
    """

    leptons: Tensor
    bottoms: Tensor
    lights: Tensor
    met: Tensor

    def check(self, topology: Topology) -> Measured:
        """Return self; raise InputError for the first event that does not fit a topology, and say why."""
        for name in ("leptons", "bottoms", "lights"):
            found, wanted = getattr(self, name).shape[1], len(getattr(topology, name))
            if found != wanted:
                raise InputError(f"events with {found} {name}: {wanted} are needed, one for each parton")
        parts = [values.flatten(1) for values in (self.leptons, self.bottoms, self.lights, self.met)]
        return self.refuse(
            {
                "a momentum is not finite": ~torch.cat(parts, 1).isfinite().all(1),
                "it lies outside the acceptance": ~accepted(self, topology.selection),
            }
        )


def rows(event: Measured, topology: Topology) -> Tensor:
    """Return each event under each of H hypotheses, ``(B, H, R)``: all momenta in the order of the partons, p_T^miss.

    Raises InputError for events with another number of leptons or jets, and outside the acceptance.
    """
    event.check(topology)
    found = []
    for bottoms, lights in topology.hypotheses:
        parts = event.leptons, event.bottoms[:, bottoms], event.lights[:, lights]
        found.append(torch.cat([*(part.flatten(1) for part in parts), event.met], 1))
    return torch.stack(found, 1)


def split(row: Tensor, topology: Topology) -> Measured:
    """Return rows ``(B, R)`` as events whose jets stand in the order of the topology's quarks."""
    numbers = [len(getattr(topology, name)) for name in ("leptons", "bottoms", "lights")]
    parts = row[:, :-2].unflatten(1, (-1, 4)).split(numbers, 1)
    return Measured(*parts, row[:, -2:])


def truth(event: Measured, partons: Tensor, topology: Topology) -> tuple[Tensor, Tensor]:
    """Return the hypothesis ``(B,)`` that gives each quark of ``partons`` ``(B, n, 4)`` its own jet, and the partons.

    Both b quarks of a Higgs boson, which are alike, are put into the order of their jets.
    """
    jets = [(event.bottoms[:, b], event.lights[:, q]) for b, q in topology.hypotheses]
    orders = [list(range(partons.shape[1]))]
    if len(topology.bottoms) > 2:
        *_, one, two = topology.bottoms
        orders.append([{one: two, two: one}.get(i, i) for i in orders[0]])
    ordered = torch.stack([partons[:, order] for order in orders], 1)
    places = topology.bottoms + topology.lights
    wrong = [_angle(torch.cat(found, 1)[:, None], ordered[:, :, places]).sum(-1) for found in jets]
    best = torch.stack(wrong, 1).flatten(1).argmin(1)
    return best // len(orders), ordered[torch.arange(len(best)), best % len(orders)]


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """Return ``|n − n'|`` ``(...)`` of the directions of momenta ``(..., 4)``."""
    return (unit_vector(first) - unit_vector(second)).norm(dim=-1)


def _separations(first: Tensor, second: Tensor) -> Tensor:
    """Return ΔR ``(B, n, m)`` of all pairs."""
    return kinematics.delta_r(first[:, :, None], second[:, None])


def _seen(jets: Tensor, selection: Selection) -> Tensor:
    """Return which jets ``(...)`` of momenta ``(..., 4)`` pass the cuts in p_T and η."""
    return (kinematics.pt(jets) > selection.jet_pt) & (kinematics.eta(jets).abs() < selection.jet_eta)


def accepted(event: Measured, selection: Selection) -> Tensor:
    """Return which events ``(B,)`` pass p_T, η and ΔR cuts: all jets from one another and from leptons."""
    jets = torch.cat([event.bottoms, event.lights], 1)
    apart = _separations(jets, jets) + torch.eye(jets.shape[1]).to(jets) * 1e3
    fine = [
        kinematics.pt(event.leptons) > selection.lepton_pt,
        kinematics.eta(event.leptons).abs() < selection.lepton_eta,
        _seen(jets, selection),
        apart > selection.delta_r,
        _separations(jets, event.leptons) > selection.delta_r,
    ]
    return torch.stack([values.flatten(1).all(1) for values in fine]).all(0)


@dataclass(frozen=True)
class Response:
    """Hold a response: transfer functions of b and light quarks, σ of p_T^miss, and how the system recoils.

    ``met_sigma`` per component in GeV. The transverse recoil is a mixture of two round Gaussians: ``recoil`` holds the
    narrow one's share and both σ per component in GeV.
    """

    bottom: DoubleGaussian
    light: DoubleGaussian
    met_sigma: float
    recoil: tuple[float, float, float]

    def to_dict(self) -> dict:
        """Return the response as plain numbers, for checkpoints."""
        functions = {name: getattr(self, name).to_dict() for name in ("bottom", "light")}
        return {**functions, "met_sigma": self.met_sigma, "recoil": list(self.recoil)}

    @classmethod
    def from_dict(cls, values: dict) -> Response:
        """Return the response that :meth:`to_dict` wrote."""
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
            seen = is_light & _seen(lights, topology.selection)
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
    def _jets(function: DoubleGaussian, quarks: Tensor, mass: float, generator: torch.Generator):
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
