"""Figures of the book: one look, one colour a method. Only notebooks import this module."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence

import hist
import matplotlib.pyplot as plt
import mplhep
import numpy as np
from IPython.display import HTML
from matplotlib.ticker import NullFormatter

__all__ = [
    "LEVELS",
    "METHODS",
    "arms",
    "band",
    "calibration",
    "columns",
    "compare",
    "efficiency",
    "errors_in_time",
    "event_display",
    "figure",
    "filled",
    "interactive",
    "ladder",
    "leg_picture",
    "log_axis",
    "look",
    "matrix",
    "parton_planes",
    "points",
    "posterior",
    "posterior_plane",
    "resolution",
    "shared_legend",
    "spectra",
    "templates",
    "transverse_ellipses",
    "use_style",
    "verdicts",
]

# colour-blind safe (Okabe and Ito); line styles and luminance differ, so that grey prints read too
METHODS = {
    "truth": ("black", "-"),
    "exact": ("black", "-"),
    "flow": ("#D55E00", "--"),
    "flow, quick": ("#CC79A7", "-."),
    "ABC": ("#0072B2", ":"),
    "formula": ("#666666", "--"),
    "ellipse": ("#0072B2", "-."),
    "weighting": ("#009E73", ":"),
    "quadratic": ("#0072B2", "-."),
    "regression": ("#CC79A7", "-."),
    "theory": ("black", "-"),
    "VEGAS": ("#0072B2", "-."),
    "VEGAS+": ("#009E73", ":"),
    "VEGAS-started flow": ("#E69F00", "-"),
    "multi-channel": ("#CC79A7", (0, (1, 1, 5, 1))),
    "conditioner": ("#CC79A7", "-."),
    "assignment": ("#0072B2", ":"),
    "sum of objects": ("#666666", "--"),
    "Huber": ("#56B4E9", ":"),
    "Huber + MMD": ("#009E73", "--"),
    "MDMM": ("#CC79A7", "-."),
}
LEVELS = {
    "hard process": ("black", "-"),
    "parton": ("#0072B2", "--"),
    "particle": ("#009E73", "-."),
    "detector": ("#D55E00", "-"),
}
_FALLBACK = [
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", "-"),
    ("#E69F00", "--"),
]
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


def use_style() -> None:
    """Set the look of all figures."""
    plt.rcParams.update(_STYLE)


def look(name: str, index: int = 0) -> dict:
    """Return colour and line style of a method or level."""
    colour, line = {**METHODS, **LEVELS}.get(name, _FALLBACK[index % len(_FALLBACK)])
    return {"color": colour, "linestyle": line}


def columns(n: int, *, height: float = 3.6, width: float = 4.2, **options):
    """Return a figure with ``n`` axes side by side."""
    figure, axes = plt.subplots(1, n, figsize=(width * n, height), squeeze=False, **options)
    return figure, axes[0]


def figure(*, width: float = 6.4, height: float = 4.2):
    """Return a figure with one axis."""
    return plt.subplots(figsize=(width, height))


def filled(values, edges, weights=None) -> hist.Hist:
    """Return a histogram with weighted variances."""
    histogram = hist.Hist(hist.axis.Variable(np.asarray(edges, dtype=float)), storage=hist.storage.Weight())
    histogram.fill(np.asarray(values, dtype=float), weight=None if weights is None else np.asarray(weights))
    return histogram


def compare(
    samples: Mapping[str, Sequence],
    edges,
    *,
    xlabel: str,
    reference: str | None = None,
    weights: Mapping[str, Sequence] | None = None,
    ratio_range: tuple[float, float] = (0.5, 1.5),
    ax=None,
):
    """Draw normalised histograms of ``samples`` by name with statistical errors, and their ratio to ``reference``.

    ``ax`` is an axis, or a pair of them, the lower one for the ratio; by default both are made.
    """
    if ax is None:
        ratio = reference is not None
        shape = {"height_ratios": [3, 1]} if ratio else {}
        _, axes = plt.subplots(2 if ratio else 1, 1, sharex=True, squeeze=False, gridspec_kw=shape)
        ax, lower = axes[0, 0], axes[-1, 0] if ratio else None
    else:
        ax, lower = ax if np.ndim(ax) else (ax, None)
    weights = weights or {}
    densities = {}
    for index, (name, values) in enumerate(samples.items()):
        histogram = filled(values, edges, weights.get(name))
        scale = 1 / (histogram.values(flow=True).sum() * np.diff(edges))
        density, error = histogram.values() * scale, np.sqrt(histogram.variances()) * scale
        densities[name] = density, error
        mplhep.histplot(density, edges, yerr=error, ax=ax, label=name, **look(name, index))
    ax.set_ylabel("density")
    ax.legend()
    if lower is not None:
        base, base_error = densities[reference]
        for index, (name, (density, error)) in enumerate(densities.items()):
            with np.errstate(divide="ignore", invalid="ignore"):
                if name == reference:
                    relative = base_error / base
                    lower.bar(edges[:-1], 2 * relative, np.diff(edges), 1 - relative, align="edge", color="0.85")
                else:
                    mplhep.histplot(density / base, edges, yerr=error / base, ax=lower, **look(name, index))
        lower.axhline(1, color="0.5", linewidth=0.8)
        lower.set_ylim(*ratio_range)
        lower.set_ylabel(f"/ {reference}")
    (lower if lower is not None else ax).set_xlabel(xlabel)
    return ax


def points(ax, x, values, errors, *, name: str, index: int = 0, **options):
    """Draw values with error bars in the colour of ``name``."""
    style = look(name, index) | {"linestyle": "none"}
    ax.errorbar(x, values, yerr=errors, fmt="o", ms=4, capsize=2, label=name, **style, **options)


def band(ax, edges, low, middle, high, *, name: str):
    """Draw a median with its 68 % band in bins."""
    colour = look(name)["color"]
    ax.stairs(middle, edges, color=colour, label=f"{name}: median", linewidth=1.8, baseline=None)
    ax.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.25, label="central 68 %")


def efficiency(ax, values, passed, edges, *, name: str, index: int = 0, weights=None):
    """Draw the share of entries that ``passed`` (flags) in bins of ``values``, with 68 % Wilson intervals.

    With ``weights`` the number of entries of a bin is its effective one, (Σw)²/Σw².
    """
    values, passed = np.asarray(values, dtype=float), np.asarray(passed, dtype=bool)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    total, kept = filled(values, edges, weights), filled(values[passed], edges, weights[passed])
    keep = total.values() > 0
    n = total.values()[keep] ** 2 / total.variances()[keep]
    share = kept.values()[keep] / total.values()[keep]
    centre = (n * share + 0.5) / (n + 1)
    half = np.sqrt(n * share * (1 - share) + 0.25) / (n + 1)
    errors = np.abs(np.stack([share - centre + half, centre + half - share]))
    points(ax, total.axes[0].centers[keep], share, errors, name=name, index=index)


def matrix(ax, values, edges_x, edges_y, *, xlabel: str, ylabel: str, label: str):
    """Draw a matrix, ``values[x, y]``, with a colour bar."""
    drawn = mplhep.hist2dplot(np.asarray(values), edges_x, edges_y, ax=ax, cbar=False, cmap="cividis", cmin=None)
    ax.figure.colorbar(drawn[0], ax=ax, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)


def log_axis(axis, ticks: Sequence[float]):
    """Make an axis (``ax.xaxis`` or ``ax.yaxis``) logarithmic with plain numbers at ``ticks`` and nowhere else."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_formatter(NullFormatter())


