"""Constants, constraints, parton densities and matrix elements: pure functions of momenta."""
