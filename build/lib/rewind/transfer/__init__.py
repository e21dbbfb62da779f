"""Transfer functions of whole events: products of double Gaussians, and the learnt one."""

from rewind.transfer.learnt import LearntTransfer, load_transfer, train_transfer
from rewind.transfer.product import ProductTransfer, fit
from rewind.transfer.quark_jets import QUARKS, LogFactors, Partons, QuarkJets, Reconstruction, from_records

__all__ = [
    "QUARKS",
    "LearntTransfer",
    "LogFactors",
    "Partons",
    "ProductTransfer",
    "QuarkJets",
    "Reconstruction",
    "fit",
    "from_records",
    "load_transfer",
    "train_transfer",
]
