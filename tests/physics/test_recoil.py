"""A recoil is given and taken away, and nothing else changes."""

import torch

from rewind import kinematics
from rewind.physics.leg_kinematics import along
from rewind.physics.recoil import recoiling, without_recoil


def test_recoil_is_given_and_taken_away():
    generator = torch.Generator().manual_seed(0)
    momentum = 100 * torch.randn(500, 6, 3, generator=generator, dtype=torch.float64)
    momentum[:, -1, :2] -= momentum[..., :2].sum(1)
    outgoing = kinematics.massless(momentum)
    q = 60 * torch.randn(len(outgoing), 2, generator=generator, dtype=torch.float64)
    moved = recoiling(outgoing, q)
    torch.testing.assert_close(moved.sum(1)[:, 1:3], q)
    hard, still = without_recoil(moved), without_recoil(outgoing)
    torch.testing.assert_close(hard.recoil, q)
    torch.testing.assert_close(hard.rapidity, still.rapidity)
    torch.testing.assert_close(hard.momenta, still.momenta, rtol=1e-9, atol=1e-8)
    total = outgoing.sum(1)
    expected = torch.stack([total[:, 0] + total[:, 3], total[:, 0] - total[:, 3]], 1) / 13_000
    torch.testing.assert_close(hard.fractions(13_000), expected)


def test_a_system_at_rest_needs_no_boost():
    pair = along(torch.full((1, 2), 50.0).double(), torch.tensor([[[0.6, 0.8, 0.0], [-0.6, -0.8, 0.0]]]).double(), 0.0)
    torch.testing.assert_close(recoiling(pair, torch.zeros(1, 2).double()), pair)
