"""Mapped angles: undone, nearly even, with the slope that is quoted."""

import pytest
import torch

from rewind.mem.angle_map import AngleMap

NAMES = ("ttbar_dilepton", "tth_semileptonic", "tth_lost")


@pytest.mark.parametrize("name", NAMES)
def test_mapped_variables_are_undone_and_nearly_even(simulated, name):
    integrand, partons, _, _, row, _ = simulated[name]
    u = integrand.variables(partons, row)
    angle_map = AngleMap(integrand)
    v, log_slope = angle_map.inverse(u, row)
    back, other = angle_map.forward(v, row)
    torch.testing.assert_close(back, u, rtol=0, atol=1e-9)
    torch.testing.assert_close(other, log_slope, rtol=0, atol=1e-9)
    for place in integrand.angles:
        assert abs(float((v[:, place] - 0.5).abs().mean()) - 0.25) < 0.06
    assert (-log_slope).mean() > 1.0


def test_slope_of_the_angle_map_is_a_difference_quotient(simulated):
    integrand, partons, _, _, row, _ = simulated["ttbar_dilepton"]
    angle_map, u = AngleMap(integrand), integrand.variables(partons, row)
    v, log_slope = angle_map.inverse(u, row)
    step, slope = 1e-7, torch.ones_like(log_slope)
    for place in integrand.angles:
        moved = v.clone()
        moved[:, place] += step
        slope = slope * (angle_map.forward(moved, row)[0] - u)[:, place] / step
    inside = (slope > 0) & ((slope.log() - log_slope).abs() < 0.02)
    assert inside.double().mean() > 0.97  # the others step over a corner of the table
