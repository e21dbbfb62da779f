"""What a proposal reads of an event."""

import math

import torch

from rewind.mem.proposal_features import featurize


def test_features_do_not_change_when_an_event_is_turned(simulated, detector):
    for case in simulated.values():
        topology, row = case.integrand.topology, case.row[:20]
        c, s = math.cos(0.7), math.sin(0.7)
        turned = row.clone()
        momenta = row[:, :-2].unflatten(1, (-1, 4))
        x, y = c * momenta[..., 1] - s * momenta[..., 2], s * momenta[..., 1] + c * momenta[..., 2]
        turned[:, :-2] = torch.stack([momenta[..., 0], x, y, momenta[..., 3]], -1).flatten(1)
        turned[:, -2], turned[:, -1] = c * row[:, -2] - s * row[:, -1], s * row[:, -2] + c * row[:, -1]
        there, here = (featurize(x, topology, detector) for x in (turned, row))
        torch.testing.assert_close(there, here, rtol=0, atol=1e-5)
