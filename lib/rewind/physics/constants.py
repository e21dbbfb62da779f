"""The one table of physical constants that sets Pythia and every later module alike (GeV, dimensionless).

Masses and widths follow the Particle Data Group; the top and W masses are the ones that the classical
reconstruction methods of the book assume. The strong coupling is the leading-order value that belongs to the
leading-order PDFs used everywhere (NNPDF2.3 LO, 1207.1303); the electroweak ones define the scheme of the
matrix elements.

>>> M_TOP, W_TOP
(172.5, 1.33)
"""

__all__ = [
    "ALPHA_EM",
    "ALPHA_S",
    "G_F",
    "M_B",
    "M_H",
    "M_TOP",
    "M_W",
    "M_Z",
    "SIN2_THETA_W",
    "SQRT_S",
    "W_H",
    "W_TOP",
    "W_W",
    "W_Z",
]

SQRT_S = 13_000.0

M_TOP, W_TOP = 172.5, 1.33
M_W, W_W = 80.38, 2.085
M_Z, W_Z = 91.188, 2.4952
M_H, W_H = 125.0, 0.00407
M_B = 4.8

ALPHA_S = 0.130  # at M_Z
ALPHA_EM = 0.00781751  # at M_Z
SIN2_THETA_W = 0.2312
G_F = 1.1663788e-5
