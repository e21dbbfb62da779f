import re

import numpy as np
import pytest

from literal_unfoldings import by_least_squares, observed, simulated
from rewind.errors import InputError
from rewind.unfolding.binned import iterative_bayes, matrix_inversion, tikhonov
from rewind.unfolding.binned.least_squares import Tikhonov
from rewind.unfolding.binned.penalties import flat_curvature
from rewind.unfolding.binned.problem import read
from smeared_spectra import smeared

SQUARE, TALL = smeared(7, 7, 0.6), smeared(7, 12, 0.9)
OTHER = 1 + 0.2 * np.sin(np.arange(7))
DATA = {len(n): np.random.default_rng(6).poisson(n @ OTHER).astype(float) for n, _ in (SQUARE, TALL)}
PRIOR = np.linspace(3e4, 5e3, 7)


def covariance_of(n):
    """Return a covariance of n data that are correlated."""
    size = np.sqrt(DATA[n])
    return np.outer(size, size) * 0.7 ** np.abs(np.subtract.outer(range(n), range(n)))


OPTIONS = {
    "plain": lambda n: {},
    "background": lambda n: {"background": np.linspace(200.0, 20.0, n), "fakes": np.full(n, 30.0)},
    "purity": lambda n: {"purity": np.linspace(0.95, 0.7, n)},
    "full covariance": lambda n: {"data_covariance": covariance_of(n)},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
each_case = pytest.mark.parametrize("case", [SQUARE, TALL], ids=["square", "tall"])
each_area = pytest.mark.parametrize("area", [True, False], ids=["area", "free"])


@each_option
def test_a_square_inversion_is_the_inverse(options):
    response, truth = SQUARE
    data, given = DATA[7], options(7)
    share = given.get("purity", np.ones(7))
    inverse = np.linalg.inv(response / truth)
    result = matrix_inversion(response, truth, data, **given)
    signal = share * (data - given.get("background", 0.0) - given.get("fakes", 0.0))
    np.testing.assert_allclose(result.values, inverse @ signal, rtol=1e-9)
    covariance = given.get("data_covariance", np.diag(data)) * np.outer(share, share)
    expected = inverse @ covariance @ inverse.T
    np.testing.assert_allclose(result.covariance, expected, rtol=1e-9, atol=1e-9 * expected.max())
    np.testing.assert_allclose(result.folded, data, rtol=1e-9)
    assert result.folded_chi2 == pytest.approx(0, abs=1e-12)


@each_option
def test_a_tall_inversion_is_the_best_linear_unbiased_estimate(options):
    response, truth = TALL
    data, given = DATA[12], options(12)
    share = given.get("purity", np.ones(12))
    weights = np.linalg.inv(given.get("data_covariance", np.diag(data)) * np.outer(share, share))
    folding = response / truth
    covariance = np.linalg.inv(folding.T @ weights @ folding)
    signal = share * (data - given.get("background", 0.0) - given.get("fakes", 0.0))
    result = matrix_inversion(response, truth, data, **given)
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-8, atol=1e-9 * covariance.max())
    np.testing.assert_allclose(result.values, covariance @ folding.T @ weights @ signal, rtol=1e-8)


@each_option
def test_the_chi2_of_any_model_is_equal_in_both_spaces_of_a_square_inversion(options):
    response, truth = SQUARE
    data, given = DATA[7], options(7)
    result = matrix_inversion(response, truth, data, **given)
    covariance = given.get("data_covariance", np.diag(data))
    for seed in range(5):
        model = truth * np.random.default_rng(seed).uniform(0.3, 2, 7)
        off, folded_off = result.values - model, data - result.expected_data(model)
        unfolded = off @ np.linalg.solve(result.covariance, off)
        assert unfolded == pytest.approx(folded_off @ np.linalg.solve(covariance, folded_off), rel=1e-8)


@pytest.mark.parametrize(
    ("case", "area"),
    [(SQUARE, True), (SQUARE, False), (TALL, False)],
    ids=["square, area", "square, free", "tall, free"],
)
@each_option
def test_without_a_strength_tikhonov_inverts(case, area, options):
    response, truth = case
    n = len(response)
    inverted = matrix_inversion(response, truth, DATA[n], **options(n))
    result = tikhonov(response, truth, DATA[n], tau=0.0, area=area, **options(n))
    np.testing.assert_allclose(result.values, inverted.values, rtol=1e-9)
    np.testing.assert_allclose(result.covariance, inverted.covariance, atol=1e-9 * inverted.covariance.max())
    almost = tikhonov(response, truth, DATA[n], tau=1e-9, area=area, **options(n))
    np.testing.assert_allclose(almost.values, inverted.values, rtol=1e-6)


