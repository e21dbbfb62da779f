"""Cross-sections of proton collisions at leading order: parton densities times ``|M|²`` over phase space.

σ = Σ_ab ∫ dx1 dx2 f_a(x1) f_b(x2) (2π)^(4−3n)/(2ŝ) ∫ Π d³p/(2E) δ⁴(P − Σp) ``|M_ab|²``, as a function of
variables on the unit hypercube.

>>> outgoing = torch.tensor([[[200.0, 60.0, 0.0, 0.0], [200.0, -60.0, 0.0, 0.0]]])
>>> with_incoming(outgoing, torch.tensor([400.0]))[0, :2].tolist()
[[200.0, 0.0, 0.0, 200.0], [200.0, 0.0, 0.0, -200.0]]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.physics import constants
from rewind.physics.amplitudes import PROCESSES, Parameters, squared
from rewind.physics.pdfs import ProtonPDF
from rewind.physics.phase_space import (
    BreitWigner,
    DecayTree,
    IncomingFractions,
    Leg,
    PowerLaw,
    RamboOnDiet,
    Split,
    to_lab,
)

__all__ = ["INITIAL", "Collision", "HadronicProcess", "decay_tree", "luminosities", "with_incoming"]

GEV2_PB = 0.3893793721e9
"""(ħc)² in GeV² pb."""

INITIAL = ("gg", "uux")
"""Initial states, as `rewind.physics.amplitudes` spells them; uux stands for all light quarks and antiquarks."""

_QUARKS = (1, 2, 3, 4, 5)

_ABOVE = 1e-9  # of the threshold, where √ŝ begins: below, rounding leaves no phase space

Change = Callable[[Tensor], tuple[Tensor, Tensor]]


def luminosities(pdf: ProtonPDF, x: Tensor, scale: float) -> Tensor:
    """Return f_a(x1) f_b(x2) ``(B, 2)`` of two gluons, and of a quark and an antiquark, at ``x`` ``(B, 2)``.

    ``scale`` in GeV. The second is summed over five flavours and both sides: their ``|M|²`` at leading order is one
    and the same, as QCD conserves C and massless quarks couple neither to tops nor to Higgs bosons by themselves.
    Raises InputError for x or scale outside the table of densities.
    """
    wanted = [21, *_QUARKS, *(-quark for quark in _QUARKS)]
    first, second = (pdf.xf(wanted, x[:, side], scale) / x[:, side, None] for side in (0, 1))
    n = len(_QUARKS)
    quarks = first[:, 1 : n + 1] * second[:, n + 1 :] + first[:, n + 1 :] * second[:, 1 : n + 1]
    return torch.stack([first[:, 0] * second[:, 0], quarks.sum(1)], 1)


def with_incoming(outgoing: Tensor, sqrt_s: Tensor) -> Tensor:
    """Return momenta ``(B, 2 + n, 4)``: partons along ±z, then ``outgoing`` ``(B, n, 4)``, in their rest frame."""
    half, zero = sqrt_s / 2, torch.zeros_like(sqrt_s)
    incoming = torch.stack([torch.stack([half, zero, zero, sign * half], 1) for sign in (1, -1)], 1)
    return torch.cat([incoming, outgoing], 1)


def decay_tree(final: str, parameters: Parameters, *, reach: float = 15.0) -> DecayTree:
    """Return the tree of two-body decays behind a ``final`` state: its tops, W bosons and Higgs boson on Breit–Wigners.

    ``final`` is a process' name without the initial state, such as ``tt_dilep``; the momenta are in the order of its
    outgoing particles, each resonance within ``reach`` widths of its mass. The Higgs boson stands beside a tt̄ system
    whose mass follows a power law. Raises InputError for an unknown final state.
    """
    legs, n = _process(final).legs, len(_process(final).particles) - 2
    top, antitop, higgs = ([i - 2 for i in range(n + 2)[leg]] for leg in legs)
    top, antitop = (_top(places, parameters, reach) for places in (top, antitop))
    if not higgs:
        return DecayTree(Split(top, antitop))
    if len(higgs) == 1:
        scalar = Leg(higgs[0], parameters.m_h)
    else:
        bottoms = (Leg(place, parameters.m_b) for place in higgs)
        scalar = Split(*bottoms, BreitWigner(parameters.m_h, parameters.w_h, reach))
    return DecayTree(Split(scalar, Split(top, antitop, PowerLaw(1.0))))


def _top(places: list[int], parameters: Parameters, reach: float) -> Leg | Split:
    if len(places) == 1:
        return Leg(places[0], parameters.m_t)
    lepton, neutrino, bottom = places
    boson = Split(Leg(lepton), Leg(neutrino), BreitWigner(parameters.m_w, parameters.w_w, reach))
    return Split(Leg(bottom, parameters.m_b), boson, BreitWigner(parameters.m_t, parameters.w_t, reach))


def _process(final: str):
    if f"gg_{final}" not in PROCESSES:
        known = ", ".join(name.removeprefix("gg_") for name in PROCESSES if name.startswith("gg_"))
        raise InputError(f"final state {final!r} is unknown: choose one of {known}")
    return PROCESSES[f"gg_{final}"]


class Collision(NamedTuple):
    """Hold events: fractions ``x`` ``(B, 2)`` and ``momenta`` ``(B, 2 + n, 4)`` in the laboratory, GeV.

    ``cross_section`` ``(B, 2)`` is the integrand over unit-hypercube variables in pb, for the two `INITIAL` states.
    """

    x: Tensor
    momenta: Tensor
    cross_section: Tensor


class HadronicProcess:
    """Give dσ(pp → ``final``) in pb over ``dims`` unit-hypercube variables: two for x1 and x2, then the mapping's.

    ``mapping`` is the final state's phase space, its `decay_tree` by default, whose threshold is the least √ŝ.
    Factorisation is at ``scale`` (GeV); α_s stands in ``parameters``. ``alpha`` and ``c_tg`` are those of
    `rewind.physics.amplitudes.squared`. Raises InputError for an unknown final state, a mapping of other particles,
    a threshold that ``sqrt_s`` does not reach, couplings that are not finite, and a phase without a Higgs boson.
    """

    def __init__(
        self,
        final: str,
        pdf: ProtonPDF,
        *,
        scale: float,
        parameters: Parameters,
        mapping: DecayTree | RamboOnDiet | None = None,
        tau_exponent: float = 2.0,
        alpha: float = 0.0,
        c_tg: float = 0.0,
        sqrt_s: float = constants.SQRT_S,
    ):
        n = len(_process(final).particles) - 2
        if not all(math.isfinite(value) for value in (alpha, c_tg)):
            raise InputError(f"alpha = {alpha:g}, c_tg = {c_tg:g}: finite numbers are needed")
        if alpha and not _process(final).higgs:
            raise InputError(f"alpha = {alpha:g}: {final} has no Higgs boson whose coupling could have a phase")
        self.mapping = decay_tree(final, parameters) if mapping is None else mapping
        if self.mapping.n != n:
            raise InputError(f"mapping of {self.mapping.n} particles: {final} has {n}")
        if self.mapping.threshold >= sqrt_s:
            raise InputError(f"sqrt_s = {sqrt_s:g} GeV: {final} begins at {self.mapping.threshold:g}")
        self.final, self.pdf, self.scale, self.sqrt_s, self.parameters = final, pdf, scale, sqrt_s, parameters
        self.alpha, self.c_tg = alpha, c_tg
        least = self.mapping.threshold * (1 + _ABOVE)
        self.fractions = IncomingFractions((least / sqrt_s) ** 2, tau_exponent)
        self.dims = 2 + self.mapping.dims

    def squared(self, momenta: Tensor) -> Tensor:
        """Return ``|M|²`` ``(B, 2)`` of both `INITIAL` states at ``momenta`` ``(B, 2 + n, 4)``, which must balance."""
        couplings = {"alpha": self.alpha, "c_tg": self.c_tg, "parameters": self.parameters, "check": False}
        return torch.stack([squared(f"{initial}_{self.final}", momenta, **couplings) for initial in INITIAL], 1)

    def collisions(self, r: Tensor) -> Collision:
        """Return events at unit-hypercube variables ``(B, dims)``; raises InputError outside [0, 1]."""
        x, jacobian = self.fractions.forward(r[:, :2])
        energy = self.sqrt_s * x.prod(1).sqrt()
        outgoing, weight = self.mapping.forward(r[:, 2:], energy)
        momenta = with_incoming(outgoing, energy)
        flux = GEV2_PB * (2 * torch.pi) ** (4 - 3 * self.mapping.n) / (2 * energy**2)
        density = luminosities(self.pdf, x, self.scale) * self.squared(momenta)
        empty = (weight == 0)[:, None]  # where no momenta exist, nor a square
        return Collision(x, to_lab(momenta, x), torch.where(empty, 0.0, density * (jacobian * flux * weight)[:, None]))

    def channel(self, mapping: DecayTree | RamboOnDiet) -> tuple[Change, Change]:
        """Return both ways between this process' variables and those with another ``mapping`` in place of its own.

        For `rewind.integrate.Mapped`: each function returns variables ``(B, dims)`` and ``|dr/du|`` ``(B,)``.
        """

        def change(u: Tensor, start, end) -> tuple[Tensor, Tensor]:
            energy = self.sqrt_s * self.fractions.forward(u[:, :2])[0].prod(1).sqrt()
            momenta, weight = start.forward(u[:, 2:], energy)
            mapped, other = end.inverse(momenta)
            return torch.cat([u[:, :2], mapped], 1), weight / other

        def forward(u: Tensor) -> tuple[Tensor, Tensor]:
            return change(u, mapping, self.mapping)

        def inverse(r: Tensor) -> tuple[Tensor, Tensor]:
            u, jacobian = change(r, self.mapping, mapping)
            return u, 1 / jacobian

        return forward, inverse

    def __call__(self, r: Tensor) -> Tensor:
        """Return dσ ``(B,)`` in pb, summed over initial states; its mean over uniform numbers is σ."""
        return self.collisions(r).cross_section.sum(1)
