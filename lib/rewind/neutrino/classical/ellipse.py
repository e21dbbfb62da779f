"""Neutrino pairs in tt̄ → dilepton from the intersection of two ellipses (1305.1878), batched.

The mass shells of a top and of its W leave the neutrino's momentum on an ellipse, H·(cos t, sin t, 1). Its transverse
projection and the one of the other leg, mirrored at p_T^miss, meet in up to four points: the solutions. Where they do
not meet, the pair of points closest to p_T^miss is the best guess. Momenta (E, px, py, pz), GeV, float64.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)
>>> data = data[data.matched][:100]
>>> bottoms = data.jets[torch.arange(100)[:, None], data.truth.b_jets]
>>> solutions = solve(*data.leptons.unbind(1), *bottoms.unbind(1), data.met)
>>> sorted(set(solutions.count.tolist()))
[0, 2, 4]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind import kinematics
from rewind.neutrino.classical.crossings import closest_approach, determinant, intersections
from rewind.physics.constants import M_TOP, M_W
from rewind.physics.constraints import checked_dilepton_events, checked_masses, checked_momenta

__all__ = ["LegEllipse", "Solutions", "leg_ellipse", "solve"]

_CHUNK = 4096  # events worked on at a time, to stay in the cache


@dataclass(frozen=True)
class LegEllipse:
    """Hold the neutrino momenta of one leg, ``H`` ``(B, 3, 3)`` times (cos t, sin t, 1), in GeV.

    The columns are the half-axes and the centre; all are NaN where ``is_real`` ``(B,)`` is false.
    """

    H: Tensor
    is_real: Tensor

    def point(self, t: Tensor | float) -> Tensor:
        """Return the momenta at the angles ``t``: ``(B, 3)`` for a number, ``(B, T, 3)`` for ``(T,)`` or ``(B, T)``."""
        t = torch.as_tensor(t, dtype=self.H.dtype, device=self.H.device)
        circle = torch.stack([t.cos(), t.sin(), torch.ones_like(t)], -1)
        return (self.H @ circle) if t.ndim == 0 else circle @ self.H.mT


@dataclass(frozen=True)
class Solutions:
    """Hold the neutrino pairs of every event, by rising m_tt.

    ``neutrino, antineutrino`` ``(B, 4, 3)``: solutions where ``valid`` ``(B, 4)``, NaN elsewhere.
    ``closest_neutrino, closest_antineutrino`` ``(B, 3)``: the first solution, or else the points of the two ellipses
    whose transverse sum is nearest to ``met``; NaN unless both legs have an ellipse. ``has_ellipse`` ``(B, 2)`` by
    leg, top first. ``distance`` ``(B,)`` is the size of ν_T + ν̄_T − met of the closest pair: 0 where solved, NaN
    where the pair is.
    """

    neutrino: Tensor
    antineutrino: Tensor
    valid: Tensor
    closest_neutrino: Tensor
    closest_antineutrino: Tensor
    has_ellipse: Tensor
    distance: Tensor

    @property
    def count(self) -> Tensor:
        """Return the number of solutions ``(B,)``: 0, 2 or 4."""
        return self.valid.sum(-1)

    @property
    def is_solved(self) -> Tensor:
        """Return ``(B,)``, true where there is a solution."""
        return self.valid[:, 0]


@torch.no_grad()
def leg_ellipse(
    lepton: Tensor, bottom: Tensor, *, m_top: Tensor | float = M_TOP, m_w: Tensor | float = M_W
) -> LegEllipse:
    """Return the ellipse of neutrino momenta for which (ℓν) has mass ``m_w`` and (bℓν) ``m_top``.

    ``lepton, bottom`` ``(B, 4)``, masses a number or ``(B,)``; GeV. Lepton and b keep the masses of their
    four-vectors. Not real where the masses exclude each other: m_top < m_w + m_b, m_w ≤ m_ℓ, or m_bℓ too large.
    Raises InputError for inputs of wrong shape or value. Source: 1305.1878, sec. 2, in the frame of the lepton and
    the plane's normal instead of its polar angle.
    """
    lepton = checked_momenta("lepton", lepton)
    bottom = checked_momenta("bottom", bottom, len(lepton))
    m_top, m_w = (checked_masses(*m, len(lepton)).to(lepton) for m in (("m_top", m_top), ("m_w", m_w)))
    return LegEllipse(*_ellipses(lepton, bottom, m_top, m_w))


def _ellipses(lepton: Tensor, bottom: Tensor, m_top: Tensor, m_w: Tensor) -> tuple[Tensor, Tensor]:
    """Return H ``(..., 3, 3)`` and whether it is real.

    With x along the lepton, the W's mass shell reads E_ν = a + β x, an ellipsoid of revolution around the lepton,
    and its difference to the top's is a plane, n·ν = d with n in the plane of lepton and b. On the ellipsoid the
    in-plane coordinate s along (n_y, −n_x) obeys Q s² + 2 L s + K + z² = 0, and L² − K Q = a² + 2 a β d n_x − ε d².
    """
    l_mass2, b_mass2 = (kinematics.mass_squared(p).clip(0.0) for p in (lepton, bottom))
    l_p, b_p = lepton[..., 1:], bottom[..., 1:]
    momentum = l_p.norm(dim=-1)
    l_energy = (momentum**2 + l_mass2).sqrt()
    b_energy = (b_p.square().sum(-1) + b_mass2).sqrt()
    beta, epsilon = momentum / l_energy, l_mass2 / l_energy**2

    x_axis = l_p / momentum[..., None]
    b_along = (b_p * x_axis).sum(-1)
    b_across = b_p - b_along[..., None] * x_axis
    b_y = b_across.norm(dim=-1)
    y_axis = torch.where((b_y > 1e-12 * b_energy)[..., None], b_across / b_y[..., None], _perpendicular(x_axis))
    z_axis = torch.linalg.cross(x_axis, y_axis)

    a = (m_w**2 - l_mass2) / (2 * l_energy)
    dot = b_energy * l_energy - b_along * momentum
    slope = b_energy * beta - b_along
    norm = torch.hypot(slope, b_y)
    n_x, n_y = slope / norm, -b_y / norm
    d = ((m_top**2 - m_w**2 - b_mass2) / 2 - dot - b_energy * a) / norm

    Q = n_x**2 + epsilon * n_y**2
    centre = beta * n_y * (beta * d * n_x + a) / Q
    D = a**2 + 2 * a * beta * d * n_x - epsilon * d**2
    is_real = (D >= 0) & (a > 0)
    root = torch.where(is_real, D, math.nan).sqrt()
    across = n_y[..., None] * x_axis - n_x[..., None] * y_axis
    middle = d[..., None] * (n_x[..., None] * x_axis + n_y[..., None] * y_axis) + centre[..., None] * across
    columns = [(root / Q)[..., None] * across, (root / Q.sqrt())[..., None] * z_axis, middle]
    return torch.where(is_real[..., None, None], torch.stack(columns, -1), math.nan), is_real


def _perpendicular(axis: Tensor) -> Tensor:
    """Return a unit vector at right angles to each unit vector ``(..., 3)``."""
    least = torch.nn.functional.one_hot(axis.abs().argmin(-1), 3).to(axis)
    return torch.nn.functional.normalize(torch.linalg.cross(axis, least), dim=-1)


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
) -> Solutions:
    """Return all neutrino pairs with ν_T + ν̄_T = ``met`` that put both tops and both Ws on their mass shells.

    Four-momenta ``(B, 4)``, ``met`` ``(B, 2)``, masses a number, ``(B,)`` or ``(B, 2)`` (top, antitop); GeV. The
    neutrino belongs to ``lepton_plus`` and ``bottom``, the antineutrino to ``lepton_minus`` and ``antibottom``. A leg
    whose masses exclude each other has no ellipse (see :func:`leg_ellipse`) and no solution. Raises InputError for
    wrong shapes, values that are not finite, zero momenta, E below p, masses that are not positive, and where both
    leptons or both b are the same. Source: 1305.1878.
    """
    events = checked_dilepton_events((lepton_plus, lepton_minus), (bottom, antibottom), met, m_top, m_w)
    chunks = [_solve(*(x[i : i + _CHUNK] for x in events)) for i in range(0, max(len(events.met), 1), _CHUNK)]
    return Solutions(*map(torch.cat, zip(*chunks, strict=True)))


def _solve(leptons: Tensor, bottoms: Tensor, met: Tensor, m_top: Tensor, m_w: Tensor) -> tuple[Tensor, ...]:
    H, has_ellipse = _ellipses(leptons, bottoms, m_top, m_w)
    area = determinant(H[..., :2, :2]).abs()
    swap = area[:, 0] > area[:, 1]  # the second ellipse is inverted: A is smallest with the larger one there
    H = torch.where(swap[:, None, None, None], H.flip(1), H)

    event, slot, t = intersections(H, met)
    pairs = met.new_full((len(met), 4, 2, 3), math.nan)
    pairs[event, slot] = _points(H[event], t)

    closest, distance = pairs.new_full((len(met), 2, 3), math.nan), met.new_full((len(met),), math.nan)
    valid = ~pairs[..., 0, 0].isnan()
    missed = (has_ellipse.all(-1) & ~valid.any(-1)).nonzero()[:, 0]
    if len(missed):
        t, distance[missed] = closest_approach(H[missed], met[missed])
        closest[missed] = _points(H[missed], t)

    pairs = torch.where(swap[:, None, None, None], pairs.flip(2), pairs)
    closest = torch.where(swap[:, None, None], closest.flip(1), closest)
    order = _m_tt(pairs, leptons, bottoms).nan_to_num(math.inf).argsort(stable=True)
    pairs = pairs.gather(1, order[..., None, None].expand_as(pairs))
    valid = valid.gather(1, order)
    solved = valid[:, 0]
    closest = torch.where(solved[:, None, None], pairs[:, 0], closest)
    distance = torch.where(solved, 0.0, distance)
    return pairs[:, :, 0], pairs[:, :, 1], valid, closest[:, 0], closest[:, 1], has_ellipse, distance


def _points(H: Tensor, t: Tensor) -> Tensor:
    """Return the momenta ``(n, 2, 3)`` of both legs at the angles ``t`` ``(n, 2)``."""
    return t.cos()[..., None] * H[..., 0] + t.sin()[..., None] * H[..., 1] + H[..., 2]


def _m_tt(pairs: Tensor, leptons: Tensor, bottoms: Tensor) -> Tensor:
    visible = (leptons + bottoms).sum(1)[:, None]
    energy = visible[..., 0] + pairs.norm(dim=-1).sum(-1)
    return (energy**2 - (visible[..., 1:] + pairs.sum(-2)).square().sum(-1)).sqrt()
