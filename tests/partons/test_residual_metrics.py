"""Bands of known distributions, and the frame in which the partons' sum is at rest."""

import numpy as np
import pytest
import torch

from chance import assert_agrees
from rewind import kinematics
from rewind.errors import InputError
from rewind.partons import residual_metrics


def test_the_sum_is_at_rest_and_masses_stay():
    rng = np.random.default_rng(1)
    p = torch.from_numpy(rng.normal(0, 100, (50, 4, 4)))
    p[..., 0] = ((p[..., 1:] ** 2).sum(-1) + 125**2).sqrt()
    inside = residual_metrics.to_centre_of_mass(p)
    assert inside.sum(1)[:, 1:].abs().max() < 1e-9
    torch.testing.assert_close(kinematics.mass(inside), kinematics.mass(p))
    torch.testing.assert_close(inside.sum(1)[:, 0], kinematics.mass(p.sum(1)))


def test_bands_of_a_normal_distribution():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 2, 20000)
    bands = residual_metrics.in_bins(rng.normal(1 + x // 1, 3), x, [0, 1, 2], rng)
    assert_agrees(bands.bias, [1, 2], bands.bias_error)
    assert_agrees(bands.half_width, 3 * 0.994458, bands.half_width_error)
    with pytest.raises(InputError, match="bin 2 to 3: 0 events"):
        residual_metrics.in_bins(x, x, [0, 2, 3], rng)


def test_observables_are_those_of_the_parts_and_of_the_sum():
    p = torch.from_numpy(np.random.default_rng(3).normal(0, 100, (5, 2, 4, 4)))
    p[..., 0] = ((p[..., 1:] ** 2).sum(-1) + 125**2).sqrt()
    values = residual_metrics.observables(p)
    assert values.shape == (5, 2, len(residual_metrics.OBSERVABLES))
    torch.testing.assert_close(values[..., 4], kinematics.eta(p[..., 1, :]))
    torch.testing.assert_close(values[..., 6], p[..., 3].sum(-1))
    torch.testing.assert_close(values[..., 7], kinematics.mass(p.sum(2)))
