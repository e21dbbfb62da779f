import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from rewind.errors import InputError
from rewind.unfolding.binned.l_curve import corner, l_curve
from rewind.unfolding.binned.least_squares import Tikhonov
from rewind.unfolding.binned.problem import read


def diagonal(sizes, data):
    """Return an unfolding whose components s_i x_i = d_i do not mix, of unit variance, penalised by Σ x²."""
    n = len(sizes)
    problem = read(np.diag(sizes), np.ones(n), data, data_covariance=np.eye(n), prior=np.zeros(n))
    return Tikhonov(problem, np.eye(n), area=False)


def exact(sizes, data, taus):
    """Return log₁₀ χ², log₁₀ Σ x² and the curve's curvature in closed form."""
    s2, d2, t2 = np.square(sizes), np.square(data), np.square(taus)[:, None]
    misfit, size = (d2 * (t2 / (s2 + t2)) ** 2).sum(1), (d2 * s2 / (s2 + t2) ** 2).sum(1)
    first = 4 * (d2 * s2 * t2**2 / (s2 + t2) ** 3).sum(1)  # by ln τ
    second = 8 * (d2 * s2 * t2**2 * (2 * s2 - t2) / (s2 + t2) ** 4).sum(1)
    falls = -4 * (d2 * s2 * t2 / (s2 + t2) ** 3).sum(1)
    bends = -8 * (d2 * s2 * t2 * (s2 - 2 * t2) / (s2 + t2) ** 4).sum(1)
    x, y = first / misfit, falls / size
    xx, yy = second / misfit - x**2, bends / size - y**2
    curvature = np.log(10) * (x * yy - y * xx) / (x**2 + y**2) ** 1.5
    return np.log10(misfit), np.log10(size), curvature


SIZES, DATA = np.array([1.0, 0.8, 2e-4, 1e-4]), np.array([900.0, 400.0, 1.1, 0.7])


def test_the_curve_is_that_of_the_closed_form():
    taus = np.geomspace(1e-6, 30, 1_000)
    curve = l_curve(diagonal(SIZES, DATA), taus)
    misfit, bending, curvature = exact(SIZES, DATA, taus)
    np.testing.assert_allclose(curve.misfit, misfit, atol=1e-6)
    np.testing.assert_allclose(curve.bending, bending, atol=1e-6)
    np.testing.assert_allclose(curve.curvature[5:-5], curvature[5:-5], atol=0.001 * np.abs(curvature).max())


def test_the_corner_parts_signal_from_noise():
    stated = diagonal(SIZES, DATA)
    best = minimize_scalar(
        lambda log: -exact(SIZES, DATA, [np.exp(log)])[2][0], bounds=np.log([1e-4, 0.5]), method="bounded"
    )
    known = float(np.exp(best.x))
    assert 10 * SIZES[2] < known < SIZES[1]
    strengths = stated.strengths()
    assert abs(np.log(corner(stated) / known)) <= np.log(strengths[1] / strengths[0])
    finer = l_curve(stated, np.geomspace(known / 30, known * 30, 601))
    assert finer.corner == pytest.approx(known, rel=0.012)


def test_more_strength_always_bends_less_and_fits_worse():
    curve = l_curve(diagonal(SIZES, DATA))
    assert (np.diff(curve.misfit) > 0).all()
    assert (np.diff(curve.bending) < 0).all()


def test_components_of_one_size_have_no_corner():
    """Misfit ∝ p² and Σ x² ∝ (1 − p)², p = τ²/(s² + τ²): a curve that bends away from the origin throughout."""
    curve = l_curve(diagonal(np.full(3, 0.5), np.array([5.0, 7.0, 9.0])), np.geomspace(0.01, 30, 50))
    assert (curve.curvature < 0).all()
    with pytest.raises(InputError, match="no corner between these strengths"):
        _ = curve.corner


@pytest.mark.parametrize(
    "taus",
    [[1.0, 2.0], [0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.5], [1.0, np.nan, 2.0, 3.0], [[1.0, 2.0, 3.0, 4.0]]],
    ids=["few", "zero", "falling", "nan", "nested"],
)
def test_strengths_that_make_no_curve(taus):
    with pytest.raises(InputError, match="taus: at least four rising, positive strengths"):
        l_curve(diagonal(SIZES, DATA), np.array(taus))
