"""The classical methods, called on a data set: same answers as the solvers, unknown pairings left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chance import assert_mean, assert_spread
from rewind import events, kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import baselines, ellipse, pairing, weighting
from rewind.neutrino.classical.jet_scale import leg_jets
from rewind.neutrino.flows import pairing_network, training
from rewind.neutrino.flows.inputs import MAX_JETS, event_tensor
from rewind.neutrino.verdicts import comparison, inversion, point_estimates, reconstruction


@pytest.fixture(scope="module")
def data():
    return events.load_batch("data/samples/ttbar_dilepton_test.root", 2).with_jets(MAX_JETS)[:300]


def test_the_ellipse_is_that_of_the_chosen_jets_and_unknown_pairings_stay_unknown(data):
    chosen = pairing.true_pairing(data)
    neutrinos, exact = baselines.by_ellipse(data, chosen)
    known = (chosen >= 0).all(1)
    assert 0 < (~known).sum() < len(data)
    assert neutrinos[~known].isnan().all()
    assert not exact[~known].any()
    bottoms = leg_jets(data, chosen)[known]
    solved = ellipse.solve(*data.leptons[known].unbind(1), *bottoms.unbind(1), data.met[known])
    torch.testing.assert_close(neutrinos[known][:, 0], solved.closest_neutrino, equal_nan=True)
    assert torch.equal(exact[known], solved.is_solved)
    total = neutrinos[exact].sum(1)[:, :2]
    torch.testing.assert_close(total, data.met[exact], rtol=1e-6, atol=1e-5)


def test_weighting_tries_all_pairings_or_the_given_one(data):
    every, valid, used = baselines.by_weighting(data)
    given, fits, same = baselines.by_weighting(data, used)
    assert torch.equal(valid, fits)
    torch.testing.assert_close(given[fits], every[fits])
    assert torch.equal(same[fits], used[fits])
    unknown, none, _ = baselines.by_weighting(data, torch.full((len(data), 2), -1))
    assert unknown.isnan().all()
    assert not none.any()
    mask = data.btag & data.jet_mask
    solved = weighting.solve(*data.leptons.unbind(1), data.jets, mask, data.met)
    torch.testing.assert_close(every[:, 0], solved.neutrino, equal_nan=True)


def test_a_line_of_the_table_is_made_of_its_figures(data):
    chosen = pairing.by_mass(data)
    values = reconstruction.quantities(data, data.truth.neutrinos, chosen)
    true = reconstruction.true_quantities(data)["m_tt"]
    undo = inversion.fit_inversion(true, values["m_tt"], [300, 450, 3000])
    line = comparison.row(data, values, undo, [300, 450, 3000], np.random.default_rng(1), n_replicas=20)
    assert line.metrics["px"].rmse.value == 0
    assert line.metrics["m_tt"].width.value > 10
    assert len(line.bias) == 2
    assert all(f"{value:.1f}" in str(line) for value in (line.metrics["m_tt"].rmse.value, line.unbiased.width.value))


def test_what_is_pinned_down_is_the_sum_and_the_w_masses(data):
    shelled = reconstruction.pinned(data, data.truth.neutrinos)
    assert shelled.shape == (len(data), 10)
    torch.testing.assert_close(shelled[:, 6:8], data.truth.neutrinos[..., :2].sum(1))
    torch.testing.assert_close(shelled[:, 8:], kinematics.mass(reconstruction.w_bosons(data, data.truth.neutrinos)))
    assert reconstruction.pinned(data, data.truth.neutrinos[:, None].expand(-1, 4, -1, -1)).shape == (len(data), 4, 10)


def test_every_rule_answers_with_a_draw_or_between_draws():
    torch.manual_seed(0)
    draws, distance, log_prob = torch.randn(7, 40, 2), torch.rand(7, 40), torch.randn(7, 40)
    rules = point_estimates.rules(distance, log_prob)
    assert {"mode"} == rules.keys() - point_estimates.rules(distance).keys()
    for rule in rules.values():
        answer = rule(draws)
        assert answer.shape == (7, 2)
        assert (draws.amin(1) <= answer).all()
        assert (answer <= draws.amax(1)).all()
    torch.testing.assert_close(point_estimates.mean_of_nearest(draws, distance, share=1.0), draws.mean(1))
    nearest = point_estimates.mean_of_nearest(draws, distance, share=1 / 40)
    torch.testing.assert_close(nearest, point_estimates.nearest_constraints(draws, distance))


def test_a_pairing_network_is_trained_saved_and_loaded(data, tmp_path):
    path = tmp_path / "pairing.safetensors"
    size = {"width": 16, "encoder_layers": 1}
    model, record = training.train_pairing(data, data, path, size=size, epochs=12, batch_size=64, device="cpu")
    losses = [loss["validation_loss"] for loss in record["losses"]]
    assert losses[-1] < losses[0]
    loaded = training.load_pairing(path, 2)
    event, _ = pairing_network.training_tensors(data)
    assert torch.equal(loaded.choose(event), model.choose(event))


def test_events_of_another_kind_are_refused(data):
    one = events.load_batch("data/samples/ttbar_semileptonic_test.root", 1).with_jets(MAX_JETS)[:5]
    for call in (
        lambda: baselines.by_ellipse(one, one.truth.b_jets),
        lambda: baselines.by_weighting(one),
        lambda: reconstruction.delta_phi_ll(one.leptons),
    ):
        with pytest.raises(InputError, match="leptons"):
            call()
    with pytest.raises(InputError, match="unknown process"):
        events.simulated("nothing", 10, [1])
    with pytest.raises(InputError, match="seeds"):
        events.simulated("ttbar_dilepton", 10, [])
    with pytest.raises(IndexError):
        data[len(data)]
    assert len(data[-1]) == len(data[np.int64(3)]) == 1


def test_faults_of_hand_made_events_are_named(data):
    some = data[:3]
    few = {name: getattr(some, name)[:, :1] for name in ("jets", "jet_mask", "btag")}
    one = replace(some, **few, truth=None)
    for call in (baselines.by_weighting, event_tensor):
        with pytest.raises(InputError, match="fewer than 2 jets are b-tagged"):
            call(one)
    with pytest.raises(InputError, match="twice"):
        event_tensor(some, torch.zeros(3, 2, dtype=torch.long))


def test_an_unknown_distance_gives_no_answer():
    draws, score = torch.randn(2, 5, 3), torch.rand(2, 5)
    score[1, 2] = torch.nan
    for rule in (point_estimates.mode, point_estimates.nearest_constraints, point_estimates.mean_of_nearest):
        answer = rule(draws, score)
        assert answer[0].isfinite().all()
        assert answer[1].isnan().all()


def test_smeared_copies_keep_the_momentum_of_an_event(data):
    generator = torch.Generator().manual_seed(1)
    copies = list(baselines.smeared_copies(data, 40, generator, sigma=0.0))
    total = [(d.jets[..., 1:3] * d.jet_mask[..., None]).sum(1) + d.met for d in (data, *copies)]
    for other in total[1:]:
        torch.testing.assert_close(other, total[0])
    factors = torch.stack([copy.jets[..., 0] / data.jets[..., 0] for copy in copies])[:, data.jet_mask]
    assert_mean(factors.mean(0), 1.0)
    assert copies[0].truth is data.truth


def test_smeared_copies_smear_the_missing_momentum(data):
    generator = torch.Generator().manual_seed(2)
    still = replace(data, jets=torch.zeros_like(data.jets))
    moved = torch.stack([copy.met - data.met for copy in baselines.smeared_copies(still, 30, generator, sigma=7.0)])
    assert_spread(moved.flatten(), 7.0)


@pytest.mark.parametrize(("n", "sigma"), [(0, 10.0), (1, -1.0), (1, float("nan"))])
def test_impossible_copies_are_refused(data, n, sigma):
    with pytest.raises(InputError, match="at least one copy"):
        list(baselines.smeared_copies(data, n, torch.Generator().manual_seed(1), sigma=sigma))
