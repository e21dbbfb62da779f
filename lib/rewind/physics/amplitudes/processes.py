"""The processes: what their colour-ordered amplitudes are made of, their squares, the checks of momenta."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.amplitudes import currents, spinors
from rewind.physics.amplitudes.currents import Gluon
from rewind.physics.amplitudes.parameters import DEFAULT, Parameters
from rewind.physics.amplitudes.spinors import Spinor, dot
from rewind.physics.constraints import refuse

__all__ = [
    "PROCESSES",
    "Process",
    "c_tg_polynomial",
    "colour_flows",
    "coupling_monomials",
    "coupling_polynomial",
    "cp_monomials",
    "cp_polynomial",
    "on_shell",
    "squared",
]

CHUNK = {"cpu": 4096, "cuda": 2**18}  # events at a time: their spinors fit a core's cache, or the device's memory
BALANCE = 1e-5  # of the total energy
SHELL = 1e-4  # of ŝ
AT_REST = 1e-9  # of √ŝ
NEWTON_STEPS = 40


class Process(NamedTuple):
    """Name the particles of a process: incoming partons, tops or what they decay to, Higgs boson or its b-quarks."""

    incoming: tuple[str, ...]
    tops: tuple[str, ...]
    higgs: tuple[str, ...]

    @property
    def particles(self) -> tuple[str, ...]:
        """Particles in the order of the momenta."""
        return self.incoming + self.tops + self.higgs

    @property
    def legs(self) -> tuple[slice, slice, slice]:
        """Where the top's momenta stand, the antitop's and the Higgs boson's."""
        middle, end = 2 + len(self.tops) // 2, 2 + len(self.tops)
        return slice(2, middle), slice(middle, end), slice(end, None)


INCOMING = {"gg": ("g", "g"), "uux": ("u", "u~")}
COLOUR_FACTORS = {("g", "g"): (16 / 3 / 256, -2 / 3 / 256), ("u", "u~"): (2 / 36, 0.0)}
"""Averaged over the incoming colours: within one colour order and between two."""
DECAYS = {
    "": ("t", "t~"),
    "_dilep": ("e+", "ve", "b", "mu-", "vm~", "b~"),
    "_semilep": ("e+", "ve", "b", "d", "u~", "b~"),
}
HIGGS = {"tt{}": (), "tth{}": ("h",), "tth{}_bb": ("b", "b~")}
PROCESSES = {
    f"{incoming}_{pair.format(decay)}": Process(INCOMING[incoming], DECAYS[decay], HIGGS[pair])
    for pair, decay, incoming in product(HIGGS, DECAYS, INCOMING)
}


def squared(
    process: str,
    momenta: Tensor,
    *,
    alpha: float | Tensor = 0.0,
    c_tg: float | Tensor = 0.0,
    parameters: Parameters = DEFAULT,
    check: bool = True,
) -> Tensor:
    """Return ``|M|²`` ``(B,)`` at leading order, averaged over incoming, summed over outgoing spins and colours.

    ``process`` is a key of `PROCESSES`; ``momenta`` ``(B, n, 4)`` in GeV, float32 or float64, incoming first, in the
    order of its ``particles``; the result is in GeV to the power 8 − 2n and differentiable in all but ``process``.
    ``alpha`` is the CP phase of L = −(y_t/√2) h t̄(cos α + iγ5 sin α)t, ``c_tg`` the coefficient in 1/TeV² of O_tG
    with g_s (1010.6304), at most once an amplitude. Both, like the parameters, are numbers, 0-d or ``(B,)``. The
    result is a quadratic form in (cos α, sin α) and a quadratic polynomial in c_tG: three values fix all others.

    Decays t → bW, W → ℓν have full spin correlations and Breit–Wigner propagators, at the masses that the momenta
    have; lepton masses are neglected. In ``semilep`` the down- and the up-type quark of one W, either, take the places
    of ℓ and ν. H → bb̄ multiplies; its width of a few MeV asks for float64. With the top mass a tensor, spinors take it
    and not √p², so that a derivative in it at fixed momenta is meant for chains.

    Raises InputError for an unknown process and wrong shapes; unless ``check`` is false, also for numbers that are not
    finite, energies that are not positive, momenta that do not balance to 10⁻⁵ of the energy, and particles off their
    mass shells by more than 10⁻⁴ ŝ, as simulated tops are before `on_shell`. Under ``torch.func`` use no check.
    """
    return _in_chunks(_squared, process, momenta, alpha, c_tg, parameters, check)


