"""Partons as unit numbers: RAMBO on diet in the frame of their centre of mass, and the incoming momentum fractions.

H, t_had and t_lep keep their three-momenta and get their pole masses; the gluon is the recoil of what then results, and
the momentum fractions those of the sum. So momentum is conserved, every parton is on its mass shell, and both
ways are exact. Such a recoil has the rapidity of the whole: in the frame of the centre of mass it is transverse, and
the cosine of its polar angle, one of RAMBO's 3N − 4 = 8 numbers, is zero. With two for the fractions, 9 numbers are
left, as many as three momenta have components.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.nn.piecewise import normal_quantile
from rewind.partons.dataset import momentum_fractions, recoil
from rewind.physics.constants import M_H, M_TOP, SQRT_S
from rewind.physics.phase_space import IncomingFractions, RamboOnDiet, from_lab, to_lab

__all__ = ["AZIMUTHS", "NAMES", "features", "on_shell", "to_numbers", "to_partons"]

NAMES = ("x1 x2", "rapidity", "M(ttH)", "M(tH)", "phi g", "cos t_lep", "phi t_lep", "cos H", "phi H")
AZIMUTHS = (4, 6, 8)
_MASSES = (M_H, M_TOP, M_TOP)
_CHAIN, _BACK = [3, 2, 0, 1], [2, 3, 1, 0]  # gluon, t_lep, H, t_had
_COSINE = 2  # the gluon's, among RAMBO's numbers
_EDGE = 1e-12
_THRESHOLD = sum(_MASSES) * (1 + 1e-9)
_RAMBO = RamboOnDiet([0.0, M_TOP, M_H, M_TOP])
_FRACTIONS = IncomingFractions((_THRESHOLD / SQRT_S) ** 2, exponent=2.0)


def _energies(momenta: Tensor) -> Tensor:
    squared = momenta.new_tensor([*_MASSES, 0.0][: momenta.shape[1]]) ** 2
    return torch.cat([((momenta**2).sum(-1) + squared).sqrt()[..., None], momenta], -1)


def on_shell(momenta: Tensor) -> Tensor:
    """Return partons ``(B, 4, 4)`` with pole masses, float64, from three-momenta ``(B, 3, 3)``, GeV, of the heavy ones.

    The fourth is their recoil.
    """
    heavy = _energies(momenta.double())
    return torch.cat([heavy, recoil(heavy.sum(1))[:, None]], 1)


def _rambo(partons: Tensor) -> tuple[Tensor, Tensor]:
    """Return fractions ``(B, 2)``, which may exceed 1, and RAMBO's eight numbers of balanced partons on shell."""
    x = momentum_fractions(partons.sum(1))
    at_rest = from_lab(partons, x / x.amax(1, keepdim=True))
    return x, _RAMBO.inverse(at_rest[:, _CHAIN])[0]


def to_numbers(momenta: Tensor) -> Tensor:
    """Return the unit numbers ``(B, 9)``, float64, in the order of ``NAMES``, of heavy partons ``(B, 3, 3)``, GeV.

    They are: 1 − τ_min/τ over its largest value, with τ = x1 x2; rapidity; RAMBO's numbers for the chain gluon, t_lep,
    H, t_had. Of these, two set the masses of tt̄H and of H with t_had; the others are (1 + cos θ)/2 and azimuths in
    turns, of the gluon at rest of the whole, of t_lep at rest of tt̄H, of H at rest of H with t_had. Raises InputError
    for partons whose momentum fractions exceed 1.
    """
    x, rambo = _rambo(on_shell(momenta))
    return torch.cat([_FRACTIONS.inverse(x)[0], rambo[:, :_COSINE], rambo[:, _COSINE + 1 :]], 1)


def to_partons(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return partons ``(B, 4, 4)``, GeV, and fractions ``(B, 2)`` of unit numbers ``(B, 9)``; undo :func:`to_numbers`.

    Raises InputError outside [0, 1].
    """
    if numbers.ndim != 2 or numbers.shape[1] != len(NAMES):
        raise InputError(f"numbers: shape {tuple(numbers.shape)}; (events, {len(NAMES)}) is needed")
    inside = torch.where((numbers >= 0) & (numbers <= 1), numbers.double().clip(_EDGE, 1 - _EDGE), numbers.double())
    fractions, rambo = inside[:, :2], inside[:, 2:]
    x = _FRACTIONS.forward(fractions)[0]
    transverse = torch.full_like(rambo[:, :1], 0.5)
    rambo = torch.cat([rambo[:, :_COSINE], transverse, rambo[:, _COSINE:]], 1)
    at_rest = _RAMBO.forward(rambo, x.prod(1).sqrt() * SQRT_S)[0]
    return to_lab(at_rest, x)[:, _BACK], x


def features(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the azimuths in turns ``(B, 3)`` and what a network reads ``(B, 13)`` of any three-momenta ``(B, 4, 3)``.

    The gluon need not be a recoil; its transverse momentum is made to balance. All eight of RAMBO's numbers count,
    azimuths by sine and cosine, others as quantiles of the normal distribution; then log ŝ and the rapidity.
    """
    heavy = momenta[:, :3].double()
    gluon = torch.cat([-heavy[..., :2].sum(1), momenta[:, 3:, 2].double()], 1)
    x, rambo = _rambo(_energies(torch.cat([heavy, gluon[:, None]], 1)))
    turns = rambo[:, 3::2]
    others = normal_quantile(torch.cat([rambo[:, :2], rambo[:, 2::2]], 1))
    x = x.log()
    whole = torch.stack([x.sum(1), (x[:, 0] - x[:, 1]) / 2], 1)
    angle = 2 * torch.pi * turns
    return turns, torch.cat([whole, others, angle.cos(), angle.sin()], 1)
