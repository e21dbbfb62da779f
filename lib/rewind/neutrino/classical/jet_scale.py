"""The energy scale of b-jets: what a jet lost of its quark, on average, and what p_T^miss lost with it.

Neutrinos in b hadrons, radiation out of the cone and the detector leave a jet softer than the b quark of its top. The
mass constraints of the classical methods hold for the quark: they are at their best with corrected jets. Momenta
(E, px, py, pz), GeV.

>>> scale = JetScale(constant=1.05, slope=8.0, met_share=0.5, sigma_constant=0.1, sigma_slope=1.0)
>>> round(scale.factor(torch.tensor([50.0, 40.0, 0.0, 30.0])).item(), 3)
1.25
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import EventBatch

__all__ = ["JetScale", "fit", "leg_jets"]

_FEWEST = 100
_SIGMA = 1.4826  # of a normal distribution, in units of its median absolute deviation


@dataclass(frozen=True)
class JetScale:
    """Hold the b-jets' correction c(pT) = ``constant`` + ``slope``/pT, ``slope`` in GeV, for raw pT.

    ``met_share`` is the share of the correction that p_T^miss lacks: the rest was seen outside the jet. The relative
    resolution of corrected jets is σ(pT) = ``sigma_constant`` + ``sigma_slope``/pT, for raw pT as well.
    """

    constant: float
    slope: float
    met_share: float
    sigma_constant: float
    sigma_slope: float

    def factor(self, jets: Tensor) -> Tensor:
        """Return c(pT) ``(...)`` of raw ``jets`` ``(..., 4)``; 1 for absent ones, whose momentum is zero."""
        pt = kinematics.pt(jets)
        return torch.where(pt > 0, self.constant + self.slope / pt, torch.ones_like(pt))

    def apply(self, data: EventBatch) -> EventBatch:
        """Return ``data`` with b-tagged jets scaled by c(pT), once; p_T^miss recoils by ``met_share`` of the change.

        The order of the jets stays, so that positions keep their meaning.
        """
        tagged = data.btag & data.jet_mask
        factor = torch.where(tagged, self.factor(data.jets), torch.ones_like(data.jets[..., 0]))
        jets = factor[..., None] * data.jets
        change = (jets - data.jets)[..., 1:3].sum(1)
        return replace(data, jets=jets, met=data.met - self.met_share * change)


def leg_jets(data: EventBatch, pairing: Tensor) -> Tensor:
    """Return the four-momenta ``(B, 2, 4)`` of the jets of each leg, NaN where ``pairing`` ``(B, 2)`` is −1.

    Raises InputError for another shape and for positions that do not exist.
    """
    if pairing.shape != (len(data), 2):
        raise InputError(f"pairing of shape {tuple(pairing.shape)}: two jets an event, ({len(data)}, 2), are expected")
    if (pairing >= data.jets.shape[1]).any():
        raise InputError(
            f"pairing: position {int(pairing.max())}, but events have places for {data.jets.shape[1]} jets"
        )
    chosen = data.jets.gather(1, pairing.clip(0)[..., None].expand(-1, -1, 4))
    return torch.where((pairing >= 0)[..., None], chosen, torch.nan)


def fit(data: EventBatch) -> JetScale:
    """Return the scale of training events with truth, from the tagged jets that match the b of a leg with a lepton.

    The quark's momentum is that of top − ν − ℓ. Each line in 1/pT is a conditional median: it minimises the mean
    absolute deviation, of p_T(quark)/p_T(jet) for the scale, of the modulus of p_T(quark)/p_T(corrected jet) − 1 for
    the resolution (scaled to that of a normal distribution); ``met_share`` does so for Σ p_T(ν) − p_T^miss. Raises
    InputError for fewer than 100 matched events with true tops, and for negative weights.
    """
    truth = data.require_truth("neutrinos")
    tops = truth.is_known("tops")
    data = data[data.matched & (False if tops is None else tops)]
    if len(data) < _FEWEST:
        raise InputError(f"jet scale: {len(data)} matched events with true tops; at least {_FEWEST} are needed")
    data.refuse({"the weight is negative, which a median cannot weigh": data.weight < 0})
    truth, jets = data.truth, leg_jets(data, data.truth.b_jets)[:, : data.n_legs]
    quark = truth.tops[:, : data.n_legs, 1:] - truth.neutrinos - data.leptons[..., 1:]
    pt, ratio = kinematics.pt(jets), torch.hypot(quark[..., 0], quark[..., 1]) / kinematics.pt(jets)
    weight = data.weight[:, None].expand_as(pt)
    constant, slope = _median_line(1 / pt, ratio, weight, start=(1.0, 10.0))
    deviation = (ratio / (constant + slope / pt) - 1).abs()
    sigmas = _median_line(1 / pt, deviation, weight, start=(0.1, 1.0))
    sigma_constant, sigma_slope = (_SIGMA * value for value in sigmas)

    scale = JetScale(constant, slope, 1.0, sigma_constant, sigma_slope)
    change = scale.apply(data).met - data.met
    missing = truth.neutrinos[..., :2].sum(1) - data.met
    return replace(scale, met_share=_median_slope(change, missing, data.weight[:, None].expand_as(change)))


def _median_line(x: Tensor, y: Tensor, weight: Tensor, start: tuple[float, float]) -> tuple[float, float]:
    """Return a, b that minimise the weighted mean of |y − a − b x|."""
    from scipy.optimize import minimize  # takes half a second

    x, y, weight = (values.flatten().numpy() for values in (x, y, weight))

    def loss(line: NDArray[np.float64]) -> float:
        return float(np.average(np.abs(y - line[0] - line[1] * x), weights=weight))

    least = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9, "maxiter": 2000})
    return float(least.x[0]), float(least.x[1])


def _median_slope(x: Tensor, y: Tensor, weight: Tensor) -> float:
    """Return the b that minimises the weighted mean of |y − b x|: the median of y/x, weighted by ``|x|`` as well."""
    x, y, weight = (values.flatten().numpy() for values in (x, y, weight))
    some = (x != 0) & (weight > 0)
    x, y, weight = x[some], y[some], weight[some]
    return float(np.quantile(y / x, 0.5, weights=weight * np.abs(x), method="inverted_cdf"))