def c_tg_polynomial(
    process: str,
    momenta: Tensor,
    *,
    alpha: float | Tensor = 0.0,
    parameters: Parameters = DEFAULT,
    check: bool = True,
) -> Tensor:
    """Return the coefficients ``(B, 3)`` of ``|M|²`` in 1, c_tG and c_tG², from one evaluation of the amplitudes.

    Arguments and errors as for `squared`.
    """
    return _in_chunks(_c_tg_polynomial, process, momenta, alpha, 0.0, parameters, check)


def cp_polynomial(process: str, momenta: Tensor, *, parameters: Parameters = DEFAULT, check: bool = True) -> Tensor:
    """Return the coefficients ``(B, 3)`` of ``|M|²`` in cos²α, cos α sin α and sin²α, where c_tG vanishes.

    Arguments and errors as for `squared`, for processes with a Higgs boson.
    """
    return _in_chunks(_cp_polynomial, process, momenta, 0.0, 0.0, parameters, check)


def cp_monomials(alpha) -> Tensor:
    """Return cos²α, cos α sin α, sin²α ``(..., 3)``, what `cp_polynomial` multiplies, of angles ``(...)``."""
    c, s = (f(torch.as_tensor(alpha, dtype=torch.float64)) for f in (torch.cos, torch.sin))
    return torch.stack([c * c, c * s, s * s], -1)


def coupling_polynomial(
    process: str, momenta: Tensor, *, parameters: Parameters = DEFAULT, check: bool = True
) -> Tensor:
    """Return the coefficients ``(B, 15)`` of ``|M|²`` in κ cos α, κ sin α and c_tG, in order of `coupling_monomials`.

    κ scales the Yukawa coupling. Arguments and errors as for `squared`, for processes with a Higgs boson.
    """
    return _in_chunks(_coupling_polynomial, process, momenta, 0.0, 0.0, parameters, check)


def coupling_monomials(kappa, alpha, c_tg) -> Tensor:
    """Return ``(T, 15)``, what `coupling_polynomial` multiplies, of couplings that broadcast to ``(T,)``.

    The amplitude is linear in x = κ cos α, y = κ sin α, c = c_tG, xc and yc, O_tG inserted once at most, with or
    without a Higgs boson of its own; squared, it has their 15 products, in order of (i, j) with i ≤ j.
    """
    couplings = (torch.as_tensor(x, dtype=torch.float64) for x in (kappa, alpha, c_tg))
    kappa, alpha, c = torch.broadcast_tensors(*couplings)
    x, y = kappa * alpha.cos(), kappa * alpha.sin()
    return torch.stack([a * b for a, b in combinations_with_replacement((x, y, c, x * c, y * c), 2)], -1)


def colour_flows(
    process: str,
    momenta: Tensor,
    *,
    alpha: float | Tensor = 0.0,
    c_tg: float | Tensor = 0.0,
    parameters: Parameters = DEFAULT,
    check: bool = True,
) -> Tensor:
    """Return the shares ``(B, orders)`` of the leading colour flows; arguments and errors as for `squared`.

    The square of each colour-ordered amplitude over their sum, as a shower needs it (hep-ph/0609017). With two gluons
    the first flow has the first gluon's colour in the top and the second's anticolour in the antitop; the second flow
    exchanges the gluons. With quarks there is one.
    """
    return _in_chunks(_colour_flows, process, momenta, alpha, c_tg, parameters, check)


