"""Unfolding of histograms: inversion, iterative Bayes, SVD, Tikhonov and the Poisson likelihood."""

from rewind.unfolding.binned.bayes import iterative_bayes
from rewind.unfolding.binned.least_squares import matrix_inversion, tikhonov
from rewind.unfolding.binned.likelihood import LikelihoodFit, poisson_likelihood
from rewind.unfolding.binned.nuisances import Nuisance
from rewind.unfolding.binned.pyhf_model import workspace
from rewind.unfolding.binned.result import Unfolded, global_correlation
from rewind.unfolding.binned.spectral import svd

__all__ = [
    "LikelihoodFit",
    "Nuisance",
    "Unfolded",
    "global_correlation",
    "iterative_bayes",
    "matrix_inversion",
    "poisson_likelihood",
    "svd",
    "tikhonov",
    "workspace",
]
