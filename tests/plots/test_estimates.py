"""Values with their errors."""

from types import SimpleNamespace

import numpy as np
import pytest

from rewind import plots, stats

EDGES = np.array([0.0, 1.0, 2.0, 4.0])


@pytest.fixture
def ax():
    return plots.figure()[1]


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def test_points_lie_where_they_were_put(ax):
    plots.points(ax, [1, 2], [3.0, 4.0], [0.1, 0.2], name="flow")
    (container,) = ax.containers
    np.testing.assert_array_equal(container.lines[0].get_xydata(), [[1, 3], [2, 4]])
    assert labels(ax) == ["flow"]
    assert container.lines[0].get_color() == plots.METHODS["flow"][0]


def test_band_has_a_median_and_a_filled_range(ax):
    plots.band(ax, EDGES, [0, 0, 0], [1, 2, 3], [2, 4, 6], name="detector")
    assert labels(ax) == ["detector: median", "central 68 %"]


def test_efficiency_draws_the_share_and_leaves_empty_bins_out(ax):
    plots.efficiency(ax, [0.5, 0.5, 3.0, 3.0], [1, 0, 1, 1], EDGES, name="detector")
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xydata(), [[0.5, 0.5], [3.0, 1.0]])


def test_ladder_puts_the_first_row_on_top_and_skips_what_is_missing():
    _, axes = plots.columns(2)
    table = {"mass": [(0.1, 0.01), None], "width": [(0.2, 0.02), (3.0, 0.3)]}
    plots.ladder(axes, ["mass", "width"], table, name="flow", shift=0.1)
    low, high = axes[0].get_ylim()
    assert low > high
    assert [tick.get_text() for tick in axes[0].get_yticklabels()] == ["mass", "width"]
    assert [tick.get_text() for tick in axes[1].get_yticklabels()] == ["", ""]
    np.testing.assert_allclose(axes[1].containers[0].lines[0].get_xydata(), [[3.0, 1.1]])


def test_verdicts_draw_every_trial_and_the_mean(ax):
    table = {"flow": [0.5, 0.52, 0.54], "ABC, ε = 0.1": [0.7, 0.8]}
    plots.verdicts(ax, table, perfect=0.5)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(table)
    means = [float(container.lines[0].get_xdata()[0]) for container in ax.containers]
    np.testing.assert_allclose(means, [stats.mean(values).value for values in table.values()])


def test_resolution_has_bias_above_and_width_below(entries):
    bands = SimpleNamespace(
        bias=np.zeros(3), bias_error=np.ones(3), half_width=np.full(3, 2.0), half_width_error=np.full(3, 0.1)
    )
    panels = {"H": ({"truth": bands, "conditioner": bands}, EDGES), "t": ({"conditioner": bands}, EDGES)}
    figure = plots.resolution(panels, xlabel="true $p_T$ [GeV]", deviation="ratio − 1")
    assert [ax.get_title() for ax in figure.axes] == ["H", "t", "", ""]
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["true $p_T$ [GeV]"] * 2
    assert [ax.get_ylabel() for ax in figure.axes] == ["median of ratio − 1", "", "half of 68 % range", ""]
    assert entries(figure.axes[0]) == ["truth", "conditioner"]


def test_errors_in_time_draw_the_mean_of_the_trials(ax, looks):
    trials = [SimpleNamespace(error_after=lambda t, a=a: a / t**0.5) for a in (1.0, 3.0)]
    seconds = np.array([1.0, 4.0])
    plots.errors_in_time(ax, SimpleNamespace(trials={"VEGAS": trials, "flow": trials}), seconds, title="toy")
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [2.0, 1.0])
    assert (ax.get_title(), ax.get_xscale(), ax.get_yscale()) == ("toy", "log", "log")
    assert len(set(looks(ax))) == 2
