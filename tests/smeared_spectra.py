"""Falling spectra between 0 and 1, smeared by a Gaussian: response and truth exact to the grid, without events."""

import numpy as np
from scipy.stats import norm

GRID = (np.arange(2_000) + 0.5) / 2_000


def smeared(n_true, n_reconstructed, resolution, slope=3.0, *, total=1e5, bump=0.0):
    """Return the yields ``(R, T)`` and the truth ``(T,)``; ``resolution`` in true bins, efficiency 0.6 to 0.8."""
    density = np.exp(-slope * GRID) * (1 + bump * np.exp(-0.5 * ((GRID - 0.45) / 0.07) ** 2))
    density *= total / density.sum()
    edges = np.linspace(0, 1, n_reconstructed + 1)[:, None]
    yields = np.diff(norm.cdf(edges, GRID, resolution / n_true), axis=0) * (0.6 + 0.2 * GRID) * density
    bins = (GRID * n_true).astype(int)
    into = np.eye(n_true)[bins]
    return yields @ into, density @ into
