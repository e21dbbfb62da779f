"""What every chapter's verdict uses: calibration, distances between samples, bootstrap errors."""

from rewind.stats.bootstrap import Estimate, bootstrap, effective_sample_size, mean, median, quantile, share, width68
from rewind.stats.calibration import (
    coverage,
    mean_in_bins,
    rank_deviation,
    rank_uniformity,
    reliability,
    sbc_ranks,
    tarp,
)
from rewind.stats.distances import (
    c2st,
    energy_distance,
    mmd,
    mmd_loss,
    triangular_discriminator,
    wasserstein1,
)
from rewind.stats.response import ResponseMatrix, response_matrix

__all__ = [
    "Estimate",
    "ResponseMatrix",
    "bootstrap",
    "c2st",
    "coverage",
    "effective_sample_size",
    "energy_distance",
    "mean",
    "mean_in_bins",
    "median",
    "mmd",
    "mmd_loss",
    "quantile",
    "rank_deviation",
    "rank_uniformity",
    "reliability",
    "response_matrix",
    "sbc_ranks",
    "share",
    "tarp",
    "triangular_discriminator",
    "wasserstein1",
    "width68",
]
