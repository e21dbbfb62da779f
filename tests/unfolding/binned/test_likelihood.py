import re
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from chance import assert_mean, assert_spread
from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.stats.response import response_of_draws
from rewind.unfolding.binned import Nuisance, iterative_bayes, matrix_inversion, poisson_likelihood, tikhonov

TRUE, RECONSTRUCTED = np.linspace(-2, 2, 5), np.linspace(-2.5, 2.5, 8)


def record(seed=1, n=20_000, reconstructed=RECONSTRUCTED):
    """Return the response of weighted events, some negative, with misses and fakes."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.2, n)
    measured = np.where(rng.random(n) < 0.15, np.nan, truth + rng.normal(0.1, 0.35, n))
    return response_matrix(measured, truth, reconstructed, TRUE, weights=rng.choice([1.0, 2.0, -0.3], n))


def data_of(response, seed=2, tilt=0.3):
    """Return Poisson data of a spectrum that is not the simulated one, with some background."""
    parts = response.parts
    ratio = 1 + tilt * np.sin(np.arange(parts.yields.shape[1]))
    mean = parts.yields @ ratio + parts.fakes + background_of(response)
    return np.random.default_rng(seed).poisson(mean).astype(float)


def background_of(response):
    return np.linspace(120.0, 40.0, len(response.parts.yields))


def nuisances_of(response):
    """Return nuisances of the signal and the fakes, and of the background, neither of which is symmetric."""
    parts, ramp = response.parts, np.linspace(-1, 1, len(response.parts.yields))
    return {
        "scale": Nuisance(
            parts.yields * (1 + 0.08 * ramp[:, None]),
            parts.yields * (0.97 - 0.05 * ramp[:, None] ** 2),
            fakes_up=parts.fakes * 1.2,
            fakes_down=parts.fakes * 0.7,
        ),
        "level": Nuisance(background_up=background_of(response) * 1.3, background_down=background_of(response) * 0.85),
    }


SETTINGS = {
    "bare": (0.0, False, False),
    "regularised": (0.004, False, False),
    "regularised to a prior": (0.004, True, False),
    "nuisances": (0.0, False, True),
    "both": (0.004, True, True),
}


def settings(name, response):
    tau, with_prior, with_nuisances = SETTINGS[name]
    given = {"tau": tau, "background": background_of(response)}
    if with_prior:
        given["prior"] = np.linspace(2_000.0, 4_000.0, response.parts.yields.shape[1])
    if with_nuisances:
        given["nuisances"] = nuisances_of(response)
    return given


each_setting = pytest.mark.parametrize("name", SETTINGS)


def test_square_problems_are_inverted():
    response = record(reconstructed=TRUE)
    data = data_of(response)
    fit = poisson_likelihood(response, None, data, background=background_of(response))
    inverted = matrix_inversion(response, None, data, background=background_of(response))
    np.testing.assert_allclose(fit.values, inverted.values, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, inverted.covariance, rtol=1e-9)
    np.testing.assert_allclose(fit.simulation_covariance, inverted.simulation_covariance, rtol=1e-9)
    np.testing.assert_allclose(fit.folded, data, rtol=1e-10)


def test_yields_may_be_negative_as_those_of_inversion():
    response, data = [[5.0, 4.0], [4.0, 5.0]], [500.0, 300.0]
    fit = poisson_likelihood(response, [10.0, 10.0], data)
    assert fit.values.min() < 0
    np.testing.assert_allclose(fit.values, matrix_inversion(response, [10.0, 10.0], data).values, rtol=1e-10)


@pytest.mark.parametrize("n_rows", [2, 4], ids=["square", "more reconstructed than true"])
def test_iterative_bayes_converges_to_it(n_rows):
    response = np.array([[8.0, 1.0], [1.0, 9.0], [3.0, 1.0], [1.0, 2.0]])[:n_rows]
    truth, data = [14.0, 14.0], np.array([80.0, 120.0, 45.0, 30.0])[:n_rows]
    fit = poisson_likelihood(response, truth, data, background=np.full(n_rows, 3.0))
    iterated = iterative_bayes(response, truth, data, background=np.full(n_rows, 3.0), iterations=2_000)
    np.testing.assert_allclose(fit.values, iterated.values, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, iterated.covariance, rtol=1e-8)


def test_its_covariance_is_the_inverse_of_the_observed_information():
    response = record()
    data, yields, truth = data_of(response), response.parts.yields, response.parts.truth
    fit = poisson_likelihood(response, None, data, background=background_of(response))
    information = (yields / truth).T @ np.diag(data / fit.folded**2) @ (yields / truth)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(information), rtol=1e-9)
    np.testing.assert_array_equal(fit.covariance, fit.covariance_of_data)


def test_it_is_tikhonov_with_the_expected_variances():
    response = record()
    data, strength = data_of(response), 0.004
    given = {"tau": strength, "background": background_of(response)}
    fit = poisson_likelihood(response, None, data, **given)
    square = tikhonov(response, None, data, **given, area=False, data_covariance=np.diag(fit.folded))
    np.testing.assert_allclose(fit.values, square.values, rtol=1e-9)


def test_a_strong_penalty_leaves_the_prior_and_what_is_straight():
    truth, data = np.full(5, 10.0), np.array([40.0, 90.0, 70.0, 80.0, 60.0])
    prior = np.array([60.0, 160.0, 20.0, 180.0, 80.0])
    fit = poisson_likelihood(np.eye(5) * 8, truth, data, tau=1e4, prior=prior)
    np.testing.assert_allclose(np.diff(fit.values - prior, 2), 0, atol=1e-5)


@each_setting
def test_the_minimum_is_stationary_in_both_kinds_of_parameters(name):
    response = record()
    data, given = data_of(response), settings(name, response)
    fit = poisson_likelihood(response, None, data, **given)
    best = _objective(response, data, given, fit.values, fit.nuisance_values)
    rng = np.random.default_rng(5)
    for _ in range(20):
        aside = fit.values + 0.1 * fit.errors * rng.normal(size=len(fit.values))
        theta = fit.nuisance_values + 0.1 * rng.normal(size=len(fit.nuisance_values))
        assert _objective(response, data, given, aside, theta) > best


def _objective(response, data, given, values, theta):
    """Return −ln L from its definition, cell by cell and without the library's algebra."""
    parts = response.parts
    signal, fakes, background = parts.yields.copy(), parts.fakes.copy(), given["background"].copy()
    for t, nuisance in zip(theta, given.get("nuisances", {}).values(), strict=True):
        for nominal, total, source in (
            (parts.yields, signal, "response"),
            (parts.fakes, fakes, "fakes"),
            (given["background"], background, "background"),
        ):
            up, down = (getattr(nuisance, f"{source}_{side}") for side in ("up", "down"))
            if up is not None and abs(t) > 1:
                total += t * (up - nominal if t > 0 else nominal - down)
            elif up is not None:
                half, bend = (up - down) / 2, (up + down - 2 * nominal) / 16
                total += t * (half + t * bend * (15 + t * t * (3 * t * t - 10)))
    mean = signal @ (values / parts.truth) + fakes + background
    bent = np.diff(values - given.get("prior", parts.truth), 2)
    return np.sum(mean - data * np.log(mean)) + given["tau"] ** 2 * np.sum(bent**2) / 2 + np.sum(theta**2) / 2


