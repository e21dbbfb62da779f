"""An encoder of objects reads named kinds: their order and what stands in absent ones change nothing."""

import pytest
import torch

from rewind.nn.encoders import ObjectEncoder, Objects, ObjectTokens
from rewind.nn.transformer import SetEncoder

KINDS = {"lepton": 3, "jet": 4}


def objects(event):
    """Return two leptons, told apart, and three jets, present where their first column is positive."""
    leptons, jets = event[:, :6].unflatten(1, (2, 3)), event[:, 6:].unflatten(1, (3, 4))
    return {"lepton": Objects.all_present(leptons), "jet": Objects(jets, jets[..., 0] > 0)}


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    tokens = ObjectTokens(8, KINDS, slots={"lepton": 2})
    transformer = SetEncoder(8, layers=1, class_layers=1, heads=2)
    return ObjectEncoder(objects, tokens, transformer=transformer).double().eval()


@pytest.fixture
def event():
    return torch.randn(20, 18, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_shapes(encoder, event):
    tokens, present = encoder.tokens(event)
    assert tokens.shape == (20, 5, 8)
    assert torch.equal(present, torch.cat([torch.ones(20, 2) > 0, event[:, [6, 10, 14]] > 0], 1))
    assert encoder.exchanged(event)[0].shape == tokens.shape
    assert encoder(event).shape == (20, 8)
    assert encoder.kinds == ("lepton", "jet")


def test_a_token_is_the_linear_map_of_its_object(encoder, event):
    part = encoder.parts[0]
    tokens, _ = encoder.tokens(event)
    expected = event[:, 3:6] @ part.linear["lepton"].weight.T + part.linear["lepton"].bias + part.slots["lepton"][1]
    torch.testing.assert_close(tokens[:, 1], expected)


def test_order_of_jets_and_what_is_absent_change_nothing(encoder, event):
    jets = event[:, 6:].unflatten(1, (3, 4))
    absent = jets[..., :1] <= 0
    other = torch.where(absent, jets - 5, jets)[:, [2, 0, 1]]
    changed = torch.cat([event[:, :6], other.flatten(1)], 1)
    torch.testing.assert_close(encoder(changed), encoder(event))


def test_slots_are_told_apart(encoder, event):
    exchanged = torch.cat([event[:, 3:6], event[:, :3], event[:, 6:]], 1)
    assert (encoder(exchanged) - encoder(event)).abs().amax(1).min() > 1e-3


def test_parts_read_their_own_kinds():
    torch.manual_seed(1)
    parts = ObjectTokens(8, {"lepton": 3}), ObjectTokens(8, {"jet": 4})
    encoder = ObjectEncoder(objects, *parts, transformer=SetEncoder(8, layers=0, heads=2))
    tokens, present = encoder.tokens(torch.ones(2, 18))
    assert tokens.shape == (2, 5, 8)
    assert present.all()
