"""Event generation: from amplitudes to unweighted partons that a shower can take over.

>>> from rewind import generation
>>> process = generation.hadronic_process("ttbar_dilepton")
>>> process.final, process.dims
('tt_dilep', 16)
"""

from rewind.generation.parton_level import (
    CHANNELS,
    Channel,
    generate,
    hadronic_process,
    leading_order,
    lepton_cosine,
    load_sampler,
    train_sampler,
)

__all__ = [
    "CHANNELS",
    "Channel",
    "generate",
    "hadronic_process",
    "leading_order",
    "lepton_cosine",
    "load_sampler",
    "train_sampler",
]
