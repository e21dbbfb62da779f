import matplotlib
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt

from rewind import plots


@pytest.fixture(autouse=True)
def fresh_style():
    """Start every test with the book's style, and close what it drew."""
    plots.use_style()
    yield
    plots.use_style()
    plt.close("all")


@pytest.fixture
def entries():
    """Give a function that lists the legend of an axis or a figure."""

    def texts(drawn):
        legends = [drawn.get_legend()] if hasattr(drawn, "get_legend") else drawn.legends
        return [text.get_text() for legend in legends for text in legend.get_texts()]

    return texts


@pytest.fixture
def looks():
    """Give a function that lists colour and dash of the lines with a label."""

    def pairs(ax):
        lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
        return [(line.get_color(), str(line._dash_pattern)) for line in lines]

    return pairs
