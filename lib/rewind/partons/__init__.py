"""H and both tops from jets: by assignment, by a regression under constraints, and by a flow's posterior."""

from rewind.partons.conditioner import Conditioner, load_conditioner, train_conditioner
from rewind.partons.jet_roles import JetRoles, load_roles, train_roles
from rewind.partons.last_copies import PARTONS, ROLES, boost, recoil, true_partons, with_recoil
from rewind.partons.unfolding_flow import Draws, UnfoldingFlow, load_unfolding, train_unfolding

__all__ = [
    "PARTONS",
    "ROLES",
    "Conditioner",
    "Draws",
    "JetRoles",
    "UnfoldingFlow",
    "boost",
    "load_conditioner",
    "load_roles",
    "load_unfolding",
    "recoil",
    "train_conditioner",
    "train_roles",
    "train_unfolding",
    "true_partons",
    "with_recoil",
]
