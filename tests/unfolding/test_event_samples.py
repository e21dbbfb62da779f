import numpy as np
import pytest

from chance import assert_agrees
from rewind.errors import InputError
from rewind.unfolding.binned import matrix_inversion
from rewind.unfolding.event_samples import unfolding_inputs

EDGES = [np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0])]


def sample(n=4_000, seed=1):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0, 4, (n, 2))
    return true, true + rng.normal(0, 0.5, (n, 2)), np.arange(n) % 4 == 3, rng


def inverted(inputs):
    return matrix_inversion(inputs.response, None, inputs.data, data_covariance=inputs.covariance).values


def test_one_draw_an_event_is_the_event():
    true, seen, is_data, _ = sample()
    plain, drawn = (unfolding_inputs(values, true, is_data, EDGES) for values in (seen, seen[:, None]))
    np.testing.assert_allclose(drawn.response.counts, plain.response.counts)
    np.testing.assert_allclose(drawn.data, plain.data)
    np.testing.assert_allclose(drawn.covariance, np.diag(plain.data))
    assert plain.covariance is None


def test_one_observable_needs_no_second_axis():
    true, seen, is_data, _ = sample()
    one = unfolding_inputs(seen[:, 0], true[:, 0], is_data, EDGES[:1])
    both = unfolding_inputs(seen[:, :1], true[:, :1], is_data, EDGES[:1])
    np.testing.assert_array_equal(one.response.counts, both.response.counts)
    np.testing.assert_array_equal(one.data, both.data)


def test_truth_of_data_does_not_enter():
    true, seen, is_data, _ = sample()
    other = np.where(is_data[:, None], 3.0, true)
    first, second = (unfolding_inputs(seen, each, is_data, EDGES) for each in (true, other))
    np.testing.assert_array_equal(first.response.counts, second.response.counts)
    np.testing.assert_array_equal(first.data, second.data)


def test_draws_shrink_the_errors_by_what_they_average_and_their_covariance_is_that_of_replicas():
    true, _, is_data, rng = sample(8_000)
    draws = true[:, None] + rng.normal(0, 0.5, (len(true), 12, 2))
    inputs = unfolding_inputs(draws, true, is_data, EDGES)
    result = matrix_inversion(inputs.response, None, inputs.data, data_covariance=inputs.covariance)
    single = unfolding_inputs(draws[:, 0], true, is_data, EDGES)
    assert (result.errors < matrix_inversion(single.response, None, single.data).errors).all()
    values = []
    for _ in range(300):
        other = unfolding_inputs(draws, true, is_data, EDGES, weights=rng.poisson(1.0, len(true)))
        values.append(inverted(other))
    spread = np.std(values, axis=0, ddof=1)
    assert_agrees(spread, np.sqrt(np.diag(result.total_covariance)), spread / 600**0.5)


def test_an_empty_bin_of_draws_has_the_variance_that_the_simulation_expects():
    true, seen, is_data, _ = sample()
    moved = np.where((is_data & (seen[:, 0] < 1))[:, None], 1.5, seen)
    inputs = unfolding_inputs(moved[:, None, :1], true[:, :1], is_data, EDGES[:1])
    assert inputs.data[0] == 0
    expected = np.count_nonzero((seen[~is_data, 0] >= 0) & (seen[~is_data, 0] < 1)) / 3
    assert inputs.covariance[0, 0] == pytest.approx(expected)
    np.testing.assert_allclose(np.diag(inputs.covariance)[1:], inputs.data[1:])


def test_weighted_data_have_a_covariance():
    true, seen, is_data, rng = sample()
    weights = rng.choice([0.5, 2.0], len(true))
    inputs = unfolding_inputs(seen, true, is_data, EDGES, weights=weights)
    doubled = unfolding_inputs(seen, true, is_data, EDGES, weights=2 * weights)
    np.testing.assert_allclose(doubled.covariance, 4 * inputs.covariance)
    assert np.trace(inputs.covariance) > inputs.data.sum()


def test_samples_that_do_not_agree_are_refused():
    true, seen, is_data, _ = sample(40)
    with pytest.raises(InputError, match="they must agree"):
        unfolding_inputs(seen, true, is_data[:-1], EDGES)
    with pytest.raises(InputError, match="they must agree"):
        unfolding_inputs(seen[:-1], true, is_data, EDGES)


def test_the_variance_of_an_empty_bin_is_one_of_data_whatever_the_luminosity_of_the_simulation():
    true, seen, is_data, _ = sample()
    moved = np.where((is_data & (seen[:, 0] < 1))[:, None], 1.5, seen)[:, None, :1]
    plain, scaled = (
        unfolding_inputs(moved, true[:, :1], is_data, EDGES[:1], weights=np.where(is_data, 1.0, weight))
        for weight in (1.0, 0.01)
    )
    np.testing.assert_allclose(scaled.covariance, plain.covariance)
