"""Event tensors: what is packed by name comes out by name, and nothing else fits."""

import pytest
import torch

from rewind import events
from rewind.errors import InputError

LAYOUT = events.event_layout(
    2, 5, of_jets={"score": (3,)}, solutions=events.Block({"neutrinos": (2, 3), "miss": ()}, rows=4)
)


@pytest.fixture(scope="module")
def blocks(dilepton):
    batch, generator = dilepton[:6].with_jets(5), torch.Generator().manual_seed(1)
    blocks = events.canonical_blocks(batch)
    blocks["jets"]["score"] = torch.rand(6, 5, 3, generator=generator)
    blocks["solutions"] = {
        "neutrinos": torch.randn(6, 4, 2, 3, generator=generator),
        "miss": torch.rand(6, 4, generator=generator),
    }
    return blocks


def test_what_is_packed_comes_out_by_name(blocks):
    event = LAYOUT.pack(blocks)
    assert event.shape == (6, LAYOUT.width)
    assert event.dtype == torch.float32
    out = LAYOUT.unpack(event)
    assert out.keys() == blocks.keys()
    for block, fields in blocks.items():
        assert out[block].keys() == fields.keys()
        for name, values in fields.items():
            assert torch.equal(out[block][name], values.float()), (block, name)
    assert torch.equal(LAYOUT.pack(out), event)


def test_every_column_belongs_to_one_field():
    event = torch.arange(LAYOUT.width, dtype=torch.float32)[None]
    parts = [values for fields in LAYOUT.unpack(event).values() for values in fields.values()]
    assert torch.equal(torch.cat([values.flatten() for values in parts]).sort().values, event[0])


def test_gradients_reach_the_fields(blocks):
    event = LAYOUT.pack(blocks).requires_grad_()
    LAYOUT.unpack(event)["jets"]["momentum"].sum().backward()
    assert event.grad.sum() == 6 * 5 * 4


def test_the_event_can_be_turned_back(dilepton, blocks):
    out = LAYOUT.unpack(LAYOUT.pack(blocks))
    frame = events.Frame.from_columns(out["frame"]).exact()
    leptons = frame.leave(frame.by_leg(out["leptons"]["momentum"]))
    torch.testing.assert_close(leptons, dilepton.leptons[:6], rtol=0, atol=1e-4)
    assert torch.equal(frame.by_leg(out["leptons"]["charge"]), torch.tensor([[1.0, -1.0]]).expand(6, 2))


def test_no_events_are_a_batch_too():
    out = LAYOUT.unpack(torch.zeros(0, LAYOUT.width))
    assert out["jets"]["momentum"].shape == (0, 5, 4)
    assert LAYOUT.pack(out).shape == (0, LAYOUT.width)


REFUSED = {
    "another width": (
        lambda b: LAYOUT.unpack(torch.zeros(2, LAYOUT.width + 1)),
        rf"\(2, {LAYOUT.width + 1}\): \(events, {LAYOUT.width}\) is expected for 1 frame, 1 met, 2 leptons, 5 jets",
    ),
    "one row": (lambda b: LAYOUT.unpack(torch.zeros(LAYOUT.width)), r"\(events, \d+\) is expected"),
    "missing block": (lambda b: LAYOUT.pack({k: v for k, v in b.items() if k != "met"}), "blocks: .* are needed"),
    "unknown field": (
        lambda b: LAYOUT.pack(b | {"met": b["met"] | {"phi": torch.zeros(6)}}),
        "fields of 'met': momentum, phi were given; momentum are needed",
    ),
    "another shape": (
        lambda b: LAYOUT.pack(b | {"met": {"momentum": torch.zeros(6, 3)}}),
        r"met, momentum: shape \(6, 3\); \(events, 2\) is needed",
    ),
}


@pytest.mark.parametrize(("use", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(blocks, use, message):
    with pytest.raises(InputError, match=message):
        use(blocks)