@each_setting
def test_the_jacobian_is_the_derivative_by_the_data(name):
    response = record()
    data, given = data_of(response), settings(name, response)
    fit = poisson_likelihood(response, None, data, **given)
    for r, step in enumerate(1e-3 * np.sqrt(data)):
        high, low = (
            poisson_likelihood(response, None, data + s * step * (np.arange(len(data)) == r), **given) for s in (1, -1)
        )
        numerical = (high.values - low.values) / (2 * step)
        np.testing.assert_allclose(fit.jacobian[:, r], numerical, atol=1e-6 * np.abs(fit.jacobian).max())
    np.testing.assert_allclose(fit.covariance_of_data, (fit.jacobian * data) @ fit.jacobian.T, rtol=1e-12)


@each_setting
def test_the_simulation_covariance_is_that_of_every_count(name):
    response = record()
    data, given = data_of(response), settings(name, response)
    fit = poisson_likelihood(response, None, data, **given)
    numerical = np.zeros_like(fit.covariance)
    for cell in zip(*np.nonzero(response.squares), strict=True):
        step = 1e-3 * np.sqrt(response.squares[cell])
        moved = []
        for sign in (1, -1):
            counts = response.counts.copy()
            counts[cell] += sign * step
            moved.append(poisson_likelihood(replace(response, counts=counts), None, data, **given).values)
        slope = (moved[0] - moved[1]) / (2 * step)
        numerical += response.squares[cell] * np.outer(slope, slope)
    np.testing.assert_allclose(fit.simulation_covariance, numerical, atol=1e-6 * numerical.max())


