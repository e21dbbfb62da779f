"""Up to four solutions, one truth: how probability divides among the analytic solutions of an event.

Every pair of neutrinos belongs to the solution nearest to it, so that the solutions cut the space of momenta into
cells. The cells depend on what was measured alone. Hence, if a posterior is calibrated, the share of its draws in a
cell is the calibrated probability that the truth lies there, whatever the metric. Momenta (E, px, py, pz), GeV; legs
as in ``EventBatch``.

>>> valid = torch.tensor([[True, True, False, False]])
>>> normalized(torch.tensor([[2.0, 2.0, 9.0, 9.0]]), valid).tolist()
[[0.5, 0.5, 0.0, 0.0]]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical import ellipse, jet_scale
from rewind.physics.constants import SQRT_S

__all__ = [
    "Candidates",
    "candidates",
    "coarea_log_weights",
    "features",
    "fit_prior",
    "log_score",
    "nearest",
    "normalized",
    "resolution",
    "shares",
]

_TINY = 1e-12  # of the determinant's natural size, where solutions merge
_BEAM = SQRT_S / 2


class Candidates(NamedTuple):
    """Hold the solutions of those events that have some.

    ``event`` ``(B,)`` are their positions among all events, ``leptons, bottoms`` ``(B, 2, 4)`` what was solved,
    ``solutions`` ``(B, 4, 2, 3)`` both neutrinos together, by rising m_tt and zero where there is none, ``valid``
    ``(B, 4)`` which exist.
    """

    event: Tensor
    leptons: Tensor
    bottoms: Tensor
    solutions: Tensor
    valid: Tensor


def candidates(data: EventBatch, pairing: Tensor) -> Candidates:
    """Return the solutions of the ellipses for a ``pairing`` ``(B, 2)``, −1 where an event is to be left out.

    ``data`` is best given with corrected jets.
    """
    event = (pairing >= 0).all(1).nonzero()[:, 0]
    leptons, bottoms = data.leptons[event], jet_scale.leg_jets(data, pairing)[event]
    exact = ellipse.solve(*leptons.unbind(1), *bottoms.unbind(1), data.met[event])
    together = torch.stack([exact.neutrino, exact.antineutrino], 2)
    solutions = torch.where(exact.valid[..., None, None], together, 0.0)
    some = exact.is_solved
    return Candidates(event[some], leptons[some], bottoms[some], solutions[some], exact.valid[some])


def resolution(draws: Tensor) -> Tensor:
    """Return half the 68 % width ``(3,)`` of posteriors about their medians, by component; ``draws`` ``(B, n, 2, 3)``.

    It needs no truth.
    """
    deviation = (draws - draws.median(1, keepdim=True).values).flatten(0, 2).numpy()
    low, high = np.quantile(deviation, (0.16, 0.84), axis=0)
    return torch.as_tensor((high - low) / 2)


def nearest(points: Tensor, solutions: Tensor, valid: Tensor, scale: Tensor) -> Tensor:
    """Return the solution nearest to each of ``points`` ``(B, n, 2, 3)``, ``(B, n)``; −1 where an event has none.

    ``solutions`` ``(B, S, 2, 3)`` where ``valid`` ``(B, S)``; distances are those of all six components in units of
    ``scale`` ``(3,)``. Raises InputError for other shapes and scales that are not positive.
    """
    fits = points.ndim == 4 and points.shape[2:] == (2, 3) == solutions.shape[2:]
    if not fits or solutions.shape[:2] != valid.shape or len(points) != len(valid):
        raise InputError(
            f"points {tuple(points.shape)}, solutions {tuple(solutions.shape)}, valid {tuple(valid.shape)}: expected "
            "(B, n, 2, 3), (B, S, 2, 3), (B, S)"
        )
    if not (scale > 0).all():
        raise InputError(f"scale {scale.tolist()}: positive numbers are needed")
    away = ((points[:, :, None] - solutions[:, None]) / scale).square().sum((-1, -2))
    index = away.masked_fill(~valid[:, None], torch.inf).argmin(2)
    return index.masked_fill(~valid.any(1)[:, None], -1)


def shares(draws: Tensor, solutions: Tensor, valid: Tensor, scale: Tensor, *, pseudo: float = 0.0) -> Tensor:
    """Return the share ``(B, S)`` of an event's draws that are nearest to each solution, 0 where there is none.

    ``pseudo`` draws are added to every solution that exists: a share of zero out of n draws is not a probability of
    zero. Arguments and errors are those of :func:`nearest`.
    """
    index = nearest(draws, solutions, valid, scale)
    counts = (index[..., None] == torch.arange(solutions.shape[1])).sum(1) + pseudo * valid
    total = counts.sum(1, keepdim=True)
    return counts / torch.where(total > 0, total, 1)


def normalized(log_weights: Tensor, valid: Tensor) -> Tensor:
    """Return probabilities ``(B, S)`` proportional to exp(log weight) of solutions that exist, 0 elsewhere."""
    masked = log_weights.masked_fill(~valid, -torch.inf)
    return torch.where(valid.any(1, keepdim=True), masked.softmax(1), 0.0)


def coarea_log_weights(leptons: Tensor, bottoms: Tensor, solutions: Tensor, valid: Tensor) -> Tensor:
    """Return −log det J − log(E_ν E_ν̄) ``(B, S)``: what six exact equations and phase space alone say.

    det J is the modulus of a determinant, and J ``(6, 6)`` holds the derivatives of both m_W², both m_t² and the
    transverse sum by the six momenta; by the co-area formula a solution counts the more, the slower the equations
    change there. The energies are those of the invariant measure d³ν/2E. ``leptons, bottoms`` ``(B, 2, 4)``,
    ``solutions`` ``(B, S, 2, 3)``. Where two solutions merge, det J is cut off from below.
    """
    rows = []
    for visible in (leptons, leptons + bottoms):
        direction = torch.nn.functional.normalize(solutions, dim=-1)
        rows.append(2 * (visible[:, None, :, :1] * direction - visible[:, None, :, 1:]))
    gradient = torch.stack(rows, -2)  # (B, S, leg, mass, 3)
    J = solutions.new_zeros(*solutions.shape[:2], 6, 6)
    J[..., :2, :3], J[..., 2:4, 3:] = gradient[:, :, 0], gradient[:, :, 1]
    for axis in (0, 1):
        J[..., 4 + axis, axis] = J[..., 4 + axis, 3 + axis] = 1.0
    size = gradient.norm(dim=-1).prod(-1).prod(-1)
    det = torch.linalg.det(J).abs().maximum(_TINY * size)
    energies = solutions.norm(dim=-1).prod(-1)
    return torch.where(valid, -det.log() - energies.log(), 0.0)


def features(leptons: Tensor, bottoms: Tensor, solutions: Tensor, valid: Tensor) -> Tensor:
    """Return four features of each solution ``(B, S, 4)``, 0 where there is none, that a prior can weigh.

    The co-area weight of :func:`coarea_log_weights`; log m_tt; the logarithms of both energies' product; and
    log(1 − x₁)(1 − x₂) of the momentum fractions that the two tops take from the protons.
    """
    tops = (kinematics.massless(solutions) + (leptons + bottoms)[:, None]).sum(2)
    mass = kinematics.mass(tops).clip(1.0).log()
    light = torch.stack([tops[..., 0] + tops[..., 3], tops[..., 0] - tops[..., 3]], -1) / (2 * _BEAM)
    left = (1 - light).clip(1e-6).log().sum(-1)
    energies = solutions.norm(dim=-1).clip(1e-9).prod(-1).log()
    weight = coarea_log_weights(leptons, bottoms, solutions, valid)
    return torch.where(valid[..., None], torch.stack([weight, mass, energies, left], -1), 0.0)


def fit_prior(x: Tensor, valid: Tensor, right: Tensor) -> Tensor:
    """Return coefficients ``(F,)`` for which exp(x·c) best predicts which solution is the right one.

    A conditional logit: ``x`` ``(B, S, F)`` are features of the solutions that are ``valid`` ``(B, S)``, ``right``
    ``(B,)`` is the index of the one nearest to the truth. It maximises the mean logarithm of the probability of the
    right one, with a weak pull to zero. Raises InputError where a right solution is not valid.
    """
    from scipy.optimize import minimize  # takes half a second

    if not valid.gather(1, right.clip(0)[:, None])[:, 0].all() or (right < 0).any():
        raise InputError("right: the index of a solution that exists is needed for every event")
    x = x.double()
    spread = x[valid].std(0).clip(1e-9)
    scaled = x / spread

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        c = torch.tensor(coefficients, requires_grad=True)
        log_p = (scaled @ c).masked_fill(~valid, -torch.inf).log_softmax(1)
        value = 1e-4 * c.square().sum() - log_p.gather(1, right[:, None]).mean()
        value.backward()
        return value.item(), c.grad.numpy()

    best = minimize(loss, np.zeros(x.shape[2]), jac=True, method="BFGS")
    return torch.tensor(best.x) / spread


def log_score(probabilities: Tensor, valid: Tensor, right: Tensor) -> Tensor:
    """Return log p(right) + log S ``(B,)`` for S solutions: nats gained over giving all solutions the same weight."""
    chosen = probabilities.gather(1, right[:, None])[:, 0]
    return chosen.log() + valid.sum(1).log()
