"""Squared amplitudes of all processes: what their colour-ordered parts are made of, and their sums.

>>> from rewind.physics.amplitudes import on_shell
>>> back_to_back = [[250.0, 0, 0, 250.0], [250.0, 0, 0, -250.0], [250.0, 180.0, 0, 0], [250.0, -180.0, 0, 0]]
>>> momenta = on_shell('gg_tt', torch.tensor([back_to_back]).double())
>>> exchanged = squared('gg_tt', momenta[:, [1, 0, 2, 3]])
>>> bool(torch.isclose(squared('gg_tt', momenta), exchanged))
True
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from rewind.physics.amplitudes import currents, spinors
from rewind.physics.amplitudes.currents import Gluon
from rewind.physics.amplitudes.momenta import check_momenta, check_numbers, per_event, typed
from rewind.physics.amplitudes.parameters import DEFAULT, Parameters
from rewind.physics.amplitudes.processes import COLOUR_FACTORS, INCOMING, PROCESSES, Process
from rewind.physics.amplitudes.spinors import Spinor, dot

__all__ = [
    "c_tg_polynomial",
    "colour_flows",
    "coupling_monomials",
    "coupling_polynomial",
    "cp_monomials",
    "cp_polynomial",
    "squared",
]

CHUNK = {"cpu": 4096, "cuda": 2**18}  # events at a time: their spinors fit a core's cache, or the device's memory


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


def cp_monomials(alpha: float | Tensor) -> Tensor:
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


def coupling_monomials(kappa: float | Tensor, alpha: float | Tensor, c_tg: float | Tensor) -> Tensor:
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
    momenta, parameters = typed(process, momenta, parameters)
    n_events = len(momenta)
    alpha, c_tg = (per_event(name, x, momenta) for name, x in (("alpha", alpha), ("c_tg", c_tg)))
    if check:
        check_numbers({"alpha": alpha, "c_tg": c_tg}, least=-torch.inf)
        check_numbers(vars(parameters), least=0.0)
        check_momenta(process, momenta, parameters)
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
