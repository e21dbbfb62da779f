"""Neutrino pairs in tt̄ → dilepton from one quartic equation (hep-ph/0603011): a check of the ellipses.

The two mass shells of a leg are linear in E_ν and ν, and give E_ν and ν_z as linear functions of ν_T, so that E² = p²
is a conic in (x, y) = ν_T. With ν̄_T = p_T^miss − ν_T the conics of both legs lie in one plane. Eliminating y from them
leaves a quartic in x, whose real roots are the solutions. Momenta (E, px, py, pz), GeV, float64.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)
>>> data = data[data.matched][:100]
>>> bottoms = data.jets[torch.arange(100)[:, None], data.truth.b_jets]
>>> solve(*data.leptons.unbind(1), *bottoms.unbind(1), data.met).count.max().item()
4
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind import kinematics
from rewind.physics.constants import M_TOP, M_W
from rewind.physics.constraints import checked_dilepton_events

__all__ = ["QuarticSolutions", "solve"]

_UNIT = 100.0  # GeV: brings the coefficients near one
_REAL = 1e-6  # imaginary part, relative, up to which a root counts as real


@dataclass(frozen=True)
class QuarticSolutions:
    """Hold the neutrino pairs ``(B, 4, 3)`` in GeV by rising x of the neutrino; NaN where ``valid`` is false."""

    neutrino: Tensor
    antineutrino: Tensor
    valid: Tensor

    @property
    def count(self) -> Tensor:
        """Return the number of solutions ``(B,)``."""
        return self.valid.sum(-1)


@torch.no_grad()
def solve(
    lepton_plus: Tensor,
    lepton_minus: Tensor,
    bottom: Tensor,
    antibottom: Tensor,
    met: Tensor,
    *,
    m_top: Tensor | float = M_TOP,
    m_w: Tensor | float = M_W,
) -> QuarticSolutions:
    """Return all neutrino pairs with ν_T + ν̄_T = ``met`` on the mass shells of both tops and both Ws.

    Four-momenta ``(B, 4)``, ``met`` ``(B, 2)``, masses a number, ``(B,)`` or ``(B, 2)`` (top, antitop); GeV. Not for
    a lepton and a b of the same E/p_z, which leave ν_z open, nor for two solutions with the same x: there, use
    :func:`rewind.neutrino.classical.ellipse.solve`. Raises InputError for inputs of wrong shape or value. Source:
    hep-ph/0603011, with the elimination by a resultant of two quadratics in y.
    """
    events = checked_dilepton_events((lepton_plus, lepton_minus), (bottom, antibottom), met, m_top, m_w)
    leptons, bottoms, met, m_top, m_w = (x / _UNIT for x in events)
    E, z, delta = _linear(leptons, bottoms, m_top, m_w)
    mirror = torch.diag(met.new_tensor([1.0, -1.0, -1.0])).repeat(len(met), 1, 1)
    mirror[:, 1:, 0] = met  # (1, ν̄_T) from (1, ν_T)
    conic, other = _conics(E, z, delta).unbind(1)
    other = mirror.mT @ other @ mirror
    conic, other = (C / C.norm(dim=(1, 2), keepdim=True) for C in (conic, other))

    x, is_real = _real_roots(_resultant(conic, other))
    y = _common_y(conic[:, None], other[:, None], x)
    nu, is_root = _polished(conic[:, None], other[:, None], torch.stack([torch.ones_like(x), x, y], -1))
    nu_bar = nu @ mirror.mT
    pairs = []
    for leg, v in enumerate((nu, nu_bar)):
        nu_z = (v * z[:, None, leg]).sum(-1) / delta[:, None, leg]
        pairs.append(_UNIT * torch.cat([v[..., 1:], nu_z[..., None]], -1))
    valid = is_real & is_root & pairs[0].isfinite().all(-1) & pairs[1].isfinite().all(-1)
    order = torch.where(valid, x, math.inf).argsort(stable=True)
    valid = valid.gather(1, order)
    pairs = (torch.where(valid[..., None], p.gather(1, order[..., None].expand_as(p)), math.nan) for p in pairs)
    return QuarticSolutions(*pairs, valid)


def _linear(lepton: Tensor, b: Tensor, m_top: Tensor, m_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return E and ν_z ``(..., 3)`` as coefficients of (1, x, y), both times the determinant δ ``(...)``.

    E_ℓ E − ℓ·ν = α and E_b E − b·ν = γ are solved for E and ν_z.
    """
    alpha = (m_w**2 - kinematics.mass_squared(lepton)) / 2
    dot = lepton[..., 0] * b[..., 0] - (lepton[..., 1:] * b[..., 1:]).sum(-1)
    gamma = (m_top**2 - m_w**2 - kinematics.mass_squared(b)) / 2 - dot
    from_l = torch.cat([alpha[..., None], lepton[..., 1:3]], -1)
    from_b = torch.cat([gamma[..., None], b[..., 1:3]], -1)
    E = lepton[..., 3:] * from_b - b[..., 3:] * from_l
    z = lepton[..., :1] * from_b - b[..., :1] * from_l
    return E, z, lepton[..., 3] * b[..., 0] - lepton[..., 0] * b[..., 3]


