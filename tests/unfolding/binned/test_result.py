import tracemalloc
from dataclasses import replace

import hist
import numpy as np
import pytest

from chance import N_ERRORS
from literal_unfoldings import METHODS, observed, resimulated, simulated, split
from rewind.errors import InputError
from rewind.stats import ResponseMatrix, response_matrix
from rewind.unfolding.binned import global_correlation, iterative_bayes, matrix_inversion
from smeared_spectra import smeared

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
each_simulation = pytest.mark.parametrize("n_draws", [1, 4], ids=["events", "draws"])


def by_formula(method, response, data, counts=None):
    counts = response.counts[None] if counts is None else counts
    data = np.atleast_2d(data)
    return method.formula(*split(response, counts), data, np.atleast_2d(observed(response)))


@each_method
@each_simulation
def test_values_are_those_of_the_formula(method, n_draws):
    response = simulated(n_draws)
    data = observed(response)
    np.testing.assert_allclose(method.unfold(response, data).values, by_formula(method, response, data)[0], rtol=1e-9)


@each_method
def test_the_jacobian_is_the_derivative_by_the_data(method):
    response = simulated()
    data = observed(response)
    result = method.unfold(response, data)
    step = 1e-3 * np.sqrt(data)
    moved = np.concatenate([data + np.diag(step), data - np.diag(step)])
    high, low = np.split(method.formula(*split(response, response.counts[None]), moved, data[None]), 2)
    numerical = ((high - low) / (2 * step[:, None])).T
    np.testing.assert_allclose(result.jacobian, numerical, atol=1e-6 * np.abs(numerical).max())
    np.testing.assert_allclose(result.covariance, (numerical * data) @ numerical.T, atol=1e-6 * result.covariance.max())


def propagated(response, unfold):
    """Return the simulation covariance of ``unfold(response)`` by finite differences over all cells."""
    step = 1e-3 * np.sqrt(response.squares.max(0))
    slopes = np.zeros((*response.counts.T.shape, response.inside[1].sum()))
    for r, t in zip(*np.nonzero(response.squares), strict=True):
        aside = np.zeros_like(response.counts)
        aside[r, t] = step[t]
        high, low = (unfold(replace(response, counts=response.counts + sign * aside)) for sign in (1, -1))
        slopes[t, r] = (high.values - low.values) / (2 * step[t])
    if response.shared is None:
        return np.einsum("tri,rt,trj->ij", slopes, response.squares, slopes)
    return np.einsum("tri,trs,tsj->ij", slopes, response.shared, slopes)


@each_method
@each_simulation
def test_the_simulation_covariance_is_that_of_every_count(method, n_draws):
    response = simulated(n_draws)
    data = observed(response)
    numerical = propagated(response, lambda moved: method.unfold(moved, data))
    ours = method.unfold(response, data).simulation_covariance
    np.testing.assert_allclose(ours, numerical, atol=1e-6 * numerical.max())


