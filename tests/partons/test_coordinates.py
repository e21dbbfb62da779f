"""Coordinates of partons: there and back again, the constant that was left out, and what is refused."""

import pytest
import torch

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.partons import coordinates
from rewind.partons.last_copies import true_partons


@pytest.fixture(scope="module")
def partons():
    return true_partons(events.load_batch(paths.locate("data/samples/tth_semileptonic.root"), 1)[:300])


def test_coordinates_lead_to_partons_and_back(partons):
    even = torch.rand(500, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    there, fractions = coordinates.from_unit_hypercube(even)
    assert (there.sum(1)[:, 1:3].abs() / there.sum(1)[:, :1]).max() < 1e-9
    assert ((fractions > 0) & (fractions < 1)).all()
    torch.testing.assert_close(coordinates.to_unit_hypercube(there[:, :3, 1:]), even, rtol=0, atol=1e-6)
    expected = coordinates.on_shell(partons[:, :3, 1:])
    back, _ = coordinates.from_unit_hypercube(coordinates.to_unit_hypercube(partons[:, :3, 1:]))
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-5)


def test_the_recoil_is_transverse_at_rest_of_the_whole(partons):
    _, rambo = coordinates._rambo(coordinates.on_shell(partons[:, :3, 1:]))
    torch.testing.assert_close(rambo[:, 2], torch.full_like(rambo[:, 2], 0.5), rtol=0, atol=1e-9)
    turns, features = coordinates.features(partons[..., 1:])
    torch.testing.assert_close(
        turns, coordinates.to_unit_hypercube(partons[:, :3, 1:])[:, coordinates.AZIMUTHS], rtol=0, atol=2e-3
    )
    assert features.shape == (len(partons), coordinates.N_FEATURES)


def test_pole_masses_move_the_whole_little(partons):
    shells = coordinates.on_shell(partons[:, :3, 1:])
    torch.testing.assert_close(shells[..., 1:3], partons[..., 1:3])
    ratio = kinematics.mass(shells.sum(1)) / kinematics.mass(partons.sum(1))
    assert (ratio - 1).abs().median() < 0.01


REFUSED = [(torch.rand(3, 10), r"shape \(3, 10\)"), (torch.full((1, 9), 1.5), "outside")]


@pytest.mark.parametrize(("points", "line"), REFUSED)
def test_points_outside_are_refused(points, line):
    with pytest.raises(InputError, match=line):
        coordinates.from_unit_hypercube(points)
