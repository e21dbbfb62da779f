"""Unfolding of histograms: inversion, iterative Bayes, SVD, Tikhonov and the Poisson likelihood."""

from rewind.unfolding.binned.bayes import iterative_bayes
from rewind.unfolding.binned.least_squares import matrix_inversion, tikhonov
from rewind.unfolding.binned.result import Unfolded, global_correlation
from rewind.unfolding.binned.spectral import svd

__all__ = ["Unfolded", "global_correlation", "iterative_bayes", "matrix_inversion", "svd", "tikhonov"]
