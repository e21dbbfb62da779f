"""Gluon fields and colour-ordered amplitudes of the top line, by the recursion of off-shell currents.

Amplitudes are in units of g_s² (g_s for each gluon, or for each end of one); the top's colour generators are taken
off: with gluons 1, 2 an amplitude multiplies T¹T². The covariant derivative is ∂ − i g_s T·G. Source: the recursion
of Berends and Giele (Nucl. Phys. B 306, 759), the dipole of 1010.6304.

>>> round(float(breit_wigner(torch.tensor(80.0**2), 80.0, 2.0) * (80.0 * 2.0) ** 2), 6)
1.0
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from rewind.physics.amplitudes import spinors
from rewind.physics.amplitudes.parameters import Parameters
from rewind.physics.amplitudes.spinors import Spinor, dot, light_cone, square

__all__ = [
    "LAMBDA",
    "Gluon",
    "decay_weight",
    "decayed_spinor",
    "higgs_decay_weight",
    "ordered_amplitudes",
    "polarisations",
]

LAMBDA = 1000.0  # GeV, the scale of O_tG


class Gluon(NamedTuple):
    """Hold momentum ``(4, ..., B)``, potential ``(4, ..., B)`` and `chiral_field` of one gluon or of two merged."""

    momentum: Tensor
    potential: Tensor
    field: Tensor

    @classmethod
    def plane_wave(cls, momentum: Tensor, potential: Tensor) -> Gluon:
        """Return the gluon whose field is that of a plane wave."""
        return cls(momentum, potential, spinors.chiral_field(momentum, potential))

    def merged(self, other: Gluon) -> Gluon:
        """Return the gluon into which two fuse, the coefficient of their generators' product in this order."""
        p, q, a, b = self.momentum, other.momentum, self.potential, other.potential
        total = p + q
        current = 2 * (dot(a, q) * b - dot(b, p) * a) + dot(a, b) * (p - q)
        wave = Gluon.plane_wave(total, -current / square(total))
        return wave._replace(field=wave.field + spinors.chiral_field(a, b))


def polarisations(k: Tensor, other: Tensor) -> Tensor:
    """Return two real unit vectors ``(4, 2, 1, B)``, orthogonal to each other and to light-like ``k`` and ``other``.

    An orthonormal basis around the direction of ``k`` (Duff et al., JCGT 6 (2017) 1), shifted along ``k``.
    """
    x, y, z = k[1:] / k[1:].square().sum(0).sqrt()
    sign = torch.where(z < 0, -1.0, 1.0).to(z)
    a = -1 / (sign + z)
    zero = torch.zeros_like(x)
    first = torch.stack([zero, 1 + sign * x * x * a, sign * x * y * a, -sign * x])
    second = torch.stack([zero, x * y * a, sign + y * y * a, -y])
    basis = torch.cat([first, second], 1)
    return basis - dot(basis, other) / dot(k, other) * k


def decayed_spinor(lepton: Tensor, top: Tensor, mass: Tensor | float) -> Spinor:
    """Return the row [ℓ|(p̸ + m) ``(1, ..., B)`` to which t → b ℓ⁺ ν reduces a top, up to the root of `decay_weight`.

    By the Fierz identity the spins of b and ν leave one state, its axis along the lepton. Momenta ``(4, ..., B)``.
    """
    first, second = (x[None] for x in spinors.massless_spinor(lepton))
    none = torch.zeros_like(first)
    return spinors.projected((first, second, none, none), light_cone(top), mass)


def decay_weight(lepton: Tensor, neutrino: Tensor, b: Tensor, parameters: Parameters) -> Tensor:
    """Return g_w⁴ 2 p_b·p_ν and both squared propagators ``(..., B)``: a factor beside `decayed_spinor`."""
    p = parameters
    w = lepton + neutrino
    g_w2 = 4 * torch.pi * p.alpha_em / p.sin2_theta_w
    widths = breit_wigner(square(w), p.m_w, p.w_w) * breit_wigner(square(w + b), p.m_t, p.w_t)
    return g_w2**2 * 2 * dot(b, neutrino) * widths


