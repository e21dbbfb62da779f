"""Constants, constraints and matrix elements: pure functions of momenta."""
