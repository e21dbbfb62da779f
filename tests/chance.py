"""Comparisons of random numbers, five standard errors wide, so that no new random stream breaks the build by chance."""

import math

import torch

N_ERRORS = 5
P_VALUE = math.erfc(N_ERRORS / 2**0.5)  # 5.7e-7, what lies outside of five standard errors
KOLMOGOROV = math.sqrt(-math.log(P_VALUE / 2) / 2)  # the same chance, as √n times the largest distance from a uniform


def assert_agrees(value, expected, error, *, rounding=0.0):
    """Assert that estimates lie within five standard errors of what is expected, and of ``rounding`` beside."""
    value, expected, error = (torch.as_tensor(x, dtype=torch.float64) for x in (value, expected, error))
    off = (value - expected).abs()
    assert (off <= N_ERRORS * error + rounding).all(), f"{float((off / error).max()):.1f} standard errors off"


def assert_mean(values, expected=0.0, *, rounding=0.0):
    """Assert that independent ``values``, one a row, have the mean ``expected``."""
    values = torch.as_tensor(values, dtype=torch.float64)
    assert_agrees(values.mean(0), expected, values.std(0) / len(values) ** 0.5, rounding=rounding)


def assert_spread(values, expected=1.0):
    """Assert that independent, normal ``values``, one a row, have the standard deviation ``expected``."""
    values = torch.as_tensor(values, dtype=torch.float64)
    assert_agrees(values.std(0), expected, expected / (2 * len(values)) ** 0.5)


def assert_likely(p_value):
    """Assert that p-values are not smaller than the chance of five standard errors."""
    p_value = torch.as_tensor(p_value, dtype=torch.float64)
    assert (p_value > P_VALUE).all(), f"p = {float(p_value.min()):.1g}"
