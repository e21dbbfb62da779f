from dataclasses import replace

import hist
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chance import N_ERRORS, assert_spread
from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.stats.response import histogram_of_draws, response_of_draws

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


def test_the_error_of_the_trace_fraction_covers_where_draws_of_an_event_agree_or_do_not():
    """Half of the events are known exactly, the others not at all: they fluctuate as events do, not as draws."""
    shares = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth, is_known = rng.uniform(0.0, 4.0, 400), rng.random(400) < 0.5
        draws = np.where(is_known[:, None], truth[:, None], rng.uniform(0, 4, (400, 40)))
        shares.append(response_of_draws(draws, truth, np.linspace(0.0, 4.0, 9)).trace_fraction())
    values, errors = np.array(shares).T
    assert_spread(values / errors.mean())


def test_the_error_of_the_trace_fraction_of_draws_that_all_agree_is_that_of_events():
    reconstructed, truth, _ = smeared()
    one, many = response_matrix(reconstructed, truth, EDGES), np.repeat(reconstructed[:, None], 7, 1)
    np.testing.assert_allclose(response_of_draws(many, truth, EDGES).trace_fraction(), one.trace_fraction())


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


def test_yields_misses_fakes_and_what_is_outside_of_both_are_all():
    reconstructed, truth, weights = smeared()
    reconstructed = np.where(np.arange(len(truth)) % 5 == 0, np.nan, reconstructed)
    response = response_matrix(reconstructed, truth, EDGES, [0.0, 2.0, 4.0], weights=weights)
    inside = [(values >= 0) & (values < 4) for values in (reconstructed, truth)]
    parts, neither = response.parts, ~inside[0] & ~inside[1]
    np.testing.assert_allclose(parts.yields.sum(), weights[inside[0] & inside[1]].sum(), atol=1e-9)
    np.testing.assert_allclose(parts.misses.sum(), weights[inside[1] & ~inside[0]].sum(), atol=1e-9)
    np.testing.assert_allclose(parts.fakes.sum(), weights[inside[0] & ~inside[1]].sum(), atol=1e-9)
    total = parts.yields.sum() + parts.misses.sum() + parts.fakes.sum() + weights[neither].sum()
    np.testing.assert_allclose(total, weights.sum(), atol=1e-9)
    filled = np.histogram(truth, [0.0, 2.0, 4.0], weights=weights)[0]
    np.testing.assert_allclose(parts.truth, filled, atol=1e-9)
    squares = np.histogram(truth, [0.0, 2.0, 4.0], weights=weights**2)[0]
    np.testing.assert_allclose(response.variances.truth, squares, atol=1e-9)


def test_bins_that_are_not_kept_become_misses_and_fakes():
    response = response_matrix(*smeared()[:2], EDGES, weights=smeared()[2])
    rows, columns = np.array([True, False, True]), np.array([False, True, True])
    fewer, parts = response.restricted(reconstructed=rows, true=columns), response.parts
    np.testing.assert_array_equal(fewer.parts.yields, parts.yields[np.ix_(rows, columns)])
    lost = parts.misses[columns] + parts.yields[np.ix_(~rows, columns)].sum(0)
    np.testing.assert_allclose(fewer.parts.misses, lost)
    np.testing.assert_allclose(fewer.parts.fakes, parts.fakes[rows] + parts.yields[np.ix_(rows, ~columns)].sum(1))
    np.testing.assert_allclose(fewer.parts.truth, parts.truth[columns])
    again = response.restricted(true=columns).restricted(reconstructed=rows, true=[True, False])
    np.testing.assert_array_equal(again.parts.yields, parts.yields[np.ix_(rows, [1])])
    np.testing.assert_array_equal(fewer.counts, response.counts)
    np.testing.assert_array_equal(response.parts.yields, parts.yields)


