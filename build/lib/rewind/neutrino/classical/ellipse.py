"""Neutrino pairs in tt̄ → dilepton from the intersection of two ellipses (1305.1878), batched.

The mass shells of a top and of its W leave the neutrino's momentum on an ellipse, H·(cos t, sin t, 1). Its transverse
projection and the one of the other leg, mirrored at p_T^miss, meet in up to four points: the solutions. Where they do
not meet, the pair of points closest to p_T^miss is the best guess. Momenta (E, px, py, pz), GeV, float64.

Both questions are about a function of one angle, f(t), the squared length of A (cos t, sin t) + b. With A and b of the
map that carries one ellipse to the circle of the other, f = 1 where they meet; with A an ellipse and −b a point, f is a
squared distance. The extrema of f follow from a safe root search (``_extrema``). Between neighbours f is monotone, so
that every sign change of f − 1 is exactly one solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind import kinematics
from rewind.physics.constants import M_TOP, M_W
from rewind.physics.constraints import checked_dilepton_events, checked_masses, checked_momenta

__all__ = ["LegEllipse", "Solutions", "leg_ellipse", "solve"]

_TINY = 1e-150
_EDGE_ON = 1e-6  # ratio of axes below which a projected ellipse counts as a segment
_MEET = 1e-6  # GeV by which a solution may miss p_T^miss
_GRID = 48  # angles of the first ellipse from which the closest approach starts
_CHUNK = 4096  # events worked on at a time, to stay in the cache


@dataclass(frozen=True)
class LegEllipse:
    """Hold the neutrino momenta of one leg, ``H`` ``(B, 3, 3)`` times (cos t, sin t, 1), in GeV.

    The columns are the half-axes and the centre; all are NaN where ``is_real`` ``(B,)`` is false.
    """

    H: Tensor
    is_real: Tensor

    @property
    def H_perp(self) -> Tensor:
        """Return ``(B, 3, 3)``, the transverse ellipse: (cos t, sin t, 1) to (px, py, 1)."""
        last = torch.tensor([0.0, 0.0, 1.0]).to(self.H).expand(len(self.H), 1, 3)
        return torch.cat([self.H[:, :2], last], 1)

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
    events = checked_dilepton_events(lepton_plus, lepton_minus, bottom, antibottom, met, m_top=m_top, m_w=m_w)
    chunks = [_solve(*(x[i : i + _CHUNK] for x in events)) for i in range(0, max(len(events.met), 1), _CHUNK)]
    return Solutions(*map(torch.cat, zip(*chunks, strict=True)))


def _solve(leptons: Tensor, bottoms: Tensor, met: Tensor, m_top: Tensor, m_w: Tensor) -> tuple[Tensor, ...]:
    H, has_ellipse = _ellipses(leptons, bottoms, m_top, m_w)
    area = _det(H[..., :2, :2]).abs()
    swap = area[:, 0] > area[:, 1]  # the second ellipse is inverted: A is smallest with the larger one there
    H = torch.where(swap[:, None, None, None], H.flip(1), H)

    event, slot, t = _intersections(H, met)
    pairs = met.new_full((len(met), 4, 2, 3), math.nan)
    pairs[event, slot] = _points(H[event], t)

    closest, distance = pairs.new_full((len(met), 2, 3), math.nan), met.new_full((len(met),), math.nan)
    valid = ~pairs[..., 0, 0].isnan()
    missed = (has_ellipse.all(-1) & ~valid.any(-1)).nonzero()[:, 0]
    if len(missed):
        t, distance[missed] = _closest_approach(H[missed], met[missed])
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


def _det(P: Tensor) -> Tensor:
    return P[..., 0, 0] * P[..., 1, 1] - P[..., 0, 1] * P[..., 1, 0]


def _inverse(P: Tensor) -> Tensor:
    """Return the inverses of 2×2 matrices; singular ones get a little of their nearest rotation."""
    cofactor = torch.stack([P[:, 1].flip(-1), P[:, 0].flip(-1)], 1) * P.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
    near = P + torch.where(_det(P) < 0, -1.0, 1.0)[:, None, None] * cofactor
    flat = _det(P).abs() < _EDGE_ON * P.square().sum((1, 2))
    P = torch.where(flat[:, None, None], P + _EDGE_ON * near, P)
    adjugate = torch.stack([P[:, 1].flip(-1), P[:, 0].flip(-1)], 1).mT * P.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
    return adjugate / _det(P)[:, None, None]


def _trigonometric(A: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return p, q ``(..., 2)`` and k of |A (cos t, sin t) + b|² = p·(cos 2t, sin 2t) + q·(cos t, sin t) + k."""
    M = A.mT @ A
    p = torch.stack([(M[..., 0, 0] - M[..., 1, 1]) / 2, M[..., 0, 1]], -1)
    q = 2 * (A * b[..., :, None]).sum(-2)
    return p, q, (M[..., 0, 0] + M[..., 1, 1]) / 2 + b.square().sum(-1)


