"""Metrics of residuals: known widths, agreement with plain bootstrap, weights that count events."""

import numpy as np
import pytest
import torch

from chance import assert_agrees
from rewind import stats
from rewind.errors import InputError
from rewind.neutrino.verdicts import residuals


def rng(seed=1):
    return np.random.default_rng(seed)


def test_metrics_of_a_gaussian():
    """Width 2σ, RMSE √(σ² + bias²), errors as for normal samples."""
    n, sigma, bias = 40_000, 3.0, 1.0
    truth = rng(2).normal(0, 50, n)
    metrics = residuals.residual_metrics(truth, truth + rng(3).normal(bias, sigma, n), rng())
    quantile = 0.994458  # of 84 %
    expected = {
        "width": (2 * quantile * sigma, 1.51 * 2 * sigma / (2 * n) ** 0.5),
        "rmse": ((sigma**2 + bias**2) ** 0.5, None),
        "median": (bias, 1.2533 * sigma / n**0.5),
        "mean": (bias, sigma / n**0.5),
    }
    for name, (value, error) in expected.items():
        estimate = getattr(metrics, name)
        assert_agrees(estimate.value, value, estimate.error)
        assert error is None or estimate.error == pytest.approx(error, rel=0.25), name
    assert (metrics.n_solved, metrics.n_unsolved) == (n, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_agree_with_plain_bootstrap(weighted):
    truth = rng(4).normal(0, 1, 1501)
    reconstructed = truth + rng(5).standard_t(3, 1501)
    weights = rng(6).uniform(0.2, 2, 1501) if weighted else None
    metrics = residuals.residual_metrics(truth, reconstructed, rng(), weights=weights, n_replicas=400)
    for name, statistic in (("width", stats.width68), ("median", stats.median)):
        plain = stats.bootstrap(statistic, reconstructed - truth, rng=rng(7), n_replicas=400, weights=weights)
        mine = getattr(metrics, name)
        assert mine.value == pytest.approx(plain.value, abs=1e-12)
        assert_agrees(mine.error / plain.error, 1, 1 / 400**0.5)  # of 400 replicas each


def test_values_of_an_event_are_resampled_together():
    """Twice the same residual in an event adds no information."""
    truth = rng(8).normal(size=(2000, 1))
    residual = rng(9).normal(size=(2000, 1))
    once = residuals.residual_metrics(truth, truth + residual, rng())
    twice = residuals.residual_metrics(truth.repeat(2, 1), (truth + residual).repeat(2, 1), rng())
    for name in ("width", "rmse", "median", "mean"):
        torch.testing.assert_close(torch.tensor(getattr(once, name)), torch.tensor(getattr(twice, name)))


def test_integer_weights_count_events():
    truth, residual = rng(10).normal(size=500), rng(11).normal(size=500)
    weights = rng(12).integers(0, 3, 500)
    weighted = residuals.residual_metrics(truth, truth + residual, rng(), weights=weights)
    copies = residuals.residual_metrics(truth.repeat(weights), (truth + residual).repeat(weights), rng())
    for name in ("width", "rmse", "median", "mean"):
        assert getattr(weighted, name).value == pytest.approx(getattr(copies, name).value)


def test_unsolved_events_are_counted_and_left_out():
    truth = rng(13).normal(size=(300, 2))
    reconstructed = truth + 1.0
    reconstructed[:40, 0], reconstructed[40:50] = np.nan, np.inf
    metrics = residuals.residual_metrics(torch.from_numpy(truth), torch.from_numpy(reconstructed), rng())
    assert (metrics.n_solved, metrics.n_unsolved) == (250, 50)
    assert metrics.mean == pytest.approx((1.0, 0.0))
    nothing = residuals.residual_metrics(truth, np.full_like(truth, np.nan), rng())
    assert (nothing.n_solved, nothing.n_unsolved) == (0, 300)
    assert np.isnan(nothing.width.value)


def test_bins_hold_their_events():
    truth = np.array([0.0, 1.0, 1.5, 2.0, 3.0, -1.0])
    reconstructed = truth + np.array([1.0, 2.0, 3.0, np.nan, 9.0, 9.0])
    low, high, empty = residuals.binned_residual_metrics(truth, reconstructed, [0, 1, 2.5, 3], rng())
    assert (low.n_solved, high.n_solved, empty.n_solved) == (1, 2, 0)
    assert (low.n_unsolved, high.n_unsolved, empty.n_unsolved) == (0, 1, 0)
    assert low.mean.value == 1.0
    assert high.mean.value == 2.5
    assert np.isnan(empty.mean.value)


def test_bad_input():
    x, nothing = np.arange(4.0), np.empty(0)
    assert residuals.residual_metrics(nothing, nothing, rng()).n_solved == 0
    with pytest.raises(InputError, match="equal"):
        residuals.residual_metrics(x, x[:3], rng())
    with pytest.raises(InputError, match="1 values are not finite"):
        residuals.residual_metrics(np.array([0, np.nan]), np.zeros(2), rng())
    with pytest.raises(InputError, match="not negative"):
        residuals.residual_metrics(x, x, rng(), weights=-x)
    with pytest.raises(InputError, match="one value an event"):
        residuals.binned_residual_metrics(np.stack([x, x], 1), np.stack([x, x], 1), [0, 1, 2], rng())
    for edges in ([0, 1, 1], [1], [0, np.nan, 2]):
        with pytest.raises(InputError, match="rising"):
            residuals.binned_residual_metrics(x, x, edges, rng())
