import hist
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chance import assert_spread
from rewind.errors import InputError
from rewind.stats import response_matrix

EDGES = [0.0, 1.0, 2.0, 4.0]


def smeared(n=2_000, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-0.5, 4.5, n)
    return truth + rng.normal(0, 0.6, n), truth, rng.choice([1.0, 2.5, -0.5], n)


def test_it_folds_the_true_spectrum_into_the_reconstructed_one():
    reconstructed, truth, weights = smeared()
    response = response_matrix(reconstructed, truth, EDGES, [0.0, 2.0, 4.0], weights=weights)
    filled = hist.Hist(hist.axis.Variable(EDGES), storage=hist.storage.Weight()).fill(reconstructed, weight=weights)
    np.testing.assert_allclose(response.counts[:-1].sum(1), filled.view(flow=True).value, atol=1e-9)
    np.testing.assert_allclose(response.squares[:-1].sum(1), filled.view(flow=True).variance, atol=1e-9)
    assert response.matrix.shape == (3, 2)


def test_columns_with_what_lies_outside_sum_to_one():
    response = response_matrix(*smeared()[:2], EDGES)
    rows, columns = response.inside
    outside = response.counts[:-1][~rows][:, columns].sum(0) / response.solved[columns]
    np.testing.assert_allclose(response.matrix.sum(0) + outside, 1.0)


def test_unsolved_events_count_against_the_efficiency_alone():
    reconstructed, truth, _ = smeared()
    lost = np.arange(len(truth)) % 4 == 0
    response = response_matrix(np.where(lost, np.nan, reconstructed), truth, EDGES)
    kept = response_matrix(reconstructed[~lost], truth[~lost], EDGES)
    np.testing.assert_array_equal(response.counts[:-1], kept.counts[:-1])
    expected = [1 - lost[(truth >= low) & (truth < high)].mean() for low, high in ((0, 1), (1, 2), (2, 4))]
    np.testing.assert_allclose(response.efficiency, expected)
    assert response.trace_fraction() == kept.trace_fraction()
    assert response.diagonal_of_all() < kept.diagonal_of_all()


def test_two_observables_are_flattened_with_the_last_running_fastest():
    truth = np.array([[0.5, 10.0], [1.5, 30.0]])
    axes = [hist.axis.Regular(2, 0, 2, name="x"), hist.axis.Variable([0, 20, 40], name="y")]
    response = response_matrix(truth, truth, axes)
    assert response.to_hist().values()[0, 0, 0, 0] == response.to_hist().values()[1, 1, 1, 1] == 1
    np.testing.assert_array_equal(np.diag(np.nan_to_num(response.matrix)), [1, 0, 0, 1])


def test_the_error_of_the_trace_fraction_covers():
    pulls = []
    for seed in range(200):
        reconstructed, truth, _ = smeared(400, seed)
        weights = np.random.default_rng(seed + 1000).choice([0.5, 3.0], 400)
        pulls.append(response_matrix(reconstructed, truth, EDGES, weights=weights).trace_fraction())
    values, errors = np.array(pulls).T
    assert_spread(values / errors.mean())


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10), st.floats(-2, 2)), min_size=1, max_size=30))
def test_no_weight_is_lost(rows):
    reconstructed, truth, weights = np.array(rows).T
    response = response_matrix(reconstructed, truth, EDGES, weights=weights)
    np.testing.assert_allclose(response.counts.sum(), weights.sum(), atol=1e-9)
    np.testing.assert_allclose(response.squares.sum(), (weights**2).sum(), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": [0.5, np.nan]}, "not finite"),
        ({"truth": [0.5]}, "one row an event"),
        ({"weights": [1.0]}, "2 finite ones"),
        ({"weights": [1.0, np.inf]}, "2 finite ones"),
        ({"axes_reconstructed": [1.0, 1.0]}, "rising"),
        ({"axes_reconstructed": [1.0]}, "rising"),
        ({"axes_reconstructed": hist.axis.Regular(2, 0, 2, flow=False)}, "under- and overflow"),
    ],
)
def test_refusals(change, message):
    arguments = {"reconstructed": [0.5, 1.5], "truth": [0.5, 1.5], "axes_reconstructed": EDGES} | change
    with pytest.raises(InputError, match=message):
        response_matrix(**arguments)


def test_a_diagonal_needs_equal_axes_and_a_share_needs_events():
    with pytest.raises(InputError, match="equal axes"):
        response_matrix(*smeared()[:2], EDGES, [0, 2, 4]).trace_fraction()
    with pytest.raises(InputError, match="no solved event"):
        response_matrix([np.nan], [0.5], EDGES).trace_fraction()
    with pytest.raises(InputError, match="2 axes"):
        response_matrix([[0.5]], [[0.5]], [EDGES, EDGES])
