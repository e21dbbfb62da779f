"""What tests of transfer functions do with their events."""

from dataclasses import replace

import torch


def factors(model, events):
    return model.log_factors(events.reconstruction, model.featurize(events))


def drawn_anew(model, events, seed):
    """Return events with one draw each in place of what was measured."""
    return replace(events, **vars(model.sample(events.partons, 1, torch.Generator().manual_seed(seed))[:, 0]))


def repeated(event, n):
    """Return one event ``n`` times."""
    return replace(event, **{k: x.expand(n, *x.shape[1:]).clone() for k, x in vars(event).items()})