def verdicts(ax, table: Mapping[str, Sequence[float]], *, perfect: float) -> dict[str, tuple[float, float]]:
    """Draw a figure of merit of each method, one row a method, one point a trial; return means with standard errors."""
    means = {}
    for row, (name, values) in enumerate(table.items()):
        values = np.asarray(values)
        colour = look(name.split(",")[0] if name not in METHODS else name, row)["color"]
        means[name] = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
        ax.plot(values, np.full(len(values), row), "o", color=colour, alpha=0.5)
        ax.errorbar(means[name][0], row - 0.2, xerr=means[name][1], fmt="|", color=colour, capsize=3, ms=12)
    ax.axvline(perfect, **look("exact"))
    ax.set(yticks=range(len(table)), yticklabels=list(table))
    return means


def arms(ax, joints, hand, *, title: str, n: int = 150):
    """Draw robot arms, ``joints`` ``(n, 4, 2)``, with their hands at ``hand``; one arm stands out."""
    ax.plot(*np.moveaxis(np.asarray(joints[:n]), -1, 0).swapaxes(1, 2), color="#0072B2", alpha=0.06, linewidth=1)
    ax.plot(*np.asarray(joints[0]).T, color="#D55E00", marker="o", ms=4)
    ax.plot(*np.asarray(hand), marker="X", color="black", ms=9)
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.set(title=title, xlim=(-0.4, 2.1), ylim=(-1.6, 1.6), xlabel="first coordinate", aspect="equal")


