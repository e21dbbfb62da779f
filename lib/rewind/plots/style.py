"""One look for all figures: one colour and line style a method, frames, axes and legends.

>>> picture, axes = columns(3)
>>> axes.shape, look("truth")["color"]
((3,), 'black')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from rewind.errors import InputError

__all__ = [
    "LEVELS",
    "METHODS",
    "MOST_ENTRIES",
    "columns",
    "figure",
    "log_axis",
    "look",
    "shared_legend",
    "use_style",
]

Look = tuple[str, str | tuple]

# colour-blind safe (Okabe and Ito); no two methods share both colour and dash, so that grey prints read too
METHODS: Mapping[str, Look] = {
    "truth": ("black", "-"),
    "exact": ("black", "-"),
    "theory": ("black", "-"),
    "formula": ("#666666", "--"),
    "flow": ("#D55E00", "--"),
    "flow, quick": ("#CC79A7", "-."),
    "ellipse": ("#0072B2", "-."),
    "weighting": ("#009E73", ":"),
    "conditioner": ("#CC79A7", "--"),
    "assignment": ("#0072B2", ":"),
    "VEGAS": ("#0072B2", (0, (6, 2))),
}
LEVELS: Mapping[str, Look] = {
    "hard process": ("black", "-"),
    "parton": ("#0072B2", "--"),
    "particle": ("#009E73", "-."),
    "detector": ("#D55E00", "-"),
}
MOST_ENTRIES = 8  # of a legend

_CYCLE: Sequence[Look] = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", "-"),
    ("#E69F00", "--"),
    ("#666666", "-."),
    ("#882255", ":"),
)
_STYLE = {
    "figure.dpi": 100,
    "figure.figsize": (6.4, 4.2),
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_of_the_chapter: dict[str, Look] = {}


def use_style(own: Mapping[str, Look] | None = None) -> None:
    """Set the look of all figures; ``own`` gives colour and line style of methods that only this chapter has.

    Raises InputError for a method that has its look in the whole book.
    """
    own = dict(own or {})
    known = sorted(own.keys() & {**METHODS, **LEVELS}.keys())
    if known:
        raise InputError(f"looks of {', '.join(known)}: fixed for the whole book; choose other names")
    _of_the_chapter.clear()
    _of_the_chapter.update(own)
    plt.rcParams.update(_STYLE)


def look(name: str, index: int = 0) -> dict[str, Any]:
    """Return colour and line style of a method or level; other names get the ``index``-th of eight, all different."""
    colour, line = {**METHODS, **LEVELS, **_of_the_chapter}.get(name, _CYCLE[index % len(_CYCLE)])
    return {"color": colour, "linestyle": line}


def columns(n: int, *, height: float = 3.6, width: float = 4.2, **options: Any) -> tuple[Figure, NDArray]:
    """Return a figure with ``n`` axes side by side, each of ``width`` by ``height`` inches."""
    drawn, axes = plt.subplots(1, n, figsize=(width * n, height), squeeze=False, **options)
    return drawn, axes[0]


def figure(*, width: float = 6.4, height: float = 4.2) -> tuple[Figure, Axes]:
    """Return a figure with one axis, inches."""
    return plt.subplots(figsize=(width, height))


def log_axis(axis: Axis, ticks: Sequence[float]) -> None:
    """Make an axis (``ax.xaxis`` or ``ax.yaxis``) logarithmic with plain numbers at ``ticks`` and nowhere else."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_formatter(NullFormatter())


def shared_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """Draw one legend below the axes, with each label once; raise InputError for more than eight."""
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(handles) > MOST_ENTRIES:
        raise InputError(f"legend: {len(handles)} entries, at most {MOST_ENTRIES} can be told apart; draw fewer curves")
    in_rows = len(handles) if len(handles) <= 5 else int(np.ceil(len(handles) / 2))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=in_rows)
