"""A method's answers against the truth of the same events: residual metrics by quantity, and the line of a table.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)[:50]
>>> compare(data, true_quantities(data), np.random.default_rng(1), n_replicas=2)["px"].rmse.value
0.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.verdicts.inversion import Inversion
from rewind.neutrino.verdicts.reconstruction import quantities, true_quantities
from rewind.neutrino.verdicts.residuals import ResidualMetrics, binned_residual_metrics, residual_metrics
from rewind.stats import Estimate

__all__ = ["Row", "compare", "row", "summary"]


def compare(
    data: EventBatch, values: dict[str, Tensor], rng: np.random.Generator, *, n_replicas: int = 200
) -> dict[str, ResidualMetrics]:
    """Return residual metrics, by name, of one value an event of each of ``quantities`` that has a truth."""
    truth = true_quantities(data)
    return {
        name: residual_metrics(truth[name], values[name], rng, weights=data.weight, n_replicas=n_replicas)
        for name in truth
        if name in values
    }


def summary(
    data: EventBatch, neutrinos: Tensor, pairing: Tensor, rng: np.random.Generator, *, n_replicas: int = 200
) -> dict[str, ResidualMetrics]:
    """Return residual metrics of one solution an event, by name; see ``quantities`` and :func:`compare`."""
    data.require_truth("neutrinos")
    if neutrinos.ndim != 3:
        raise InputError(f"neutrinos of shape {tuple(neutrinos.shape)}: choose one solution an event for a summary")
    return compare(data, quantities(data, neutrinos, pairing), rng, n_replicas=n_replicas)


@dataclass(frozen=True)
class Row:
    """Hold a line of a table: residual metrics by quantity, of m_tt also unbiased, and its bias by true bin."""

    metrics: dict[str, ResidualMetrics]
    unbiased: ResidualMetrics
    bias: tuple[float, ...]

    def __str__(self) -> str:
        """Return widths with errors and RMSE of p_x, p_z and m_tt, the biases, and the unbiased width of m_tt."""
        shown = [self.metrics[name] for name in ("px", "pz", "m_tt")]
        cells = [f"{_padded(f.width)} {f.rmse.value:6.1f}" for f in shown]
        bias = " ".join(f"{value:4.0f}" for value in self.bias)
        return "  ".join([*cells, bias, _padded(self.unbiased.width)])


def _padded(estimate: Estimate) -> str:
    return f"{estimate:.1f}".rjust(12)


def row(
    data: EventBatch,
    values: dict[str, Tensor],
    inversion: Inversion,
    edges: Sequence[float],
    rng: np.random.Generator,
    *,
    n_replicas: int = 100,
) -> Row:
    """Return the line of one method: ``values`` of ``quantities``, one an event; m_tt ``edges`` for the bias."""
    data.require_legs(2)
    true = true_quantities(data)["m_tt"]
    metrics = compare(data, values, rng, n_replicas=n_replicas)
    unbiased = residual_metrics(true, inversion(values["m_tt"]), rng, weights=data.weight, n_replicas=n_replicas)
    bins = binned_residual_metrics(true, values["m_tt"], edges, rng, weights=data.weight, n_replicas=2)
    return Row(metrics, unbiased, tuple(one.median.value for one in bins))
