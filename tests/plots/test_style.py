"""Colours, frames, axes and legends."""

import ast
import colorsys
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rewind import plots
from rewind.errors import InputError
from rewind.plots import style

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
REFERENCES = ("truth", "exact", "theory")


def test_no_two_methods_share_colour_and_dash():
    looks = [look for name, look in plots.METHODS.items() if name not in REFERENCES]
    assert len(set(looks)) == len(looks)
    assert ("black", "-") not in looks
    assert {plots.METHODS[name] for name in REFERENCES} == {("black", "-")}
    assert len(set(plots.LEVELS.values())) == len(plots.LEVELS)


def test_names_without_a_look_differ_up_to_the_longest_legend():
    looks = [tuple(plots.look("a new name", index).items()) for index in range(style.MOST_ENTRIES)]
    assert len(set(looks)) == style.MOST_ENTRIES


def test_lines_can_be_seen_on_white_and_told_apart_in_grey():
    for (one, dash), (other, next_dash) in pairwise(style._CYCLE):
        lightness = [colorsys.rgb_to_hls(*to_rgb(colour))[1] for colour in (one, other)]
        assert max(lightness) < 0.75
        assert dash != next_dash or abs(np.diff(lightness)[0]) > 0.1


def test_every_method_of_the_style_is_used_by_more_than_one_chapter():
    used = {path.stem: path.read_text() for path in NOTEBOOKS}
    for name in plots.METHODS.keys() - set(REFERENCES):
        chapters = [stem for stem, text in used.items() if f'\\"{name}\\"' in text]
        assert len(chapters) > 1, f"{name}: belongs into use_style of {chapters}"


def test_a_chapter_names_its_own_methods_until_the_next_one_does():
    plots.use_style({"ABC": ("#0072B2", ":")})
    assert plots.look("ABC") == {"color": "#0072B2", "linestyle": ":"}
    plots.use_style()
    assert plots.look("ABC") == plots.look("another name")


def test_a_chapter_cannot_change_a_look_of_the_book():
    with pytest.raises(InputError, match="looks of flow: fixed for the whole book"):
        plots.use_style({"flow": ("red", "-")})


def styles(path):
    """Return the looks that a chapter gives its own methods, one dictionary a call of use_style."""
    code = (cell.source for cell in nbformat.read(path, as_version=4).cells if "plots.use_style(" in cell.source)
    calls = [node for cell in code for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
    chosen = [call for call in calls if ast.unparse(call.func) == "plots.use_style"]
    return [ast.literal_eval(call.args[0]) if call.args else {} for call in chosen]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_methods_of_a_chapter_alone_differ_from_one_another(path):
    (own,) = styles(path)
    assert len(set(own.values())) == len(own)
    plots.use_style(own)


def test_figures_have_the_size_that_was_asked_for():
    figure, axes = plots.columns(3, width=2.0, height=1.5)
    assert axes.shape == (3,)
    np.testing.assert_allclose(figure.get_size_inches(), [6.0, 1.5])
    figure, ax = plots.figure(width=3, height=2)
    np.testing.assert_allclose(figure.get_size_inches(), [3, 2])
    assert figure.axes == [ax]


def test_a_logarithmic_axis_says_plain_numbers():
    _, ax = plots.figure()
    ax.plot([1, 1000], [1, 2])
    plots.log_axis(ax.xaxis, [1, 20, 500])
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "20", "500"]
    assert ax.get_yscale() == "linear"


def test_a_shared_legend_names_each_label_once(entries):
    figure, axes = plots.columns(2)
    for ax in axes:
        ax.plot([0, 1], label="flow")
    axes[1].plot([1, 0], label="truth")
    assert plots.shared_legend(figure, axes) is None  # the last line of a cell shows what it returns, beside the figure
    assert entries(figure) == ["flow", "truth"]


def test_a_shared_legend_of_nine_is_refused():
    figure, axes = plt.subplots(1, 1, squeeze=False)
    for index in range(9):
        axes[0, 0].plot([0, index], label=str(index))
    with pytest.raises(InputError, match="9 entries, at most 8"):
        plots.shared_legend(figure, axes[0])
