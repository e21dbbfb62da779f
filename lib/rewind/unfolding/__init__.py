"""Spectra unfolded: in bins, by weights, by generators; with background, fakes and misses."""

from rewind.unfolding.choices import (
    Choice,
    by_folded_chi2,
    by_global_correlation,
    by_l_curve,
    by_prior,
    by_significance,
)
from rewind.unfolding.pseudo_experiments import PseudoExperiments, pseudo_experiments, until_covered
from rewind.unfolding.report import Report, report

__all__ = [
    "Choice",
    "PseudoExperiments",
    "Report",
    "by_folded_chi2",
    "by_global_correlation",
    "by_l_curve",
    "by_prior",
    "by_significance",
    "pseudo_experiments",
    "report",
    "until_covered",
]
