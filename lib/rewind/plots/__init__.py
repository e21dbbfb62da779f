"""Figures of the book, one colour a method: they draw, ``rewind.stats`` counts. Only notebooks import this package."""

from rewind.plots.calibrations import calibration
from rewind.plots.displays import event_display, interactive, leg_picture
from rewind.plots.estimates import band, efficiency, errors_in_time, in_bins, ladder, points, resolution, verdicts
from rewind.plots.geometry import arms, parton_planes, posterior_plane, transverse_ellipses
from rewind.plots.histograms import compare, matrix, posterior, spectra, templates
from rewind.plots.regularisation import components, l_curve, unfolded
from rewind.plots.style import LEVELS, METHODS, columns, figure, log_axis, look, shared_legend, use_style

__all__ = [
    "LEVELS",
    "METHODS",
    "arms",
    "band",
    "calibration",
    "columns",
    "compare",
    "components",
    "efficiency",
    "errors_in_time",
    "event_display",
    "figure",
    "in_bins",
    "interactive",
    "l_curve",
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
    "unfolded",
    "use_style",
    "verdicts",
]
