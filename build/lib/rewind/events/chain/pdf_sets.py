"""The proton's parton distribution functions, as Pythia ships them.

>>> proton_pdf(99)
Traceback (most recent call last):
    ...
rewind.errors.InputError: PDF set 99: Pythia has none of this number; choose one from 1 to 24
"""

from __future__ import annotations

from rewind.errors import InputError
from rewind.events.chain.generator import start
from rewind.physics.pdfs import ProtonPDF

__all__ = ["proton_pdf"]


def proton_pdf(pdf_set: int = 13) -> ProtonPDF:
    """Return Pythia's densities of the proton as a table: set 13 is NNPDF2.3 LO, α_s(m_Z) = 0.130 (1308.0598).

    ``pdf_set`` counts as Pythia's ``PDF:pSet`` does. Takes about a second. Within 1e-3 of the source for
    1e-4 < x < 0.7, 10 GeV < Q < 3 TeV where x f > 1e-4, but for sets 15 to 22 near where they are cut off at
    zero. Raises InputError for a set that Pythia does not have.
    """
    pythia = start(("ProcessLevel:all = off", f"PDF:pSet = {pdf_set}"), 1)
    source = pythia.getPDFPtr(2212)
    if source is None:
        raise InputError(f"PDF set {pdf_set}: Pythia has none of this number; choose one from 1 to 24")
    return ProtonPDF.tabulated(lambda flavour, x, q: source.xf(flavour, x, q * q))
