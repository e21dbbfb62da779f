import warnings

import hist
import numpy as np
import pytest

from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.unfolding.binned import poisson_likelihood, tikhonov
from rewind.unfolding.binned.penalties import (
    by_truth,
    curvature,
    differences,
    flat_curvature,
    flat_differences,
    on_yields,
    scaled,
    within,
)
from rewind.unfolding.binned.problem import read

UNEQUAL, OTHER = np.array([0.0, 1.0, 3.0, 4.0, 7.0, 7.5]), np.array([0.0, 2.0, 3.0, 6.0, 10.0])


def binned(*edges, n=400):
    """Return a response of true axes with these edges, and perfect reconstruction."""
    rng = np.random.default_rng(1)
    ends = [np.asarray(e)[np.isfinite(e)] for e in edges]
    values = np.stack([rng.uniform(e[0], e[-1], n) for e in ends], 1)
    return response_matrix(values, values, list(edges))


def test_equal_widths_have_second_differences():
    np.testing.assert_allclose(curvature(binned(np.linspace(2, 4, 6))), flat_curvature(5), atol=1e-12)


@pytest.mark.parametrize("edges", [UNEQUAL, OTHER, np.geomspace(1, 1e4, 9)], ids=["few", "other", "logarithmic"])
def test_unequal_widths_annihilate_what_is_straight_and_see_what_is_not(edges):
    rows, centres, widths = curvature(binned(edges)), (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    assert len(rows) == len(widths) - 2
    scale = np.abs(rows) @ widths
    np.testing.assert_allclose(rows @ (widths * 3.0), 0, atol=1e-12 * scale.max() * 3)
    straight = widths * (5 + 2 * centres)
    np.testing.assert_allclose(rows @ straight, 0, atol=1e-12 * (np.abs(rows) @ straight).max())
    bent = rows @ (widths * centres**2)
    np.testing.assert_allclose(bent, 2 * np.mean(widths) ** 3, rtol=1e-9)


def test_no_row_crosses_the_edge_of_a_slice():
    response = binned(UNEQUAL, OTHER)
    n_x, n_y = len(UNEQUAL) - 1, len(OTHER) - 1
    rows = curvature(response)
    assert len(rows) == (n_x - 2) * n_y + n_x * (n_y - 2)
    for row in rows:
        x, y = np.nonzero(row.reshape(n_x, n_y))
        assert len(x) == 3
        assert (np.ptp(x), np.ptp(y)) in ((2, 0), (0, 2))
    plane = np.outer(np.diff(UNEQUAL), np.diff(OTHER)) * (
        3 + (UNEQUAL[1:] + UNEQUAL[:-1])[:, None] - 0.3 * (OTHER[1:] + OTHER[:-1])
    )
    np.testing.assert_allclose(rows @ plane.ravel(), 0, atol=1e-10)


@pytest.mark.parametrize("edges", [(UNEQUAL,), (UNEQUAL, OTHER)], ids=["one axis", "two axes"])
def test_differences_of_slices_stay_in_them(edges):
    response, shape = binned(*edges), [len(e) - 1 for e in edges]
    rows = differences(response)
    expected = []
    for axis, n in enumerate(shape):
        others = [np.eye(m) for m in shape]
        others[axis] = flat_differences(n)
        total = others[0]
        for other in others[1:]:
            total = np.kron(total, other)
        expected.append(total)
    np.testing.assert_allclose(rows, np.vstack(expected), atol=1e-12)


def test_infinite_bins_are_skipped():
    edges = np.array([-np.inf, 0.0, 1.0, 2.0, 3.0, np.inf])
    rows = curvature(binned(edges))
    np.testing.assert_allclose(rows, [[0.0, 1.0, -2.0, 1.0, 0.0]], atol=1e-12)
    assert curvature(binned(np.array([-np.inf, 0.0, np.inf]), n=1)).shape == (0, 2)


def test_a_bin_that_is_left_out_ends_a_slice():
    response = binned(np.linspace(0, 8, 9)).restricted(true=np.arange(8) != 3)
    rows = curvature(response)
    whole = flat_curvature(8)
    np.testing.assert_allclose(rows, np.delete(whole[whole[:, 3] == 0], 3, axis=1), atol=1e-12)
    expected = np.zeros((7, 7))
    expected[:3, :3], expected[3:, 3:] = flat_differences(3), flat_differences(4)
    np.testing.assert_allclose(differences(response), expected, atol=1e-12)
    np.testing.assert_allclose(flat_differences(8, np.arange(8) != 3), expected, atol=1e-12)


def test_axes_of_hist_bring_their_widths():
    axis = hist.axis.Regular(4, 1, 100, transform=hist.axis.transform.log)
    values = np.array([2.0, 5.0, 20.0, 50.0])
    response = response_matrix(values, values, axis)
    widths, centres = np.diff(axis.edges), axis.centers
    np.testing.assert_allclose(curvature(response) @ (widths * (1 + centres)), 0, atol=1e-9)


def test_flat_differences_are_those_of_the_paper():
    rows = flat_differences(5)
    assert rows[0, 0] == rows[-1, -1] == -1 + 1e-5
    np.testing.assert_allclose(rows.sum(1), 1e-5, rtol=1e-9)
    np.testing.assert_allclose(rows, rows.T)
    with pytest.raises(InputError, match="of 1 bins: at least two"):
        flat_differences(1)
    with pytest.raises(InputError, match="of 1 bins: at least two"):
        flat_differences(3, np.array([False, True, False]))


def test_rows_that_need_a_bin_left_out_are_dropped():
    with pytest.warns(UserWarning, match="never reconstructed"):
        problem = read(np.diag([5.0, 5.0, 0.0, 5.0]), np.full(4, 9.0), [4.0, 5.0, 0.0, 6.0])
    np.testing.assert_array_equal(on_yields(problem, None), np.zeros((0, 3)))
    given = [[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
    np.testing.assert_array_equal(within(problem, given, "penalty"), [[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    with pytest.raises(InputError, match="rows of shape"):
        within(problem, np.eye(3), "rows")


@pytest.mark.parametrize("prior", [None, np.array([3.0, 9.0, 4.0, 6.0])], ids=["truth", "prior"])
def test_how_the_gradient_follows_the_truth(prior):
    truth, tau, ratio = np.array([7.0, 5.0, 8.0, 6.0]), 0.3, np.array([1.2, 0.7, 1.1, 0.9])

    def gradient(generated):
        problem = read(np.diag([4.0, 3.0, 2.0, 3.0]), generated, [40.0, 50.0, 60.0, 30.0], prior=prior)
        rows, aim = scaled(problem, on_yields(problem, None), tau)
        return rows.T @ (rows @ ratio - aim)

    problem = read(np.diag([4.0, 3.0, 2.0, 3.0]), truth, [40.0, 50.0, 60.0, 30.0], prior=prior)
    exact = by_truth(problem, on_yields(problem, None), tau, ratio)
    numerical = [(gradient(truth + e) - gradient(truth - e)) / 2e-4 for e in 1e-4 * np.eye(4)]
    np.testing.assert_allclose(exact, np.transpose(numerical), rtol=1e-7, atol=1e-8)


def test_a_penalty_within_slices_leaves_a_plane_of_densities():
    """Reading the axes of a record, Tikhonov at any strength holds nothing against a plane, its prior being flat."""
    response = binned(UNEQUAL, OTHER, n=20_000)
    area = np.outer(np.diff(UNEQUAL), np.diff(OTHER))
    plane = (area * (30 + 3 * (UNEQUAL[1:] + UNEQUAL[:-1])[:, None] + 4 * (OTHER[1:] + OTHER[:-1]))).ravel()
    for tau in (0.1, 10.0):
        result = tikhonov(response, None, plane, tau=tau, prior=area.ravel(), data_covariance=np.diag(plane))
        np.testing.assert_allclose(result.values, plane, rtol=1e-7)


SLOPED = np.array([30.0, 70.0, 50.0, 20.0])
HOLDING = {
    "Tikhonov": tikhonov,
    "without area": lambda *given, **options: tikhonov(*given, **options, area=False),
    "likelihood": poisson_likelihood,
}


@pytest.mark.parametrize("unfold", HOLDING.values(), ids=HOLDING.keys())
def test_a_prior_that_is_not_normalised_to_the_data_is_warned_of_once(unfold):
    """By more than a factor 2 of the folded totals, background included; a prior that is not held is of any size."""
    background, base = np.full(4, 10.0), 0.5 * SLOPED.sum()

    def warned(scale, tau=0.01, **options):
        simulated, generated = np.diag(SLOPED) * 0.5 * scale, SLOPED * scale
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            unfold(simulated, generated, 0.5 * SLOPED + background, tau=tau, background=background, **options)
        assert all("ResponseMatrix.scaled or give prior=" in str(each.message) for each in raised)
        return len(raised)

    limits = (np.array([0.5, 2.0]) * (base + 40) - 40) / base
    assert [warned(scale) for scale in (*limits * [0.99, 1.01], 1e3)] == [1, 1, 1]
    assert [warned(scale) for scale in (*limits * [1.01, 0.99], 1)] == [0, 0, 0]
    assert warned(1e3, tau=0.0) == warned(1e3, prior=SLOPED) == warned(1e3, penalty=np.zeros((1, 4))) == 0
    assert warned(1, prior=np.zeros(4)) == warned(1, prior=1e6 * np.arange(1.0, 5.0)) == 0
    assert warned(1, prior=1e3 * SLOPED) == 1