@each_case
@each_option
@each_area
def test_the_penalised_chi2_is_stationary(case, options, area):
    response, truth = case
    data, given, tau = DATA[len(response)], options(len(response)), 0.02
    result = tikhonov(response, truth, data, tau=tau, area=area, prior=PRIOR, **given)
    share = given.get("purity", np.ones(len(data)))
    weights = np.linalg.inv(given.get("data_covariance", np.diag(data)) * np.outer(share, share))
    others = given.get("background", np.zeros(len(data))) + given.get("fakes", np.zeros(len(data)))

    def objective(values):
        off, bent = share * (data - others) - response @ (values / truth), np.diff(values - PRIOR, 2)
        return off @ weights @ off + tau**2 * bent @ bent

    step = 1e-3 * result.errors.min()
    slope = np.array([objective(result.values + e) - objective(result.values - e) for e in step * np.eye(7)]) / 2 / step
    scale = np.linalg.norm([2 * (response / truth).T @ weights @ (share * (data - others))])
    efficiency = response.sum(0) / truth
    if area:
        slope -= efficiency * (slope @ efficiency) / (efficiency @ efficiency)
    np.testing.assert_allclose(slope, 0, atol=1e-7 * scale)


@each_case
@each_option
@pytest.mark.parametrize("tau", [0.0, 1e-3, 1.0, 1e3])
def test_the_area_is_that_of_the_data_and_so_is_its_variance(case, options, tau):
    response, truth = case
    n = len(response)
    given = options(n)
    result = tikhonov(response, truth, DATA[n], tau=tau, prior=PRIOR, **given)
    share = given.get("purity", np.ones(n))
    others = given.get("background", np.zeros(n)) + given.get("fakes", np.zeros(n))
    efficiency = response.sum(0) / truth
    assert efficiency @ result.values == pytest.approx(share @ (DATA[n] - others), rel=1e-9)
    np.testing.assert_allclose(efficiency @ result.jacobian, share, rtol=1e-8)
    variance = share @ given.get("data_covariance", np.diag(DATA[n])) @ share
    assert efficiency @ result.covariance @ efficiency == pytest.approx(variance, rel=1e-8)


def test_bins_that_signal_does_not_reach_have_no_part_in_the_area():
    response, truth = TALL
    given = {"tau": 0.01, "prior": PRIOR}
    alone = tikhonov(response, truth, DATA[12], background=np.full(12, 9.0), **given)
    beside = np.r_[np.full(12, 9.0), 1e6]
    wide = tikhonov(np.vstack([response, np.zeros(7)]), truth, np.r_[DATA[12], 1.01e6], background=beside, **given)
    np.testing.assert_allclose(wide.values, alone.values, rtol=1e-10)
    np.testing.assert_allclose(wide.covariance, alone.covariance, rtol=1e-9)
    assert wide.folded_chi2 == pytest.approx(alone.folded_chi2 + 1e4**2 / 1.01e6, rel=1e-9)


def test_without_the_constraint_the_area_falls_short():
    """Poisson variances taken from the data pull the total down by about one event for each degree of freedom."""
    response, truth = TALL
    free = tikhonov(response, truth, DATA[12], tau=1e-3, area=False)
    assert free.folded.sum() < DATA[12].sum() - 1


def test_a_strong_penalty_leaves_the_prior_and_what_is_straight():
    strong = tikhonov(*TALL, DATA[12], tau=1e4, prior=PRIOR)
    np.testing.assert_allclose(np.diff(strong.values - PRIOR, 2), 0, atol=1e-4)
    shape = np.diff(np.diag(1 / PRIOR), axis=0)
    shaped = tikhonov(*TALL, DATA[12], tau=1e8, prior=PRIOR, penalty=shape)
    np.testing.assert_allclose(shaped.values / PRIOR, np.mean(shaped.values / PRIOR), rtol=1e-8)
    assert shaped.folded.sum() == pytest.approx(DATA[12].sum(), rel=1e-10)


def test_a_penalty_of_the_callers_acts_on_yields():
    given = {"tau": 0.01, "area": False}
    ours = tikhonov(*TALL, DATA[12], **given, penalty=2.0 * flat_curvature(7))
    np.testing.assert_allclose(ours.values, tikhonov(*TALL, DATA[12], tau=0.02, area=False).values, rtol=1e-10)


def test_the_default_strength_is_that_of_the_corner():
    response = simulated()
    data = observed(response)
    stated = Tikhonov(read(response, None, data))
    result = tikhonov(response, None, data)
    strengths = stated.strengths()
    assert np.isclose([tikhonov(response, None, data, tau=t).values for t in strengths], result.values).all(1).any()
    assert (np.diff(strengths) > 0).all()
    weak, strong = stated.unfold(strengths[0]), stated.unfold(strengths[-1])
    least = tikhonov(response, None, data, tau=0.0)
    assert (np.abs(weak.values - least.values) < 0.05 * least.errors).all()
    stronger = stated.unfold(100 * strengths[-1])
    assert (np.abs(strong.values - stronger.values) < least.errors).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_the_size_of_the_simulation_does_not_matter(factor):
    given = {"tau": 0.02, "prior": PRIOR}
    once = tikhonov(*TALL, DATA[12], **given)
    again = tikhonov(TALL[0] * factor, TALL[1] * factor, DATA[12], **given)
    np.testing.assert_allclose(again.values, once.values, rtol=1e-9)
    np.testing.assert_allclose(again.covariance, once.covariance, rtol=1e-8)
    np.testing.assert_allclose(
        matrix_inversion(TALL[0] * factor, TALL[1] * factor, DATA[12]).values,
        matrix_inversion(*TALL, DATA[12]).values,
        rtol=1e-9,
    )


