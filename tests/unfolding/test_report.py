from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.unfolding import report
from rewind.unfolding.binned import iterative_bayes, matrix_inversion, poisson_likelihood, svd, tikhonov
from rewind.unfolding.binned.nuisances import Nuisance
from rewind.unfolding.checks import bottom_line, folded_fit
from smeared_spectra import smeared

RESPONSE, TRUTH = smeared(6, 12, 0.8)
OTHER = smeared(6, 12, 0.8, 2.0)[1]
DATA = np.random.default_rng(4).poisson(RESPONSE @ (OTHER / TRUTH))
SCALE = Nuisance(response_up=1.02 * RESPONSE, response_down=0.98 * RESPONSE)
METHODS = {
    "inversion": matrix_inversion,
    "bayes": partial(iterative_bayes, iterations=3),
    "svd": partial(svd, k=3),
    "tikhonov": partial(tikhonov, tau=0.01),
    "likelihood": poisson_likelihood,
    "nuisance": partial(poisson_likelihood, nuisances={"scale": SCALE}),
    "stiff": partial(tikhonov, tau=1e9),
}


def page_of(method, **options):
    def unfold(data):
        return method(RESPONSE, TRUTH, data)

    return report(RESPONSE, TRUTH, DATA, unfold, np.random.default_rng(1), n=40, **options)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_report_of_any_method_fits_on_a_page(method):
    before = DATA.copy()
    page = page_of(
        method, predictions={"a falling spectrum with a very long name " * 3: OTHER}, alternatives={"x": OTHER}
    )
    lines = str(page).splitlines()
    assert max(map(len, lines)) <= 88
    assert len(lines) < 40
    assert all(line == line.rstrip() for line in lines)
    np.testing.assert_array_equal(DATA, before)


def test_its_figures_are_those_of_the_checks():
    page = page_of(METHODS["bayes"], predictions={"other": OTHER}, alternatives={"other": OTHER})
    result = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=3)
    assert page.bottom_lines["other"] == bottom_line(result, DATA, OTHER)
    assert page.fit == folded_fit(result)
    assert page.sample_sizes is None
    assert page.prior is None
    assert list(page.toys) == ["the unfolded spectrum, folded back", "other"]
    np.testing.assert_array_equal(page.toys["other"].truth, OTHER)
    np.testing.assert_allclose(page.toys["the unfolded spectrum, folded back"].truth, result.values)
    assert f"{page.toys['other'].worst_coverage:.3f}" in str(page)


def test_toys_are_thrown_about_no_negative_yields():
    few = np.random.default_rng(2).poisson(RESPONSE.sum(1) / 2_000)
    page = report(RESPONSE, TRUTH, few, lambda d: matrix_inversion(RESPONSE, TRUTH, d), np.random.default_rng(1), n=10)
    (toys,) = page.toys.values()
    assert page.result.values.min() < 0
    np.testing.assert_array_equal(toys.truth, np.maximum(page.result.values, 0))


def test_a_stiff_result_has_no_global_correlation_and_no_bottom_line():
    page = page_of(METHODS["stiff"], predictions={"other": OTHER})
    assert page.global_correlations is None
    assert page.bottom_lines == {"other": None}
    assert str(page).count("none, the covariance has no inverse") == 2


def test_another_prior_is_tried_where_it_is_given():
    page = page_of(
        METHODS["bayes"],
        unfold_from=lambda prior: iterative_bayes(RESPONSE, TRUTH, DATA, iterations=3, prior=prior),
        priors=[TRUTH, np.full(6, 1e4)],
    )
    assert f"shift a bin by up to {page.prior.worst:.2f} of its error" in str(page)


def test_a_response_record_adds_its_sample_sizes():
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 2, 4_000)
    record = response_matrix(truth + rng.normal(0, 0.1, 4_000), truth, np.linspace(0, 2, 5))
    data = rng.poisson(record.parts.yields.sum(1))
    page = report(record, None, data, lambda data: iterative_bayes(record, None, data), rng, n=40)
    assert page.sample_sizes.bins.sum() == 4_000
    assert "poorest cell" in str(page)


def test_toys_have_the_covariance_that_the_data_have():
    covariance = np.diag(4.0 * DATA) + 5.0

    def unfold(data):
        return matrix_inversion(RESPONSE, TRUTH, data, data_covariance=covariance)

    page = report(RESPONSE, TRUTH, DATA, unfold, np.random.default_rng(1), n=400)
    (toys,) = page.toys.values()
    assert np.abs(toys.pull_width.values - 1).max() < 5 / 800**0.5


@pytest.mark.filterwarnings("ignore:true bins", "ignore:data")
def test_empty_and_unreachable_bins_are_flagged_and_many_bins_have_no_table():
    response, truth = np.pad(RESPONSE, ((0, 1), (0, 1))), np.r_[TRUTH, 5.0]
    data = np.r_[DATA, 3]
    page = report(response, truth, data, lambda d: iterative_bayes(response, truth, d), np.random.default_rng(1), n=40)
    assert "left out, as empty        true bins 6; reconstructed bins 12" in str(page)
    assert "nan" not in str(page)
    response, truth = smeared(45, 45, 0.5)
    data = response.sum(1)
    long = report(response, truth, data, lambda d: iterative_bayes(response, truth, d), np.random.default_rng(1), n=10)
    assert "pull width  coverage" not in str(long)


def test_toys_that_are_refused_are_told():
    def picky(data):
        if data[0] > DATA[0] + 3 * DATA[0] ** 0.5:
            raise InputError("too many events in the first bin, which this method does not like at all, as was said")
        return matrix_inversion(RESPONSE, TRUTH, data)

    with pytest.raises(InputError, match="too many events"):  # a bump of a tenth is no fluctuation
        report(RESPONSE, TRUTH, DATA, picky, np.random.default_rng(1), n=40)
    page = report(RESPONSE, TRUTH, DATA, lambda d: matrix_inversion(RESPONSE, TRUTH, d), np.random.default_rng(1), n=40)
    (name,) = page.toys
    toys = replace(page.toys[name], reasons=("a reason that is told in full " * 4,) * 2)
    text = str(replace(page, toys={name: toys}))
    assert "40 about the unfolded spectrum, folded back, 2 refused: a" in text
    assert text.count("told in full") + text.count("told in\n") >= 3
    assert max(map(len, text.splitlines())) <= 88


def test_another_response_is_refused():
    with pytest.raises(InputError, match="another response"):
        report(
            2 * RESPONSE,
            2 * TRUTH,
            DATA,
            lambda data: matrix_inversion(RESPONSE, TRUTH, data),
            np.random.default_rng(1),
        )