def test_the_diagonal_of_fewer_bins_is_that_of_the_bins_kept_on_both_sides():
    response = response_matrix(*smeared()[:2], EDGES)
    fewer = response.restricted(true=[True, False, True])
    diagonal = np.diag(response.parts.yields)[[0, 2]].sum()
    assert fewer.trace_fraction().value == diagonal / response.solved[1:-1][[0, 2]].sum()
    assert fewer.diagonal_of_all() == diagonal / response.counts[:, 1:-1][:, [0, 2]].sum()


def test_a_scaled_response_is_that_of_scaled_weights():
    draws, truth, weights = drawn()
    response = response_of_draws(draws, truth, EDGES, weights=weights)
    scaled, again = response.scaled(0.3), response_of_draws(draws, truth, EDGES, weights=0.3 * weights)
    for name in ("counts", "squares", "shared"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(again, name), atol=1e-12)


def drawn(n=500, n_draws=6, seed=3):
    """Return draws about a value of the event's own, some of them not finite, truth and weights."""
    reconstructed, truth, weights = smeared(n, seed)
    rng = np.random.default_rng(seed)
    draws = reconstructed[:, None] + rng.normal(0, 0.3, (n, n_draws))
    return np.where(rng.random(draws.shape) < 0.1, np.nan, draws), truth, weights


def test_one_draw_is_a_value():
    reconstructed, truth, weights = smeared()
    reconstructed = np.where(np.arange(len(truth)) % 5 == 0, np.nan, reconstructed)
    plain = response_matrix(reconstructed, truth, EDGES, [0.0, 2.0, 4.0], weights=weights)
    response = response_of_draws(reconstructed[:, None], truth, EDGES, [0.0, 2.0, 4.0], weights=weights)
    np.testing.assert_allclose(response.counts, plain.counts, atol=1e-9)
    np.testing.assert_allclose(response.squares, plain.squares, atol=1e-9)
    places = np.arange(len(plain.squares))
    expected = np.zeros_like(response.shared)
    expected[:, places, places] = plain.squares.T
    np.testing.assert_allclose(response.shared, expected, atol=1e-9)


def test_draws_that_all_agree_are_one():
    reconstructed, truth, weights = smeared()
    plain = response_matrix(reconstructed, truth, EDGES, weights=weights)
    many = response_of_draws(np.repeat(reconstructed[:, None], 7, 1), truth, EDGES, weights=weights)
    np.testing.assert_allclose(many.counts, plain.counts, atol=1e-9)
    np.testing.assert_allclose(many.squares, plain.squares, atol=1e-9)


def test_what_draws_share_is_the_sum_over_events():
    draws, truth, weights = drawn()
    response = response_of_draws(draws, truth, EDGES, [0.0, 2.0, 4.0], weights=weights)
    each = [
        response_of_draws(draw[None], [at], EDGES, [0.0, 2.0, 4.0], weights=[weight]).counts
        for draw, at, weight in zip(draws, truth, weights, strict=True)
    ]
    np.testing.assert_allclose(response.counts, np.sum(each, 0), atol=1e-9)
    np.testing.assert_allclose(response.counts.sum(), weights.sum(), atol=1e-9)
    np.testing.assert_allclose(response.shared, np.einsum("brt,bst->trs", each, each), atol=1e-9)
    np.testing.assert_allclose(np.diagonal(response.shared, axis1=1, axis2=2).T, response.squares, atol=1e-12)
    everything = response.shared.sum((1, 2))
    np.testing.assert_allclose(
        everything, response_matrix(truth, truth, EDGES, [0, 2, 4], weights=weights).squares.sum(0)
    )


def test_draws_of_two_observables_go_together():
    rng = np.random.default_rng(5)
    draws, axes = rng.uniform(0, 4, (50, 3, 2)), [EDGES, [0.0, 2.0, 4.0]]
    response = response_of_draws(draws, draws[:, 0], axes)
    flat = response_matrix(draws.reshape(-1, 2), np.repeat(draws[:, 0], 3, 0), axes, weights=np.full(150, 1 / 3))
    np.testing.assert_allclose(response.counts, flat.counts, atol=1e-12)
    assert (response.squares >= flat.squares - 1e-12).all()
    yields, covariance = histogram_of_draws(draws, axes)
    np.testing.assert_allclose(yields, flat.counts[:-1].sum(1)[response.inside[0]], atol=1e-12)
    assert covariance.shape == (6, 6)


