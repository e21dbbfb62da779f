"""What neutrinos make of an event: W bosons, tops and their masses, by the names under which they are compared.

Neutrinos are ``(B, L, 3)``, or ``(B, n, L, 3)`` for n draws an event, by the legs of an
``EventBatch``; NaN where a method has no solution. Momenta (E, px, py, pz), GeV.

>>> m_tt(torch.tensor([[300.0, 0.0, 0.0, 240.0], [300.0, 0.0, 0.0, -240.0]])).item()
600.0
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical.jet_scale import leg_jets

__all__ = ["delta_phi_ll", "m_tt", "pinned", "quantities", "tops", "true_quantities", "w_bosons"]


def w_bosons(data: EventBatch, neutrinos: Tensor) -> Tensor:
    """Return ℓ + ν of each leg with a lepton, ``(B, L, 4)`` or ``(B, n, L, 4)``."""
    if neutrinos.ndim not in (3, 4) or neutrinos.shape[:1] + neutrinos.shape[-2:] != (len(data), data.n_legs, 3):
        raise InputError(
            f"neutrinos of shape {tuple(neutrinos.shape)}: ({len(data)}, {data.n_legs}, 3), or with an axis of draws "
            f"({len(data)}, n, {data.n_legs}, 3), are expected"
        )
    return kinematics.massless(neutrinos) + _beside(data.leptons, neutrinos)


def _beside(values: Tensor, neutrinos: Tensor) -> Tensor:
    return values if neutrinos.ndim == 3 else values[:, None]


def tops(data: EventBatch, neutrinos: Tensor, pairing: Tensor) -> Tensor:
    """Return b + ℓ + ν of each leg with a lepton, ``(B, L, 4)`` or ``(B, n, L, 4)``.

    ``pairing`` ``(B, 2)`` names the jets; NaN where it is −1 and where a neutrino is NaN.
    """
    w = w_bosons(data, neutrinos)
    return w + _beside(leg_jets(data, pairing)[:, : data.n_legs], neutrinos)


def m_tt(both_tops: Tensor) -> Tensor:
    """Return the mass ``(...)`` of two tops ``(..., 2, 4)``."""
    if both_tops.shape[-2:] != (2, 4):
        raise InputError(f"tops of shape {tuple(both_tops.shape)}: two of them, (..., 2, 4), are expected")
    return kinematics.mass(both_tops.sum(-2))


def delta_phi_ll(leptons: Tensor) -> Tensor:
    """Return the azimuth ``(B,)`` between two leptons ``(B, 2, 4)`` in [0, π], measured or true ones."""
    if leptons.shape[1:] != (2, 4):
        raise InputError(f"leptons of shape {tuple(leptons.shape)}: two of them, (B, 2, 4), are expected")
    azimuth = kinematics.phi(leptons)
    return kinematics.delta_phi(azimuth[:, 0], azimuth[:, 1]).abs()


def quantities(data: EventBatch, neutrinos: Tensor, pairing: Tensor) -> dict[str, Tensor]:
    """Return what is compared, by name, of neutrinos ``(B, L, 3)`` or of draws ``(B, n, L, 3)``.

    ``px``, ``py``, ``pz`` of the neutrinos ``(B, L)`` or ``(B, n, L)``; ``pt_top`` of the first leg and, with two
    leptons, ``m_tt``, both ``(B,)`` or ``(B, n)``. The tops are built from the jets of ``data``: give it with
    corrected ones.
    """
    built = tops(data, neutrinos, pairing)
    values = _components(neutrinos) | {"pt_top": kinematics.pt(built[..., 0, :])}
    return values | ({"m_tt": m_tt(built)} if data.n_legs == 2 else {})


def true_quantities(data: EventBatch) -> dict[str, Tensor]:
    """Return the truth of :func:`quantities`; without those of tops where not all are known."""
    truth = data.require_truth("neutrinos")
    values, known = _components(truth.neutrinos), truth.is_known("tops")
    if known is None or not known.all():
        return values
    values["pt_top"] = kinematics.pt(truth.tops[:, 0])
    return values | ({"m_tt": m_tt(truth.tops)} if data.n_legs == 2 else {})


def _components(neutrinos: Tensor) -> dict[str, Tensor]:
    return dict(zip(("px", "py", "pz"), neutrinos.unbind(-1), strict=True))


def pinned(data: EventBatch, neutrinos: Tensor) -> Tensor:
    """Return what the calibration of a posterior is tested on: ``(B, [n,] 3 L + 2 + L)``.

    The components of all neutrinos, and what the data pin down: the sums of transverse momenta and the W masses.
    """
    sums = neutrinos[..., :2].sum(-2)
    return torch.cat([neutrinos.flatten(-2), sums, kinematics.mass(w_bosons(data, neutrinos))], -1)
