import json
import re

import numpy as np
import pytest

from literal_unfoldings import by_bayes
from peer_unfoldings import ITERATIONS, REFERENCE, by_pyunfold, example
from rewind.errors import InputError
from rewind.unfolding.binned import iterative_bayes, matrix_inversion
from smeared_spectra import smeared

RESPONSE, TRUTH = smeared(6, 9, 0.8)
DATA = np.random.default_rng(4).poisson(RESPONSE @ (1 + 0.2 * np.cos(np.arange(6)))).astype(float)
FAKES, BACKGROUND = np.linspace(300.0, 900.0, 9), np.linspace(800.0, 100.0, 9)
PURITY = np.linspace(0.7, 0.95, 9)
PRIOR = np.linspace(1e4, 3e4, 6)
COVARIANCE = np.diag(DATA) + 0.3 * np.sqrt(np.outer(DATA, DATA)) * (np.abs(np.subtract.outer(range(9), range(9))) == 1)

OPTIONS = {
    "plain": {},
    "prior": {"prior": PRIOR},
    "fakes": {"fakes": FAKES},
    "fakes and background": {"fakes": FAKES, "background": BACKGROUND, "prior": PRIOR},
    "purity": {"purity": PURITY, "prior": PRIOR},
    "purity and background": {"purity": PURITY, "background": BACKGROUND},
    "full covariance": {"data_covariance": COVARIANCE, "fakes": FAKES},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
each_number = pytest.mark.parametrize("iterations", [1, 4, 30])


def literal(data, options, iterations):
    """Return values by the formula, the signal in the data being purity (data − background)."""
    share = options.get("purity", 1.0)
    others = share * (options.get("fakes", 0.0) + options.get("background", np.zeros(9)))
    given = (RESPONSE[None], TRUTH[None], others[None], share * np.atleast_2d(data))
    return by_bayes(*given, iterations=iterations, prior=options.get("prior"))


@each_option
@each_number
def test_values_are_those_of_the_formula(options, iterations):
    result = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=iterations, **options)
    np.testing.assert_allclose(result.values, literal(DATA, options, iterations)[0], rtol=1e-12)


@each_option
@each_number
def test_the_data_covariance_is_that_of_the_numerical_jacobian(options, iterations):
    result = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=iterations, **options)
    step = 1e-3 * np.sqrt(DATA)
    high, low = (literal(DATA + sign * np.diag(step), options, iterations) for sign in (1, -1))
    jacobian = ((high - low) / (2 * step[:, None])).T
    covariance = jacobian @ options.get("data_covariance", np.diag(DATA)) @ jacobian.T
    np.testing.assert_allclose(result.jacobian, jacobian, atol=1e-6 * np.abs(jacobian).max())
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-6, atol=1e-6 * np.diag(covariance).min())


def test_the_first_term_alone_falls_short():
    """D'Agostini's own errors of 1995 hold the last iteration's matrix fixed (1105.1160)."""
    result = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=10)
    before = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=9)
    matrix = (RESPONSE / TRUTH).T / before.folded * before.values[:, None] / (RESPONSE.sum(0) / TRUTH)[:, None]
    np.testing.assert_allclose(matrix @ DATA, result.values, rtol=1e-12)
    assert (np.sqrt((matrix**2) @ DATA) < 0.8 * result.errors).all()


@pytest.mark.parametrize("others", [{}, {"background": np.linspace(90.0, 30.0, 6)}], ids=["plain", "background"])
def test_many_iterations_invert_where_that_is_positive(others):
    response, truth = smeared(6, 6, 0.5)
    data = response @ (1 + 0.2 * np.cos(np.arange(6))) + others.get("background", 0.0)
    data = np.random.default_rng(8).poisson(data).astype(float)
    inverted = matrix_inversion(response, truth, data, **others)
    assert (inverted.values > 0).all()
    iterated = iterative_bayes(response, truth, data, iterations=4_000, **others)
    np.testing.assert_allclose(iterated.values, inverted.values, rtol=1e-8)
    np.testing.assert_allclose(
        iterated.covariance, inverted.covariance, rtol=1e-8, atol=1e-8 * inverted.covariance.max()
    )
    np.testing.assert_allclose(iterated.folded, data, rtol=1e-8)


@each_number
def test_every_iteration_leaves_as_many_events_as_there_are(iterations):
    result = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=iterations)
    assert result.values @ result.problem.efficiency == pytest.approx(DATA.sum(), rel=1e-12)
    lost = result.problem.efficiency @ result.covariance @ result.problem.efficiency
    assert lost == pytest.approx(DATA.sum(), rel=1e-10)


@each_number
def test_neither_the_size_of_the_simulation_nor_that_of_the_prior_matters_without_fakes(iterations):
    result = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=iterations, prior=PRIOR)
    for factor in (1e-30, 3.0, 1e30):
        more = iterative_bayes(RESPONSE * factor, TRUTH * factor, DATA, iterations=iterations, prior=PRIOR)
        np.testing.assert_allclose(more.values, result.values, rtol=1e-10)
        np.testing.assert_allclose(more.covariance, result.covariance, rtol=1e-10)
        other = iterative_bayes(RESPONSE, TRUTH, DATA, iterations=iterations, prior=PRIOR * factor)
        np.testing.assert_allclose(other.values, result.values, rtol=1e-10)


