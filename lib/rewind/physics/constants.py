"""The one table of physical constants, in GeV, that sets Pythia and every later module alike.

Values are those of the Particle Data Group where nothing else is said; the top and W masses are the
ones that the classical reconstruction methods of the book assume.
"""

__all__ = ["ALPHA_S", "G_F", "M_B", "M_H", "M_TOP", "M_W", "M_Z", "SQRT_S", "W_H", "W_TOP", "W_W", "W_Z"]

SQRT_S = 13_000.0

M_TOP, W_TOP = 172.5, 1.33
M_W, W_W = 80.38, 2.085
M_Z, W_Z = 91.188, 2.4952
M_H, W_H = 125.0, 0.00407
M_B = 4.8

ALPHA_S = 0.118
G_F = 1.1663788e-5
