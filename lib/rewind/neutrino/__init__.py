"""Neutrino reconstruction in tt̄ events with one or two leptons: classical methods and flows.

>>> from rewind import events, neutrino, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2).with_jets(neutrino.MAX_JETS)[:3]
>>> model = neutrino.load_flow(paths.locate("data/checkpoints/nu2_flow.safetensors"), 2)
>>> tuple(model.sample(model.featurize(data), 5).shape)
(3, 5, 2, 3)
"""

from rewind.neutrino.classical.baselines import by_ellipse, by_weighting
from rewind.neutrino.classical.jet_scale import JetScale, leg_jets
from rewind.neutrino.classical.pairing import accuracy, by_delta_r, by_mass, true_pairing
from rewind.neutrino.flows.flow import NeutrinoFlow, NeutrinoModel, neutrino_flow
from rewind.neutrino.flows.inputs import MAX_JETS, event_tensor
from rewind.neutrino.flows.mass_flow import MassFlow
from rewind.neutrino.flows.pairing_network import PairingNetwork, pairing_network
from rewind.neutrino.flows.regression import NeutrinoRegression, neutrino_regression
from rewind.neutrino.flows.training import load_flow, load_pairing, train_flow, train_pairing

__all__ = [
    "MAX_JETS",
    "JetScale",
    "MassFlow",
    "NeutrinoFlow",
    "NeutrinoModel",
    "NeutrinoRegression",
    "PairingNetwork",
    "accuracy",
    "by_delta_r",
    "by_ellipse",
    "by_mass",
    "by_weighting",
    "event_tensor",
    "leg_jets",
    "load_flow",
    "load_pairing",
    "neutrino_flow",
    "neutrino_regression",
    "pairing_network",
    "train_flow",
    "train_pairing",
    "true_pairing",
]
