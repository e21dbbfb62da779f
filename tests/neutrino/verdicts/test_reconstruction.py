"""Tops and W bosons of neutrinos: sums of their parts, draws as events, unknowns that stay unknown."""

from pathlib import Path

import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import pairing
from rewind.neutrino.flows.inputs import MAX_JETS
from rewind.neutrino.verdicts import reconstruction

SAMPLES = Path(__file__).parents[3] / "data" / "samples"


@pytest.fixture(scope="module")
def dilepton():
    return events.load_batch(SAMPLES / "ttbar_dilepton.root", 2).with_jets(MAX_JETS)


@pytest.fixture(scope="module")
def one_lepton():
    return events.load_batch(SAMPLES / "ttbar_semileptonic.root", 1).with_jets(MAX_JETS)


def test_tops_are_sums_of_their_parts(dilepton):
    data = dilepton[dilepton.matched]
    built = reconstruction.tops(data, data.truth.neutrinos, data.truth.b_jets)
    assert built.shape == (len(data), 2, 4)
    event, leg = 17, 1
    jet = data.jets[event, data.truth.b_jets[event, leg]]
    momentum = data.truth.neutrinos[event, leg]
    torch.testing.assert_close(built[event, leg, 1:], (jet + data.leptons[event, leg])[1:] + momentum)
    torch.testing.assert_close(built[event, leg, 0], jet[0] + data.leptons[event, leg, 0] + momentum.norm())
    assert (kinematics.mass(reconstruction.w_bosons(data, data.truth.neutrinos)).median() - 80.4).abs() < 0.7
    both = built.sum(1)
    torch.testing.assert_close(reconstruction.m_tt(built) ** 2, both[:, 0] ** 2 - (both[:, 1:] ** 2).sum(1))


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_draws_are_treated_like_events(name, request):
    data = request.getfixturevalue(name)[:50]
    draws = data.truth.neutrinos[:, None] + torch.randn(
        50, 7, data.n_legs, 3, generator=torch.Generator().manual_seed(2)
    )
    built = reconstruction.tops(data, draws, pairing.by_mass(data))
    assert built.shape == (50, 7, data.n_legs, 4)
    torch.testing.assert_close(built[:, 3], reconstruction.tops(data, draws[:, 3], pairing.by_mass(data)))
    if data.n_legs == 2:
        assert reconstruction.m_tt(built).shape == (50, 7)


def test_unknown_jets_and_neutrinos_leave_no_top(dilepton):
    chosen, neutrinos = pairing.by_mass(dilepton), dilepton.truth.neutrinos.clone()
    chosen[3, 1], neutrinos[5, 0] = -1, torch.nan
    built = reconstruction.tops(dilepton, neutrinos, chosen)
    assert built.isnan().all(-1).nonzero().tolist() == [[3, 1], [5, 0]]
    assert built.isnan().any(-1).nonzero().tolist() == [[3, 1], [5, 0]]


def test_azimuth_between_leptons(dilepton):
    leptons = dilepton.leptons[:3].clone()
    azimuths = torch.tensor([[0.1, 0.4], [3.0, -3.0], [0.0, torch.pi]]).double()
    leptons[..., 1], leptons[..., 2] = azimuths.cos(), azimuths.sin()
    expected = torch.tensor([0.3, 2 * torch.pi - 6, torch.pi]).double()
    torch.testing.assert_close(reconstruction.delta_phi_ll(leptons), expected, rtol=0, atol=1e-6)


def test_quantities_of_draws_are_those_of_each_draw(dilepton):
    data = dilepton[:20]
    chosen = pairing.true_pairing(data)
    draws = torch.stack([data.truth.neutrinos, 2 * data.truth.neutrinos], 1)
    both = reconstruction.quantities(data, draws, chosen)
    for i in range(2):
        for name, values in reconstruction.quantities(data, draws[:, i], chosen).items():
            torch.testing.assert_close(both[name][:, i], values, equal_nan=True)


def test_bad_input(dilepton, one_lepton):
    true = one_lepton.truth
    with pytest.raises(InputError, match="neutrinos of shape"):
        reconstruction.tops(dilepton, dilepton.truth.neutrinos[:, :1], dilepton.truth.b_jets)
    with pytest.raises(InputError, match="tops of shape"):
        reconstruction.m_tt(reconstruction.tops(one_lepton, true.neutrinos, true.b_jets))
    with pytest.raises(InputError, match="two of them"):
        reconstruction.delta_phi_ll(one_lepton.leptons)
