"""Calibration: the exact posterior passes, wrong ones are caught by the size that theory says."""

import numpy as np
import pytest
from scipy.stats import norm

from chance import KOLMOGOROV, assert_agrees, assert_likely
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


def test_a_posterior_mean_deviates_in_bins_of_the_truth_and_not_in_bins_of_itself():
    """Prior N(0, 1), noise N(0, 1): the posterior's mean is half the observation, E(mean | truth) half the truth."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=100_000)
    mean = (truth + rng.normal(size=len(truth))) / 2
    edges = np.array([-1.0, -0.5, 0.5, 1.0])
    means, error = stats.mean_in_bins(mean - truth, mean, edges)
    assert_agrees(means, 0, error)
    means, error = stats.mean_in_bins(mean - truth, truth, edges)
    assert_agrees(means, -stats.mean_in_bins(truth, truth, edges)[0] / 2, error)
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


def repeated(values, times):
    return np.repeat(values, times, axis=0)


def test_a_weight_of_two_is_an_event_twice():
    """What weighs events says the same of copies, as long as it is no error."""
    random = np.random.default_rng(5)
    times = random.integers(1, 4, 400)
    said = random.dirichlet([1.0, 1.0, 1.0], 400)
    true = random.integers(0, 3, 400)
    edges = np.linspace(0, 1, 5)
    weighted = stats.reliability(said, true, edges, random, n_replicas=2, weights=times)
    copied = stats.reliability(repeated(said, times), repeated(true, times), edges, random, n_replicas=2)
    np.testing.assert_allclose(weighted[:2], copied[:2])
    ranks = random.integers(0, 21, (400, 2))
    once = stats.rank_uniformity(ranks, 20, weights=times)
    copies = stats.rank_uniformity(repeated(ranks, times), 20)
    np.testing.assert_allclose(once.max_deviation, copies.max_deviation)


def test_equal_weights_change_no_verdict():
    random = np.random.default_rng(6)
    samples, truth = random.normal(size=(300, 40, 2)), random.normal(size=(300, 2))
    equal = np.full(300, 3.0)
    plain, same = (stats.tarp(samples, truth, np.random.default_rng(1), weights=w) for w in (None, equal))
    np.testing.assert_allclose(same.coverage, plain.coverage)
    np.testing.assert_allclose(same.error, plain.error)
    ranks = random.integers(0, 41, (300, 2))
    one, other = (stats.rank_uniformity(ranks, 40, weights=w) for w in (None, equal))
    np.testing.assert_allclose(one.p_value, other.p_value)


def test_ranks_of_events_with_negative_weights_are_uniform_on_average():
    random = np.random.default_rng(7)
    p_values = []
    for _ in range(200):
        weights = random.choice([1.0, 2.0, -0.5], 2_000)
        ranks = random.integers(0, 20, (2_000, 1))
        p_values.append(stats.rank_uniformity(ranks, 19, bins=10, weights=weights).p_value[0])
    assert abs(np.mean(p_values) - 0.5) < 5 * (1 / 12 / 200) ** 0.5
