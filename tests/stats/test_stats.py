"""Statistics against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from chance import KOLMOGOROV, assert_agrees, assert_likely, assert_spread
from rewind import stats
from rewind.errors import InputError

RNG = np.random.default_rng


def posterior(n=4000, length=99, *, shift=0.0, scale=1.0, seed=1, dimensions=2):
    """Truth N(0, 1), measurement with unit noise: the posterior is N(y/2, 1/2); shift and scale spoil it."""
    rng = RNG(seed)
    truth = rng.normal(size=(n, dimensions))
    measured = truth + rng.normal(size=(n, dimensions))
    draws = rng.normal(size=(n, length, dimensions)) * np.sqrt(0.5) * scale
    return draws + measured[:, None] / 2 + shift * np.sqrt(0.5), truth


def test_exact_posterior_passes_every_calibration_test():
    draws, truth = posterior()
    test = stats.rank_uniformity(stats.sbc_ranks(draws, truth, RNG(2)), 99)
    assert_likely(test.p_value)
    assert test.max_deviation.max() < KOLMOGOROV / np.sqrt(len(truth))
    interval = stats.coverage(draws, truth, (0.5, 0.68, 0.95))
    assert_agrees(interval.coverage, interval.levels[:, None], interval.error)
    tarp = stats.tarp(draws, truth, RNG(3))
    assert tarp.max_deviation < KOLMOGOROV / np.sqrt(len(truth))
    assert_agrees(tarp.coverage[1:-1], tarp.levels[1:-1], tarp.error[1:-1])


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.0), (0.0, 0.6), (0.0, 1.8)])
def test_a_wrong_posterior_is_caught_by_the_size_that_theory_says(shift, scale):
    draws, truth = posterior(shift=shift, scale=scale)
    test = stats.rank_uniformity(stats.sbc_ranks(draws, truth, RNG(2)), 99)
    # true value in units of the stated posterior: N(−shift/scale, 1/scale²)
    u = np.linspace(0.001, 0.999, 999)
    expected = np.abs(norm.cdf(norm.ppf(u) * scale + shift) - u).max()
    np.testing.assert_allclose(test.max_deviation, expected, atol=0.03)
    assert test.p_value.max() < 1e-6
    covered = stats.coverage(draws, truth, (0.68,)).coverage[0]
    z = norm.ppf(0.84) * scale
    np.testing.assert_allclose(covered, norm.cdf(z + shift) - norm.cdf(-z + shift), atol=0.03)
    assert stats.tarp(draws, truth, RNG(3)).max_deviation > 0.04


def test_ranks_break_ties_at_random_and_stay_in_range():
    ranks = stats.sbc_ranks(np.zeros((2000, 9, 1)), np.zeros((2000, 1)), RNG(1))
    assert ranks.min() == 0
    assert ranks.max() == 9
    assert_likely(stats.rank_uniformity(ranks, 9).p_value[0])


def test_tarp_sees_correlations_that_ranks_of_single_dimensions_do_not():
    rng = RNG(4)
    truth = rng.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], size=4000)
    draws = rng.normal(size=(4000, 99, 2))  # right in each dimension, without the correlation
    assert_likely(stats.rank_uniformity(stats.sbc_ranks(draws, truth, rng), 99).p_value)
    assert stats.tarp(draws, truth, rng).max_deviation > 0.05


def test_distances_of_gaussians_are_the_closed_forms():
    rng, n, shift = RNG(1), 3000, 0.7
    p, q = rng.normal(size=n), rng.normal(shift, size=n)
    error = np.sqrt(2 / n)  # of the shift between the samples
    assert_agrees(stats.wasserstein1(p, q), shift, error)

    def mean_abs(mu, sigma):  # E|X| of N(mu, sigma²)
        return sigma * np.sqrt(2 / np.pi) * np.exp(-(mu**2) / 2 / sigma**2) + mu * (1 - 2 * norm.cdf(-mu / sigma))

    expected = 2 * mean_abs(shift, np.sqrt(2)) - 2 * mean_abs(0, np.sqrt(2))
    slope = 2 * (1 - 2 * norm.cdf(-shift / np.sqrt(2)))
    assert_agrees(stats.energy_distance(p, q), expected, slope * error)
    h = 1.0
    same = h / np.sqrt(h * h + 2)
    expected = 2 * same * (1 - np.exp(-(shift**2) / 2 / (h * h + 2)))
    slope = 2 * same * shift / (h * h + 2) * np.exp(-(shift**2) / 2 / (h * h + 2))
    assert_agrees(stats.mmd(p, q, bandwidths=(h,)), expected, slope * error)
    assert abs(stats.mmd(p, rng.normal(size=n), bandwidths=(h,))) < 0.003


def test_triangular_discriminator_at_known_points():
    assert stats.triangular_discriminator([1, 2, 3], [2, 4, 6]) == 0
    assert stats.triangular_discriminator([1, 0], [0, 5]) == 1
    assert stats.triangular_discriminator([3, 1], [1, 1]) == pytest.approx(0.5 * (0.0625 / 1.25 + 0.0625 / 0.75))


@given(st.lists(st.integers(1, 4), min_size=5, max_size=12))
def test_integer_weights_repeat_events(repeats):
    rng = RNG(0)
    p, q = rng.normal(size=len(repeats)), rng.normal(size=9)
    repeated = np.repeat(p, repeats)
    for distance in (stats.wasserstein1, stats.energy_distance):
        assert distance(p, q, weights=(repeats, None)) == pytest.approx(distance(repeated, q), abs=1e-9)
    assert stats.quantile(p, 0.41421, repeats) == stats.quantile(repeated, 0.41421)


@given(st.floats(-5, 5), st.floats(0.1, 5))
def test_distances_are_translation_invariant_and_scale(shift, scale):
    rng = RNG(0)
    p, q = rng.normal(size=30), rng.normal(0.5, size=40)
    for distance in (stats.wasserstein1, stats.energy_distance):
        assert distance(scale * p + shift, scale * q + shift) == pytest.approx(scale * distance(p, q), rel=1e-6)


def test_c2st_reaches_the_optimal_accuracy_and_one_half():
    rng = RNG(1)
    p, q = rng.normal(size=(1500, 3)), rng.normal(size=(1500, 3))
    same = stats.c2st(p, q, seed=0)
    assert_agrees(same.accuracy, 0.5, same.error)
    shifted = stats.c2st(p, q + np.array([1.0, 0, 0]), seed=0)
    assert_agrees(shifted.accuracy, norm.cdf(0.5), shifted.error)
    assert_agrees(shifted.auc, norm.cdf(1 / np.sqrt(2)), shifted.error)
    correlated = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=1500)
    assert stats.c2st(p[:, :2], correlated, seed=0).accuracy > 0.68


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


def test_a_posterior_mean_deviates_in_bins_of_the_truth_and_not_in_bins_of_itself():
    """Prior N(0, 1), noise N(0, 1): the posterior's mean is half the observation, E(mean | truth) half the truth."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=100_000)
    mean = (truth + rng.normal(size=len(truth))) / 2
    edges = np.array([-1.0, -0.5, 0.5, 1.0])
    found, error = stats.mean_in_bins(mean - truth, mean, edges)
    assert_agrees(found, 0, error)
    found, error = stats.mean_in_bins(mean - truth, truth, edges)
    assert_agrees(found, -stats.mean_in_bins(truth, truth, edges)[0] / 2, error)
    with pytest.raises(InputError, match="bin 8 to 9: 0 entries"):
        stats.mean_in_bins(truth, truth, [8, 9])


def test_reliability_of_true_and_overconfident_probabilities():
    rng = np.random.default_rng(9)
    said = rng.dirichlet(np.ones(3), 20_000)
    true = (rng.random((len(said), 1)) > said.cumsum(1)).sum(1)
    edges = np.linspace(0, 1, 6)
    mean, share, error = stats.reliability(said, true, edges, rng)
    assert_agrees(share, mean, error)
    assert (np.diff(mean) > 0.1).all()
    bold = said**3 / (said**3).sum(1, keepdims=True)
    mean, share, error = stats.reliability(bold, true, edges, rng)
    assert share[-1] < mean[-1] - 4 * error[-1]
    assert np.isnan(stats.reliability(said[:20], true[:20], edges, rng)[:, -1]).all()