def interactive(draw: Callable, **ranges):
    """Call ``draw`` with sliders in JupyterLab, once with its defaults where no one is there to move them.

    ``ranges`` are (low, high, step) by argument. Only a Jupyter server sets the environment variable that is asked for.
    """
    if not os.environ.get("JPY_SESSION_NAME"):
        draw()
        return
    import ipywidgets

    defaults = {name: value.default for name, value in inspect.signature(draw).parameters.items()}
    sliders = {
        name: ipywidgets.FloatSlider(defaults[name], min=low, max=high, step=step, continuous_update=False)
        for name, (low, high, step) in ranges.items()
    }
    ipywidgets.interact(draw, **sliders)


def calibration(axes, name: str, rank_fractions, tarp, *, labels: Sequence[str], index: int = 0):
    """Draw the rank distribution minus uniform, by dimension, and the TARP coverage minus its level, with bands."""
    left, right = axes
    grid = np.linspace(0, 1, 101)
    n = len(rank_fractions)
    inside = 1.36 / np.sqrt(n)  # Kolmogorov's 95 % point
    for dimension, label in enumerate(labels):
        cumulated = np.searchsorted(np.sort(rank_fractions[:, dimension]), grid, side="right") / n
        colour, line = _FALLBACK[dimension % len(_FALLBACK)]
        left.plot(grid, cumulated - grid, color=colour, linestyle=line, label=label, linewidth=1.4)
    left.axhspan(-inside, inside, color="0.88", label="95 %, each")
    left.set(xlabel="rank of the truth", ylabel="CDF − uniform", title=f"{name}: SBC")
    right.errorbar(tarp.levels, tarp.coverage - tarp.levels, yerr=1.96 * tarp.error, **look(name, index))
    right.axhline(0, color="0.5", linewidth=0.8)
    right.set(xlabel="credibility level", ylabel="coverage − level", title=f"{name}: TARP")
    left.legend(fontsize=8, ncols=2)


def _ray(pt, eta, phi):
    """Return the end of a ray of length ln(1 + pT) in direction (η, φ)."""
    direction = np.array([np.cos(phi), np.sin(phi), np.sinh(eta)])
    return np.log1p(pt) * direction / np.linalg.norm(direction)


def event_display(event) -> HTML:
    """Return an interactive picture of one event: rays of length ln(1 + pT/GeV), levels switched by the legend.

    The picture carries its script, so it turns in JupyterLab and on the page alike, without a network.
    """
    import plotly.graph_objects as go

    final = event.GenPart[(abs(event.GenPart.pdgId) <= 5) | (abs(event.GenPart.pdgId) >= 11)]
    final = final[abs(final.pdgId) < 20]
    groups = (
        ("parton", "quarks and leptons", final, 5, "dash"),
        ("particle", "particle jets", event.GenJet, 9, "solid"),
        ("detector", "detector jets", event.Jet, 9, "solid"),
        ("detector", "detector leptons", event.Lepton, 4, "dot"),
    )
    picture = go.Figure()
    for level, title, objects, width, dash in groups:
        x, y, z, text = [], [], [], []
        for one in objects:
            ends = np.array([np.zeros(3), _ray(one.pt, one.eta, one.phi), np.full(3, np.nan)])
            x, y, z = x + ends[:, 0].tolist(), y + ends[:, 1].tolist(), z + ends[:, 2].tolist()
            text += [f"{title[:-1] if title.endswith('s') else title}: pT = {one.pt:.1f} GeV, η = {one.eta:.2f}"] * 3
        line = {"color": LEVELS[level][0].replace("black", "#444"), "width": width, "dash": dash}
        picture.add_scatter3d(x=x, y=y, z=z, mode="lines", name=title, line=line, text=text, hoverinfo="text")
    for name, record, dash in (("missing pT", event.MET, "solid"), ("neutrinos", event.GenMET, "dash")):
        end = _ray(record.pt, 0.0, record.phi)
        picture.add_scatter3d(
            x=[0, end[0]],
            y=[0, end[1]],
            z=[0, 0],
            mode="lines",
            name=name,
            line={"color": "#CC79A7", "width": 6, "dash": dash},
            text=f"{name}: {record.pt:.1f} GeV",
            hoverinfo="text",
        )
    beam = {"color": "#888", "width": 2}
    picture.add_scatter3d(x=[0, 0], y=[0, 0], z=[-6, 6], mode="lines", name="beam", line=beam, hoverinfo="name")
    camera = {"eye": {"x": 0.9, "y": 0.45, "z": 0.45}, "up": {"x": 0, "y": 1, "z": 0}}
    picture.update_layout(
        scene={f"{name}axis": {"visible": False, "range": [-6, 6]} for name in "xyz"} | {"camera": camera},
        height=460,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h"},
        paper_bgcolor="rgba(0,0,0,0)",
        font={"color": "#888"},
    )
    return HTML(picture.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}))