def _in_chunks(function, process, momenta, alpha, c_tg, parameters, check):
    """Return ``function`` of a process, events, couplings and parameters, a few events at a time, checked."""
    momenta, parameters = _typed(process, momenta, parameters)
    n_events = len(momenta)
    alpha, c_tg = (_per_event(name, x, momenta) for name, x in (("alpha", alpha), ("c_tg", c_tg)))
    if check:
        _check_numbers({"alpha": alpha, "c_tg": c_tg}, least=-torch.inf)
        _check_numbers(vars(parameters), least=0.0)
        _check_momenta(process, momenta, parameters)
    size = CHUNK.get(momenta.device.type, n_events)
    results = []
    for start in range(0, max(n_events, 1), size):

        def part(x, events=slice(start, start + size)):
            return x[events] if isinstance(x, Tensor) and x.ndim else x

        results.append(
            function(PROCESSES[process], part(momenta), part(alpha), part(c_tg), parameters.map(lambda _, x: part(x)))
        )
    return torch.cat(results)


def _squared(process, momenta, alpha, c_tg, parameters):
    weight, amplitudes = _ordered(process, momenta, alpha, c_tg, parameters)
    return _summed(process, weight, amplitudes, amplitudes)


def _c_tg_polynomial(process, momenta, alpha, _, parameters):
    weight, *parts = _separated(process, momenta, alpha, parameters, dipole=True)
    return _form(process, weight, *zip(*parts, strict=True))


def _cp_polynomial(process, momenta, _, c_tg, parameters):
    (weight, scalar), (_, pseudoscalar) = (
        _ordered(process, momenta, alpha, c_tg, parameters) for alpha in (0.0, math.pi / 2)
    )
    return _form(process, weight, scalar, pseudoscalar)


def _coupling_polynomial(process, momenta, _alpha, _c_tg, parameters):
    (weight, *even), (_, *odd), (_, *minus) = (
        _separated(process, momenta, alpha, parameters, dipole=True) for alpha in (0.0, math.pi / 2, math.pi)
    )
    scalar, with_scalar = zip(*even, strict=True)
    pseudoscalar, with_pseudoscalar = zip(*odd, strict=True)
    contact = [(plus[1] + other[1]) / 2 for plus, other in zip(even, minus, strict=True)]
    parts = [[x - y for x, y in zip(part, contact, strict=True)] for part in (with_scalar, with_pseudoscalar)]
    return _form(process, weight, scalar, pseudoscalar, contact, *parts)


def _form(process, weight, *amplitudes):
    """Return ``|Σ x_i A_i|²`` as coefficients of the products x_i x_j, in order of (i, j) with i ≤ j."""
    pairs = combinations_with_replacement(amplitudes, 2)
    return torch.stack([(1 if one is two else 2) * _summed(process, weight, one, two) for one, two in pairs], 1)


def _summed(process, weight, first, second):
    """Return Re Σ A B* ``(B,)`` over helicities and colours, from the parts of two lists of colour orders."""
    within, between = COLOUR_FACTORS[process.incoming]
    products = sum(within * a * b for a, b in zip(first, second, strict=True))
    if len(first) == 2:
        products = products + between * (first[0] * second[1] + first[1] * second[0])
    return (weight * products.sum(0).sum(-1)).reshape(-1)


def _colour_flows(process, momenta, alpha, c_tg, parameters):
    _, amplitudes = _ordered(process, momenta, alpha, c_tg, parameters)
    squares = torch.stack([x.square().sum(0).sum(-1).reshape(-1) for x in amplitudes], 1)
    return squares / squares.sum(1, keepdim=True)


