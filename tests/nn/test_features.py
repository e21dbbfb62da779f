"""Features of momenta are what their names say, for momenta (E, px, py, pz)."""

import math

import torch

from rewind import kinematics
from rewind.nn import features

P = kinematics.from_pt_eta_phi_mass(
    *(torch.tensor([values], dtype=torch.float64) for values in ([40.0, 90.0], [0.5, -1.2], [0.3, 2.0], [5.0, 10.0]))
)


def test_momentum_features():
    columns = torch.stack(features.momentum_features(P), -1)[0]
    torch.testing.assert_close(30 * columns[:, :3].sinh(), P[0, :, 1:])
    torch.testing.assert_close(100 * columns[:, 3].exp(), P[0, :, 0])
    torch.testing.assert_close(50 * columns[:, 4].exp(), torch.tensor([40.0, 90.0]).double())
    torch.testing.assert_close(columns[:, 5], torch.tensor([0.5, -1.2]).double())


def test_masses():
    mass = torch.tensor([[5.0, 10.0]]).double()
    torch.testing.assert_close(features.log_mass(P), (1 + (mass / 80) ** 2).log())
    torch.testing.assert_close(features.log_own_mass(P), (1 + mass**2).log() / 5)


def test_transverse_mass_of_back_to_back_momenta():
    lepton = torch.tensor([[[40.0, 40.0, 0.0, 0.0]]])
    m_t = math.sqrt(2 * 40 * 30 * 2)
    feature = features.log_transverse_mass(lepton, torch.tensor([[-30.0, 0.0]]))
    torch.testing.assert_close(feature, torch.tensor([[math.log(1 + (m_t / 80) ** 2)]]))


def test_summary_counts_only_what_is_present():
    met, lepton = torch.tensor([[3.0, 4.0]]).double(), P[:, :1]
    jets = torch.cat([P[:, 1:], 1e3 * P], 1)
    present = torch.tensor([[True, False, False]])
    summary = features.event_summary(met, lepton, jets, torch.ones(1, 3), present, typical=(4.0, 2.0))[0]
    assert summary.shape == (9,)
    torch.testing.assert_close(summary[2], torch.tensor(math.log(0.1)).double())
    torch.testing.assert_close(500 * summary[6].exp(), P[0, :, 0].sum())
    torch.testing.assert_close(summary[7:], torch.tensor([0.25, 0.5]).double())
