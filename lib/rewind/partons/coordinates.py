"""Partons on the unit hypercube: RAMBO on diet in the frame of their centre of mass, and the momentum fractions.

H, t_had and t_lep keep their three-momenta and get their pole masses; the gluon is the recoil of what then results, and
the momentum fractions those of the sum. So momentum is conserved, every parton is on its mass shell, and both
ways are exact. Such a recoil has the rapidity of the whole: in the frame of the centre of mass it is transverse, and
the cosine of its polar angle, one of RAMBO's 3N − 4 = 8 variables, is zero. With two for the fractions, 9 coordinates
are left, as many as three momenta have components.

>>> partons, fractions = from_unit_hypercube(torch.full((1, 9), 0.3))
>>> partons[0, :, 0].round().tolist()
[254.0, 331.0, 415.0, 67.0]
>>> to_unit_hypercube(partons[:, :3, 1:]).round(decimals=6)[0, :3].tolist()
[0.3, 0.3, 0.3]
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.nn.piecewise import normal_quantile
from rewind.partons.last_copies import with_recoil
from rewind.physics.constants import M_H, M_TOP, SQRT_S
from rewind.physics.phase_space import IncomingFractions, RamboOnDiet, from_lab, momentum_fractions, to_lab

__all__ = ["AZIMUTHS", "NAMES", "N_FEATURES", "features", "from_unit_hypercube", "on_shell", "to_unit_hypercube"]

_RAMBO_NAMES = ("M(ttH)", "M(tH)", "cos g", "phi g", "cos t_lep", "phi t_lep", "cos H", "phi H")
_CONSTANT = _RAMBO_NAMES.index("cos g")
NAMES = ("x1 x2", "rapidity", *(name for name in _RAMBO_NAMES if name != "cos g"))
AZIMUTHS = [k for k, name in enumerate(NAMES) if name.startswith("phi")]
"""Places of azimuths in ``NAMES``."""

_RAMBO_AZIMUTHS = [k for k, name in enumerate(_RAMBO_NAMES) if name.startswith("phi")]
_RAMBO_OTHERS = [k for k, name in enumerate(_RAMBO_NAMES) if not name.startswith("phi")]
N_FEATURES = 2 + len(_RAMBO_OTHERS) + 2 * len(_RAMBO_AZIMUTHS)
"""Columns of :func:`features`."""

_MASSES = (M_H, M_TOP, M_TOP)
_CHAIN, _BACK = [3, 2, 0, 1], [2, 3, 1, 0]  # gluon, t_lep, H, t_had
_EDGE = 1e-12
_THRESHOLD = sum(_MASSES) * (1 + 1e-9)
_RAMBO = RamboOnDiet([0.0, M_TOP, M_H, M_TOP])
_FRACTIONS = IncomingFractions((_THRESHOLD / SQRT_S) ** 2, exponent=2.0)


def on_shell(momenta: Tensor) -> Tensor:
    """Return partons ``(B, 4, 4)`` with pole masses, float64, from three-momenta ``(B, 3, 3)``, GeV, of the heavy ones.

    The fourth is their recoil.
    """
    momenta = momenta.double()
    return with_recoil(kinematics.with_mass(momenta, momenta.new_tensor(_MASSES)))


def _rambo(partons: Tensor) -> tuple[Tensor, Tensor]:
    """Return fractions ``(B, 2)``, which may exceed 1, and RAMBO's variables ``(B, 8)``, of balanced partons."""
    x = momentum_fractions(partons.sum(1))
    at_rest = from_lab(partons, x / x.amax(1, keepdim=True))
    return x, _RAMBO.inverse(at_rest[:, _CHAIN])[0]


def to_unit_hypercube(momenta: Tensor) -> Tensor:
    """Return the coordinates ``(B, 9)``, float64, in the order of ``NAMES``, of heavy partons ``(B, 3, 3)``, GeV.

    They are: 1 − τ_min/τ over its largest value, with τ = x1 x2; rapidity; RAMBO's variables for the chain gluon,
    t_lep, H, t_had. Of these, two set the masses of tt̄H and of H with t_had; the others are (1 + cos θ)/2 and azimuths
    in turns, of the gluon at rest of the whole, of t_lep at rest of tt̄H, of H at rest of H with t_had. Raises
    InputError for partons whose momentum fractions exceed 1.
    """
    x, rambo = _rambo(on_shell(momenta))
    return torch.cat([_FRACTIONS.inverse(x)[0], rambo[:, :_CONSTANT], rambo[:, _CONSTANT + 1 :]], 1)


def from_unit_hypercube(coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Return partons ``(B, 4, 4)``, GeV, and fractions ``(B, 2)`` at coordinates ``(B, 9)``.

    The inverse of :func:`to_unit_hypercube`. Raises InputError outside [0, 1].
    """
    if coordinates.ndim != 2 or coordinates.shape[1] != len(NAMES):
        raise InputError(f"coordinates: shape {tuple(coordinates.shape)}; (events, {len(NAMES)}) is needed")
    exact = coordinates.double()
    inside = torch.where((exact >= 0) & (exact <= 1), exact.clip(_EDGE, 1 - _EDGE), exact)
    fractions, rambo = inside.split([2, len(NAMES) - 2], 1)
    x = _FRACTIONS.forward(fractions)[0]
    transverse = torch.full_like(rambo[:, :1], 0.5)
    rambo = torch.cat([rambo[:, :_CONSTANT], transverse, rambo[:, _CONSTANT:]], 1)
    at_rest = _RAMBO.forward(rambo, x.prod(1).sqrt() * SQRT_S)[0]
    return to_lab(at_rest, x)[:, _BACK], x


def features(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the azimuths in turns ``(B, 3)`` and what a network reads ``(B, 13)`` of any three-momenta ``(B, 4, 3)``.

    The gluon need not be a recoil; its transverse momentum is made to balance. All eight of RAMBO's variables count,
    azimuths by sine and cosine, others as quantiles of the normal distribution; then log ŝ and the rapidity.
    """
    heavy = momenta[:, :3].double()
    gluon = torch.cat([-heavy[..., :2].sum(1), momenta[:, 3, 2:].double()], 1)
    balanced = torch.cat([heavy, gluon[:, None]], 1)
    x, rambo = _rambo(kinematics.with_mass(balanced, balanced.new_tensor([*_MASSES, 0.0])))
    turns = rambo[:, _RAMBO_AZIMUTHS]
    others = normal_quantile(rambo[:, _RAMBO_OTHERS])
    x = x.log()
    whole = torch.stack([x.sum(1), (x[:, 0] - x[:, 1]) / 2], 1)
    angle = 2 * torch.pi * turns
    return turns, torch.cat([whole, others, angle.cos(), angle.sin()], 1)
