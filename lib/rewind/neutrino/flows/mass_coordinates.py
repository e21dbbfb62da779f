"""The masses of a leg as coordinates on the real line, for a flow: nominal masses lie at zero.

>>> lepton, bottom = torch.tensor([[50.0, 30.0, 40.0, 0.0], [90.0, 0.0, 80.0, 41.0]], dtype=torch.float64)
>>> at_zero = torch.zeros(2, dtype=torch.float64)
>>> m_w_squared, excess = masses(Circles.of(lepton, bottom), *at_zero)
>>> round(m_w_squared.sqrt().item(), 3) == M_W, [round(abs(z.item()), 6) for z in mass_coordinates(
...     Circles.of(lepton, bottom), m_w_squared, excess)[:2]]
(True, [0.0, 0.0])
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.nn.preprocessing import positive_part
from rewind.physics.circles import Circles
from rewind.physics.constants import M_TOP, M_W

__all__ = ["mass_coordinates", "masses"]

_W_SCALE, _TOP_SCALE, _SOFTNESS = 0.06, 0.15 * M_TOP**2, 0.05 * M_TOP**2


def mass_coordinates(circles: Circles, m_w_squared: Tensor, excess: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates of both masses on the real line ``(...)``, and the log-Jacobian by (m_W², m_t²).

    Nominal masses lie at 0. The W boson's is asinh(ln(m_W²/M_W²)/0.06); the top's is asinh(u/(0.15 M_t²)) with
    u = m_t² − M_t², smoothly bent so that the least m_t² lies at −∞.
    """
    excess = excess.clip(1e-9)
    ratio = (m_w_squared / M_W**2).log() / _W_SCALE
    bent = (excess - _SOFTNESS**2 / excess - _nominal(circles, m_w_squared)) / _TOP_SCALE
    log_det = (
        (1 + (_SOFTNESS / excess) ** 2).log()
        - (m_w_squared * (_W_SCALE * _TOP_SCALE)).log()
        - 0.5 * ((1 + ratio**2) * (1 + bent**2)).log()
    )
    return torch.asinh(ratio), torch.asinh(bent), log_det


def masses(circles: Circles, w: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Return m_W² and m_t² above its least for the coordinates of :func:`mass_coordinates`."""
    m_w_squared = M_W**2 * (_W_SCALE * w.sinh()).exp()
    return m_w_squared, positive_part(_TOP_SCALE * top.sinh() + _nominal(circles, m_w_squared), _SOFTNESS)


def _nominal(circles: Circles, m_w_squared: Tensor) -> Tensor:
    return M_TOP**2 - circles.least_m_top_squared(m_w_squared)
