"""Templates of correlated values: errors against repeated experiments, limits of the gain, known information."""

import numpy as np
import pytest

from chance import assert_agrees, assert_mean, assert_spread
from rewind import stats
from rewind.errors import InputError
from rewind.stats import templates

EDGES = np.array([-np.inf, -1.0, 0.0, 0.5, 1.5, np.inf])


def draws(rng, n_events=1500, n=8, correlation=0.6, shift=0.0):
    """Return values whose two draws of one event have a given correlation, standard normal together."""
    centre = rng.standard_normal((n_events, 1)) * correlation**0.5
    return shift + centre + rng.standard_normal((n_events, n)) * (1 - correlation) ** 0.5


def test_a_single_value_gives_the_multinomial_covariance():
    values = draws(np.random.default_rng(1), n=1)
    made = templates.template(values, EDGES)
    p = made.shares
    assert np.allclose(made.covariance * (len(values) - 1), np.diag(p) - np.outer(p, p))
    assert np.allclose(made.shares, np.histogram(values, EDGES)[0] / len(values))
    assert np.isnan(made.intraclass).all()


def test_errors_are_those_of_repeated_experiments():
    rng = np.random.default_rng(2)
    many = [templates.template(draws(rng, 300), EDGES) for _ in range(400)]
    scatter = np.std([t.shares for t in many], axis=0, ddof=1)
    assert_agrees(np.mean([t.errors for t in many], axis=0), scatter, scatter / (2 * len(many)) ** 0.5)
    assert (np.mean([t.naive_errors for t in many], axis=0) < 0.9 * scatter).all()


def test_errors_are_those_of_a_bootstrap_over_events():
    rng = np.random.default_rng(3)
    values = draws(rng)
    made = templates.template(values, EDGES)
    for k, error in enumerate(made.errors):
        block = stats.bootstrap(lambda v, k=k: templates.template(v, EDGES).shares[k], values, rng=rng)
        assert_agrees(error / block.error, 1, 1 / (2 * 200) ** 0.5)  # of 200 replicas


def test_copies_of_one_value_bring_nothing_and_independent_values_bring_all():
    rng = np.random.default_rng(4)
    values = draws(rng, n=1)
    copied = templates.template(np.repeat(values, 8, 1), EDGES)
    assert np.allclose(copied.covariance, templates.template(values, EDGES).covariance)
    assert np.allclose(copied.intraclass, 1, atol=1e-3)
    assert np.allclose(copied.gain, 1, atol=1e-2)
    assert np.allclose(copied.errors / copied.naive_errors, 8**0.5, rtol=1e-3)
    free = templates.template(draws(rng, 20_000, correlation=0.0), EDGES)
    assert np.allclose(free.intraclass, 0, atol=0.01)
    assert np.allclose(free.gain, 8, rtol=0.1)


@pytest.mark.parametrize("correlation", [0.2, 0.7])
def test_the_design_effect_is_the_ratio_of_variances(correlation):
    made = templates.template(draws(np.random.default_rng(5), correlation=correlation), EDGES)
    ratio = (made.errors / made.naive_errors) ** 2
    assert made.design_effect == pytest.approx(ratio, rel=1e-2)
    assert (made.gain <= 1 / made.intraclass).all()


def test_the_intraclass_correlation_does_not_depend_on_the_number_of_values():
    rng = np.random.default_rng(6)
    values = draws(rng, 20_000, n=16)
    few, many = (templates.template(v, EDGES).intraclass for v in (values[:, :2], values))
    assert few == pytest.approx(many, abs=0.02)


def test_a_doubled_event_is_an_event_of_twice_the_weight():
    values = draws(np.random.default_rng(7), 200)
    weights = np.arange(200) % 3 + 1.0
    doubled = np.repeat(values, weights.astype(int), axis=0)
    weighted = templates.template(values, EDGES, weights)
    assert np.allclose(weighted.shares, templates.template(doubled, EDGES).shares)
    assert weighted.n_events == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert np.allclose(weighted.covariance, templates.template(values, EDGES, 7 * weights).covariance)


def test_nan_and_values_outside_count_for_the_norm_only():
    made = templates.template([[0.5, np.nan], [9.0, 0.5]], [0, 1])
    assert made.shares == pytest.approx([0.5])


def test_information_of_a_shifted_normal_distribution():
    rng = np.random.default_rng(8)
    edges = np.concatenate([[-np.inf], np.linspace(-2.5, 2.5, 25), [np.inf]])
    step = 0.4
    pulls, values = [], []
    for _ in range(100):
        pair = (templates.template(draws(rng, 2000, 1, shift=s), edges) for s in (-step / 2, step / 2))
        told = templates.information(*pair, step)
        values.append(told.value)
        pulls.append((told.value - 1) / told.error)
    assert_mean(values, 1, rounding=0.01)  # 1/σ², of which bins keep almost all
    assert_spread(pulls)


def test_more_draws_hold_more_information_but_never_that_of_new_events():
    rng = np.random.default_rng(9)
    edges = np.concatenate([[-np.inf], np.linspace(-2.5, 2.5, 25), [np.inf]])
    low, high = (draws(rng, 40_000, shift=s) for s in (-0.25, 0.25))
    one, all_ = (
        templates.information(templates.template(a, edges), templates.template(b, edges), 0.5).value
        for a, b in ((low[:, :1], high[:, :1]), (low, high))
    )
    assert one == pytest.approx(1, abs=0.06)
    assert one < all_ < 1 / (0.6 + 0.4 / 8) + 0.1  # of the mean of eight draws


@pytest.mark.parametrize(
    ("values", "edges", "weights", "message"),
    [
        ([1.0], [0, 1], None, "two events"),
        ([1.0, 2.0], [1, 0], None, "rising"),
        ([1.0, 2.0], [0, 1], [1.0, 0.0], "single event"),
        ([1.0, 2.0], [0, 1], [1.0, 1.0, 1.0], "shape"),
    ],
)
def test_what_cannot_be_is_refused(values, edges, weights, message):
    with pytest.raises(InputError, match=message):
        templates.template(values, edges, weights)


def test_information_refuses_templates_that_differ():
    values = draws(np.random.default_rng(10))
    with pytest.raises(InputError, match="differ"):
        templates.information(templates.template(values, EDGES), templates.template(values[:, :2], EDGES), 1.0)