def test_the_covariance_of_a_histogram_of_draws_is_that_of_events_drawn_anew():
    draws, _, weights = drawn()
    yields, covariance = histogram_of_draws(draws, EDGES, weights=weights)
    each = np.array([histogram_of_draws(d[None], EDGES, weights=[w])[0] for d, w in zip(draws, weights, strict=True)])
    np.testing.assert_allclose(yields, each.sum(0), atol=1e-9)
    np.testing.assert_allclose(covariance, each.T @ each, atol=1e-9)
    n_toys = 20_000
    toys = np.random.default_rng(8).poisson(1.0, (n_toys, len(draws))) @ each
    errors = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / n_toys)
    assert (np.abs(np.cov(toys, rowvar=False) - covariance) < N_ERRORS * errors).all()
    alone, _ = np.histogram(draws.ravel(), EDGES, weights=np.repeat(weights**2, 6) / 36)
    assert (np.diag(covariance) > 1.5 * alone).all()


def test_a_histogram_of_one_draw_has_squared_weights():
    reconstructed, _, weights = smeared()
    yields, covariance = histogram_of_draws(reconstructed[:, None], EDGES, weights=weights)
    np.testing.assert_allclose(yields, np.histogram(reconstructed, EDGES, weights=weights)[0], atol=1e-9)
    np.testing.assert_allclose(
        covariance, np.diag(np.histogram(reconstructed, EDGES, weights=weights**2)[0]), atol=1e-9
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.restricted(true=[True]), "true bins to keep: 3 booleans are needed"),
        (lambda r: r.restricted(reconstructed=[False] * 3), "reconstructed bins to keep: 3 booleans"),
        (lambda r: r.restricted(true=[0, 1, 2]), "3 booleans are needed"),
        (lambda r: r.scaled(0.0), "factor = 0.0: a positive number"),
        (lambda r: r.scaled(-1.0), "factor = -1.0"),
        (lambda r: r.scaled(np.nan), "factor = nan"),
        (lambda r: response_of_draws([0.5, 1.5], [0.5, 1.5], EDGES), r"draws of shape \(2,\): \(events, draws\)"),
        (lambda r: response_of_draws(np.zeros((2, 0)), [0.5, 1.5], EDGES), r"draws of shape \(2, 0\)"),
        (lambda r: response_of_draws([[0.5]], [0.5, 1.5], EDGES), "draws of 1 events, truth of 2"),
        (lambda r: response_of_draws([[0.5]], [np.nan], EDGES), "not finite"),
        (lambda r: response_of_draws([[0.5]], [0.5], EDGES, weights=[np.nan]), "1 finite ones"),
        (lambda r: response_of_draws(np.zeros((2, 3, 2)), np.zeros((2, 2)), [EDGES]), "1 axes, values of 2"),
        (lambda r: histogram_of_draws([0.5, 1.5], EDGES), r"draws of shape \(2,\)"),
        (lambda r: histogram_of_draws([[0.5]], EDGES, weights=[1.0, 2.0]), "1 finite ones"),
        (lambda r: histogram_of_draws(np.zeros((2, 3, 2)), [EDGES]), "1 axes, values of 2"),
        (lambda r: replace(r, kept=(np.ones(5, bool), np.zeros(5, bool))).trace_fraction(), "no solved event"),
    ],
    ids=[
        "few flags",
        "no flag",
        "places for flags",
        "factor of zero",
        "negative factor",
        "nan factor",
        "values for draws",
        "no draw",
        "fewer events",
        "nan truth",
        "nan weight",
        "few axes",
        "values for a histogram",
        "more weights",
        "few axes of a histogram",
        "nothing kept",
    ],
)
def test_refusals_of_parts_and_draws(call, message):
    with pytest.raises(InputError, match=message):
        call(response_matrix(*smeared()[:2], EDGES))