def test_draws_of_an_event_are_not_independent():
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1.2, 3_000)
    one = response_matrix(measured := truth + rng.normal(0, 0.3, 3_000), truth, RECONSTRUCTED, TRUE)
    many = response_of_draws(np.repeat(measured[:, None], 4, 1), truth, RECONSTRUCTED, TRUE)
    data = data_of(one)
    alone, drawn = (poisson_likelihood(response, None, data, tau=1e-3) for response in (one, many))
    np.testing.assert_allclose(alone.simulation_covariance, drawn.simulation_covariance, rtol=1e-8)


def test_the_measurements_of_nuisances_are_in_the_covariance():
    """Move the measurement of θ by moving its templates: those of θ' = θ + a are the same model measured at a."""
    response = record()
    data, ramp = data_of(response), np.linspace(-1, 1, 7)
    parts, step = response.parts, 1e-4
    slope = parts.yields * 0.06 * ramp[:, None]

    def fitted(at):
        nominal = parts.yields + at * slope
        return poisson_likelihood(
            nominal, parts.truth, data, nuisances={"scale": Nuisance(nominal + slope, nominal - slope)}
        )

    fit, lever = fitted(0.0), (fitted(step).values - fitted(-step).values) / (2 * step)
    np.testing.assert_allclose(fit.covariance_of_nuisances, np.outer(lever, lever), rtol=1e-6)
    assert 0 < fit.nuisance_errors[0] <= 1
    np.testing.assert_allclose(fit.covariance, fit.covariance_of_data + fit.covariance_of_nuisances)


def test_a_nuisance_without_effect_stays_as_it_was_measured():
    response = record()
    data, background = data_of(response), background_of(response)
    idle = {"idle": Nuisance(background_up=background, background_down=background)}
    fit = poisson_likelihood(response, None, data, background=background, nuisances=idle)
    alone = poisson_likelihood(response, None, data, background=background)
    assert (fit.nuisances, fit.nuisance_values.tolist(), fit.nuisance_errors.tolist()) == (("idle",), [0.0], [1.0])
    np.testing.assert_allclose(fit.nuisance_correlation, 0, atol=1e-12)
    np.testing.assert_allclose(fit.values, alone.values, rtol=1e-12)


def test_a_level_of_all_that_is_seen_shares_its_error_with_every_yield():
    """A response known to 10 % scales the spectrum: the data say nothing of the nuisance, which every bin follows."""
    response, truth, data = np.eye(3) * 8, [10.0, 10.0, 10.0], [4e6, 5e6, 3e6]
    fit = poisson_likelihood(response, truth, data, nuisances={"level": Nuisance(response * 1.1, response * 0.9)})
    np.testing.assert_allclose(fit.nuisance_values, 0, atol=1e-9)
    np.testing.assert_allclose(fit.covariance_of_nuisances, 0.01 * np.outer(fit.values, fit.values), rtol=1e-9)
    assert fit.nuisance_correlation.max() < -0.999


def test_pulls_of_yields_and_nuisances_are_normal():
    """Toys whose auxiliary measurements fluctuate: θ is drawn, the fit measures it as 0."""
    response = record()
    parts, nuisances, rng = response.parts, nuisances_of(response), np.random.default_rng(11)
    scale = Nuisance(parts.yields * 1.06, parts.yields * 0.94)
    ramped = Nuisance(
        background_up=background_of(response) * np.linspace(1.3, 1, 7),
        background_down=background_of(response) * np.linspace(0.7, 1, 7),
    )
    assert nuisances.keys() == {"scale", "level"}
    pulls = []
    for _ in range(400):
        theta = rng.normal(size=2)
        others = background_of(response) * (1 + theta[1] * np.linspace(0.3, 0, 7)) + parts.fakes
        data = rng.poisson(parts.yields.sum(1) * (1 + 0.06 * theta[0]) + others)
        fit = poisson_likelihood(
            parts.yields, parts.truth, data, fakes=parts.fakes, background=background_of(response),
            nuisances={"scale": scale, "ramped": ramped},
        )  # fmt: skip
        off = np.r_[fit.values - parts.truth, fit.nuisance_values - theta]
        pulls.append(off / np.r_[fit.errors, fit.nuisance_errors])
    assert_mean(np.array(pulls), rounding=0.05)
    assert_spread(np.array(pulls))