def _value(p: Tensor, q: Tensor, c: Tensor, s: Tensor) -> Tensor:
    return p[..., 0] * (c - s) * (c + s) + 2 * p[..., 1] * c * s + q[..., 0] * c + q[..., 1] * s


def _turned(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return φ, x, y: p·(cos 2t, sin 2t) + q·(cos t, sin t) is |p| (cos 2τ + 2x cos τ − 2y sin τ) with t = τ + φ."""
    turn = torch.atan2(p[..., 1], p[..., 0]) / 2
    size = 2 * torch.maximum(p.norm(dim=-1), 1e-15 * q.norm(dim=-1)).clip(_TINY)
    c, s = turn.cos(), turn.sin()
    return turn, (q[..., 0] * c + q[..., 1] * s) / size, (q[..., 0] * s - q[..., 1] * c) / size


def _secular(near: Tensor, far: Tensor, sign: float) -> Tensor:
    """Return the root δ > 0 of near²/δ² + far²/(2 ± δ)² = 1 next to its pole at zero.

    On its way down the left-hand side is convex, so that Newton steps from a lower bound approach the root from one
    side. Bounds are those of each term alone, and those of 1 − far²/(2 ± δ)² ≤ e + g δ. Where (sign −1) the left-hand
    side never falls to one, δ ends at its minimum.
    """
    near, far = near.abs().clip(_TINY), far.abs().clip(_TINY)
    g = (far / 2) ** 2
    e = (1 - far / 2) * (1 + far / 2)
    if sign > 0:
        limit = near.new_tensor(math.inf)
        start = torch.minimum(near / (2 * e.clip(0.0)).sqrt(), (near**2 / (2 * g)) ** (1 / 3))
        delta = torch.maximum(torch.maximum(near, far - 2), start)
    else:
        limit = 2 / (1 + (far / near) ** (2 / 3))
        delta = torch.minimum(torch.maximum(near, near / e.clip(0.0).sqrt()), limit)
    for _ in range(40):
        u, other = near / delta, 2 + sign * delta
        v = far / other
        slope = u * u / delta + sign * v * v / other
        step = ((u * u + v * v - 1) / (2 * slope)).clip(0.0).nan_to_num(0.0)
        new = torch.minimum(delta + step, limit)
        moved, delta = new - delta, new
        if not (moved > 1e-9 * delta).any():
            break
    return delta


def _minimum(p: Tensor, q: Tensor) -> Tensor:
    """Return the angle of the global minimum of p·(cos 2t, sin 2t) + q·(cos t, sin t)."""
    turn, x, y = _turned(p, q)
    delta = _secular(y, x, +1.0)
    return turn + torch.atan2(_ratio(y, delta), -x / (2 + delta))


def _ratio(near: Tensor, delta: Tensor) -> Tensor:
    """Return near/δ; next to zero a small number of that sign stands for one of the two mirrored extrema."""
    return torch.where(near.abs() < _TINY, near.sign().add(0.5).sign() * _TINY, near) / delta


def _extrema(p: Tensor, q: Tensor) -> Tensor:
    """Return four angles ``(..., 4)``, among them all extrema of p·(cos 2t, sin 2t) + q·(cos t, sin t).

    On the unit circle (u, v) and with a Lagrange multiplier λ, u = −x/(1 + λ) and v = −y/(1 − λ), so that
    x²/(1 + λ)² + y²/(1 − λ)² = 1: one λ on each side of [−1, 1], and two inside or none.
    """
    turn, x, y = _turned(p, q)
    outer, inner = (_secular(torch.stack([x, y]), torch.stack([y, x]), sign) for sign in (+1.0, -1.0))
    u = [_ratio(x, outer[0]), -x / (2 + outer[1]), -_ratio(x, inner[0]), -x / (2 - inner[1])]
    v = [-y / (2 + outer[0]), _ratio(y, outer[1]), -y / (2 - inner[0]), -_ratio(y, inner[1])]
    return turn[..., None] + torch.atan2(torch.stack(v, -1), torch.stack(u, -1))


def _intersections(H: Tensor, met: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return event ``(n,)``, slot ``(n,)`` and both angles ``(n, 2)`` of all n solutions."""
    to_angle = _inverse(H[:, 1, :2, :2])
    A = -to_angle @ H[:, 0, :2, :2]
    b = (to_angle @ (met - H[:, :, :2, 2].sum(1))[..., None])[..., 0]
    p, q, k = _trigonometric(A, b)
    edges = _extrema(p, q).remainder(2 * math.pi).sort(-1).values
    above = _value(p[:, None], q[:, None], edges.cos(), edges.sin()) + k[:, None] - 1
    event, slot = ((above > 0) != (above.roll(-1, -1) > 0)).nonzero(as_tuple=True)
    low, high = edges[event, slot], edges.roll(-1, -1)[event, slot]
    high = torch.where(slot == 3, high + 2 * math.pi, high)
    f_low, f_high = above[event, slot], above.roll(-1, -1)[event, slot]

    t = _monotone_root(p[event], q[event], k[event] - 1, low, high, f_low, f_high)
    circle = torch.stack([t.cos(), t.sin()], -1)
    other = (A[event] @ circle[..., None])[..., 0] + b[event]
    angles = torch.stack([t, torch.atan2(other[:, 1], other[:, 0])], -1)
    angles, miss = _polished(H[event, :, :2], met[event], angles)
    meet = miss < _MEET  # tangent ellipses that are seen edge-on can seem to
    return event[meet], slot[meet], angles[meet]


def _monotone_root(p: Tensor, q: Tensor, k: Tensor, low: Tensor, high: Tensor, f_low: Tensor, f_high: Tensor) -> Tensor:
    """Return the zero between ``low`` and ``high`` by Newton steps that fall back on bisection.

    Between two extrema f resembles half a wave; its zero is the start.
    """
    rising = f_high > f_low
    t = low + (high - low) / math.pi * ((f_low + f_high) / (f_high - f_low)).clip(-1, 1).arccos()
    for _ in range(60):
        c, s = t.cos(), t.sin()
        f = _value(p, q, c, s) + k
        slope = 2 * (p[:, 1] * (c - s) * (c + s) - 2 * p[:, 0] * c * s) + q[:, 1] * c - q[:, 0] * s
        below = (f < 0) == rising
        low, high = torch.where(below, t, low), torch.where(below, high, t)
        step = t - f / slope
        new = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        moved, t = (new - t).abs(), new
        if not (moved > 1e-9).any():
            break
    return t


def _residual(P: Tensor, met: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ν_T + ν̄_T − met, its Jacobian ``(..., 2, 2)`` by the angles, and the ellipses' offsets ``(..., 2, 2)``.

    ``P`` ``(..., 2, 2, 3)`` by leg, component and column. Jacobian and offsets are by component and leg.
    """
    c, s = t.cos()[..., None], t.sin()[..., None]
    arm = (c * P[..., 0] + s * P[..., 1]).mT
    return arm.sum(-1) + P[..., 2].sum(-2) - met, (c * P[..., 1] - s * P[..., 0]).mT, arm


def _polished(P: Tensor, met: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles ``(n, 2)`` after four Newton steps on ν_T + ν̄_T = met, taken only where they help, and what is
    still missing ``(n,)``.
    """
    r, J, _ = _residual(P, met, t)
    for _ in range(4):
        x = torch.stack([r[:, 0] * J[:, 1, 1] - r[:, 1] * J[:, 0, 1], r[:, 1] * J[:, 0, 0] - r[:, 0] * J[:, 1, 0]], -1)
        new = t - x / _det(J)[:, None]
        new_r, new_J, _ = _residual(P, met, new)
        better = new_r.norm(dim=-1) < r.norm(dim=-1)
        t, r = torch.where(better[:, None], new, t), torch.where(better[:, None], new_r, r)
        J = torch.where(better[:, None, None], new_J, J)
    return t, r.norm(dim=-1)


def _closest_approach(H: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles ``(B, 2)`` of the smallest |ν_T + ν̄_T − met|, and that distance ``(B,)``.

    On a grid of angles of the first ellipse the second angle is the global minimum; all local minima along the grid
    are refined in both angles and compared.
    """
    P = H[:, :, :2]
    grid = torch.arange(_GRID).to(met) * (2 * math.pi / _GRID)
    circle = torch.stack([grid.cos(), grid.sin(), torch.ones_like(grid)])
    b = (P[:, 0] @ circle).mT + (P[:, 1, :, 2] - met)[:, None]
    p, q, k = _trigonometric(P[:, None, 1, :, :2], b)
    other = _minimum(p, q)
    distance2 = _value(p, q, other.cos(), other.sin()) + k
    is_dip = (distance2 <= distance2.roll(1, -1)) & (distance2 <= distance2.roll(-1, -1))
    event, slot = is_dip.nonzero(as_tuple=True)
    t = torch.stack([grid[slot], other[event, slot]], -1)
    t, minima = _descend(P[event], met[event], t)
    angles, distance2 = t.new_zeros(*is_dip.shape, 2), torch.full_like(distance2, math.inf)
    angles[event, slot], distance2[event, slot] = t, minima
    least, best = distance2.min(-1)
    return angles[torch.arange(len(met)), best], least.sqrt()


def _descend(P: Tensor, met: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the local minima of |r|², r = ν_T + ν̄_T − met, near the angles ``t``, and |r|² there.

    Newton steps, with the Hessian shifted to be positive and damped until they descend.
    """
    r, J, arm = _residual(P, met, t)
    F = r.square().sum(-1)
    damping = torch.full_like(F, 1e-3)
    for _ in range(25):
        g = (r[..., None] * J).sum(-2)
        bend = J.square().sum(-2) - (r[..., None] * arm).sum(-2)
        mixed = (J[..., 0] * J[..., 1]).sum(-1)
        size = J.square().sum((-2, -1)) + F
        lowest = bend.mean(-1) - torch.hypot((bend[..., 0] - bend[..., 1]) / 2, mixed)
        shift = (-2 * lowest).clip(0.0) + damping * size
        h0, h1 = bend[..., 0] + shift, bend[..., 1] + shift
        step = torch.stack([g[..., 0] * h1 - g[..., 1] * mixed, g[..., 1] * h0 - g[..., 0] * mixed], -1)
        step = step / (h0 * h1 - mixed**2)[..., None]
        new = t - step
        new_r, new_J, new_arm = _residual(P, met, new)
        new_F = new_r.square().sum(-1)
        better = new_F < F
        t, r, F = torch.where(better[..., None], new, t), torch.where(better[..., None], new_r, r), new_F.minimum(F)
        J, arm = (torch.where(better[..., None, None], *x) for x in ((new_J, J), (new_arm, arm)))
        damping = torch.where(better, damping * 0.03, damping * 10)
        if not (step.abs() > 1e-8).any():
            break
    return t, F
