"""Rewind: the LHC's simulation chain, run backwards."""

__version__ = "0.1.0"
