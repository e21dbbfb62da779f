"""Pictures that a reader turns or moves: an event, a leg in momentum space, figures with sliders.

The pictures carry their script, so they turn in JupyterLab and on the page alike, without a network.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.plots.style import LEVELS, METHODS

if TYPE_CHECKING:
    import awkward as ak
    from IPython.display import HTML
    from plotly.graph_objects import Figure

__all__ = ["event_display", "interactive", "leg_picture"]

_GREY = "#666"


def interactive(draw: Callable, **ranges: tuple[float, float, float]) -> None:
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


def event_display(event: ak.Record) -> HTML:
    """Return an interactive picture of one event: rays of length ln(1 + pT/GeV), levels switched by the legend."""
    import plotly.graph_objects as go

    partons = event.GenPart[(abs(event.GenPart.pdgId) <= 5) | (abs(event.GenPart.pdgId) >= 11)]
    partons = partons[abs(partons.pdgId) < 20]
    picture = go.Figure()
    for level, name, one_of_them, objects, width, dash in (
        ("parton", "quarks and leptons", "quark or lepton", partons, 5, "dash"),
        ("particle", "particle jets", "particle jet", event.GenJet, 9, "solid"),
        ("detector", "detector jets", "detector jet", event.Jet, 9, "solid"),
        ("detector", "detector leptons", "detector lepton", event.Lepton, 4, "dot"),
    ):
        ends = [[np.zeros(3), _ray(one.pt, one.eta, one.phi), np.full(3, np.nan)] for one in objects]
        texts = [f"{one_of_them}: pT = {one.pt:.1f} GeV, η = {one.eta:.2f}" for one in objects]
        line = {"color": LEVELS[level][0], "width": width, "dash": dash}
        _add_line(picture, np.reshape(ends, (-1, 3)), name, line, np.repeat(texts, 3).tolist())
    for name, record, dash in (("missing pT", event.MET, "solid"), ("neutrinos", event.GenMET, "dash")):
        line = {"color": "#CC79A7", "width": 6, "dash": dash}
        ends = np.array([np.zeros(3), _ray(record.pt, 0.0, record.phi)])
        _add_line(picture, ends, name, line, f"{name}: {record.pt:.1f} GeV")
    _add_line(picture, np.array([[0, 0, -6.0], [0, 0, 6.0]]), "beam", {"color": _GREY, "width": 2}, "beam")
    picture.update_traces(showlegend=False, selector={"name": "beam"})
    camera = {"eye": {"x": 0.9, "y": 0.45, "z": 0.45}, "up": {"x": 0, "y": 1, "z": 0}}
    axes = {f"{axis}axis": {"visible": False, "range": [-6, 6]} for axis in "xyz"}
    return _page(picture, axes | {"camera": camera}, height=460)


def leg_picture(shell: ArrayLike, curve: ArrayLike, momenta: Mapping[str, ArrayLike], truth: ArrayLike) -> HTML:
    """Return an interactive picture of one leg: a mass shell of its neutrino, the ellipse on it, and the truth.

    ``shell`` ``(n, m, 3)`` is a surface, ``curve`` ``(k, 3)`` the ellipse, drawn with its shadow on the transverse
    plane; ``momenta`` ``(3,)`` by name are rays, two at most, ``truth`` ``(3,)`` is a point; GeV.
    """
    import plotly.graph_objects as go

    shell, curve, truth = (np.asarray(values, dtype=float) for values in (shell, curve, truth))
    picture = go.Figure()
    flat = [[0, "#56B4E9"], [1, "#56B4E9"]]
    surface = {"showscale": False, "opacity": 0.3, "hoverinfo": "skip", "colorscale": flat, "showlegend": True}
    picture.add_surface(**dict(zip("xyz", np.moveaxis(shell, -1, 0), strict=True)), name="W mass shell", **surface)
    shadow = np.column_stack([curve[:, :2], np.full(len(curve), min(shell[..., 2].min(), curve[:, 2].min()))])
    _add_line(picture, curve, "ellipse", {"color": METHODS["ellipse"][0], "width": 8})
    _add_line(picture, shadow, "its transverse shadow", {"color": _GREY, "width": 4})
    for (name, momentum), colour in zip(momenta.items(), ("#E69F00", "#CC79A7"), strict=False):
        _add_line(picture, np.array([np.zeros(3), momentum]), name, {"color": colour, "width": 7})
    marker = {"size": 7, "color": "black", "symbol": "diamond"}
    picture.add_scatter3d(**dict(zip("xyz", truth[:, None], strict=True)), mode="markers", name="truth", marker=marker)
    grey = {"color": _GREY, "gridcolor": "#999", "showbackground": False, "zeroline": False}
    axes = {f"{axis}axis": grey | {"title": f"p{axis} [GeV]"} for axis in "xyz"}
    return _page(picture, axes | {"aspectmode": "data", "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}}}, height=480)


def _ray(pt: float, eta: float, phi: float) -> NDArray:
    """Return the end of a ray of length ln(1 + pT) in direction (η, φ)."""
    direction = np.array([np.cos(phi), np.sin(phi), np.sinh(eta)])
    return np.log1p(pt) * direction / np.linalg.norm(direction)


def _add_line(
    picture: Figure, ends: NDArray, name: str, line: Mapping[str, Any], text: str | list[str] | None = None
) -> None:
    """Add a broken line through ``ends`` ``(n, 3)``, interrupted at NaN; ``text`` shows under the pointer."""
    said = {} if text is None else {"text": text, "hoverinfo": "text"}
    picture.add_scatter3d(**dict(zip("xyz", ends.T, strict=True)), mode="lines", name=name, line=line, **said)


def _page(picture: Figure, scene: Mapping[str, Any], *, height: int) -> HTML:
    """Return the picture with its script, on white as all figures, so that it reads on a dark page."""
    picture.update_layout(
        scene=scene,
        height=height,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h"},
        paper_bgcolor="white",
        font={"color": "#333"},
    )
    from IPython.display import HTML

    return HTML(picture.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}))
