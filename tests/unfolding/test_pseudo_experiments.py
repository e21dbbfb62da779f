from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from chance import assert_agrees
from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.unfolding import pseudo_experiments, until_covered
from rewind.unfolding.binned import matrix_inversion
from rewind.unfolding.pseudo_experiments import PseudoExperiments, length_ratio, pseudo_data, total_errors
from smeared_spectra import smeared

RESPONSE, TRUTH = smeared(6, 12, 0.8)
ONE_SIGMA = norm.cdf(1) - norm.cdf(-1)
WIDE = np.array([400.0, 100.0, 900.0])


def rng(seed=1):
    return np.random.default_rng(seed)


def invert(data):
    return matrix_inversion(RESPONSE, TRUTH, data)


def direct(data, *, shift=0.0, shrink=1.0):
    """Return data of known variance as they are, moved by so many standard deviations, with errors scaled."""
    result = matrix_inversion(np.eye(3), np.ones(3), data, data_covariance=np.diag(WIDE))
    return replace(result, values=result.values + shift * WIDE**0.5, covariance=result.covariance * shrink**2)


def normal_toys(unfold, n=2_000, seed=1):
    return pseudo_experiments(unfold, [1e4] * 3, [1e4] * 3, n, rng(seed), covariance=np.diag(WIDE))


def test_a_linear_gaussian_problem_is_exact():
    toys = normal_toys(direct)
    assert_agrees(toys.coverage.values, ONE_SIGMA, toys.coverage.errors)
    assert_agrees(toys.pull_width.values, 1, toys.pull_width.errors)
    assert_agrees(toys.pull_mean.values, 0, toys.pull_mean.errors)
    assert_agrees(toys.bias.values, 0, toys.bias.errors)
    assert_agrees(toys.mean_coverage.value, ONE_SIGMA, toys.mean_coverage.error)
    np.testing.assert_allclose(toys.length.values, 2 * WIDE**0.5)
    np.testing.assert_allclose(toys.pull_width.errors, 1 / (2 * 2_000) ** 0.5, rtol=0.2)


def test_correlated_data_are_drawn_as_they_are():
    covariance = np.diag(WIDE) + 80.0
    data = pseudo_data([1e4] * 3, 20_000, rng(), covariance=covariance)
    assert_agrees(np.cov(data.T), covariance, np.sqrt((covariance**2 + np.outer(*[np.diag(covariance)] * 2)) / 20_000))


def test_a_known_bias_costs_the_coverage_that_it_must():
    toys = normal_toys(lambda data: direct(data, shift=0.8))
    assert_agrees(toys.coverage.values, norm.cdf(0.2) - norm.cdf(-1.8), toys.coverage.errors)
    assert_agrees(toys.relative_bias.values, 0.8, toys.relative_bias.errors)
    assert_agrees(toys.mean_relative_bias.value, 0.8, toys.mean_relative_bias.error)


def test_errors_half_as_long_double_the_pulls():
    half, whole = normal_toys(lambda data: direct(data, shrink=0.5)), normal_toys(direct)
    assert_agrees(half.coverage.values, norm.cdf(0.5) - norm.cdf(-0.5), half.coverage.errors)
    assert_agrees(half.pull_width.values, 2, half.pull_width.errors)
    assert length_ratio(half, whole) == (pytest.approx(0.5), pytest.approx(0, abs=1e-12))


def test_an_inversion_of_many_counts_has_pulls_of_width_one():
    toys = pseudo_experiments(invert, RESPONSE.sum(1), TRUTH, 1_000, rng())
    assert toys.failures == 0
    for estimate, expected in ((toys.pull_width, 1), (toys.coverage, ONE_SIGMA), (toys.bias, 0)):
        assert_agrees(estimate.values, expected, estimate.errors)


def test_the_same_seed_is_the_same_data_for_every_method():
    moved = normal_toys(lambda data: direct(data, shift=0.3), n=50)
    np.testing.assert_allclose(moved.values - normal_toys(direct, n=50).values, 0.3 * WIDE**0.5 * np.ones((50, 1)))


def test_stated_errors_are_the_spread_of_repetitions():
    repeats, n, generator = 400, 100, rng(6)
    root = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0.3, 0.4, 0.5]])
    both = []
    for _ in range(repeats):
        values = generator.normal(size=(n, 3)) @ root.T + [3.0, 0.0, -0.4]
        errors = np.exp(0.5 * generator.normal(size=(n, 1)) + 0.1 * values)
        toys = PseudoExperiments(np.zeros(3), values, errors, ())
        others = PseudoExperiments(np.zeros(3), values, errors * np.exp(0.1 * generator.normal(size=(n, 3)) - 1), ())
        per_bin = [toys.bias, toys.relative_bias, toys.pull_mean, toys.pull_width, toys.coverage, toys.length]
        overall = [toys.mean_coverage, length_ratio(toys, others)]
        both.append(
            (
                np.concatenate([*(one.values for one in per_bin), [one.value for one in overall]]),
                np.concatenate([*(one.errors for one in per_bin), [one.error for one in overall]]),
            )
        )
    values, errors = np.array(both).transpose(1, 0, 2)
    assert_agrees(values.std(0, ddof=1) / errors.mean(0), 1, (2 * repeats) ** -0.5, rounding=0.03)


def test_pull_widths_are_the_unbiased_standard_deviations():
    toys = normal_toys(direct, n=12)
    np.testing.assert_allclose(toys.pull_width.values, toys.pulls.std(0, ddof=1))
    np.testing.assert_allclose(toys.bias.errors, toys.residuals.std(0, ddof=1) / 12**0.5)


