"""Weighted means and quantiles, and errors that cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from chance import assert_agrees, assert_spread
from rewind import stats
from rewind.errors import InputError

RNG = np.random.default_rng


@given(st.lists(st.integers(1, 4), min_size=5, max_size=12))
def test_integer_weights_repeat_events(repeats):
    rng = RNG(0)
    p, q = rng.normal(size=len(repeats)), rng.normal(size=9)
    repeated = np.repeat(p, repeats)
    for distance in (stats.wasserstein1, stats.energy_distance):
        assert distance(p, q, weights=(repeats, None)) == pytest.approx(distance(repeated, q), abs=1e-9)
    assert stats.quantile(p, 0.41421, repeats) == stats.quantile(repeated, 0.41421)


def test_bootstrap_errors_have_unit_pulls():
    rng = RNG(5)
    pulls = []
    for _ in range(150):
        estimate = stats.bootstrap(np.mean, rng.normal(size=80), rng=rng, n_replicas=60)
        pulls.append(estimate.value / estimate.error)
    assert_spread(pulls)


def test_weighted_bootstrap_and_effective_sample_size():
    rng = RNG(6)
    p, q, w = rng.normal(size=400), rng.normal(size=400), rng.exponential(size=400)
    estimate = stats.bootstrap(stats.wasserstein1, p, q, rng=rng, n_replicas=30, weights=[w, None])
    assert estimate.value == stats.wasserstein1(p, q, weights=(w, None))
    assert estimate.error > 0
    assert stats.effective_sample_size(np.ones(7)) == 7
    assert stats.effective_sample_size([1, 0, 0]) == 1


def test_width68_of_a_normal_distribution():
    edge, outside = norm.ppf(0.84), 0.16
    error = 3 * np.sqrt(2 * outside * (1 - 2 * outside) / 20_000) / norm.pdf(edge)  # of the distance of two quantiles
    assert_agrees(stats.width68(RNG(1).normal(0, 3, 20_000)), 2 * 3 * edge, error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.wasserstein1([], [1.0]), "first sample: empty"),
        (lambda: stats.wasserstein1([np.nan], [1.0]), "1 entries are not finite"),
        (lambda: stats.energy_distance(np.ones((3, 2)), np.ones((3, 1))), "features must agree"),
        (lambda: stats.c2st(np.ones((3, 2)), np.ones((4, 2)), seed=0), "equal numbers"),
        (lambda: stats.sbc_ranks(np.ones((3, 2)), np.ones(3), RNG(0)), "expected"),
        (lambda: stats.rank_uniformity([[5]], 4), "expected 0 to 4"),
        (lambda: stats.quantile([1.0, 2.0], 0.5, [1.0, -0.5]), "not negative"),
        (lambda: stats.quantile([1.0, 2.0], 0.5, [1.0]), "there are 2 samples"),
        (lambda: stats.energy_distance([1.0], [2.0], weights=([0.0], None)), "must be positive"),
    ],
)
def test_what_cannot_be_computed_says_why(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("form", "text"),
    [(".3f", "0.500 ± 0.012"), ("+.2f", "+0.50 ± 0.01"), (".1%", "50.0% ± 1.2%"), (".2g", "0.5 ± 0.012")],
)
def test_an_estimate_is_printed_with_its_error(form, text):
    assert f"{stats.Estimate(0.5, 0.0123):{form}}" == text


def test_share_is_binomial():
    flags = np.arange(100) < 20
    assert stats.share(flags) == pytest.approx((0.2, 0.04))
    assert stats.share([True, True]) == (1.0, 0.0)
    with pytest.raises(InputError, match="empty"):
        stats.share([])
