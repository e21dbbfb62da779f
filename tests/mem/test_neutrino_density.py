"""The density of neutrinos against its definition."""

import pytest
import torch

from rewind import kinematics
from rewind.mem.neutrino_density import LEAST, log_density, log_density_of_first


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("neutrinos", [1, 2])
def test_the_density_is_that_of_recoil_missing_momentum_and_mass(neutrinos, detector):
    """The forms against momenta that are added, and the first neutrino's share against the sum over the second's."""
    of = generator(8)
    one, two = (60 * torch.randn(5, 3, n, generator=of, dtype=torch.float64) for n in (7, 9))
    visible = torch.tensor([700.0, 20.0, -30.0, 40.0]).double() + torch.randn(5, 4, generator=of, dtype=torch.float64)
    met = 50 * torch.randn(5, 2, generator=of, dtype=torch.float64)
    two = two if neutrinos == 2 else None
    density = log_density(detector, visible, met, one, two, softness=2.0)
    pair = one[..., None] + (two[:, :, None] if neutrinos == 2 else 0.0)
    energy = one.norm(dim=1)[..., None] + (two.norm(dim=1)[:, None] if neutrinos == 2 else 0.0)
    total = torch.cat([energy[:, None], pair], 1) + visible[..., None, None]
    missed = (pair[:, :2] - met[..., None, None]).square().sum(1)
    expected = detector.log_recoil(total[:, 1:3].movedim(1, -1)) - missed / (4 * detector.met_sigma**2)
    expected -= 2.5 * kinematics.mass_squared(total.movedim(1, -1)).clip(LEAST).log()
    torch.testing.assert_close(density, expected)
    if neutrinos == 2:
        first = log_density_of_first(detector, visible, met, one, two)
        every = log_density(detector, visible, met, one, two).logsumexp(2)
        torch.testing.assert_close(first - first[:, :1], every - every[:, :1])