def test_misses_that_are_as_many_again_double_the_yields():
    once, again = (iterative_bayes(RESPONSE, TRUTH * n, DATA, fakes=FAKES, prior=PRIOR * n) for n in (1, 2))
    np.testing.assert_allclose(again.values, 2 * once.values, rtol=1e-12)
    np.testing.assert_allclose(again.covariance, 4 * once.covariance, rtol=1e-12)
    np.testing.assert_allclose(again.folded, once.folded, rtol=1e-12)


def test_data_that_the_prior_folds_to_leave_it():
    data = RESPONSE @ (PRIOR / TRUTH) + FAKES
    result = iterative_bayes(RESPONSE, TRUTH, data, prior=PRIOR, fakes=FAKES)
    np.testing.assert_allclose(result.values, PRIOR, rtol=1e-12)
    assert result.folded_chi2 == pytest.approx(0, abs=1e-18)


def test_absolute_fakes_and_a_purity_are_two_models_when_rates_change():
    """All signal is 1.2 times the simulated, the fakes are not: the first is exact; with all ×1.2 the second is."""
    signal = RESPONSE.sum(1)
    purity = signal / (signal + FAKES)
    for data, exact, other in (
        (1.2 * signal + FAKES, {"fakes": FAKES}, {"purity": purity}),
        (1.2 * (signal + FAKES), {"purity": purity}, {"fakes": FAKES}),
    ):
        right, wrong, none = (
            iterative_bayes(RESPONSE, TRUTH, data, iterations=500, **options).values.sum() / TRUTH.sum()
            for options in (exact, other, {})
        )
        assert right == pytest.approx(1.2, rel=1e-4)
        assert abs(wrong / 1.2 - 1) > 0.005
        assert none > 1.2 * 1.05


def test_more_of_everything_reads_as_more_signal_where_fakes_are_absolute():
    """With fakes of a share f of the data, all ×1.2 makes 1.2 + 0.2 f/(1 − f): f = 7.8 % gives 1.217."""
    signal = RESPONSE.sum(1)
    fakes = signal * 0.078 / (1 - 0.078)
    result = iterative_bayes(RESPONSE, TRUTH, 1.2 * (signal + fakes), fakes=fakes, iterations=20)
    np.testing.assert_allclose(result.values / TRUTH, 1.2 + 0.2 * 0.078 / (1 - 0.078), rtol=1e-12)
    np.testing.assert_allclose(result.values / TRUTH, 1.217, atol=5e-4)
    purity = signal / (signal + fakes)
    same = iterative_bayes(RESPONSE, TRUTH, 1.2 * (signal + fakes), purity=purity)
    np.testing.assert_allclose(same.values / TRUTH, 1.2, rtol=1e-12)
    ignored = iterative_bayes(RESPONSE, TRUTH, signal + fakes)
    np.testing.assert_allclose(ignored.values / TRUTH, 1 / (1 - 0.078), rtol=1e-12)


def test_values_are_those_of_pyunfold():
    given, reference = example(), json.loads(REFERENCE.read_text())["pyunfold"]
    for n in ITERATIONS:
        result = _of(given, n)
        np.testing.assert_allclose(result.values, reference[str(n)], rtol=1e-10)


def test_values_are_those_of_the_pyunfold_that_is_installed():
    pytest.importorskip("pyunfold", reason="optional extra 'peers' (pyunfold) is not installed")
    given, answers = example(), by_pyunfold()
    for n in ITERATIONS:
        np.testing.assert_allclose(_of(given, n).values, answers[str(n)], rtol=1e-10)


def _of(given, iterations):
    return iterative_bayes(
        given["response"], given["truth"], given["data"], prior=given["prior"], iterations=iterations
    )


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"iterations": 0}, "iterations = 0: a whole number is needed, at least one"),
        ({"iterations": -3}, "iterations = -3"),
        ({"iterations": 2.0}, "iterations = 2.0: a whole number"),
        ({"iterations": np.nan}, "iterations = nan: a whole number"),
        ({"iterations": True}, "iterations = True: a whole number"),
        ({"prior": [0.0, 1.0]}, "prior: zero in a bin"),
        ({"data": [-1.0, 3.0], "data_covariance": np.eye(2)}, "data: negative; leave the background in"),
        ({"response": [[8.0, -9.0], [2.0, 11.0]]}, "expected in a reconstructed bin; merge bins of negative weight"),
    ],
    ids=["none", "negative", "float", "nan", "boolean", "prior", "data", "negative weights"],
)
def test_refusals(changed, text):
    arguments = {"response": [[8.0, 2.0], [2.0, 8.0]], "truth": [10.0, 10.0], "data": [70.0, 30.0]} | changed
    with pytest.raises(InputError, match=re.escape(text)):
        iterative_bayes(**arguments)
