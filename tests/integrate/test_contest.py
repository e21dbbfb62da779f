"""Contests of samplers keep errors and costs."""

import math

import numpy as np
import pytest

from chance import assert_agrees
from rewind.errors import InputError
from rewind.integrate import (
    Uniform,
    adapted_grid,
    contest,
)


def test_contests_keep_errors_and_costs():
    def line(x):
        return 2 * x[:, 0]

    recipes = {"even": lambda f, dims, n, generator: Uniform(dims), "grid": adapted_grid}
    outcome = contest(line, 1, recipes, evaluations=20_000, points=20_000, seeds=[1, 2, 3])
    assert {name: len(trials) for name, trials in outcome.trials.items()} == {"even": 3, "grid": 3}
    even, grid = (trials[0] for trials in outcome.trials.values())
    assert even.relative_std == pytest.approx(1 / 3**0.5, rel=0.03)
    assert even.efficiency == pytest.approx(0.5, abs=0.01)
    assert grid.relative_std < 0.3 * even.relative_std
    assert_agrees(list(outcome.pulls(1.0).values()), 0, 1)
    assert_agrees(outcome.mean(), 1, min(t.error for t in outcome.trials["grid"]))
    after = even.error_after([even.training, even.training + 100 * even.each, even.training + 10_000 * even.each])
    assert math.isnan(after[0])
    np.testing.assert_allclose(after[1:], even.relative_std / np.array([10, 100]))
    assert "even" in str(outcome)
    assert len(str(outcome).splitlines()) == 2
    alone = contest(line, 1, {"even": recipes["even"]}, evaluations=2000, points=1000, seeds=[1])
    assert "±" not in str(alone)
    with pytest.raises(InputError, match="seeds: at least one is needed"):
        contest(line, 1, recipes, evaluations=2000, points=100, seeds=[])