def test_refused_toys_are_counted_with_their_reasons():
    def picky(data):
        if data[0] > 1e4:
            raise InputError("too many")
        return direct(data)

    toys = normal_toys(picky, n=400)
    assert_agrees(toys.failures, 200, 10)
    assert set(toys.reasons) == {"too many"}
    assert np.isnan(toys.values).any(1).sum() == toys.failures
    assert_agrees(toys.bias.values[1:], 0, toys.bias.errors[1:])
    assert toys.bias.values[0] < -10


@pytest.mark.filterwarnings("ignore:true bins")
def test_undetermined_bins_have_no_estimate_and_spoil_no_mean():
    response = np.pad(RESPONSE, ((0, 0), (0, 1)))
    truth = np.r_[TRUTH, 5.0]
    toys = pseudo_experiments(lambda d: matrix_inversion(response, truth, d), RESPONSE.sum(1), truth, 50, rng())
    for estimate in (toys.bias, toys.relative_bias, toys.pull_width, toys.coverage, toys.length):
        assert np.isnan(estimate.values[-1])
        assert np.isfinite(estimate.values[:-1]).all()
    assert np.isfinite([*toys.mean_coverage, *toys.worst_coverage, *toys.mean_relative_bias]).all()


def test_an_interval_of_no_length_covers_nothing_and_has_no_pull():
    values = np.array([[0.0], [1.0], [-1.0], [2.0]])
    toys = PseudoExperiments(np.zeros(1), values, np.array([[0.0], [0.0], [2.0], [1.0]]), ())
    assert toys.coverage[0].value == 0.5
    assert np.isnan(toys.pulls[:2]).all()


def test_total_errors_add_the_simulation():
    generator = rng()
    truth = generator.uniform(0, 2, 2_000)
    record = response_matrix(truth + generator.normal(0, 0.1, 2_000), truth, [0.0, 1.0, 2.0])

    def unfold(data):
        return matrix_inversion(record, None, data)

    expected = record.parts.yields.sum(1) + record.parts.fakes
    data_only = pseudo_experiments(unfold, expected, record.parts.truth, 100, rng(3))
    total = pseudo_experiments(unfold, expected, record.parts.truth, 100, rng(3), errors=total_errors)
    np.testing.assert_array_equal(data_only.values, total.values)
    np.testing.assert_allclose(
        total.errors[0], np.sqrt(np.diag(unfold(pseudo_data(expected, 100, rng(3))[0]).total_covariance))
    )
    assert (total.errors > data_only.errors).all()


def shifted(shift, data):
    return direct(data, shift=shift, shrink=1 + 2 * (1 - shift))


def walk(settings, **options):
    return until_covered(shifted, settings, [1e4] * 3, [1e4] * 3, 500, rng(), covariance=np.diag(WIDE), **options)


def test_the_walk_ends_at_the_first_setting_that_covers_with_its_price():
    covered = walk([1.0, 0.9, 0.5, 0.0])
    assert (covered.setting, covered.reached, covered.settings) == (0.5, True, (1.0, 0.9, 0.5))
    assert covered.price == (pytest.approx(2.0), pytest.approx(0, abs=1e-12))
    assert covered.chosen.worst_coverage.value >= 0.65 > covered.blind.worst_coverage.value
    assert covered.coverages[0] == covered.blind.worst_coverage
    assert covered.coverages[-1].value >= 0.65
    differences = covered.blind.values - covered.chosen.values
    np.testing.assert_allclose(differences, np.broadcast_to(0.5 * WIDE**0.5, differences.shape))


def test_a_blind_choice_that_covers_costs_nothing():
    covered = walk([0.0, 0.5])
    assert (covered.setting, covered.price.value, covered.chosen is covered.blind) == (0.0, 1.0, True)


def test_a_walk_that_never_covers_says_so():
    covered = walk([1.0, 0.9])
    assert (covered.setting, covered.reached) == (0.9, False)
    assert not walk([0.0], least=0.999).reached
    assert "the best" in str(covered)


def test_a_walk_that_never_covers_takes_the_best_of_its_settings():
    covered = walk([0.9, 0.5, 0.95], least=0.999)
    assert (covered.setting, covered.reached, covered.settings) == (0.5, False, (0.9, 0.5, 0.95))


def test_refused_toys_count_as_not_covered_where_coverage_decides():
    def picky(_, data):
        if data[0] > 1e4:
            raise InputError("too many")
        return direct(data, shrink=3.0)

    covered = until_covered(picky, [0], [1e4] * 3, [1e4] * 3, 100, rng(), covariance=np.diag(WIDE))
    assert covered.blind.worst_coverage.value > 0.9
    assert not covered.reached


def refuse(data):
    raise InputError("never")


REFUSED = {
    "seed": (lambda: pseudo_experiments(invert, RESPONSE.sum(1), TRUTH, 50, 1), "a NumPy generator is needed"),
    "few": (lambda: pseudo_experiments(invert, RESPONSE.sum(1), TRUTH, 3, rng()), "at least 10"),
    "negative": (
        lambda: pseudo_experiments(invert, -RESPONSE.sum(1), TRUTH, 50, rng()),
        "Poisson means are not negative",
    ),
    "NaN": (lambda: pseudo_experiments(invert, np.full(12, np.nan), TRUTH, 50, rng()), "one finite number"),
    "truth": (lambda: pseudo_experiments(invert, RESPONSE.sum(1), [1.0], 50, rng()), "6 true bins"),
    "all refused": (lambda: pseudo_experiments(refuse, RESPONSE.sum(1), TRUTH, 50, rng()), "the first: never"),
    "no setting": (lambda: walk([]), "settings: none given"),
}


@pytest.mark.parametrize(("refused", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_makes_no_toys_is_refused(refused, text):
    with pytest.raises(InputError, match=text):
        refused()
