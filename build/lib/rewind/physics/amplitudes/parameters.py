"""Masses, widths and couplings of the amplitudes.

>>> round(float(Parameters.from_constants(m_t=172.5).m_t), 1)
172.5
>>> round(float(DEFAULT.vev), 1)
246.2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from torch import Tensor

from rewind.physics import constants

__all__ = ["DEFAULT", "Parameters"]


@dataclass(frozen=True)
class Parameters:
    """Hold masses, widths (GeV) and couplings; each a number, a 0-d tensor or one value an event ``(B,)``.

    ``m_t_yukawa`` and ``m_b_yukawa`` set the Yukawa couplings √2 m/v, with v² = 1/(√2 ``g_f``); ``alpha_em`` and
    ``sin2_theta_w`` set the coupling of the W, whose mass ``m_w`` is free. Leptons and light quarks are massless.
    """

    alpha_s: float | Tensor
    alpha_em: float | Tensor
    sin2_theta_w: float | Tensor
    g_f: float | Tensor
    m_t: float | Tensor
    w_t: float | Tensor
    m_t_yukawa: float | Tensor
    m_b: float | Tensor
    m_b_yukawa: float | Tensor
    m_w: float | Tensor
    w_w: float | Tensor
    m_h: float | Tensor
    w_h: float | Tensor

    @classmethod
    def from_constants(cls, **changes: float | Tensor) -> Parameters:
        """Return the values of `rewind.physics.constants`, which set Pythia too, but for ``changes``."""
        values = {name: getattr(constants, name.upper()) for name in ("alpha_s", "alpha_em", "sin2_theta_w", "g_f")}
        masses = {"m_t": constants.M_TOP, "w_t": constants.W_TOP, "m_b": constants.M_B}
        masses |= {"m_w": constants.M_W, "w_w": constants.W_W, "m_h": constants.M_H, "w_h": constants.W_H}
        yukawas = {"m_t_yukawa": constants.M_TOP, "m_b_yukawa": constants.M_B}
        return cls(**values | masses | yukawas | changes)

    def map(self, function: Callable[[str, float | Tensor], float | Tensor]) -> Parameters:
        """Return these parameters with ``function`` of name and value applied to those that are tensors."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(name, x) for name, x in values.items() if isinstance(x, Tensor)})

    @property
    def vev(self) -> float | Tensor:
        """Vacuum expectation value v of the Higgs field in GeV."""
        return (2**0.5 * self.g_f) ** -0.5


def _reference() -> Parameters:
    """Return MadGraph5_aMC@NLO's Standard Model: m_W and sin²θ_W follow from α, G_F and m_Z at tree level."""
    alpha_em, g_f, m_z = 1 / 132.507, 1.16639e-5, 91.188
    m_w2 = m_z**2 * (0.5 + math.sqrt(0.25 - math.pi * alpha_em / (math.sqrt(2) * g_f * m_z**2)))
    return Parameters(
        alpha_s=0.118,
        alpha_em=alpha_em,
        sin2_theta_w=1 - m_w2 / m_z**2,
        g_f=g_f,
        m_t=173.0,
        w_t=1.4915,
        m_t_yukawa=173.0,
        m_b=4.7,
        m_b_yukawa=4.7,
        m_w=math.sqrt(m_w2),
        w_w=2.0476,
        m_h=125.0,
        w_h=0.006382339,
    )


DEFAULT = _reference()