def test_bins_that_nothing_is_known_of_are_flagged():
    response = np.array([[8.0, 2.0, 0.0], [2.0, 8.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.warns(UserWarning, match=r"reconstructed bins \[2\]|true bins \[2\]"):
        fit = poisson_likelihood(
            response, [10.0, 10.0, 5.0], [70.0, 30.0, 4.0], nuisances={"a": Nuisance(response * 1.1, response * 0.9)}
        )
    assert np.isnan(fit.values).tolist() == [False, False, True]
    assert np.isnan(fit.covariance).tolist() == np.isnan(fit.covariance_of_data).tolist()
    assert fit.reachable.tolist() == [True, True, False]
    assert np.isnan(fit.nuisance_correlation[:, 0]).tolist() == [False, False, True]


def test_an_empty_bin_that_others_make_up_for_is_fitted():
    response = [[8.0, 1.0], [1.0, 9.0], [1.0, 1.0]]
    fit = poisson_likelihood(response, [12.0, 12.0], [80, 120, 0], background=[0.0, 0.0, 40.0])
    assert fit.folded[2] > 0
    iterated = iterative_bayes(response, [12.0, 12.0], [80, 120, 0], background=[0.0, 0.0, 40.0], iterations=3_000)
    np.testing.assert_allclose(fit.values, iterated.values, rtol=1e-9)


def test_three_hundred_bins_take_seconds_and_little_memory():
    rng, edges = np.random.default_rng(4), np.linspace(-4, 4, 301)
    truth = rng.normal(0, 2, 400_000)
    response = response_matrix(truth + rng.normal(0, 0.01, len(truth)), truth, edges)
    data = rng.poisson(response.parts.yields.sum(1) + response.parts.fakes)
    tracemalloc.start()
    start = time.process_time()
    fit = poisson_likelihood(response, None, data)
    assert time.process_time() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 500e6
    tracemalloc.stop()
    np.testing.assert_allclose(fit.values, matrix_inversion(response, None, data).values, rtol=1e-8)


SQUARE = {"response": [[8.0, 2.0], [2.0, 8.0]], "truth": [10.0, 10.0], "data": [70.0, 30.0]}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"data": [-1.0, 3.0]}, "Poisson counts are not negative"),
        ({"data": [np.nan, 3.0]}, "data: bin 0 is not finite"),
        ({"data": [0.0, 0.0]}, "data: no event in any bin"),
        (
            {"data": [70.0, 0.0]},
            "singular, 1 of 2 true bins can be told apart; merge bins or regularise; reconstructed",
        ),
        (
            {"response": [[8.0, 1.0], [1.0, 8.0], [4.0, 0.1]], "truth": [15.0, 15.0], "data": [1.0, 100.0, 0.0]},
            "data: none in reconstructed bins [2], and the likelihood is greatest at its edge",
        ),
        ({"response": [[5.0, 5.0], [5.0, 5.0]]}, "response: singular, 1 of 2 true bins can be told apart"),
        ({"response": [[5.0, 5.0]], "data": [60.0]}, "the data say nothing of some true bin"),
        ({"response": [[8.0, -9.0], [2.0, 11.0]]}, "expected in reconstructed bin 0, where Poisson data need more"),
        ({"tau": -1.0}, "tau = -1.0: a finite strength"),
        ({"tau": np.nan}, "tau = nan: a finite strength"),
        ({"tau": 1.0, "penalty": np.eye(3)}, "penalty of shape (3, 3): finite rows over 2 true bins"),
        ({"background": [-1.0, 0.0]}, "background: -1 in bin 0"),
        ({"prior": [1.0, 2.0, 3.0]}, "prior of shape (3,)"),
    ],
    ids=lambda value: value if isinstance(value, str) else " and ".join(value),
)
def test_refusals(changed, text):
    with pytest.raises(InputError, match=re.escape(text)):
        poisson_likelihood(**SQUARE | changed)


def test_integer_arrays_are_read_and_no_array_is_changed():
    given = {"response": np.array([[8, 2], [2, 8]]), "truth": np.array([10, 10]), "data": np.array([70, 30])}
    before = {name: values.copy() for name, values in given.items()}
    np.testing.assert_array_equal(poisson_likelihood(**given).values, poisson_likelihood(**SQUARE).values)
    for name, values in given.items():
        np.testing.assert_array_equal(values, before[name])
