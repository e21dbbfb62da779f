"""Posteriors of neutrinos: ν-Flows, ν²-Flows, and the regression beside them."""
