"""Spectra unfolded: in bins, by weights, by generators; with background, fakes and misses."""