def higgs_decay_weight(b: Tensor, antib: Tensor, parameters: Parameters) -> Tensor:
    """Return the squared decay H → bb̄ with propagator ``(..., B)``: 6 y_b² (p_b·p_b̄ − m_b²), colours summed."""
    p = parameters
    yukawa2 = 2 * (p.m_b_yukawa / p.vev) ** 2
    return 6 * yukawa2 * (dot(b, antib) - p.m_b**2) * breit_wigner(square(b + antib), p.m_h, p.w_h)


def breit_wigner(mass2: Tensor, mass: Tensor | float, width: Tensor | float) -> Tensor:
    """Return 1/((p² − m²)² + m²Γ²)."""
    return 1 / ((mass2 - mass**2) ** 2 + (mass * width) ** 2)


def ordered_amplitudes(
    top: Spinor,
    antitop: Spinor,
    gluons: list[Gluon],
    top_momentum: Tensor,
    higgs_momentum: Tensor | None,
    alpha: Tensor | float,
    parameters: Parameters,
    dipole: bool,
) -> list[Tensor]:
    """Return the amplitude with ``gluons`` in this order from the top, and with ``dipole`` its derivative in c_tG.

    ``top`` is a row, ``antitop`` a column of spinors; ``higgs_momentum`` is None where there is no Higgs boson, whose
    vertex is −(y_t/√2)(cos α + iγ5 sin α). O_tG acts at most once.
    """
    n, with_higgs = len(gluons), higgs_momentum is not None
    vertices = list(_vertices(gluons, with_higgs, alpha, parameters, dipole))
    currents = {(0, 0, 0): top}  # after so many Higgs bosons, gluons and insertions of O_tG
    for higgs, end, order in product(range(1 + with_higgs), range(n + 1), range(1 + dipole)):
        row = None
        for (emitted, start, stop, insertions), vertex in vertices:
            source = currents.get((higgs - emitted, start, order - insertions))
            if stop == end and source is not None:
                row = vertex(source, start=row)
        if row is not None:
            p = top_momentum - sum(gluon.momentum for gluon in gluons[:end]) + (higgs_momentum if higgs else 0)
            is_last = (higgs, end) == (with_higgs, n)
            currents[higgs, end, order] = row if is_last else propagated(row, p, parameters)
    return [spinors.contract(currents[with_higgs, n, order], antitop) for order in range(1 + dipole)]


def _vertices(gluons, with_higgs, alpha, parameters, dipole):
    """Yield Higgs bosons, first gluon, last gluon and insertions of O_tG of each vertex, and the vertex."""
    spans = {(i, i + 1): gluon for i, gluon in enumerate(gluons)}
    if len(gluons) == 2:
        spans[0, 2] = gluons[0].merged(gluons[1])
    for (start, stop), gluon in spans.items():
        yield (0, start, stop, 0), partial(spinors.slash, vector=light_cone(gluon.potential))
        if dipole:
            field = 2**0.5 * parameters.vev / LAMBDA**2 * gluon.field
            yield (0, start, stop, 1), partial(spinors.commutator, field=field)
            if with_higgs:
                yield (1, start, stop, 1), partial(spinors.commutator, field=field / parameters.vev)
    if with_higgs:
        coupling = -parameters.m_t_yukawa / parameters.vev  # −y_t/√2
        like = gluons[0].momentum
        phase = torch.exp(-1j * torch.as_tensor(alpha, dtype=like.dtype, device=like.device))
        for end in range(len(gluons) + 1):
            yield (1, end, end, 0), partial(spinors.scale, left=coupling * phase, right=coupling * phase.conj())


def propagated(row: Spinor, p: Tensor, parameters: Parameters) -> Spinor:
    """Return row·(p̸ + m)/(m² − p² − imΓ), the top's propagator."""
    mass, width = parameters.m_t, parameters.w_t
    propagator = 1 / (mass**2 - square(p) - 1j * mass * width)
    return spinors.projected(row, tuple(x * propagator for x in light_cone(p)), mass * propagator)
