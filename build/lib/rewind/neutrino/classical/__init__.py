"""Neutrinos by constraints: ellipses, quartic, weighting, and which jet is whose."""
