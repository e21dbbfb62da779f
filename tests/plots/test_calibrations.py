"""Calibration curves: what is drawn, and that no two of an axis look alike."""

import numpy as np
import pytest

from rewind import plots, stats
from rewind.errors import InputError

NAMES = [f"z{i}" for i in range(13)]


@pytest.fixture
def calibrated():
    rng = np.random.default_rng(3)
    truth, draws = rng.normal(size=(60, 2)), rng.normal(size=(60, 20, 2))
    return rng.random((60, len(NAMES))), stats.tarp(draws, truth, rng)


def test_curves_of_an_axis_never_share_colour_and_dash(calibrated, looks, entries):
    _, axes = plots.columns(3)
    fractions, tarp = calibrated
    plots.calibration(axes, "flow", fractions, tarp, labels=[NAMES[:5], NAMES[5:]])
    for ax, names in zip(axes, (NAMES[:5], NAMES[5:]), strict=False):
        assert entries(ax) == names
        assert len(set(looks(ax))) == len(names)
    assert [ax.get_title() for ax in axes] == ["flow: SBC", "flow: SBC", "flow: TARP"]
    assert [ax.get_ylabel() for ax in axes] == ["CDF − uniform", "", "coverage − level"]


def test_curves_are_the_rank_deviations_of_their_dimensions(calibrated):
    _, axes = plots.columns(3)
    fractions, tarp = calibrated
    plots.calibration(axes, "flow", fractions, tarp, labels=[NAMES[:6], NAMES[6:]])
    expected, inside = stats.rank_deviation(fractions, np.linspace(0, 1, 101))
    drawn = [line.get_ydata() for ax in axes[:2] for line in ax.get_lines()]
    np.testing.assert_allclose(np.transpose(drawn), expected)
    band = axes[0].patches[0]
    np.testing.assert_allclose([band.get_y(), band.get_height()], [-inside, 2 * inside])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([NAMES], "13 names; 2 groups for 13 dimensions"),
        ([NAMES[:5], NAMES[5:12]], r"5 \+ 7 names; 2 groups for 13"),
        ([NAMES[:4], NAMES[4:]], "a group of 9; at most 8"),
    ],
)
def test_groups_that_do_not_fit_are_refused(calibrated, groups, message):
    _, axes = plots.columns(3)
    with pytest.raises(InputError, match=message):
        plots.calibration(axes, "flow", *calibrated, labels=groups)
