"""The simplest way to name jets: a χ² of invariant masses, for hypotheses of `rewind.mem.detector_model.TTH`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.mem.detector_model import TTH, split

__all__ = ["MassFit", "fit"]

_TAIL, _FEWEST = 0.02, 50


@dataclass(frozen=True)
class MassFit:
    """Hold mean ``(4,)`` and inverse covariance ``(4, 4)`` of ln m of qq, qqb, bb and ℓb, jets rightly named."""

    mean: Tensor
    inverse: Tensor

    def probabilities(self, rows: Tensor) -> Tensor:
        """Return exp(−χ²/2) ``(B, H)`` of events' hypotheses ``(B, H, R)``, normalised."""
        away = _log_masses(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]) - self.mean
        return (-((away @ self.inverse) * away).sum(2) / 2).softmax(1)


def fit(row: Tensor) -> MassFit:
    """Return the fit to rows ``(B, R)`` under the true hypothesis, without 2 % on either side of each mass.

    Raises InputError for fewer than 50 events.
    """
    if len(row) < _FEWEST:
        raise InputError(f"{len(row)} events: at least {_FEWEST} are needed for a covariance of four masses")
    values = _log_masses(row)
    low, high = values.quantile(torch.tensor([_TAIL, 1 - _TAIL]).to(values), dim=0)
    values = values[((values > low) & (values < high)).all(1)]
    return MassFit(values.mean(0), torch.linalg.inv(torch.cov(values.T)))


def _log_masses(row: Tensor) -> Tensor:
    event = split(row, TTH)
    w, b = event.lights.sum(1), event.bottoms
    systems = (w, w + b[:, 1], b[:, 2:].sum(1), event.leptons[:, 0] + b[:, 0])
    return torch.stack([kinematics.mass(p).clip(1.0).log() for p in systems], 1)