def test_an_empty_bin_has_its_expected_variance():
    response, truth = TALL
    data = DATA[12].copy()
    data[7] = 0
    expected = response.sum(1)
    variances = np.where(data > 0, data, expected * data.sum() / expected.sum())
    literal = by_least_squares(response[None], truth[None], np.zeros((1, 12)), data[None], variances=variances[None])
    result = matrix_inversion(response, truth, data)
    np.testing.assert_allclose(result.values, literal[0], rtol=1e-9)
    off = data - result.folded
    assert result.folded_chi2 == pytest.approx(np.sum(off**2 / variances), rel=1e-10)


def test_data_without_variance_are_told_of():
    response, truth = TALL
    covariance = np.diag(DATA[12])
    covariance[7, 7] = 0
    with pytest.warns(UserWarning, match="no variance in 1 of 12 directions"):
        result = matrix_inversion(response, truth, DATA[12], data_covariance=covariance)
    others = np.arange(12) != 7
    fewer = np.vstack([response[others], response[7:8] * 0])
    without = matrix_inversion(fewer[:-1], truth, DATA[12][others])
    np.testing.assert_allclose(result.values, without.values, rtol=1e-9)


def test_a_covariance_of_very_different_sizes_is_wholly_used():
    response, truth = TALL[0] * np.geomspace(1, 1e-15, 12)[:, None] * 1e15, TALL[1] * 1e15
    data = response.sum(1)
    size = np.sqrt(data)
    covariance = np.outer(size, size) * 0.5 ** np.abs(np.subtract.outer(range(12), range(12)))
    assert size.max() / size.min() > 1e7  # so that in variances the last are below rounding of the first
    result = matrix_inversion(response, truth, data, data_covariance=covariance)
    np.testing.assert_allclose(result.values, truth, rtol=1e-9)
    assert len(result.problem.whitening()) == 12


REFUSED = {
    "negative τ": (tikhonov, {"tau": -1.0}, "tau = -1.0: a finite strength"),
    "nan τ": (tikhonov, {"tau": np.nan}, "tau = nan: a finite strength"),
    "infinite τ": (tikhonov, {"tau": np.inf}, "tau = inf: a finite strength"),
    "no curvature": (tikhonov, {}, "penalty: it holds nothing against any spectrum"),
    "penalty of zeros": (tikhonov, {"penalty": np.zeros((1, 2))}, "penalty: it holds nothing"),
    "penalty's shape": (tikhonov, {"tau": 1.0, "penalty": np.eye(3)}, "penalty of shape (3, 3)"),
    "penalty of nan": (tikhonov, {"tau": 1.0, "penalty": [[np.nan, 1.0]]}, "finite rows over 2 true bins"),
    "fewer reconstructed": (
        tikhonov,
        {"tau": 1.0, "response": [[5.0, 5.0]], "data": [60.0]},
        "response of 1 by 2 bins: fewer reconstructed than true",
    ),
    "inversion of fewer": (
        matrix_inversion,
        {"response": [[5.0, 5.0]], "data": [60.0]},
        "response of 1 by 2 bins: fewer reconstructed than true",
    ),
    "singular": (matrix_inversion, {"response": [[4.0, 4.0], [4.0, 4.0]]}, "1 of 2 true bins can be told apart"),
    "singular, τ = 0": (tikhonov, {"response": [[4.0, 4.0], [4.0, 4.0]], "tau": 0.0}, "response: singular"),
    "singular covariance": (
        matrix_inversion,
        {"data_covariance": [[1.0, 1.0], [1.0, 1.0]]},
        "the data say nothing of some true bin",
    ),
    "indefinite covariance": (
        matrix_inversion,
        {"data_covariance": [[1.0, 2.0], [2.0, 1.0]]},
        "data_covariance: an eigenvalue is negative",
    ),
    "covariance beside no variance": (
        matrix_inversion,
        {"data_covariance": [[1.0, 0.5], [0.5, 0.0]]},
        "data_covariance: an eigenvalue is negative",
    ),
}


@pytest.mark.parametrize(("method", "changed", "text"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore:data_covariance")
def test_refusals(method, changed, text):
    arguments = {"response": [[8.0, 2.0], [2.0, 8.0]], "truth": [10.0, 10.0], "data": [70.0, 30.0]} | changed
    with pytest.raises(InputError, match=re.escape(text)):
        method(**arguments)


def test_a_singular_response_is_told_apart_by_a_penalty():
    response, truth = np.array([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 8.0]]), [10.0, 10.0, 10.0]
    result = tikhonov(response, truth, [80.0, 80.0, 80.0], tau=1.0)
    np.testing.assert_allclose(result.values, 100.0, rtol=1e-9)
    assert np.isfinite(result.covariance).all()
    many = iterative_bayes(response, truth, [80.0, 80.0, 80.0])
    np.testing.assert_allclose(many.values, 100.0, rtol=1e-12)
