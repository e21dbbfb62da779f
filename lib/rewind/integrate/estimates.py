"""What the weights of a Monte Carlo integral tell: its value, the sampler's quality, whether to trust the error.

>>> largest_weight(torch.tensor([1.0, 2.0, 4.0]))
4.0
>>> round(unweighting_efficiency(torch.tensor([1.0, 2.0, 4.0])), 3)
0.583
>>> f"{summarize(torch.tensor([1.0, 2.0, 4.0])):.2f}"
'2.33 ± 0.88'
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.stats import Estimate, effective_sample_size

__all__ = ["Integral", "largest_weight", "pareto_shape", "summarize", "unweighting_efficiency"]

_MAX_SHAPE = 0.7  # of 1507.02646, beyond it neither mean nor error converge at a useful rate
_MAX_SHARE = 0.1  # of the sum, that a single weight may carry
_MIN_HITS = 100
_MIN_TAIL = 5


@dataclass(frozen=True)
class Integral:
    """Hold an estimate with its standard ``error``, how the weights behave, and what speaks against the error.

    ``relative_std`` is the weights' standard deviation over their mean, ``effective_sample_size`` (Σw)²/Σw²,
    ``tail`` the Pareto shape k̂ of the largest weights, ``warnings`` one line for each reason not to trust the error.
    """

    value: float
    error: float
    n: int
    relative_std: float
    effective_sample_size: float
    unweighting_efficiency: float
    tail: float
    warnings: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Return True where nothing speaks against the error."""
        return not self.warnings

    def __format__(self, format_spec: str) -> str:
        """Format value and error alike, as an estimate is; without a format, say all."""
        return f"{Estimate(self.value, self.error):{format_spec}}" if format_spec else str(self)


def summarize(weights: Tensor) -> Integral:
    """Return the integral that weights f/q ``(n,)`` at points drawn from q estimate.

    Where weights have both signs, efficiency and tail are those of their sizes. Raises InputError for fewer than two
    weights and where some are not finite.
    """
    weights = _checked(weights)
    n, value = len(weights), float(weights.mean())
    spread, size = float(weights.std()), weights.abs()
    if not size.any():
        return Integral(0.0, 0.0, n, math.inf, 0.0, 0.0, math.nan, (f"the integrand is zero at all {n} points",))
    tail = pareto_shape(weights)
    return Integral(
        value=value,
        error=spread / n**0.5,
        n=n,
        relative_std=spread / abs(value) if value else math.inf,
        effective_sample_size=effective_sample_size(weights),
        unweighting_efficiency=unweighting_efficiency(weights),
        tail=tail,
        warnings=tuple(_doubts(size, tail)),
    )


def _doubts(size: Tensor, tail: float):
    hits, share = int(size.count_nonzero()), float(size.max() / size.sum())
    if hits < _MIN_HITS:
        yield f"the integrand is nonzero at {hits} points only; at least {_MIN_HITS} are needed"
    if share > _MAX_SHARE:
        yield f"one weight carries {share:.0%} of the sum; draw more points or train the sampler longer"
    if tail > _MAX_SHAPE:
        yield f"the largest weights follow a Pareto tail, k = {tail:.2f} > {_MAX_SHAPE}: infinite variance is likely"


def largest_weight(weights: Tensor, events: int | None = None) -> float:
    """Return w_max: the median of the largest of ``events`` weights drawn with replacement (2001.10028, sec. III).

    The median over all replicas, in closed form: of n sorted sizes, the first w_(k) with (k/n)^events ≥ 1/2. With as
    many events as weights, the default, it is the largest weight; fewer events leave out the rarest outliers.
    """
    size = _checked(weights).abs()
    events = len(size) if events is None else events
    if events < 1:
        raise InputError(f"events = {events}: at least 1 is needed")
    rank = math.ceil(len(size) * 0.5 ** (1 / events) * (1 - 1e-12))
    return float(size.sort().values[rank - 1])


def unweighting_efficiency(weights: Tensor, events: int | None = None) -> float:
    """Return the share of points that rejection against :func:`largest_weight` keeps, ⟨``|w|``⟩/w_max.

    Weights above w_max count in full, as events of weight above one (2001.10028, sec. III).
    """
    largest = largest_weight(weights, events)
    return float(_checked(weights).abs().mean()) / largest if largest else 0.0


def pareto_shape(weights: Tensor) -> float:
    """Return k̂ of a generalised Pareto distribution fitted to the largest weights; −∞ for weights that are alike.

    The min(n/5, 3√n) largest (1507.02646, sec. 2.2), by the posterior mean of Zhang and Stephens (Technometrics 51
    (2009) 316). A tail with k ≥ 1/2 has no variance, with k ≥ 1 no mean; NaN where there are too few weights.
    """
    size = _checked(weights).abs().sort().values
    m = math.ceil(min(len(size) / 5, 3 * len(size) ** 0.5))
    threshold, excess = size[-m - 1], size[-m:] - size[-m - 1]
    excess = excess[excess > 1e-12 * threshold]
    m = len(excess)
    if m < _MIN_TAIL:
        return -math.inf if len(size) > 5 * _MIN_TAIL else math.nan
    quartile = excess[int(m / 4 + 0.5) - 1]
    n_grid = 30 + int(m**0.5)
    steps = torch.arange(1, n_grid + 1).to(excess)
    b = 1 / excess[-1] + (1 - (n_grid / (steps - 0.5)).sqrt()) / (3 * quartile)
    shape = torch.log1p(-b[:, None] * excess).mean(1)
    log_likelihood = m * ((-b / shape).log() - shape - 1)
    best = (log_likelihood.softmax(0) * b).sum()
    return float(torch.log1p(-best * excess).mean())


def _checked(weights: Tensor) -> Tensor:
    weights = torch.as_tensor(weights, dtype=torch.float64).detach()
    if weights.ndim != 1 or len(weights) < 2:
        raise InputError(f"weights: shape {tuple(weights.shape)}; (n,) with n ≥ 2 is needed")
    bad = ~weights.isfinite()
    if bad.any():
        raise InputError(f"weights: {int(bad.sum())} of {len(weights)} are not finite")
    return weights