SIZE = np.sqrt(observed(simulated()))
SETTINGS = {
    "fakes": {"fakes": np.full(8, 120.0)},
    "purity": {"purity": np.linspace(0.7, 0.95, 8)},
    "background": {"background": np.full(8, 50.0)},
    "full covariance": {"data_covariance": np.diag(SIZE**2) + 0.2 * np.outer(SIZE, SIZE)},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("name", ["inversion", "Bayes, prior", "SVD, prior", "Tikhonov, prior"])
def test_the_simulation_covariance_knows_what_is_not_simulated(name, setting):
    response = simulated(4)
    data, unfold = observed(response), METHODS[name].unfold
    numerical = propagated(response, lambda moved: unfold(moved, data, **setting))
    ours = unfold(response, data, **setting).simulation_covariance
    np.testing.assert_allclose(ours, numerical, atol=1e-6 * numerical.max())


def with_holes(response):
    """Return the response with a reconstructed bin that nothing reaches, and a true one that is always missed."""
    rows = np.flatnonzero(response.inside[0])
    row, column = rows[3], np.flatnonzero(response.inside[1])[0]
    counts, squares, shared = (values.copy() for values in (response.counts, response.squares, response.shared))
    for values in (counts, squares):
        values[row] = values[rows, column] = 0
    shared[:, row] = shared[:, :, row] = 0
    shared[column, rows] = shared[column, :, rows] = 0
    return replace(response, counts=counts, squares=squares, shared=shared)


@pytest.mark.parametrize("name", ["inversion", "Bayes, 5", "SVD", "Tikhonov"])
@pytest.mark.filterwarnings("ignore:data:UserWarning", "ignore:true bins:UserWarning")
def test_the_simulation_covariance_leaves_out_what_is_not_determined_or_not_kept(name):
    response, unfold = simulated(4), METHODS[name].unfold
    data, columns = observed(response), np.array([True, True, False, True, True])
    rows = np.arange(8) != 6
    fewer, holed = response.restricted(true=columns, reconstructed=rows), with_holes(response)
    for moved, seen in ((fewer, data[rows]), (holed, data)):
        result = unfold(moved, seen)
        numerical = propagated(moved, lambda other, seen=seen: unfold(other, seen))
        known = np.ix_(result.determined, result.determined)
        ours = result.simulation_covariance[known]
        np.testing.assert_allclose(ours, numerical[known], atol=1e-6 * numerical[known].max())
    assert not result.determined[0]
    assert not result.reachable[3]


@each_simulation
def test_the_simulation_covariance_is_that_of_weighted_and_partly_negative_events_drawn_anew(n_draws):
    response, n_toys = simulated(n_draws), 20_000
    data, counts = observed(response), resimulated(n_toys, np.random.default_rng(7), n_draws)
    np.testing.assert_allclose(
        counts.mean(0), response.counts, atol=N_ERRORS * np.sqrt(response.squares / n_toys).max()
    )
    for name, method in METHODS.items():
        spread = np.cov(by_formula(method, response, data, counts), rowvar=False)
        ours = method.unfold(response, data).simulation_covariance
        np.testing.assert_allclose(np.diag(ours), np.diag(spread), rtol=0.05, err_msg=name)
        size = np.sqrt(np.diag(spread))
        np.testing.assert_allclose(ours / np.outer(size, size), spread / np.outer(size, size), atol=0.05, err_msg=name)


@each_method
def test_draws_of_which_all_agree_are_one_event(method):
    response = simulated()
    shared = np.zeros((response.counts.shape[1], *[response.counts.shape[0]] * 2))
    places = np.arange(len(response.counts))
    shared[:, places, places] = response.squares.T
    alone, drawn = (method.unfold(r, observed(response)) for r in (response, replace(response, shared=shared)))
    np.testing.assert_allclose(alone.simulation_covariance, drawn.simulation_covariance, rtol=1e-9)


@each_method
def test_covariances_are_symmetric_and_no_variance_is_negative(method):
    response = simulated()
    result = method.unfold(response, observed(response))
    for covariance in (result.covariance, result.simulation_covariance, result.total_covariance):
        np.testing.assert_array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() >= -1e-9 * covariance.max()
    np.testing.assert_allclose(np.diag(result.correlation), 1, rtol=1e-12)
    np.testing.assert_allclose(result.correlation * np.outer(result.errors, result.errors), result.covariance)


@each_method
def test_the_folded_values_are_the_expected_data(method):
    response = simulated()
    result = method.unfold(response, observed(response))
    np.testing.assert_allclose(result.folded, result.expected_data(result.values), rtol=1e-12)
    parts = response.parts
    np.testing.assert_allclose(result.folded, parts.yields @ (result.values / parts.truth) + parts.fakes, rtol=1e-12)
    off = observed(response) - result.folded
    assert result.folded_chi2 == pytest.approx(np.sum(off**2 / observed(response)), rel=1e-10)


@each_method
def test_300_bins_with_both_covariances_take_little_memory(method):
    """Less than 60 MB beside the library: a few matrices of 300 by 300, and none of 300 cubed (216 MB)."""
    n = 300
    response, truth = smeared(n, n, 1.2)
    axes = response_matrix([0.5], [0.5], np.arange(n + 1.0)).true
    counts = np.zeros((n + 3, n + 2))
    counts[1:-2, 1:-1], counts[-1, 1:-1] = response, truth - response.sum(0)
    record, options = ResponseMatrix(axes, axes, counts, counts), {}
    if method.has_prior:
        options["prior"] = truth * np.linspace(0.9, 1.1, n)
    tracemalloc.start()
    result = method.unfold(record, response.sum(1), **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(result.total_covariance).all()
    assert peak < 60e6


def test_a_purity_divides_what_is_folded():
    response, purity = [[8.0, 2.0], [2.0, 8.0]], [0.8, 0.5]
    result = matrix_inversion(response, [12.0, 12.0], [700.0, 300.0], purity=purity)
    np.testing.assert_allclose(result.folded, [700, 300], rtol=1e-12)
    np.testing.assert_allclose(result.expected_data([120.0, 240.0]), [120 / 0.8, 180 / 0.5], rtol=1e-12)


def test_the_simulation_covariance_of_arrays_is_not_known():
    result = iterative_bayes([[8.0, 2.0], [2.0, 8.0]], [12.0, 12.0], [700.0, 300.0])
    assert result.simulation_covariance is None
    with pytest.raises(InputError, match="not known from bare arrays"):
        _ = result.total_covariance


def test_the_global_correlation_is_the_multiple_correlation_of_a_regression():
    root = np.random.default_rng(3).normal(size=(5, 5)) * [1, 10, 0.1, 3, 1e4]
    covariance = root.T @ root
    for i, ours in enumerate(global_correlation(covariance)):
        others = np.delete(np.arange(5), i)
        explained = covariance[i, others] @ np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, i])
        assert ours == pytest.approx(np.sqrt(explained / covariance[i, i]), rel=1e-9)


