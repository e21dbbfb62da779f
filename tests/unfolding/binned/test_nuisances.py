import re

import numpy as np
import pytest

from rewind.errors import InputError
from rewind.unfolding.binned import Nuisance, poisson_likelihood
from rewind.unfolding.binned.nuisances import Templates, even, read_nuisances, sources
from rewind.unfolding.binned.problem import read

RESPONSE = np.array([[8.0, 2.0], [2.0, 8.0], [1.0, 1.0]])
INPUTS = {"response": RESPONSE, "truth": [12.0, 12.0], "data": [70.0, 40.0, 12.0], "background": [3.0, 2.0, 1.0]}
SHAPES = Nuisance(RESPONSE * 1.1, RESPONSE * [0.8, 1.0], background_up=[4, 2, 1], background_down=[1, 2, 3])


def templates_of(nuisances):
    problem = read(**INPUTS)
    nominal = sources(problem, None, INPUTS["background"])
    return problem, Templates.of(read_nuisances(problem, nuisances), nominal)


def test_templates_are_reached_at_one_standard_deviation():
    problem, templates = templates_of({"shape": SHAPES})
    for theta, response, background in (
        (1, SHAPES.response_up, SHAPES.background_up),
        (-1, SHAPES.response_down, SHAPES.background_down),
        (0, RESPONSE, INPUTS["background"]),
    ):
        signal, others = templates.at(np.array([float(theta)]))
        np.testing.assert_allclose(problem.yields + signal, response, atol=1e-14)
        np.testing.assert_allclose(problem.background + others, background, atol=1e-14)


def test_beyond_them_yields_are_linear():
    templates = templates_of({"shape": SHAPES})[1]
    for side in (1.0, -1.0):
        one, three = (templates.at(np.array([side * n]))[0] for n in (1, 3))
        np.testing.assert_allclose(three, 3 * one, atol=1e-14)


def test_nuisances_add():
    other = Nuisance(background_up=[3, 3, 1], background_down=[3, 1, 1])
    theta = np.array([0.4, -1.7])
    both = templates_of({"shape": SHAPES, "other": other})[1].at(theta)
    alone = (templates_of({"one": one})[1].at(theta[[k]]) for k, one in enumerate((SHAPES, other)))
    for together, apart in zip(both, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(together, sum(apart), atol=1e-14)


def test_the_interpolation_has_two_continuous_derivatives():
    theta, step = np.array([-1.5, -0.7, 0.0, 0.2, 0.9, 2.0]), 1e-5
    high, low = even(theta + step), even(theta - step)
    np.testing.assert_allclose((high[0] - low[0]) / (2 * step), even(theta)[1], atol=1e-9)
    np.testing.assert_allclose((high[1] - low[1]) / (2 * step), even(theta)[2], atol=1e-8)
    for side in (-1.0, 1.0):
        inside, outside = even(np.array([side * (1 - 1e-9)])), even(np.array([side * (1 + 1e-9)]))
        np.testing.assert_allclose(inside, outside, atol=1e-7)


def test_slopes_are_derivatives():
    templates, theta, step = templates_of({"shape": SHAPES})[1], np.array([0.37]), 1e-6
    for slope, high, low in zip(
        templates.slopes(theta), templates.at(theta + step), templates.at(theta - step), strict=True
    ):
        np.testing.assert_allclose(slope[0], (high - low) / (2 * step), atol=1e-8)


@pytest.mark.parametrize(
    ("nuisances", "text"),
    [
        ([SHAPES], "a mapping of names to Nuisance is needed"),
        ({"a": RESPONSE}, "nuisance a: ndarray given, a Nuisance is needed"),
        ({"a": Nuisance()}, "nuisance a: no template"),
        ({"a": Nuisance(response_up=RESPONSE)}, "nuisance a: response_down is missing; give both sides"),
        ({"a": Nuisance(RESPONSE.T, RESPONSE.T)}, "response_down of shape (2, 3): finite yields of shape (3, 2)"),
        ({"a": Nuisance(fakes_up=[1, np.nan, 1], fakes_down=[0, 0, 0])}, "fakes_up of shape (3,): finite yields"),
        ({"a": Nuisance(background_up=[1, 1], background_down=[0, 0])}, "background_down of shape (2,)"),
    ],
    ids=["a list", "an array", "empty", "one side", "transposed", "NaN", "another length"],
)
def test_refusals(nuisances, text):
    with pytest.raises(InputError, match=re.escape(text)):
        poisson_likelihood(**INPUTS, nuisances=nuisances)


def test_a_template_with_yields_where_the_simulation_has_none_is_refused():
    response = np.vstack([RESPONSE, [0.0, 0.0]])
    inputs = {"response": response, "truth": [12.0, 12.0], "data": [70.0, 40.0, 12.0, 0.0]}
    nuisance = Nuisance(response + 0.1, response)
    with pytest.raises(InputError, match="response_up: yields in a bin that the nominal simulation leaves empty"):
        poisson_likelihood(**inputs, nuisances={"a": nuisance})


def test_the_callers_templates_are_not_changed():
    before = SHAPES.response_up.copy()
    fit = poisson_likelihood(**INPUTS, nuisances={"shape": SHAPES})
    fit.values[:] = 0
    np.testing.assert_array_equal(SHAPES.response_up, before)
