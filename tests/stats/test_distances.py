"""Distances between samples: closed forms, invariances, the optimal classifier."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from chance import assert_agrees
from rewind import stats

RNG = np.random.default_rng


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