def ladder(axes, rows: Sequence[str], table: Mapping[str, Sequence], *, name: str, shift: float = 0.0, **options):
    """Draw estimates, (value, error) or None, by row (the first on top) and by column, one axis a column.

    ``table`` holds the columns of those rows for which there are any; ``shift`` moves the points off the middle.
    """
    for column, ax in enumerate(axes):
        drawn = [(rows.index(row) + shift, *cells[column]) for row, cells in table.items() if cells[column] is not None]
        y, values, errors = np.array(drawn, dtype=float).T
        ax.errorbar(values, y, xerr=errors, **{"fmt": "o", "ms": 5, "capsize": 2, "label": name} | options)
        ax.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels(rows if column == 0 else [])
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)


def leg_picture(shell, curve, momenta: Mapping[str, Sequence[float]], truth) -> HTML:
    """Return an interactive picture of one leg: a mass shell of its neutrino, the ellipse on it, and the truth.

    ``shell`` ``(n, m, 3)`` is a surface, ``curve`` ``(k, 3)`` the ellipse, drawn with its shadow on the transverse
    plane; ``momenta`` ``(3,)`` by name are rays, ``truth`` ``(3,)`` is a point; GeV.
    """
    import plotly.graph_objects as go

    shell, curve, truth = (np.asarray(values, dtype=float) for values in (shell, curve, truth))
    picture = go.Figure()
    flat = [[0, "#56B4E9"], [1, "#56B4E9"]]
    surface = {"showscale": False, "opacity": 0.3, "hoverinfo": "skip", "colorscale": flat, "showlegend": True}
    picture.add_surface(**dict(zip("xyz", np.moveaxis(shell, -1, 0), strict=True)), name="W mass shell", **surface)
    floor = min(shell[..., 2].min(), curve[:, 2].min())
    shadow = np.column_stack([curve[:, :2], np.full(len(curve), floor)])
    for name, points, line in (
        ("ellipse", curve, {"color": METHODS["ellipse"][0], "width": 8}),
        ("its transverse shadow", shadow, {"color": "#888", "width": 4}),
    ):
        picture.add_scatter3d(**dict(zip("xyz", points.T, strict=True)), mode="lines", name=name, line=line)
    for (name, momentum), colour in zip(momenta.items(), ("#E69F00", "#CC79A7"), strict=False):
        ends = zip("xyz", np.array([np.zeros(3), momentum]).T, strict=True)
        picture.add_scatter3d(**dict(ends), mode="lines", name=name, line={"color": colour, "width": 7})
    marker = {"size": 6, "color": "#D55E00", "symbol": "diamond"}
    picture.add_scatter3d(**dict(zip("xyz", truth[:, None], strict=True)), mode="markers", name="truth", marker=marker)
    grey = {"color": "#888", "gridcolor": "#999", "showbackground": False, "zeroline": False}
    axes = {f"{axis}axis": grey | {"title": f"p{axis} [GeV]"} for axis in "xyz"}
    picture.update_layout(
        scene=axes | {"aspectmode": "data", "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}}},
        height=480,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h"},
        paper_bgcolor="rgba(0,0,0,0)",
        font={"color": "#888"},
    )
    return HTML(picture.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}))


