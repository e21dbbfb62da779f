"""Multipliers lead to constrained optima that are known."""

import math

import pytest
import torch
from torch import nn

from rewind.errors import InputError
from rewind.nn.mdmm import AtMost


def minimum(loss, constraints, start, steps=3000, rate=0.02):
    x = nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([x, *(c.multiplier for c, _ in constraints)], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (loss(x) + sum(c(value(x)) for c, value in constraints)).backward()
        optimizer.step()
    return x.detach()


def test_the_nearest_point_of_a_half_plane():
    """x² + y² with x + y ≥ 1: the optimum is (½, ½), its multiplier 1."""
    line = AtMost(-1.0, damping=2.0)
    x = minimum(lambda x: (x**2).sum(), [(line, lambda x: -x.sum())], [2.0, -1.0])
    torch.testing.assert_close(x, torch.tensor([0.5, 0.5]), atol=1e-4, rtol=0)
    assert float(line.multiplier.detach()) == pytest.approx(1.0, abs=1e-3)


def test_a_linear_loss_on_a_disc():
    """−x on x² + y² ≤ 2: no minimum without the constraint; the optimum is (√2, 0), its multiplier 1/(2√2)."""
    disc = AtMost(2.0)
    x = minimum(lambda x: -x[0], [(disc, lambda x: (x**2).sum())], [0.1, 0.7], steps=6000)
    torch.testing.assert_close(x, torch.tensor([math.sqrt(2), 0.0]), atol=1e-3, rtol=0)
    assert float(disc.multiplier.detach()) == pytest.approx(1 / math.sqrt(8), abs=1e-3)


def test_of_two_constraints_the_idle_one_counts_for_nothing():
    near, far = AtMost(1.0), AtMost(5.0)
    x = minimum(lambda x: ((x - 3) ** 2).sum(), [(near, lambda x: x[0]), (far, lambda x: x[0])], [6.0])
    torch.testing.assert_close(x, torch.tensor([1.0]), atol=1e-4, rtol=0)
    assert float(near.multiplier.detach()) == pytest.approx(4.0, abs=1e-2)
    assert float(far.multiplier.detach()) == pytest.approx(0.0, abs=1e-4)


def test_the_term_is_smooth_where_a_constraint_becomes_active():
    one = AtMost(0.0, damping=4.0)
    one.multiplier.data.fill_(2.0)
    for value in (-0.5 - 1e-6, -0.5 + 1e-6):
        g = torch.tensor(value, requires_grad=True, dtype=torch.float64)
        term = one(g)
        (slope,) = torch.autograd.grad(term, g)
        assert float(term.detach()) == pytest.approx(-0.5, abs=1e-6)
        assert float(slope) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("bound", "damping"), [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (math.inf, 1.0)])
def test_bad_input(bound, damping):
    with pytest.raises(InputError, match="a finite bound and a positive damping are needed"):
        AtMost(bound, damping)