def _ordered(process, momenta, alpha, c_tg, parameters):
    """Return what multiplies all squares, and of each colour order the real and imaginary parts of its amplitudes."""
    with_dipole = isinstance(c_tg, Tensor) or c_tg != 0
    weight, *parts = _separated(process, momenta, alpha, parameters, dipole=with_dipole)
    if isinstance(c_tg, Tensor) and c_tg.ndim:
        c_tg = c_tg[:, None]
    return weight, [part[0] + c_tg * part[1] if with_dipole else part[0] for part in parts]


def _separated(process, momenta, alpha, parameters, *, dipole):
    """Return what multiplies all squares, and of each colour order the amplitudes without and, if asked, with O_tG.

    Real and imaginary parts are on the last axis.
    """
    p = momenta.permute(1, 2, 0)[:, :, None, None].contiguous()  # axes: particle, component, two of polarisations
    weight = (4 * torch.pi * parameters.alpha_s) ** 2
    top, antitop, higgs = (p[leg] for leg in process.legs)
    row, leg_weight = _top(top, parameters)
    column, other_weight = _top(antitop, parameters)
    column = tuple(x[:, None] for x in spinors.antiparticle(column))
    weight = weight * leg_weight * other_weight * (3 if "d" in process.tops else 1)
    if len(higgs) == 2:
        weight = weight * currents.higgs_decay_weight(*higgs, parameters)
    parts = []
    for gluons in _gluons(process, *p[:2]):
        amplitudes = currents.ordered_amplitudes(
            row,
            column,
            gluons,
            top.sum(0),
            higgs.sum(0) if len(higgs) else None,
            alpha,
            parameters,
            dipole=dipole,
        )
        parts.append([torch.view_as_real(amplitude).flatten(0, -3) for amplitude in amplitudes])
    return weight, *parts


def _top(momenta: Tensor, parameters: Parameters) -> tuple[Spinor, Tensor | float]:
    """Return the row of spinors of a top or of its decay products, and what multiplies its square."""
    if len(momenta) == 1:
        return spinors.massive_spinors(momenta[0], parameters.m_t), 1
    row = currents.decayed_spinor(momenta[0], momenta.sum(0), parameters.m_t)
    return row, currents.decay_weight(*momenta, parameters)


def _gluons(process: Process, first: Tensor, second: Tensor) -> list[list[Gluon]]:
    """Return the gluons of each colour order.

    The current of massless quarks is transverse; its spin sum is 2ŝ Σ e e over both polarisations e of a gluon.
    """
    polarisations = currents.polarisations(first, second)
    if process.incoming == INCOMING["uux"]:
        amplitude = (2 * dot(first, second)).rsqrt() * 2**0.5
        return [[Gluon.plane_wave(first + second, amplitude * polarisations)]]
    others = currents.polarisations(second, first).transpose(1, 2)
    gluons = [Gluon.plane_wave(first, polarisations), Gluon.plane_wave(second, others)]
    return [gluons, gluons[::-1]]


def on_shell(process: str, momenta: Tensor, parameters: Parameters = DEFAULT) -> Tensor:
    """Return ``momenta`` ``(B, n, 4)`` with every particle on its nominal mass shell and exact balance.

    The sum of the outgoing momenta stays. In its rest frame the outgoing directions stay and all three-momenta are
    scaled by the one factor that conserves √ŝ; the incoming partons take ± the direction of the first. Raises
    InputError as `squared` does for shapes and numbers that are not finite, and where √ŝ is below the threshold.
    """
    momenta, parameters = _typed(process, momenta, parameters)
    masses = _masses(process, momenta, parameters)[:, 2:]
    total = momenta[:, 2:].sum(1)
    energy = kinematics.mass(total)
    refuse(~momenta.isfinite(), "momenta", "is not finite")
    refuse(energy < masses.sum(1), "momenta", "has √ŝ below the threshold: the masses do not fit")
    p = kinematics.to_rest(momenta, total[:, None])[..., 1:]
    sizes = torch.stack([p[:, 0].norm(dim=-1), p[:, 2:].norm(dim=-1).amax(1)], 1)
    refuse(
        sizes < AT_REST * energy[:, None], "momenta", "has incoming or outgoing particles at rest: no direction to keep"
    )
    p2, scale = p[:, 2:].square().sum(-1), torch.ones_like(energy)

    def newton(scale):
        energies = (masses**2 + scale[:, None] ** 2 * p2).sqrt()
        return scale - (energies.sum(1) - energy) / (scale * (p2 / energies).sum(1))

    with torch.no_grad():
        for _ in range(NEWTON_STEPS):  # convex: from above after the first step
            scale = newton(scale)
    outgoing = newton(scale)[:, None, None] * p[:, 2:]
    direction = energy[:, None] / 2 * p[:, 0] / p[:, 0].norm(dim=-1, keepdim=True)
    p = torch.cat([direction[:, None], -direction[:, None], outgoing], 1)
    p = kinematics.with_mass(p, _masses(process, momenta, parameters))
    return kinematics.from_rest(p, total[:, None])


