from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from chance import assert_likely, assert_mean
from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.stats.response import response_of_draws
from rewind.unfolding.binned import iterative_bayes, matrix_inversion, tikhonov
from rewind.unfolding.binned.problem import read
from rewind.unfolding.binned.spectral import SpectralAnalysis
from rewind.unfolding.checks import (
    bottom_line,
    closure,
    condition_number,
    effective_sample_sizes,
    folded_fit,
    linearity,
    linearity_to_shape,
    prior_shift,
)
from smeared_spectra import smeared

SQUARE, TALL = smeared(8, 8, 0.7), smeared(8, 16, 1.2)
DATA = {len(response): np.random.default_rng(5).poisson(response.sum(1) * 1.1) for response, _ in (SQUARE, TALL)}


def observed(response):
    return DATA[len(response)]


def spread(n, seed=3):
    """Return a covariance of n data that are correlated."""
    root = np.random.default_rng(seed).normal(size=(n, n)) * 20
    return root @ root.T + 1e3 * np.eye(n)


OPTIONS = {
    "plain": {},
    "background": {"background": np.linspace(50.0, 10.0, 8)},
    "purity": {"purity": np.linspace(0.9, 0.7, 8)},
    "covariance": {"data_covariance": spread(8)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_bottom_line_of_a_square_inversion_is_equal_in_both_spaces(options):
    result = matrix_inversion(*SQUARE, observed(SQUARE[0]), **options)
    line = bottom_line(result, observed(SQUARE[0]), 1.2 * SQUARE[1])
    assert line.unfolded == pytest.approx(line.folded, rel=1e-8)
    assert line.holds
    assert (line.unfolded_dof, line.folded_dof) == (8, 8)


def test_the_bottom_line_goes_by_the_full_covariance():
    result = matrix_inversion(*TALL, observed(TALL[0]))
    off = result.values - TALL[1]
    expected = off @ np.linalg.solve(result.covariance, off)
    assert bottom_line(result, observed(TALL[0]), TALL[1]).unfolded == pytest.approx(expected, rel=1e-6)


def test_more_data_than_bins_leave_the_rest_of_chi2_to_the_fit():
    result = matrix_inversion(*TALL, observed(TALL[0]))
    line = bottom_line(result, observed(TALL[0]), 1.3 * TALL[1])
    assert line.folded == pytest.approx(line.unfolded + result.folded_chi2, rel=1e-8)


def test_a_bias_violates_the_bottom_line():
    other = smeared(8, 16, 1.2, 2.0, bump=0.5)[1]
    data = TALL[0] @ (other / TALL[1])
    assert not bottom_line(iterative_bayes(*TALL, data, iterations=1), data, other).holds


@pytest.mark.parametrize("case", [SQUARE, TALL], ids=["square", "tall"])
def test_an_inversion_closes_and_is_linear(case):
    def unfold(data):
        return matrix_inversion(*case, data)

    result = unfold(observed(case[0]))
    assert np.abs(closure(result, unfold).residual / case[1]).max() < 1e-10
    assert np.abs(closure(result, unfold, case[1][::-1]).residual / case[1]).max() < 1e-9
    for line in (linearity(result, unfold), linearity_to_shape(result, unfold, np.linspace(-1, 1, 8))):
        np.testing.assert_allclose(line.slopes, 1, rtol=0, atol=1e-8)
        np.testing.assert_allclose(line.intercepts / case[1], 0, atol=1e-8)


METHODS = {
    "bayes": lambda data: iterative_bayes(*TALL, data, iterations=3),
    "tikhonov": lambda data: tikhonov(*TALL, data, tau=0.01),
}


@pytest.mark.parametrize("unfold", METHODS.values(), ids=METHODS.keys())
def test_what_leans_on_the_simulation_closes_on_it_and_follows_others_too_little(unfold):
    result = unfold(observed(TALL[0]))
    assert abs(closure(result, unfold).worst) < 1e-9
    assert abs(closure(result, unfold, TALL[1] * np.linspace(0.5, 1.5, 8)).worst) > 1
    assert (linearity(result, unfold).slopes < 0.99).all()


def ridge(data, prior=None):
    """Unfold by a method that is linear in data and prior: data of known covariance, fixed strength, no area."""
    return tikhonov(*TALL, data, tau=0.01, area=False, prior=prior, data_covariance=np.diag(TALL[0].sum(1)))


def test_slopes_of_a_linear_method_are_its_averaging_kernel():
    result = ridge(observed(TALL[0]))
    kernel = result.jacobian @ TALL[0] / TALL[1]
    np.testing.assert_allclose(linearity(result, ridge).slopes, np.diag(kernel), rtol=1e-8)
    shape = np.array([0, 0, 1, 2, 0, -1, 0, 0.0])
    slopes = linearity_to_shape(result, ridge, shape).slopes
    moved = shape != 0
    np.testing.assert_allclose(slopes[moved], (kernel @ (TALL[1] * shape) / (TALL[1] * shape + ~moved))[moved])
    assert np.isnan(slopes[~moved]).all()


def test_a_prior_moves_a_linear_method_by_what_its_kernel_leaves():
    priors = [TALL[1], TALL[1][::-1], np.full(8, 1e4)]
    result = ridge(observed(TALL[0]), TALL[1])
    left = np.eye(8) - result.jacobian @ TALL[0] / TALL[1]
    expected = (np.array(priors[1:]) - priors[0]) @ left.T / result.errors
    shift = prior_shift(lambda prior: ridge(observed(TALL[0]), prior), priors)
    np.testing.assert_allclose(shift.shifts, expected, rtol=1e-6, atol=1e-8)
    assert shift.worst == np.abs(shift.shifts).max()


def test_the_fit_of_an_inversion_counts_its_bins():
    fit = folded_fit(matrix_inversion(*TALL, observed(TALL[0])))
    assert (fit.dof, fit.parameters) == (pytest.approx(8), pytest.approx(8))
    square = folded_fit(matrix_inversion(*SQUARE, observed(SQUARE[0])))
    assert square.chi2 < 1e-12
    assert square.dof == pytest.approx(0, abs=1e-10)
    assert square.p_value == 1


def test_parameters_are_the_trace_of_the_derivative_of_folded_data():
    purity = np.linspace(0.9, 0.6, 16)
    data = observed(TALL[0]).astype(float)

    def folded(values):
        return iterative_bayes(*TALL, values, iterations=3, purity=purity).folded

    trace = sum((folded(data + step) - folded(data - step))[i] / 2 for i, step in enumerate(np.eye(16)))
    fit = folded_fit(iterative_bayes(*TALL, data, iterations=3, purity=purity))
    assert fit.parameters == pytest.approx(trace, rel=1e-6)


def test_folded_chi2_is_distributed_as_said_where_there_is_no_bias():
    rng, expected = np.random.default_rng(8), TALL[0].sum(1)
    data = rng.normal(expected, expected**0.5, (500, 16))
    fits = [folded_fit(ridge(observed)) for observed in data]
    assert_mean([fit.chi2 - fit.dof for fit in fits])
    assert_likely(kstest([fit.p_value for fit in fits], "uniform").pvalue)
    fixed = np.diag(expected)
    fits = [folded_fit(matrix_inversion(*TALL, observed, data_covariance=fixed)) for observed in data]
    assert_likely(kstest([fit.p_value for fit in fits], "uniform").pvalue)


def test_parameters_of_an_svd_are_its_damping_factors():
    analysis = SpectralAnalysis(read(*TALL, observed(TALL[0])))
    for k, size in enumerate(analysis.sizes, start=1):
        kept = analysis.sizes**2 / (analysis.sizes**2 + size**2)
        fit = folded_fit(analysis.unfold(k))
        assert fit.parameters == pytest.approx(kept.sum(), rel=1e-6)
        assert fit.dof == pytest.approx(16 - 8 + ((1 - kept) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize("k", [2, 4, 6])
def test_p_values_are_those_of_the_damped_sum_of_squares(k):
    analysis = SpectralAnalysis(read(*SQUARE, observed(SQUARE[0])))
    left = (1 - analysis.sizes**2 / (analysis.sizes**2 + analysis.sizes[k - 1] ** 2)) ** 2
    fit = folded_fit(replace(analysis.unfold(k), folded_chi2=1.5 * left.sum()))
    drawn = np.random.default_rng(9).normal(size=(100_000, 8)) ** 2 @ left
    assert fit.p_value == pytest.approx((drawn > 1.5 * left.sum()).mean(), abs=0.02)


def test_condition_numbers_say_which():
    conditions = condition_number(read([[5.0, 0.0], [0.0, 1.0]], [10.0, 4.0], [100.0, 25.0]))
    assert conditions == (pytest.approx(2.0), pytest.approx(2.5))
    singular = condition_number(read([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [4.0, 4.0], [9.0, 9.0, 9.0]))
    assert singular == (np.inf, np.inf)


EDGES = [0.0, 1.0, 2.0]


def test_effective_sample_sizes_count_unweighted_events():
    truth = np.repeat([0.5, 1.5], [300, 100])
    reconstructed = np.r_[np.full(250, 0.5), np.full(20, 1.5), np.full(30, 9.0), np.full(40, 0.5), np.full(60, 1.5)]
    for weight in (1.0, 0.2):
        sizes = effective_sample_sizes(
            response_matrix(reconstructed, truth, EDGES, weights=np.full(400, weight)), share=0.01
        )
        np.testing.assert_allclose(sizes.bins, [300, 100])
        assert (sizes.smallest_cell, sizes.cell) == (pytest.approx(20), (1, 0))
    weights = np.where(np.arange(400) % 2, 1.0, 3.0)
    sizes = effective_sample_sizes(response_matrix(reconstructed, truth, EDGES, weights=weights))
    np.testing.assert_allclose(sizes.bins, np.array([300, 100]) * 4 / 5)


def test_draws_of_an_event_count_once():
    draws = np.random.default_rng(2).uniform(0, 2, (200, 10))
    record = response_of_draws(draws, np.repeat([0.5, 1.5], 100), EDGES)
    np.testing.assert_allclose(effective_sample_sizes(record).bins, 100)


def test_expected_data_are_those_of_the_fold():
    purity, background = np.linspace(0.9, 0.6, 16), np.full(16, 9.0)
    result = iterative_bayes(*TALL, observed(TALL[0]), background=background, purity=purity)
    np.testing.assert_allclose(result.expected_data(result.values), result.folded)


@pytest.mark.filterwarnings("ignore:true bins")
def test_bins_that_are_not_determined_are_left_out():
    response, truth = np.pad(SQUARE[0], ((0, 1), (0, 1))), np.r_[SQUARE[1], 7.0]
    data = np.r_[observed(SQUARE[0]), 0]

    def unfold(data):
        return matrix_inversion(response, truth, data)

    result = unfold(data)
    line = linearity(result, unfold)
    assert np.isnan(closure(result, unfold).residual[-1])
    assert np.isnan(line.slopes[-1])
    np.testing.assert_allclose(line.slopes[:-1], 1, rtol=1e-8)
    assert bottom_line(result, data, np.r_[SQUARE[1], np.nan]).unfolded_dof == 8
    assert result.expected_data(result.values)[-1] == 0


RESULT = matrix_inversion(*SQUARE, observed(SQUARE[0]))
SINGULAR = tikhonov(*TALL, observed(TALL[0]), tau=1e9)
REFUSED = {
    "other data": (lambda: bottom_line(RESULT, np.zeros(8), SQUARE[1]), "not those of the result"),
    "no inverse": (lambda: bottom_line(SINGULAR, observed(TALL[0]), TALL[1]), "fewer degrees of freedom"),
    "another binning": (lambda: bottom_line(RESULT, observed(SQUARE[0]), np.ones(3)), "8 finite yields are needed"),
    "NaN prediction": (lambda: RESULT.expected_data(np.full(8, np.nan)), "8 finite yields are needed"),
    "shape": (lambda: linearity_to_shape(RESULT, lambda _: RESULT, [1.0]), "each of 8 true bins"),
    "one size": (lambda: linearity(RESULT, lambda _: RESULT, sizes=[0.1, 0.1]), "a straight line needs two"),
    "one prior": (lambda: prior_shift(lambda _: RESULT, [SQUARE[1]]), "two at least"),
    "no cell": (
        lambda: effective_sample_sizes(response_matrix([0.5], [1.5], EDGES), share=2.0),
        "no cell holds 2",
    ),
}


@pytest.mark.parametrize(("refused", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_judged_is_refused(refused, text):
    with pytest.raises(InputError, match=text):
        refused()
