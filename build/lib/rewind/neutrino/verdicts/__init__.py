"""How good a reconstruction of neutrinos is."""
