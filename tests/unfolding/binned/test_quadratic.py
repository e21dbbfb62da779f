import numpy as np
import pytest

from literal_unfoldings import observed, simulated
from rewind.errors import InputError
from rewind.unfolding.binned.penalties import on_yields, scaled
from rewind.unfolding.binned.problem import read
from rewind.unfolding.binned.quadratic import decomposed, minimise, minimise_with_area


def test_a_decomposition_turns_the_rows_into_orthonormal_columns():
    rows = np.random.default_rng(1).normal(size=(9, 4)) * [1e-6, 1.0, 1e3, 1e8]
    columns, root = decomposed(rows)
    np.testing.assert_allclose(rows @ root, columns, atol=1e-12)
    np.testing.assert_allclose(columns.T @ columns, np.eye(4), atol=1e-12)
    size = np.linalg.norm(rows, axis=0)
    inverse = np.linalg.inv(rows.T @ rows / np.outer(size, size)) / np.outer(size, size)
    np.testing.assert_allclose(root @ root.T, inverse, rtol=1e-9)


@pytest.mark.parametrize("rows", [np.ones((3, 2)), np.zeros((2, 2)), np.ones((1, 2))], ids=["equal", "zero", "few"])
def test_rows_that_do_not_determine_every_column(rows):
    with pytest.raises(InputError, match="merge bins or regularise"):
        decomposed(rows)


def test_the_multiplier_is_the_price_of_an_event():
    """At the constrained minimum half the gradient of χ² + penalty is −multiplier times the simulated yields."""
    response = simulated()
    problem = read(response, None, observed(response))
    penalty, aim = scaled(problem, on_yields(problem, None), 0.01)
    free, held = minimise(problem, penalty, aim), minimise_with_area(problem, penalty, aim)
    simulated_yields = problem.yields.sum(0)
    hessian = np.linalg.inv(free.inverse)
    slope = hessian @ (held.ratio - free.ratio)
    np.testing.assert_allclose(slope, -held.multiplier * simulated_yields, rtol=1e-7)
    total = (problem.data - problem.background).sum()
    assert simulated_yields @ held.ratio == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(
        simulated_yields @ held.inverse, 0, atol=1e-9 * np.abs(simulated_yields @ free.inverse).max()
    )
    assert simulated_yields @ held.by_area == pytest.approx(1, rel=1e-12)