def _conics(E: Tensor, z: Tensor, delta: Tensor) -> Tensor:
    """Return δ² (x² + y² + ν_z² − E²) as symmetric matrices ``(..., 3, 3)`` between (1, x, y)."""
    plane = torch.diag(torch.tensor([0.0, 1.0, 1.0])).to(E)
    return delta[..., None, None] ** 2 * plane + _outer(z) - _outer(E)


def _outer(v: Tensor) -> Tensor:
    return v[..., :, None] * v[..., None, :]


def _in_y(C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a conic as a y² + b y + c: polynomials in x, by rising power."""
    return C[..., 2, 2:], 2 * C[..., 2, :2], torch.stack([C[..., 0, 0], 2 * C[..., 0, 1], C[..., 1, 1]], -1)


def _times(p: Tensor, q: Tensor) -> Tensor:
    """Return the product of two polynomials, by rising power on the last axis."""
    product = p.new_zeros(*p.shape[:-1], p.shape[-1] + q.shape[-1] - 1)
    for i in range(p.shape[-1]):
        product[..., i : i + q.shape[-1]] += p[..., i : i + 1] * q
    return product


def _resultant(first: Tensor, second: Tensor) -> Tensor:
    """Return the quartic ``(B, 5)`` in x that vanishes where the conics share a point, by rising power."""
    (a, b, c), (A, B, C) = _in_y(first), _in_y(second)
    ac, ab, bc = (_times(p, Q) - _times(P, q) for p, q, P, Q in ((a, c, A, C), (a, b, A, B), (b, c, B, C)))
    return _times(ac, ac) - _times(ab, bc)


def _real_roots(quartic: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real parts ``(B, 4)`` of the roots, by the eigenvalues of the companion matrix, and which are real."""
    monic = quartic[:, :4] / quartic[:, 4:]
    companion = torch.diag(torch.ones(3), -1).to(quartic).repeat(len(quartic), 1, 1)
    companion[:, :, 3] = -monic
    finite = monic.isfinite().all(-1)
    roots = torch.linalg.eigvals(torch.where(finite[:, None, None], companion, 0.0))
    return roots.real, finite[:, None] & (roots.imag.abs() <= _REAL * (1 + roots.abs()))


def _common_y(first: Tensor, second: Tensor, x: Tensor) -> Tensor:
    """Return the y of the shared points: A·first − a·second is linear in y."""
    (a, b, c), (A, B, C) = _in_y(first), _in_y(second)
    powers = torch.stack([torch.ones_like(x), x, x * x], -1)
    constant = ((A * c - a * C) * powers).sum(-1)
    return -constant / ((A * b - a * B) * powers[..., :2]).sum(-1)


def _polished(first: Tensor, second: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return points (1, x, y) after Newton steps on both conics, and whether these converged."""
    for _ in range(4):
        (p, q) = ((C @ v[..., None])[..., 0] for C in (first, second))
        f, g = (v * p).sum(-1) / 2, (v * q).sum(-1) / 2
        det = p[..., 1] * q[..., 2] - p[..., 2] * q[..., 1]
        dx, dy = f * q[..., 2] - g * p[..., 2], g * p[..., 1] - f * q[..., 1]
        step = torch.stack([torch.zeros_like(f), dx / det, dy / det], -1)
        v = v - step
    return v, step.norm(dim=-1) < 1e-6 * v.norm(dim=-1)
