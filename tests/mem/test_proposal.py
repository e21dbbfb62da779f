"""Flows over events' variables: densities, training, posteriors."""

import math
from dataclasses import replace

import pytest
import torch

from chance import assert_agrees, assert_mean
from rewind import kinematics
from rewind.errors import InputError
from rewind.mem import event_integrals, proposal
from rewind.mem.angle_map import MappedIntegrand
from rewind.mem.measured import accepted
from rewind.nn.densities import ConditionalDensity
from rewind.physics import amplitudes
from rewind.physics.hadronic import with_incoming
from rewind.physics.recoil import without_recoil

LOOSE = {"jet_pt": 15.0, "delta_r": 0.1, "lepton_pt": 10.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_reflected_collisions_are_as_likely(simulated):
    """Without widths a reflection is a symmetry of tree amplitudes, but that the CP-odd part changes its sign."""
    outgoing = simulated["tth_semileptonic"][-1][:200]
    narrow = replace(amplitudes.DEFAULT, w_t=1e-9, w_w=1e-9, w_h=1e-9)
    hard = without_recoil(outgoing)
    first, *others = (
        amplitudes.cp_polynomial("gg_tth_semilep_bb", with_incoming(q, hard.sqrt_s), parameters=narrow, check=False)
        for q in proposal._orientations(hard.momenta)
    )
    for other, sign in zip(others, (-1, -1, 1), strict=True):
        expected = first * torch.tensor([1.0, sign, 1.0]).double()
        scale = first[:, :1].maximum(first[:, 2:])
        assert ((other - expected).abs() / scale).max() < 1e-6


def test_a_proposal_learns_from_momenta_alone(simulated):
    integrand, *_, outgoing = simulated["ttbar_dilepton"]
    size = {"layers": 1, "bins": 4, "hidden": 8}
    options = {"cuts": LOOSE, "size": size, "epochs": 1, "batch_size": 64}
    _, record = proposal.learn(integrand, outgoing[:300], generator(6), at_once=100, **options)
    seen = proposal.pairs(integrand, outgoing[100:300], generator(6), cuts=LOOSE)
    assert abs(record["n_training_events"] / (4 * len(seen.which)) - 1) < 0.2
    with pytest.raises(InputError, match="the first 300 only validate"):
        proposal.learn(integrand, outgoing[:300], generator(6), at_once=300, **options)


def test_a_training_goes_on_from_a_proposal(simulated, tmp_path, detector):
    integrand, *_, outgoing = simulated["ttbar_dilepton"]
    learnt, path = proposal.pairs(integrand, outgoing, generator(6), cuts=LOOSE), tmp_path / "proposal.safetensors"
    size = {"layers": 1, "bins": 4, "hidden": 8}
    short = {"epochs": 2, "batch_size": 64, "ema_decay": None}
    _, first = proposal.train_proposal(learnt, learnt, detector, path, size=size, **short)
    model, second = proposal.train_proposal(learnt, learnt, detector, start=path, learning_rate=1e-4, **short)
    assert second["losses"][0]["validation_loss"] < first["losses"][0]["validation_loss"] - 0.01
    assert second["best_validation_loss"] < first["best_validation_loss"] + 1e-3
    torch.testing.assert_close(model.scale.mean, proposal.load_proposal(path).scale.mean)
    with pytest.raises(InputError, match="a start has its own size"):
        proposal.train_proposal(learnt, learnt, detector, start=path, size=size, **short)
    other = replace(detector, met_sigma=99.0)
    with pytest.raises(InputError, match="must have learnt this detector"):
        proposal.train_proposal(learnt, learnt, other, start=path, **short)


def test_a_trained_proposal_is_a_density_and_comes_back_from_disk(simulated, tmp_path, detector):
    integrand, *_, outgoing = simulated["ttbar_dilepton"]
    learnt = proposal.pairs(integrand, outgoing, generator(6), cuts=LOOSE)
    path = tmp_path / "proposal.safetensors"
    size = {"layers": 1, "bins": 4, "hidden": 8}
    model, _ = proposal.train_proposal(learnt, learnt, detector, path, size=size, epochs=2, batch_size=64)
    again = proposal.load_proposal(path)
    assert again.detector.to_dict() == detector.to_dict()
    features = learnt.features[:3]
    which, points, log_density = again.sample(features, 1_000, generator(5))
    assert points.shape == (3, 1_000, 8)
    many = features.repeat_interleave(1_000, 0)
    expected = model.log_prob(which.flatten(), points.flatten(0, 1), many)
    torch.testing.assert_close(log_density.flatten(), expected, rtol=0, atol=1e-5)  # draws are of single precision
    assert_mean((-log_density).exp().flatten(), 2)  # E_q[1/q] is the volume of two cubes
    assert (log_density > 2 * math.log(0.0099)).all()
    which, points = again.posterior(learnt.features[:3], 400, generator(7))
    share = torch.stack([(which == h).double().mean(1) for h in range(2)], 1)
    assert_agrees(share, again.log_probability(learnt.features[:3]).exp(), 0.5 / 400**0.5)
    assert ((points >= 0) & (points <= 1)).all()


def test_a_proposal_finds_the_integral_that_vegas_finds(simulated, event_flow):
    integrand, _, _, rows, _, _ = simulated["ttbar_dilepton"]
    drawn = event_integrals.summarize(
        event_integrals.draw(integrand, event_flow, rows[:4], 20_000, generator(11)).weights
    )
    assert (20_000 * drawn.effective > 200).all()  # with fewer effective draws an error is not that of a Gaussian
    vegas = event_integrals.by_vegas(MappedIntegrand(integrand), rows[:4], 30_000, generator(12))
    pull = (drawn.value[:, 0] - vegas.value[:, 0]) / (drawn.error**2 + vegas.error**2).sqrt()
    assert pull.abs().max() < 4


def test_a_flows_posterior_has_momenta_on_shell(simulated, event_flow):
    _, _, event, rows, _, _ = simulated["ttbar_dilepton"]
    partons = event_flow.posterior(rows[:5], 50, generator(13))
    assert partons.shape == (5, 50, 6, 4)
    assert partons.isfinite().all()
    torch.testing.assert_close(partons[:, :, 0], event.leptons[:5, :1].expand(-1, 50, -1))
    w = kinematics.mass(partons[:, :, :2].sum(2))
    assert ((w > 80.38 - 16 * 2.085) & (w < 80.38 + 16 * 2.085)).all()


def test_an_event_flow_keeps_the_contract_of_conditional_densities(simulated, event_flow):
    """It draws (events, draws, …), the same at the same seed, each event by itself, with the density that it says."""
    _, _, event, every, _, _ = simulated["ttbar_dilepton"]
    assert isinstance(event_flow, ConditionalDensity)
    hard = event[accepted(event, event_flow.integrand.topology.selection)]
    rows = event_flow.featurize(hard)[:5]
    assert rows.shape == (5, *every.shape[1:])
    draws = event_flow.sample(rows, 30, generator(3))
    assert draws.which.shape == (5, 30)
    assert draws.points.shape == (5, 30, 8)
    again = event_flow.sample(rows, 30, generator(3))
    torch.testing.assert_close(again.points, draws.points, rtol=0, atol=0)
    torch.manual_seed(3)
    torch.testing.assert_close(event_flow.sample(rows, 30).points, draws.points, rtol=0, atol=0)
    which, points, log_density = event_flow.sample_and_log_prob(rows, 30, generator(3))
    one = proposal.Draws(which[:, 0], points[:, 0])
    log_prob = event_flow.log_prob(one, rows)
    torch.testing.assert_close(log_prob, log_density[:, 0], rtol=0, atol=1e-3)  # draws are of single precision
    alone = event_flow.log_prob(proposal.Draws(which[2:3, 0], points[2:3, 0]), rows[2:3])
    torch.testing.assert_close(alone, log_prob[2:3], rtol=0, atol=1e-6)
    turned = event_flow.log_prob(proposal.Draws(which[:, 0].flip(0), points[:, 0].flip(0)), rows.flip(0))
    torch.testing.assert_close(turned.flip(0), log_prob, rtol=0, atol=1e-6)