def transverse_ellipses(ax, neutrino, mirrored, *, solutions, closest, truth, title: str):
    """Draw in the plane of p_T(ν) the curves ``(k, 2)`` of the neutrino and of p_T^miss − p_T(ν̄).

    ``solutions`` ``(n, 2)`` are their common points, ``truth`` ``(2,)`` is the true neutrino; where they do not meet,
    the pair ``closest`` ``(2, 2)``, one point on each curve, is joined.
    """
    ax.plot(*np.asarray(neutrino).T, color="#0072B2", linestyle="-", label="neutrino")
    ax.plot(*np.asarray(mirrored).T, color="#E69F00", linestyle="--", label="$p_T^{miss}$ − antineutrino")
    if len(solutions):
        ax.plot(*np.asarray(solutions).T, "o", color="#D55E00", ms=7, label="solutions")
    else:
        ax.plot(*np.asarray(closest).T, "o-", color="#CC79A7", ms=6, label="closest approach")
    ax.plot(*np.asarray(truth), "X", color="black", ms=9, label="truth")
    ax.set(xlabel="$p_x(\\nu)$ [GeV]", ylabel="$p_y(\\nu)$ [GeV]", title=title, aspect="equal", adjustable="datalim")


def shared_legend(figure, axes):
    """Draw one legend below the axes, with each label once."""
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))


def spectra(panels: Mapping[str, tuple[Mapping[str, Sequence], Sequence[float]]], *, reference: str, **options):
    """Draw :func:`compare` with ratios side by side: by label of the axis, samples by name and their edges."""
    shape = {"height_ratios": [3, 1]}
    figure, axes = plt.subplots(
        2, len(panels), figsize=(4.6 * len(panels), 4.6), sharex="col", squeeze=False, gridspec_kw=shape
    )
    for column, (xlabel, (samples, edges)) in enumerate(panels.items()):
        compare(samples, np.asarray(edges), xlabel=xlabel, reference=reference, ax=axes[:, column], **options)
        if column:
            axes[0, column].get_legend().remove()
            axes[0, column].set_ylabel("")
            axes[1, column].set_ylabel("")
    return figure


def errors_in_time(ax, contest, seconds, *, title: str):
    """Draw the relative error of each sampler's integral against ``seconds`` spent, a band spanning the trials."""
    for index, (name, trials) in enumerate(contest.trials.items()):
        errors = np.array([trial.error_after(seconds) for trial in trials])
        ax.plot(seconds, errors.mean(0), label=name, **look(name, index))
        ax.fill_between(seconds, errors.min(0), errors.max(0), color=look(name, index)["color"], alpha=0.2, linewidth=0)
    ax.set(title=title, xlabel="seconds, training included", xscale="log", yscale="log")


def posterior(ax, draws, edges, *, truth: float, solutions: Sequence[float], title: str):
    """Draw a posterior in one quantity by its draws ``(n,)``, with the truth and the analytic ``solutions`` on top."""
    colour = METHODS["flow"][0]
    density = filled(draws, edges).values() / len(draws) / np.diff(edges)
    ax.stairs(density, edges, fill=True, color=colour, alpha=0.25)
    ax.stairs(density, edges, color=colour, label="flow: posterior", linewidth=1.6)
    for value in solutions:
        ax.axvline(value, **look("quadratic"), label="quadratic: solutions")
    ax.axvline(truth, **look("truth"), label="truth")
    ax.set(title=title, xlim=(edges[0], edges[-1]), yticks=[])


def templates(named: Mapping, *, xlabel: str, reference: str, ratio_range: tuple[float, float] = (0.8, 1.2)):
    """Draw templates (:mod:`rewind.stats.templates`) by name with their errors, and their ratio to ``reference``.

    Bins without an end are not drawn.
    """
    _, (ax, lower) = plt.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2]})
    base = named[reference]
    inside = np.isfinite(base.edges[:-1]) & np.isfinite(base.edges[1:])
    edges = base.edges[np.isfinite(base.edges)]
    for index, (name, one) in enumerate(named.items()):
        share, error, style = one.shares[inside], one.errors[inside], look(name, index)
        mplhep.histplot(share / np.diff(edges), edges, yerr=error / np.diff(edges), ax=ax, label=name, **style)
        middle = share / base.shares[inside]
        mplhep.histplot(middle, edges, yerr=error / base.shares[inside], ax=lower, **style)
    ax.set_ylabel("density")
    ax.legend()
    lower.set(xlabel=xlabel, ylabel=f"/ {reference}", ylim=ratio_range)


