"""Figures about a regularisation."""

from types import SimpleNamespace

import numpy as np

from rewind import plots


def test_half_of_component_k_is_kept():
    figure = plots.components(np.array([30.0, -4.0, 1.2]), np.array([9.0, 3.0, 1.0]), 2)
    (line,) = figure.axes[1].lines
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.5, 0.1])
    assert [bar.get_height() for bar in figure.axes[0].patches] == [30.0, 4.0, 1.2]


def test_the_corner_lies_on_the_l_curve():
    taus = np.geomspace(1e-3, 10, 5)
    curve = SimpleNamespace(taus=taus, misfit=np.arange(5.0), bending=5 - np.arange(5.0))
    scan = SimpleNamespace(value=taus[2], settings=taus, scores=np.ones(5))
    figure = plots.l_curve(curve, taus[3], scan)
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xydata(), [[3.0, 2.0]])


def test_unfolded_values_stand_over_the_truth():
    ax = plots.figure()[1]
    plots.unfolded(ax, [0, 1, 2], {"flow": ([11.0, 18.0], [1.0, 2.0])}, truth=[10.0, 20.0])
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [1.1, 0.9])
    np.testing.assert_allclose(ax.get_ylim(), (0.4, 1.6))
