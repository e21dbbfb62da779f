import numpy as np
import pytest
from scipy.special import erfc

from rewind.errors import InputError
from rewind.unfolding import by_folded_chi2, by_global_correlation, by_l_curve, by_prior, by_significance
from rewind.unfolding.binned import iterative_bayes, matrix_inversion
from rewind.unfolding.binned.l_curve import corner
from rewind.unfolding.binned.least_squares import Tikhonov
from rewind.unfolding.binned.problem import read
from rewind.unfolding.binned.spectral import SpectralAnalysis
from smeared_spectra import smeared

RESPONSE, TRUTH = smeared(10, 20, 1.2)
OTHER = smeared(10, 20, 1.2, 2.0, bump=0.4)[1]
DATA = np.random.default_rng(4).poisson(RESPONSE @ (OTHER / TRUTH))
STATED = Tikhonov(read(RESPONSE, TRUTH, DATA))


def analysis_of(data):
    return SpectralAnalysis(read(RESPONSE, TRUTH, data, data_covariance=np.eye(20)))


def test_significance_recovers_a_known_truncation():
    directions = analysis_of(np.zeros(20))._left
    rng, kept = np.random.default_rng(1), []
    components = np.r_[200.0, -80.0, 40.0, np.zeros(7)]
    for _ in range(400):
        kept.append(by_significance(analysis_of(directions @ (components + rng.normal(size=10)))).value)
    assert min(kept) == 4  # the first that is noise; two leave 40 standard deviations beyond
    right = np.mean(np.array(kept) == 4)
    assert 0.9 - 5 * (0.09 / 400) ** 0.5 < right < 0.95 + 5 * (0.0475 / 400) ** 0.5  # two tests at 5 %


def test_scores_of_significance_are_the_tails_of_noise():
    directions = analysis_of(np.zeros(20))._left
    choice = by_significance(analysis_of(directions @ np.r_[np.zeros(8), 1.0, 2.0]))
    assert choice.value == 2  # the first component is the yield, whatever its size
    np.testing.assert_allclose(choice.scores[8], np.exp(-5 / 2))  # the sum of two squares
    np.testing.assert_allclose(choice.scores[9], erfc(2 / 2**0.5))
    np.testing.assert_array_equal(choice.settings, np.arange(1, 11))


def test_one_strong_component_among_weak_ones_is_signal():
    directions = analysis_of(np.zeros(20))._left
    assert by_significance(analysis_of(directions @ np.r_[90.0, np.full(6, 0.3), 3.9, 0.3, 0.3])).value == 9


def test_significance_beyond_all_noise_keeps_every_component():
    directions = analysis_of(np.zeros(20))._left
    assert by_significance(analysis_of(directions @ np.full(10, 50.0))).value == 10


def test_the_l_curve_is_cut_at_its_corner():
    choice = by_l_curve(STATED)
    assert choice.value == corner(STATED)
    assert choice.scores[1:-1].max() == choice.scores[list(choice.settings).index(choice.value)]
    assert "corner of the L-curve" in choice.rule


def test_global_correlations_are_those_of_the_result_and_the_least_is_taken():
    choice = by_global_correlation(STATED)
    at = list(choice.settings).index(choice.value)
    covariance = STATED.unfold(choice.value).covariance
    square = 1 - 1 / (np.diag(covariance) * np.diag(np.linalg.inv(covariance)))
    assert choice.scores[at] == pytest.approx(np.sqrt(square).mean(), rel=1e-6)
    assert choice.scores[at] == np.nanmin(choice.scores)
    assert "end of the range" not in choice.rule


def test_strengths_without_an_inverse_score_nothing():
    choice = by_global_correlation(STATED, [choice_of_all().value, 1e6])
    assert np.isnan(choice.scores[1])
    assert choice.value == choice.settings[0]
    assert choice.rule.endswith("at the end of the range")


def choice_of_all():
    return by_global_correlation(STATED)


def iterated(n, prior=None):
    return iterative_bayes(RESPONSE, TRUTH, DATA, iterations=n, prior=prior)


ITERATIONS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512]


def test_the_first_setting_that_fits_is_taken_and_each_is_unfolded_once():
    asked = []

    def unfold(n):
        asked.append(n)
        return iterated(n)

    choice = by_folded_chi2(unfold, ITERATIONS)
    at = ITERATIONS.index(choice.value)
    assert asked == ITERATIONS
    assert at > 0
    assert choice.met
    assert (choice.scores[:at] < 0.05).all()
    assert choice.scores[at] >= 0.05


def test_the_first_setting_that_forgets_its_prior_is_taken():
    choice = by_prior(iterated, ITERATIONS, [TRUTH, np.full(10, 1e4)], share=0.3)
    at = ITERATIONS.index(choice.value)
    assert at > 0
    assert (choice.scores[:at] > 0.3).all()
    assert choice.scores[at] <= 0.3
    assert choice.rule.startswith("first of 14 settings at which 2 priors move no bin by more than 0.3")


def test_a_rule_that_is_never_met_says_so():
    choice = by_prior(iterated, [1, 2], [TRUTH, np.full(10, 1e4)])
    assert (choice.value, choice.met) == (2, False)
    assert choice.rule.startswith("none of 2")
    assert not by_folded_chi2(iterated, [1]).met


def test_without_regularisation_no_prior_matters():
    choice = by_prior(lambda _, prior: matrix_inversion(RESPONSE, TRUTH, DATA), [0], [TRUTH, TRUTH[::-1]])
    assert choice.met
    assert choice.scores[0] == 0


REFUSED = {
    "level": (lambda: by_significance(analysis_of(DATA), level=0.0), "level = 0"),
    "share": (lambda: by_prior(iterated, [1], [TRUTH, TRUTH], share=2), "share = 2"),
    "no setting": (lambda: by_folded_chi2(iterated, []), "settings: none given"),
    "no inverse": (lambda: by_global_correlation(STATED, [1e6]), "no inverse at any strength"),
}


@pytest.mark.parametrize(("refused", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_leaves_no_choice_is_refused(refused, text):
    with pytest.raises(InputError, match=text):
        refused()