@pytest.mark.parametrize(
    ("covariance", "text"),
    [
        (np.ones((2, 2)), "no inverse"),
        (np.diag([1.0, 0.0]), "positive variances"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "finite entries"),
    ],
    ids=["singular", "no variance", "not finite"],
)
def test_covariances_without_a_global_correlation(covariance, text):
    with pytest.raises(InputError, match=text):
        global_correlation(covariance)


@pytest.mark.parametrize("spectrum", [[1.0], [1.0, np.nan], [[1.0, 1.0]]], ids=["short", "not finite", "nested"])
def test_spectra_that_do_not_fold(spectrum):
    result = iterative_bayes([[8.0, 2.0], [2.0, 8.0]], [12.0, 12.0], [700.0, 300.0])
    with pytest.raises(InputError, match="2 finite yields"):
        result.expected_data(spectrum)


@pytest.mark.filterwarnings("ignore:data:UserWarning", "ignore:true bins:UserWarning")
def test_a_histogram_of_the_result_has_the_true_axes():
    rng = np.random.default_rng(4)
    truth = rng.uniform(0, 3, (3_000, 2))
    axes = [hist.axis.Regular(3, 0, 3, name="x"), hist.axis.Variable([0, 1, 3], name="y")]
    response = response_matrix(truth + rng.normal(0, 0.1, truth.shape), truth, axes)
    data = response.parts.yields.sum(1)
    whole = matrix_inversion(response, None, data)
    filled = whole.to_hist()
    assert tuple(filled.axes) == response.true
    assert filled.kind == hist.Hist(storage=hist.storage.Weight()).kind
    np.testing.assert_array_equal(filled.values().ravel(), whole.values)
    np.testing.assert_array_equal(filled.variances().ravel(), np.diag(whole.covariance))
    assert np.isnan(filled.values(flow=True)).sum() == 5 * 4 - 6
    np.testing.assert_array_equal(iterative_bayes(response, None, data, prior=filled).problem.prior, whole.values)
    keep = np.array([True, True, False, True, True, True])
    lost = replace(response, counts=response.counts.copy())
    lost.counts[:-1, np.flatnonzero(response.inside[1])[0]] = 0
    for result, known in (
        (matrix_inversion(response.restricted(true=keep), None, data), keep),
        (matrix_inversion(lost, None, data), np.arange(6) > 0),
    ):
        content = result.to_hist()
        for flat, ours in ((content.values(), result.values), (content.variances(), np.diag(result.covariance))):
            np.testing.assert_array_equal(np.isnan(flat.ravel()), ~known)
            np.testing.assert_array_equal(flat.ravel()[known], ours[np.isfinite(ours)])


def test_the_result_of_bare_arrays_has_no_axes():
    with pytest.raises(InputError, match="bare arrays have no axes; unfold with a response record"):
        matrix_inversion([[8.0, 2.0], [2.0, 8.0]], [12.0, 12.0], [700.0, 300.0]).to_hist()
