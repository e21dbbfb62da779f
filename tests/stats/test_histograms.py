"""Densities, efficiencies and distribution functions of ranks."""

import numpy as np
import pytest

from rewind import stats
from rewind.errors import InputError
from rewind.stats import histograms


def test_density_is_normalised_with_all_entries_and_has_their_errors():
    density, error = histograms.density([0.5, 0.5, 1.5, 9.0], [0, 1, 3], weights=[1.0, 2.0, 3.0, 2.0])
    np.testing.assert_allclose(density, [3 / 8, 3 / 8 / 2])
    np.testing.assert_allclose(error, [5**0.5 / 8, 3 / 8 / 2])


def test_efficiency_leaves_empty_bins_out_and_holds_wilsons_interval():
    centres, share, (below, above) = histograms.efficiency([0.5] * 4 + [2.5] * 2, [1, 1, 1, 0, 0, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(centres, [0.5, 2.5])
    np.testing.assert_allclose(share, [0.75, 0.0])
    for p in (share[0] - below[0], share[0] + above[0]):  # both ends solve (share − p)² = p (1 − p)/n
        assert (share[0] - p) ** 2 == pytest.approx(p * (1 - p) / 4)
    assert below[1] == pytest.approx(0)


def test_weights_of_an_efficiency_count_as_their_effective_number():
    weighted = histograms.efficiency([0.5] * 4, [1, 0, 1, 0], [0, 1], weights=[2.0] * 4)
    plain = histograms.efficiency([0.5] * 4, [1, 0, 1, 0], [0, 1])
    for one, other in zip(weighted, plain, strict=True):
        np.testing.assert_allclose(one, other)


def test_rank_deviation_of_evenly_spread_ranks_is_below_one_rank():
    fractions = (np.arange(100)[:, None] + 0.5) / 100
    deviation, inside = stats.rank_deviation(fractions, np.linspace(0, 1, 11))
    assert np.abs(deviation).max() <= 0.01 + 1e-12
    assert inside == pytest.approx(0.136)
    shifted, _ = stats.rank_deviation(fractions / 2, [0.25, 0.5])
    np.testing.assert_allclose(shifted[:, 0], [0.25, 0.5])


def test_mean_has_its_standard_error_and_needs_two():
    value, error = stats.mean([1.0, 3.0])
    assert (value, error) == pytest.approx((2.0, 1.0))
    with pytest.raises(InputError, match="one entry"):
        stats.mean([1.0])
