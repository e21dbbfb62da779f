"""Recipes spend what they may and learn."""

from functools import partial

import pytest
import torch

from rewind.integrate import (
    adapted_grid,
    integrate,
    learnt_shares,
    started_flow,
    trained_flow,
)
from rewind.toys.integrands import INTEGRANDS


@pytest.mark.parametrize("recipe", [trained_flow, started_flow])
def test_recipes_spend_no_more_than_they_may(recipe):
    counted = []

    def bell(x):
        counted.append(len(x))
        return INTEGRANDS["gaussian 4D"].function(x)

    generator = torch.Generator().manual_seed(1)
    flow = recipe(bell, 4, 20_000, generator, seed=1, layers=1, hidden=16, bins=8)
    assert 18_000 < sum(counted) <= 20_000
    assert integrate(bell, flow, 20_000, generator).relative_std < 2.0  # 2.4 for even points


def test_learnt_shares_follow_the_peaks():
    """A quarter of the integral under one hump: shares of the channels that hold one each."""

    def hump(x, centre):
        return (-((x[:, 0] - centre) ** 2) / 0.05**2 / 2).exp()

    def humps(x):
        return 0.25 * hump(x, 0.25) + 0.75 * hump(x, 0.75)

    generator = torch.Generator().manual_seed(2)
    grids = [
        adapted_grid(partial(hump, centre=centre), 1, 20_000, generator, bins=32, iterations=10)
        for centre in (0.25, 0.75)
    ]
    mixture = learnt_shares(humps, grids, 60_000, generator)
    torch.testing.assert_close(mixture.shares, torch.tensor([0.25, 0.75], dtype=torch.float64), atol=0.03, rtol=0)
