"""Multipliers find constrained optima that are known; the kernel distance is zero only for equal distributions."""

import numpy as np
import pytest
import torch

from chance import assert_mean
from rewind import stats
from rewind.errors import InputError
from rewind.nn.mdmm import Multipliers


def descend(objective, constraints, bounds, start, *, damping=1.0, steps=4000):
    x = torch.nn.Parameter(torch.tensor(start).double())
    multipliers = Multipliers(bounds, damping=damping).double()
    optimizer = torch.optim.SGD([x, *multipliers.parameters()], 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (objective(x) + multipliers(constraints(x))).backward()
        optimizer.step()
    return x.detach(), multipliers


@pytest.mark.parametrize("damping", [0.5, 1.0, 5.0])
def test_the_nearest_point_of_a_disc(damping):
    """min |x − (2, 1)|² on |x|² ≤ 1: x = (2, 1)/√5, and from 2(x − a) + 2λx = 0 follows λ = √5 − 1."""
    a = torch.tensor([2.0, 1.0]).double()
    x, m = descend(lambda x: ((x - a) ** 2).sum(), lambda x: (x**2).sum()[None], [1.0], [0.3, -0.5], damping=damping)
    torch.testing.assert_close(x, a / 5**0.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(m.multipliers.data, torch.tensor([5**0.5 - 1]).double(), atol=1e-3, rtol=0)


def test_a_concave_boundary_needs_the_damping():
    """min x + y on x² + y² = 2 from two inequalities: x = y = −1."""

    def both(x):
        return torch.stack([(x**2).sum(), -(x**2).sum()])

    x, _ = descend(lambda x: x.sum(), both, [2.0, -2.0], [0.5, 0.2], damping=5.0, steps=20000)
    torch.testing.assert_close(x, torch.tensor([-1.0, -1.0]).double(), atol=1e-3, rtol=0)


def test_a_slack_constraint_changes_nothing():
    x, m = descend(lambda x: (x**2).sum(), lambda x: x.sum()[None], [3.0], [4.0, 4.0])
    assert x.abs().max() < 1e-6
    assert m.multipliers.abs().max() < 1e-6
    assert m.penalty(torch.tensor([2.0]).double()) == 0
    assert m.penalty(torch.tensor([3.5]).double()) == 0.5
    with pytest.raises(InputError, match="damping = 0"):
        Multipliers([1.0], damping=0)


def test_mmd_loss_is_mmd():
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(60, 3)), rng.normal(size=(40, 3)) + 0.3
    np.testing.assert_allclose(float(stats.mmd_loss(torch.tensor(p), torch.tensor(q))), stats.mmd(p, q), atol=1e-12)


def test_mmd_loss_is_unbiased_and_sees_a_shift():
    generator = torch.Generator().manual_seed(2)

    def values(shift):
        draws = [torch.randn(2, 100, 2, generator=generator) for _ in range(200)]
        return torch.stack([stats.mmd_loss(p, q + shift) for p, q in draws])

    equal = values(0.0)
    assert_mean(equal)
    assert (equal < 0).any()
    assert values(0.5).mean() > 5 * equal.std()


def test_mmd_loss_pulls_samples_together():
    generator = torch.Generator().manual_seed(3)
    p = torch.randn(200, 1, generator=generator)
    shift = torch.tensor(1.0, requires_grad=True)
    (slope,) = torch.autograd.grad(stats.mmd_loss(p + shift, p), shift)
    assert slope > 0
    assert torch.autograd.gradcheck(lambda x: stats.mmd_loss(x, p[:5].double()), p[5:9].double().requires_grad_())
    with pytest.raises(InputError, match="n, m ≥ 2"):
        stats.mmd_loss(p[:1], p)
