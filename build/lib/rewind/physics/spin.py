"""Spin correlations of top quark pairs: measured with their leptons, and predicted at leading order.

Axes: k along the top in the tt̄ rest frame, n across the plane of beam and top, r in that plane (1508.05271). Leptons
fly along the spin of the top and against that of the antitop, C_ij = −9 ⟨ℓ⁺_i ℓ⁻_j⟩ (2003.02280). Experiments use
axes for the antitop that are reversed: their coefficients are −C_ij, their D = tr C/3 is the same.

>>> threshold = leading_order_correlation(torch.tensor([0.0]), torch.tensor([0.3]))
>>> threshold[0, 0].tolist()
[-1.0, -1.0, -1.0]
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.constraints import refuse

__all__ = ["leading_order_correlation", "lepton_directions", "opening_cosine"]


def lepton_directions(top: Tensor, antitop: Tensor, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor]:
    """Return the directions ``(B, 3)`` of ℓ⁺ and ℓ⁻, each in the rest frame of its top, along the axes k, r, n.

    All are four-momenta ``(B, 4)`` in the laboratory, in GeV; a top's rest frame is reached through that of the pair.
    Raises InputError where numbers are not finite.
    """
    momenta = torch.stack([top, antitop, plus, minus], 1).double()
    refuse(~momenta.isfinite(), "momenta", "is not finite")
    top, antitop, plus, minus = kinematics.to_rest(momenta, momenta[:, :2].sum(1, keepdim=True)).unbind(1)
    k = top[:, 1:] / top[:, 1:].norm(dim=1, keepdim=True)
    beam = k.new_tensor([0.0, 0.0, 1.0]).expand_as(k)
    cosine = k[:, 2:]
    scale = torch.where(cosine < 0, -1.0, 1.0) / (1 - cosine**2).clip(1e-30).sqrt()
    axes = torch.stack([k, scale * (beam - cosine * k), scale * torch.linalg.cross(beam, k)], 1)
    p = kinematics.to_rest(torch.stack([plus, minus], 1), torch.stack([top, antitop], 1))[..., 1:]
    plus, minus = torch.einsum("bij,bnj->nbi", axes, p / p.norm(dim=-1, keepdim=True))
    return plus, minus


def opening_cosine(top: Tensor, antitop: Tensor, plus: Tensor, minus: Tensor) -> Tensor:
    """Return cos φ ``(B,)`` between both leptons, each in its top's rest frame: (1 − D cos φ)/2 is its density.

    Arguments as for `lepton_directions`; D = −3 ⟨cos φ⟩.
    """
    one, two = lepton_directions(top, antitop, plus, minus)
    return (one * two).sum(1)


def leading_order_correlation(beta: Tensor, cosine: Tensor) -> Tensor:
    """Return C_kk, C_rr and C_nn ``(B, 2, 3)`` of top pairs from two gluons and from q q̄ at leading order.

    ``beta`` is the velocity of the tops and ``cosine`` that of their angle to the beam, both ``(B,)``, in the pair's
    rest frame (2003.02280, appendix). Raises InputError for a velocity outside [0, 1) and a cosine outside [−1, 1].
    """
    beta, cosine = (torch.as_tensor(value, dtype=torch.float64) for value in (beta, cosine))
    if not ((beta >= 0) & (beta < 1)).all() or not (cosine.abs() <= 1).all():
        raise InputError("beta, cosine: the first must lie in [0, 1), the second in [−1, 1]")
    b2, s2 = beta**2, 1 - cosine**2
    b4, s4 = b2**2, s2**2
    gluons = (
        torch.stack(
            [
                -1 + 2 * b2 * s2 * cosine**2 + b4 * (1 + s4),
                -1 + b2 * (2 - b2) * (1 + s4),
                -1 + 2 * b2 - b4 * (1 + s4),
            ],
            -1,
        )
        / (1 + 2 * b2 * s2 - b4 * (1 + s4))[..., None]
    )
    quarks = torch.stack([2 * cosine**2 + b2 * s2, (2 - b2) * s2, -b2 * s2], -1) / (2 - b2 * s2)[..., None]
    return torch.stack([gluons, quarks], -2)
