"""Transfer functions: the density of a measured energy given a parton's, fitted to simulation by maximum likelihood.

>>> parameters = torch.tensor([0.65, 0.0, 1.0, 0.0, 1.0, 5.0, 0.0, 0.9, 0.1, 1.5, 0.0]).double()
>>> function = DoubleGaussian(parameters, torch.eye(11).double(), (30.0, 500.0))
>>> measured = torch.linspace(0.0, 400.0, 4001).double()
>>> density = function.log_prob(measured, torch.full_like(measured, 100.0)).exp()
>>> round(float(density.sum() * 0.1), 3)
1.0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from iminuit import Minuit
from torch import Tensor
from torch.distributions import Normal

from rewind.errors import InputError
from rewind.physics.constraints import refuse, relative_weights
from rewind.random_numbers import optional_generator

__all__ = ["DoubleGaussian", "fit"]

_NAMES = ("fraction", "a", "b", "p0", "p1", "p2", "wide_a", "wide_b", "wide_p0", "wide_p1", "wide_p2")
_LIMITS = {
    "fraction": (0.05, 0.95),
    **{name: (0.0, None) for name in _NAMES if "p" in name},
    **{name: (-30.0, 30.0) for name in ("a", "wide_a")},  # else a component hides below the threshold
    **{name: (0.5, 1.5) for name in ("b", "wide_b")},
}
_MIN_EVENTS = 200


@dataclass(frozen=True)
class DoubleGaussian:
    """Hold W(E' | E) = f N(a + bE, σ) + (1 − f) N(a' + b'E, σ'), σ = √(p0² E² + p1² E + p2²), in GeV.

    ``parameters`` ``(11,)`` in the order f, a, b, p0, p1, p2, then those of the second Gaussian; ``covariance`` as
    the fit left it; ``energy_range`` where it was fitted: beyond it every method raises InputError. The form is that of
    ttH(bb) matrix element analyses at the LHC.
    """

    parameters: Tensor
    covariance: Tensor
    energy_range: tuple[float, float]

    def to_dict(self) -> dict[str, list]:
        """Return parameters, covariance and range as plain numbers, for checkpoints."""
        return {
            "parameters": self.parameters.tolist(),
            "covariance": self.covariance.tolist(),
            "energy_range": list(self.energy_range),
        }

    @classmethod
    def from_dict(cls, values: dict[str, list]) -> DoubleGaussian:
        """Return the function that :meth:`to_dict` wrote."""
        tensors = (torch.tensor(values[name], dtype=torch.float64) for name in ("parameters", "covariance"))
        return cls(*tensors, tuple(values["energy_range"]))

    def log_prob(self, measured: Tensor, energy: Tensor, *, least: Tensor | float | None = None) -> Tensor:
        """Return ln W ``(B,)`` of ``measured`` energies given partons' ``energy``, both ``(B,)`` in GeV.

        With ``least``, among measured energies above it: W over `survival`.
        """
        self._check(energy)
        density = _log_density(self.parameters, measured, energy)
        return density if least is None else density - self.survival(least, energy).log()

    def survival(self, least: Tensor | float, energy: Tensor) -> Tensor:
        """Return the probability ``(B,)`` of a measured energy above ``least``: the energy's part of acceptance."""
        self._check(energy)
        return _survival(self.parameters, torch.as_tensor(least, dtype=energy.dtype), energy)

    def sample(self, energy: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return one measured energy ``(B,)`` for each parton; without a generator, from torch's global one."""
        self._check(energy)
        generator = optional_generator(generator)
        fraction, *gaussians = _components(self.parameters, energy)
        first = torch.rand(energy.shape, generator=generator, dtype=energy.dtype) < fraction
        mean, sigma = (torch.where(first, *pair) for pair in zip(*gaussians, strict=True))
        return mean + sigma * torch.randn(energy.shape, generator=generator, dtype=energy.dtype)

    def covers(self, energy: Tensor) -> Tensor:
        """Return which of partons' energies ``(...)`` lie where the function was fitted."""
        low, high = self.energy_range
        return (energy >= low) & (energy <= high)

    def _check(self, energy: Tensor) -> None:
        low, high = self.energy_range
        refuse(~self.covers(energy), "energy", f"is outside the fitted range, {low:g} to {high:g} GeV")


def _components(parameters: Tensor, energy: Tensor):
    """Return the first Gaussian's fraction, and mean and width ``(B,)`` of each."""
    fraction, *rest = parameters.to(energy).unbind()
    gaussians = []
    for a, b, p0, p1, p2 in (rest[:5], rest[5:]):
        gaussians.append((a + b * energy, (p0**2 * energy**2 + p1**2 * energy + p2**2 + 1e-6).sqrt()))
    return fraction, *gaussians


def _log_density(parameters: Tensor, measured: Tensor, energy: Tensor) -> Tensor:
    fraction, one, two = _components(parameters, energy)
    parts = [Normal(*gaussian).log_prob(measured) for gaussian in (one, two)]
    return torch.logaddexp(fraction.log() + parts[0], torch.log1p(-fraction) + parts[1])


def _survival(parameters: Tensor, least: Tensor, energy: Tensor) -> Tensor:
    fraction, *gaussians = _components(parameters, energy)
    above = [torch.special.ndtr((mean - least) / sigma) for mean, sigma in gaussians]
    return (fraction * above[0] + (1 - fraction) * above[1]).clip(1e-300)


def fit(
    measured: Tensor, energy: Tensor, *, least: Tensor | float = 0.0, weights: Tensor | None = None
) -> DoubleGaussian:
    """Return the maximum-likelihood fit to pairs of ``measured`` and partons' ``energy``, both ``(B,)``, GeV.

    Measured energies below ``least`` ``(B,)`` or a number, such as p_T cuts times cosh η, are missing from the sample,
    and the likelihood is normalised without them. By Minuit with gradients from torch. ``weights`` ``(B,)`` count
    relative to their mean, also in the covariance. Raises InputError for fewer than 200 pairs, numbers that are not
    finite, measured energies below ``least``, weights of a sum that is not positive, and where the fit does not
    converge.
    """
    measured, energy = (torch.as_tensor(values, dtype=torch.float64) for values in (measured, energy))
    least = torch.as_tensor(least, dtype=torch.float64).expand_as(energy)
    if measured.shape != energy.shape or measured.ndim != 1 or len(measured) < _MIN_EVENTS:
        raise InputError(
            f"measured, energy: shapes {tuple(measured.shape)}, {tuple(energy.shape)}; (n,), n ≥ {_MIN_EVENTS}"
        )
    refuse(~(measured.isfinite() & energy.isfinite() & (energy > 0)), "energy", "is not finite and positive")
    refuse(measured < least, "measured", "is below the least energy that is measured")
    weights = relative_weights(weights, len(energy))

    def loss(values: Tensor) -> Tensor:
        density = _log_density(values, measured, energy) - _survival(values, least, energy).log()
        return -(weights * density).sum()

    def value(*numbers: float) -> float:
        return float(loss(torch.tensor(numbers, dtype=torch.float64)))

    def gradient(*numbers: float) -> np.ndarray:
        values = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
        (slopes,) = torch.autograd.grad(loss(values), values)
        return slopes.numpy()

    minuit = Minuit(value, *_start(measured, energy), name=_NAMES, grad=gradient)
    minuit.errordef = Minuit.LIKELIHOOD
    for name, limits in _LIMITS.items():
        minuit.limits[name] = limits
    minuit.strategy = 1
    minuit.migrad(ncall=20_000)
    if not minuit.valid:
        minuit.simplex(ncall=5_000).migrad(ncall=20_000)
    if not minuit.valid:
        raise InputError(
            f"fit: no minimum found for {len(measured)} pairs ({minuit.fmin.edm:.2g} from one); use more pairs"
        )
    return DoubleGaussian(
        torch.tensor(minuit.values, dtype=torch.float64),
        torch.from_numpy(np.array(minuit.covariance)),
        (float(energy.min()), float(energy.max())),
    )


def _start(measured: Tensor, energy: Tensor) -> list[float]:
    """Return where the fit starts: a core and a wider, lower Gaussian of the measured over the true energy."""
    ratio = (measured / energy).sort().values
    low, middle, high = (float(ratio[int(q * (len(ratio) - 1))]) for q in (0.16, 0.5, 0.84))
    width = (high - low) / 2
    noise = width * float(energy.median()) ** 0.5
    return [0.65, 0.0, middle + 0.2 * width, width / 3, noise / 2, 5.0, 0.0, middle - width, width, noise, 5.0]
