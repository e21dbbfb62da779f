"""Pictures in a plane."""

import numpy as np
import pytest

from rewind import plots

CIRCLE = np.stack([np.cos(np.linspace(0, 6.28, 30)), np.sin(np.linspace(0, 6.28, 30))], axis=1)


@pytest.fixture
def ax():
    return plots.figure()[1]


def test_arms_draws_as_many_as_asked_for_one_standing_out(ax):
    joints = np.random.default_rng(1).random((20, 4, 2))
    plots.arms(ax, joints, [1.0, 0.5], title="prior", n=12)
    assert len(ax.get_lines()) == 12 + 3  # one arm, the hand and the rail
    assert (ax.get_title(), ax.get_xlabel()) == ("prior", "first coordinate")


@pytest.mark.parametrize(("n", "third"), [(2, "solutions"), (0, "closest approach")])
def test_ellipses_show_their_common_points_or_the_closest(ax, looks, n, third):
    options = {"closest": CIRCLE[:2], "truth": [0.5, 0.5], "title": "event"}
    plots.transverse_ellipses(ax, CIRCLE, CIRCLE + 0.5, solutions=CIRCLE[:n], **options)
    assert ax.get_legend_handles_labels()[1] == ["neutrino", "$p_T^{miss}$ − antineutrino", third, "truth"]
    assert "GeV" in ax.get_xlabel()
    assert "GeV" in ax.get_ylabel()
    assert len(set(looks(ax))) == 4


def test_the_plane_of_a_posterior_holds_draws_and_truth(ax):
    draws = np.random.default_rng(2).normal(size=(400, 2))
    plots.posterior_plane(ax, draws, truth=[9.0, 0.0], solutions=np.empty((0, 2)))
    assert ax.get_xlim()[1] > 9.0
    assert ax.get_ylim()[1] < 4.0
    assert ax.get_legend_handles_labels()[1] == ["flow: draws", "solutions", "truth"]


def test_parton_planes_have_a_row_an_event_and_a_column_a_parton(entries):
    rng = np.random.default_rng(3)
    draws = rng.random((2, 200, 3, 2))
    marks = {name: rng.random((2, 3, 2)) for name in ("truth", "conditioner", "assignment")}
    figure = plots.parton_planes(["event 1", "event 2"], ["t", "H", "g"], draws, marks)
    assert len(figure.axes) == 6
    assert [ax.get_title() for ax in figure.axes[:3]] == ["t", "H", "g"]
    assert [ax.get_xlabel() for ax in figure.axes[3:]] == ["η"] * 3
    assert entries(figure) == list(marks)