def posterior_plane(ax, draws, *, truth, solutions):
    """Draw a posterior in two quantities by its draws ``(n, 2)``, with the truth and analytic ``solutions`` on top.

    The frame holds the central 99 % of the draws and the truth.
    """
    draws = np.asarray(draws)
    ax.plot(*draws.T, ".", ms=2, alpha=0.25, rasterized=True, label="flow: draws", color=METHODS["flow"][0])
    ax.plot(*np.asarray(solutions).T, "o", mfc="none", mew=1.8, ms=9, label="solutions", color=METHODS["ellipse"][0])
    ax.plot(*truth, "X", color="black", mec="white", ms=11, label="truth")
    low, high = np.quantile(draws, [0.005, 0.995], axis=0)
    low, high = np.minimum(low, truth), np.maximum(high, truth)
    margin = 0.06 * (high - low)
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))


def resolution(panels: Mapping[str, tuple[Mapping, Sequence[float]]], *, xlabel: str, deviation: str):
    """Draw bias (top) and half the 68 % range (below) in bins: by title, Bands by method's name and the edges.

    Bands are those of :func:`rewind.mem.scores.in_bins`; ``deviation`` names what deviates.
    """
    figure, axes = plt.subplots(2, len(panels), figsize=(4.2 * len(panels), 5.4), sharex="col", squeeze=False)
    for column, (title, (named, edges)) in enumerate(panels.items()):
        edges = np.asarray(edges, dtype=float)
        for index, (name, bands) in enumerate(named.items()):
            x = (edges[1:] + edges[:-1]) / 2 + (index - (len(named) - 1) / 2) * 0.15 * np.diff(edges)
            points(axes[0, column], x, bands.bias, bands.bias_error, name=name, index=index)
            points(axes[1, column], x, bands.half_width, bands.half_width_error, name=name, index=index)
        axes[0, column].axhline(0, color="0.5", linewidth=0.8)
        axes[0, column].set_title(title)
        axes[1, column].set(xlabel=xlabel, ylim=(0, None))
    axes[0, 0].set_ylabel(f"median of {deviation}")
    axes[1, 0].set_ylabel("half of 68 % range")
    axes[0, 0].legend()
    return figure


def parton_planes(rows: Sequence[str], columns: Sequence[str], draws, marks: Mapping, *, bins: int = 40):
    """Draw posterior draws of partons in η and pT, one row an event and one column a parton.

    ``draws`` ``(R, n, C, 2)`` are (η, pT/GeV); ``marks`` are points ``(R, C, 2)`` by name. A frame holds the central
    98 % of the draws and all marks, the first of them on top.
    """
    draws = np.asarray(draws)
    shape = len(rows), len(columns)
    figure, axes = plt.subplots(*shape, figsize=(3.6 * shape[1], 2.9 * shape[0]), squeeze=False)
    shapes = dict(zip(marks, ("X", "o", "s", "D"), strict=False))
    for i, j in np.ndindex(*shape):
        ax, points_here = axes[i, j], np.array([found[i][j] for found in marks.values()])
        low, high = np.quantile(draws[i, :, j], [0.01, 0.99], axis=0)
        low, high = np.minimum(low, points_here.min(0)), np.maximum(high, points_here.max(0))
        margin = 0.08 * (high - low)
        edges = np.linspace(low - margin, high + margin, bins + 1).T
        counts = np.histogram2d(*draws[i, :, j].T, bins=list(edges))[0]
        ax.pcolormesh(*edges, counts.T, cmap="Oranges", rasterized=True)
        for k, ((name, marker), point) in enumerate(zip(shapes.items(), points_here, strict=True)):
            ax.plot(*point, marker, color=look(name)["color"], mec="white", ms=10, ls="none", label=name, zorder=9 - k)
        ax.set(xlabel="η" if i == shape[0] - 1 else "", ylabel="$p_T$ [GeV]" if j == 0 else "")
        ax.set_title(columns[j] if i == 0 else "", fontsize=11)
        ax.text(0.03, 0.9, rows[i] if j == 0 else "", transform=ax.transAxes, fontsize=9)
    shared_legend(figure, axes[:1, 0])
    return figure
