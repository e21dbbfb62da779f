"""The canonical frame: an inverse, invariant masses, and one answer for all events that symmetries relate."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import Frame, canonical_frame


@pytest.fixture(params=["dilepton", "one_lepton"])
def batch(request):
    return request.getfixturevalue(request.param)


def test_leading_lepton_and_missing_momentum_stand_as_said(batch):
    frame = canonical_frame(batch)
    first = frame.by_leg(frame.enter(batch.leptons))[:, 0]
    pt = kinematics.pt(batch.leptons)
    torch.testing.assert_close(first[:, 1], pt.amax(1))
    assert first[:, 2].abs().max() < 1e-12
    assert (first[:, 3] >= 0).all()
    assert (frame.enter(batch.met)[:, 1] >= 0).all()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_leaving_undoes_entering(batch, size):
    frame = canonical_frame(batch)
    vectors = torch.randn(len(batch), 3, 5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(frame.leave(frame.enter(vectors)), vectors, rtol=0, atol=1e-12)
    torch.testing.assert_close(frame.enter(frame.leave(vectors)), vectors, rtol=0, atol=1e-12)
    assert torch.equal(frame.by_leg(frame.by_leg(vectors[:, : batch.n_legs])), vectors[:, : batch.n_legs])


def test_masses_energies_and_angles_stay(batch):
    frame = canonical_frame(batch)
    inside = frame.enter(batch.jets)
    assert torch.equal(inside[..., 0], batch.jets[..., 0])
    torch.testing.assert_close(kinematics.mass_squared(inside), kinematics.mass_squared(batch.jets), rtol=0, atol=1e-6)
    pair = batch.leptons[:, 0] + batch.jets[:, 0]
    torch.testing.assert_close(kinematics.mass(frame.enter(pair)), kinematics.mass(pair))
    assert torch.equal(frame.enter(batch.jets[..., 1:]), inside[..., 1:])
    assert torch.equal(frame.enter(batch.jets[..., 1:3]), inside[..., 1:3])


@given(st.floats(-3.1, 3.1), st.sampled_from([-1.0, 1.0]), st.sampled_from([-1.0, 1.0]))
def test_turned_and_reflected_events_are_one(dilepton, turned, angle, flip_y, flip_z):
    moved = replace(
        dilepton,
        **{name: turned(getattr(dilepton, name), angle, (flip_y, flip_z)) for name in ("leptons", "jets", "met")},
    )
    for one in ("leptons", "jets", "met"):
        values = [canonical_frame(batch).enter(getattr(batch, one)) for batch in (dilepton, moved)]
        torch.testing.assert_close(*values, rtol=0, atol=1e-9)


def test_exchanged_legs_are_one(dilepton):
    swapped = replace(dilepton, leptons=dilepton.leptons.flip(1))
    frames = [canonical_frame(batch) for batch in (dilepton, swapped)]
    leptons = [frame.by_leg(frame.enter(b.leptons)) for frame, b in zip(frames, (dilepton, swapped), strict=True)]
    assert torch.equal(*leptons)
    assert 0.4 < frames[0].exchange.mean() < 0.6
    assert torch.equal(frames[0].exchange, 1 - frames[1].exchange)


def test_a_frame_kept_in_single_precision_is_exact_again(dilepton):
    frame = canonical_frame(dilepton)
    kept = Frame.from_columns({name: values.float() for name, values in frame.columns().items()})
    vectors = 500 * torch.randn(len(dilepton), 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = kept.exact()
    length = [v.norm(dim=-1) for v in (exact.enter(vectors), vectors)]
    torch.testing.assert_close(*length, rtol=1e-14, atol=0)
    torch.testing.assert_close(exact.enter(vectors), frame.enter(vectors), rtol=0, atol=1e-4)
    assert (exact.cosine**2 + exact.sine**2 - 1).abs().max() < 1e-15
    assert kept.enter(vectors.float()).dtype == torch.float32


def test_draws_take_the_frame_of_their_event(dilepton):
    frame, rows = canonical_frame(dilepton), torch.tensor([3, 3, 8])
    vectors = torch.ones(3, 4, 3, dtype=torch.float64)
    assert torch.equal(frame[rows].leave(vectors)[0], frame[3].leave(vectors[:1])[0])


@pytest.mark.parametrize("shape", [(5, 3, 5), (4, 3), (5, 1)])
def test_other_vectors_are_refused(dilepton, shape):
    with pytest.raises(InputError, match=r"vectors of shape .*: \(5, …, 2\), transverse, 3 or 4 are expected"):
        canonical_frame(dilepton[:5]).enter(torch.zeros(shape))
