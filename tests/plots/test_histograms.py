"""Histograms, ratios, templates, matrices and posteriors of one quantity."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rewind import plots
from rewind.stats import templates

EDGES = np.linspace(-3, 3, 13)


@pytest.fixture
def samples():
    rng = np.random.default_rng(1)
    return {"truth": rng.standard_normal(500), "flow": rng.standard_normal(400) + 0.1}


def test_compare_draws_densities_and_their_ratio(samples, entries):
    ax = plots.compare(samples, EDGES, xlabel="x [GeV]", reference="truth", ratio_range=(0.8, 1.2))
    upper, lower = ax.figure.axes
    assert upper is ax
    assert entries(upper) == ["truth", "flow"]
    assert upper.get_ylabel() == "density"
    assert (lower.get_xlabel(), lower.get_ylabel(), lower.get_ylim()) == ("x [GeV]", "/ truth", (0.8, 1.2))
    assert len(lower.patches) >= len(EDGES) - 1  # the reference's own error, a bar a bin


def test_compare_without_a_reference_needs_one_axis(samples, entries):
    _, ax = plots.figure()
    assert plots.compare(samples, EDGES, xlabel="x", ax=ax, weights={"flow": np.full(400, 2.0)}) is ax
    assert ax.get_xlabel() == "x"
    assert entries(ax) == ["truth", "flow"]


def test_spectra_label_once_and_have_a_legend_in_the_first(samples, entries):
    figure = plots.spectra({"x": (samples, EDGES), "y": (samples, EDGES)}, reference="truth")
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [ax.get_ylabel() for ax in upper] == ["density", ""]
    assert [ax.get_xlabel() for ax in lower] == ["x", "y"]
    assert entries(upper[0]) == ["truth", "flow"]
    assert upper[1].get_legend() is None


def test_templates_leave_open_bins_out(entries):
    rng = np.random.default_rng(2)
    edges = np.array([-np.inf, -1, 0, 1, np.inf])
    named = {name: templates.template(rng.normal(size=(300, 4)), edges) for name in ("low", "high")}
    upper, lower = plots.templates(named, xlabel="m [GeV]", reference="low").axes
    assert entries(upper) == ["low", "high"]
    assert (lower.get_xlabel(), lower.get_ylabel()) == ("m [GeV]", "/ low")
    assert upper.get_xlim()[0] > -2


def test_matrix_is_indexed_by_x_then_y():
    _, ax = plots.figure()
    values = np.arange(6).reshape(2, 3)
    plots.matrix(ax, values, [0, 1, 2], [0, 1, 2, 3], xlabel="reco", ylabel="true", label="share")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("reco", "true")
    assert ax.figure.axes[1].get_ylabel() == "share"
    np.testing.assert_array_equal(np.asarray(ax.collections[0].get_array()).reshape(3, 2), values.T)


def test_posterior_shows_truth_and_each_solution(samples, looks):
    _, ax = plots.figure()
    plots.posterior(ax, samples["flow"], EDGES, truth=0.3, solutions=[-1.0, 1.0], title="event 4")
    assert (ax.get_title(), ax.get_xlim()) == ("event 4", (-3.0, 3.0))
    assert [float(line.get_xdata()[0]) for line in ax.get_lines()] == [-1.0, 1.0, 0.3]
    assert len(set(looks(ax))) == 2  # both solutions alike, the truth not
    plt.close(ax.figure)