def _typed(process, momenta, parameters):
    """Return momenta and parameters as tensors of one type; raises InputError for what does not fit the process."""
    if process not in PROCESSES:
        raise InputError(f"process {process!r} is unknown: choose one of {', '.join(PROCESSES)}")
    momenta = torch.as_tensor(momenta)
    particles = PROCESSES[process].particles
    if momenta.ndim != 3 or momenta.shape[1:] != (len(particles), 4):
        wanted = f"(events, {len(particles)}, 4) is needed: {' '.join(particles)}"
        raise InputError(f"momenta: shape {tuple(momenta.shape)}; for {process} {wanted}")
    if momenta.dtype not in (torch.float32, torch.float64):
        raise InputError(f"momenta: {momenta.dtype}; torch.float32 or torch.float64 is needed")
    return momenta, parameters.map(lambda name, x: _per_event(name, x, momenta))


def _per_event(name, x, momenta):
    """Return an array as a tensor in the type of ``momenta``, a number as it is; raises InputError for other shapes."""
    if not isinstance(x, int | float):
        x = torch.as_tensor(x).to(momenta)
        if x.shape not in ((), momenta.shape[:1]):
            raise InputError(f"{name}: shape {tuple(x.shape)}; () or ({len(momenta)},) is needed")
    return x


def _masses(process, momenta, parameters):
    """Return the nominal masses ``(B, n)``."""
    named = {"t": parameters.m_t, "b": parameters.m_b, "h": parameters.m_h}
    masses = (named.get(name.rstrip("~"), 0.0) for name in PROCESSES[process].particles)
    return torch.stack([momenta.new_ones(len(momenta)) * m for m in masses], 1)


def _check_numbers(numbers, least):
    for name, x in numbers.items():
        x = torch.as_tensor(x)
        if not (x.isfinite() & (x >= least)).all():
            raise InputError(f"{name}: a finite number{' that is not negative' if least == 0 else ''} is needed")


@torch.no_grad()
def _check_momenta(process, momenta, parameters):
    """Raise InputError unless momenta are finite, balanced and on shell."""
    refuse(~momenta.isfinite(), "momenta", "is not finite")
    refuse(momenta[..., 0] <= 0, "momenta", "has an energy that is not positive")
    total, energy = momenta[:, :2].sum(1), momenta[..., 0].sum(1) / 2
    rest = (momenta[:, 2:].sum(1) - total).abs().amax(1)
    refuse(rest > BALANCE * energy, "momenta", f"does not balance: in − out exceeds {BALANCE:g} of the energy")
    shift = kinematics.mass_squared(momenta) - _masses(process, momenta, parameters) ** 2
    off = (shift.abs() > SHELL * kinematics.mass_squared(total)[:, None]).nonzero()
    if len(off):
        event, particle = off[0].tolist()
        name = f"particle {particle} ({PROCESSES[process].particles[particle]})"
        advice = "change the parameters or project with on_shell"
        raise InputError(f"momenta: event {event} has {name} off its mass shell by over {SHELL:g} ŝ: {advice}")
