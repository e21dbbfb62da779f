"""A detector that is drawn from as it is evaluated."""

from dataclasses import replace

import torch

from chance import assert_agrees
from rewind.mem.topologies import TTH, TTH_LOST


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_jets_are_seen_or_lost_as_often_as_the_model_says(simulated, detector):
    """Without cuts on ΔR and all else, both, one or none of a W boson's quarks are seen: the probabilities agree."""
    selection = TTH.selection.changed(delta_r=0.0, lepton_pt=0.0, lepton_eta=20.0)
    outgoing = simulated["tth_semileptonic"][-1]
    lost = detector.log_lost(outgoing[:, TTH.lights], selection).exp()
    hidden = detector.log_lost(outgoing[:, TTH.bottoms], selection).exp()  # of one function for all quarks here
    four = (1 - hidden).prod(1)
    expected = {TTH: (1 - lost).prod(1) * four, TTH_LOST: (lost[:, 0] + lost[:, 1] - 2 * lost.prod(1)) * four}
    for topology, chance in expected.items():
        many = replace(topology, selection=selection)
        kept = torch.stack([detector.measure(outgoing, many, generator(i))[2] for i in range(20)]).double()
        error = float((chance * (1 - chance)).mean() / kept.numel()) ** 0.5
        assert_agrees(kept.mean(), chance.mean(), error)
        assert 0.05 < float(chance.mean()) < 0.95
