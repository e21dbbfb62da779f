"""Networks: conditional densities, encoders of objects, one way to train, and checkpoints.

>>> import torch
>>> from rewind.nn import ConditionalFlow, spline_flow
>>> flow = ConditionalFlow(spline_flow(2, 3, hidden=8), features=2, context=3)
>>> tuple(flow.sample(torch.zeros(4, 3), 5).shape)
(4, 5, 2)
"""

from rewind.nn import checkpoints
from rewind.nn.densities import ConditionalDensity
from rewind.nn.encoders import ObjectEncoder, Objects, ObjectTokens
from rewind.nn.flows import ConditionalFlow, spline_flow
from rewind.nn.mdmm import Multipliers
from rewind.nn.preprocessing import Chart, Standardize
from rewind.nn.training import Examples, Optimization, SimulatedBatches, Trainable, fit, train
from rewind.nn.transformer import ClassAttention, SetEncoder

__all__ = [
    "Chart",
    "ClassAttention",
    "ConditionalDensity",
    "ConditionalFlow",
    "Examples",
    "Multipliers",
    "ObjectEncoder",
    "ObjectTokens",
    "Objects",
    "Optimization",
    "SetEncoder",
    "SimulatedBatches",
    "Standardize",
    "Trainable",
    "checkpoints",
    "fit",
    "spline_flow",
    "train",
]
