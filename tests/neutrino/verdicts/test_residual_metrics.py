"""Scores of neutrinos: known widths, agreement with plain bootstrap, response matrices that are known exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chance import assert_agrees, assert_spread
from rewind import kinematics, stats
from rewind.errors import InputError
from rewind.neutrino import dataset
from rewind.neutrino.classical import pairing
from rewind.neutrino.verdicts import residual_metrics

SAMPLES = Path(__file__).parents[3] / "data" / "samples"


@pytest.fixture(scope="module")
def dilepton():
    return dataset.load(SAMPLES / "ttbar_dilepton.root", 2)


@pytest.fixture(scope="module")
def one_lepton():
    return dataset.load(SAMPLES / "ttbar_semileptonic.root", 1)


def rng(seed=1):
    return np.random.default_rng(seed)


def test_tops_are_sums_of_their_parts(dilepton):
    data = dilepton[dilepton.matched]
    built = residual_metrics.tops(data, data.neutrinos, data.b_jets)
    assert built.shape == (len(data), 2, 4)
    event, leg = 17, 1
    jet = data.jets[event, data.b_jets[event, leg]]
    momentum = data.neutrinos[event, leg]
    torch.testing.assert_close(built[event, leg, 1:], (jet + data.leptons[event, leg])[1:] + momentum)
    torch.testing.assert_close(built[event, leg, 0], jet[0] + data.leptons[event, leg, 0] + momentum.norm())
    assert (kinematics.mass(residual_metrics.w_bosons(data, data.neutrinos)).median() - 80.4).abs() < 0.7
    both = built.sum(1)
    torch.testing.assert_close(residual_metrics.m_tt(built) ** 2, both[:, 0] ** 2 - (both[:, 1:] ** 2).sum(1))


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_draws_are_treated_like_events(name, request):
    data = request.getfixturevalue(name)[:50]
    draws = data.neutrinos[:, None] + torch.randn(50, 7, data.n_legs, 3, generator=torch.Generator().manual_seed(2))
    built = residual_metrics.tops(data, draws, pairing.by_mass(data))
    assert built.shape == (50, 7, data.n_legs, 4)
    torch.testing.assert_close(built[:, 3], residual_metrics.tops(data, draws[:, 3], pairing.by_mass(data)))
    if data.n_legs == 2:
        assert residual_metrics.m_tt(built).shape == (50, 7)


def test_unknown_jets_and_neutrinos_leave_no_top(dilepton):
    chosen, neutrinos = pairing.by_mass(dilepton), dilepton.neutrinos.clone()
    chosen[3, 1], neutrinos[5, 0] = -1, torch.nan
    built = residual_metrics.tops(dilepton, neutrinos, chosen)
    assert built.isnan().all(-1).nonzero().tolist() == [[3, 1], [5, 0]]
    assert built.isnan().any(-1).nonzero().tolist() == [[3, 1], [5, 0]]


def test_azimuth_between_leptons(dilepton):
    leptons = dilepton.leptons[:3].clone()
    azimuths = torch.tensor([[0.1, 0.4], [3.0, -3.0], [0.0, torch.pi]]).double()
    leptons[..., 1], leptons[..., 2] = azimuths.cos(), azimuths.sin()
    expected = torch.tensor([0.3, 2 * torch.pi - 6, torch.pi]).double()
    torch.testing.assert_close(residual_metrics.delta_phi_ll(leptons), expected, rtol=0, atol=1e-6)


def test_figures_of_a_gaussian():
    """Width 2σ, RMSE √(σ² + bias²), errors as for normal samples."""
    n, sigma, bias = 40_000, 3.0, 1.0
    truth = rng(2).normal(0, 50, n)
    found = residual_metrics.figures(truth, truth + rng(3).normal(bias, sigma, n), rng())
    quantile = 0.994458  # of 84 %
    expected = {
        "width": (2 * quantile * sigma, 1.51 * 2 * sigma / (2 * n) ** 0.5),
        "rmse": ((sigma**2 + bias**2) ** 0.5, None),
        "median": (bias, 1.2533 * sigma / n**0.5),
        "mean": (bias, sigma / n**0.5),
    }
    for name, (value, error) in expected.items():
        estimate = getattr(found, name)
        assert_agrees(estimate.value, value, estimate.error)
        assert error is None or estimate.error == pytest.approx(error, rel=0.25), name
    assert (found.n_solved, found.n_unsolved) == (n, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_agree_with_plain_bootstrap(weighted):
    truth = rng(4).normal(0, 1, 1501)
    reconstructed = truth + rng(5).standard_t(3, 1501)
    weights = rng(6).uniform(0.2, 2, 1501) if weighted else None
    found = residual_metrics.figures(truth, reconstructed, rng(), weights=weights, n_replicas=400)
    for name, statistic in (("width", stats.width68), ("median", stats.median)):
        plain = stats.bootstrap(statistic, reconstructed - truth, rng=rng(7), n_replicas=400, weights=weights)
        mine = getattr(found, name)
        assert mine.value == pytest.approx(plain.value, abs=1e-12)
        assert_agrees(mine.error / plain.error, 1, 1 / 400**0.5)  # of 400 replicas each


def test_values_of_an_event_are_resampled_together():
    """Twice the same residual in an event adds no information."""
    truth = rng(8).normal(size=(2000, 1))
    residual = rng(9).normal(size=(2000, 1))
    once = residual_metrics.figures(truth, truth + residual, rng())
    twice = residual_metrics.figures(truth.repeat(2, 1), (truth + residual).repeat(2, 1), rng())
    for name in ("width", "rmse", "median", "mean"):
        torch.testing.assert_close(torch.tensor(getattr(once, name)), torch.tensor(getattr(twice, name)))


def test_integer_weights_count_events():
    truth, residual = rng(10).normal(size=500), rng(11).normal(size=500)
    weights = rng(12).integers(0, 3, 500)
    weighted = residual_metrics.figures(truth, truth + residual, rng(), weights=weights)
    copies = residual_metrics.figures(truth.repeat(weights), (truth + residual).repeat(weights), rng())
    for name in ("width", "rmse", "median", "mean"):
        assert getattr(weighted, name).value == pytest.approx(getattr(copies, name).value)


def test_unsolved_events_are_counted_and_left_out():
    truth = rng(13).normal(size=(300, 2))
    reconstructed = truth + 1.0
    reconstructed[:40, 0], reconstructed[40:50] = np.nan, np.inf
    found = residual_metrics.figures(torch.from_numpy(truth), torch.from_numpy(reconstructed), rng())
    assert (found.n_solved, found.n_unsolved) == (250, 50)
    assert found.mean == pytest.approx((1.0, 0.0))
    nothing = residual_metrics.figures(truth, np.full_like(truth, np.nan), rng())
    assert (nothing.n_solved, nothing.n_unsolved) == (0, 300)
    assert np.isnan(nothing.width.value)


def test_bins_hold_their_events():
    truth = np.array([0.0, 1.0, 1.5, 2.0, 3.0, -1.0])
    reconstructed = truth + np.array([1.0, 2.0, 3.0, np.nan, 9.0, 9.0])
    low, high, empty = residual_metrics.binned_figures(truth, reconstructed, [0, 1, 2.5, 3], rng())
    assert (low.n_solved, high.n_solved, empty.n_solved) == (1, 2, 0)
    assert (low.n_unsolved, high.n_unsolved, empty.n_unsolved) == (0, 1, 0)
    assert low.mean.value == 1.0
    assert high.mean.value == 2.5
    assert np.isnan(empty.mean.value)


def test_perfect_neutrinos_have_no_residual(dilepton, one_lepton):
    for data in (dilepton, one_lepton):
        found = residual_metrics.summary(data, data.neutrinos, pairing.truth(data), rng(), n_replicas=20)
        assert all(found[axis].width == (0.0, 0.0) for axis in ("px", "py", "pz"))
        assert found["pt_top"].n_solved == int(data.matched.sum())
        assert found["pt_top"].n_unsolved == len(data) - int(data.matched.sum())
        assert ("m_tt" in found) == (data.n_legs == 2)
    assert abs(found["pt_top"].median.value) < 30


def test_summary_without_true_tops_scores_the_neutrinos(dilepton):
    data = replace(dilepton, tops=torch.full_like(dilepton.tops, torch.nan))
    found = residual_metrics.summary(data, data.neutrinos, pairing.by_mass(data), rng(), n_replicas=5)
    assert set(found) == {"px", "py", "pz"}


EDGES = [0.0, 1.0, 2.0, 4.0]


def test_identity_has_the_identity_as_response():
    truth = rng(14).uniform(0, 4, 1000)
    response = residual_metrics.response_matrix(truth, truth, EDGES)
    np.testing.assert_array_equal(response.matrix, np.eye(3))
    assert response.trace_fraction() == (1.0, 0.0)
    assert response.mean_diagonal() == (1.0, 0.0)
    assert response.counts.sum() == 1000
    two = rng(15).uniform(0, 4, (1000, 2))
    np.testing.assert_array_equal(residual_metrics.response_matrix(two, two, [EDGES, [0, 2, 4]]).matrix, np.eye(6))


@given(st.integers(0, 2**31))
def test_rows_sum_to_one_and_nothing_is_lost(seed):
    truth = rng(seed).normal(2, 1.5, 200)
    reconstructed = truth + rng(seed + 1).normal(0, 1, 200)
    reconstructed[:30] = np.nan
    weights = rng(seed + 2).uniform(0, 2, 200)
    response = residual_metrics.response_matrix(truth, reconstructed, EDGES, [0.5, 1, 2, 3, 4], weights=weights)
    assert response.counts.shape == (3, 4)
    outside = response.outside / response.solved
    np.testing.assert_allclose(response.matrix.sum(1) + outside, 1)
    inside = (truth >= 0) & (truth < 4)
    total = response.counts.sum() + response.outside.sum() + response.unsolved.sum()
    assert total == pytest.approx(weights[inside].sum())
    assert response.n_missed == (~inside).sum()
    assert response.n_unsolved == inside[:30].sum()
    assert ((response.efficiency >= 0) & (response.efficiency <= 1)).all()


def test_flattened_bins_run_fastest_in_the_last_observable():
    truth = np.array([[0.5, 0.5], [0.5, 1.5], [1.5, 0.5], [3.0, 1.5]])
    reconstructed = np.roll(truth, 1, axis=0)
    response = residual_metrics.response_matrix(truth, reconstructed, [EDGES, [0, 1, 2]])
    expected = np.zeros((6, 6))
    expected[0, 5] = expected[1, 0] = expected[2, 1] = expected[5, 2] = 1
    np.testing.assert_array_equal(response.counts, expected)


def test_infinite_edges_take_all_events():
    truth = rng(16).normal(0, 100, 500)
    response = residual_metrics.response_matrix(truth, 2 * truth, [-np.inf, 0, np.inf])
    np.testing.assert_array_equal(response.matrix, np.eye(2))
    assert response.n_missed == 0


def test_trace_and_mean_diagonal_of_known_migrations():
    """90 of 100 stay in the first bin, 5 of 10 in the second: Σ N_ii/N = 95/110, mean 0.7."""
    truth = np.repeat([0.5, 1.5], [100, 10])
    reconstructed = truth.copy()
    reconstructed[:10], reconstructed[100:105] = 1.5, 9.0
    response = residual_metrics.response_matrix(truth, reconstructed, [0, 1, 2])
    share = 95 / 110
    assert response.trace_fraction() == pytest.approx((share, (share * (1 - share) / 110) ** 0.5))
    assert response.mean_diagonal() == pytest.approx((0.7, (0.09 / 100 + 0.25 / 10) ** 0.5 / 2))
    np.testing.assert_array_equal(response.outside, [0, 5])


def test_errors_of_the_trace_are_those_of_repeated_experiments():
    seen, told = [], []
    for seed in range(150):
        truth = rng(seed).uniform(0, 4, 400)
        weights = rng(seed + 1000).choice([0.5, 3.0], 400)
        response = residual_metrics.response_matrix(
            truth, truth + rng(seed + 500).normal(0, 0.7, 400), EDGES, weights=weights
        )
        seen.append(response.trace_fraction().value)
        told.append(response.trace_fraction().error)
    assert_spread(np.array(seen) / np.mean(told))


def test_empty_input():
    nothing = np.empty(0)
    assert residual_metrics.figures(nothing, nothing, rng()).n_solved == 0
    response = residual_metrics.response_matrix(nothing, nothing, EDGES)
    assert response.counts.sum() == 0
    with pytest.raises(InputError, match="no solved event"):
        response.trace_fraction()
    with pytest.raises(InputError, match="no solved event"):
        response.mean_diagonal()


def test_no_event_and_one_event(dilepton):
    assert residual_metrics.tops(dilepton[:0], dilepton.neutrinos[:0], torch.zeros(0, 2, dtype=torch.long)).shape == (
        0,
        2,
        4,
    )
    one = dilepton[0]
    found = residual_metrics.summary(one, one.neutrinos + 1, pairing.by_mass(one), rng(), n_replicas=5)
    assert found["px"].mean == pytest.approx((1.0, 0.0))


def test_bad_input(dilepton, one_lepton):
    x = np.arange(4.0)
    with pytest.raises(InputError, match="neutrinos of shape"):
        residual_metrics.tops(dilepton, dilepton.neutrinos[:, :1], dilepton.b_jets)
    with pytest.raises(InputError, match="choose one solution"):
        residual_metrics.summary(dilepton, dilepton.neutrinos[:, None], dilepton.b_jets, rng())
    with pytest.raises(InputError, match="tops of shape"):
        residual_metrics.m_tt(residual_metrics.tops(one_lepton, one_lepton.neutrinos, one_lepton.b_jets))
    with pytest.raises(InputError, match="two of them"):
        residual_metrics.delta_phi_ll(one_lepton.leptons)
    with pytest.raises(InputError, match="equal"):
        residual_metrics.figures(x, x[:3], rng())
    with pytest.raises(InputError, match="1 values are not finite"):
        residual_metrics.figures(np.array([0, np.nan]), np.zeros(2), rng())
    with pytest.raises(InputError, match="not negative"):
        residual_metrics.figures(x, x, rng(), weights=-x)
    with pytest.raises(InputError, match="one value an event"):
        residual_metrics.binned_figures(np.stack([x, x], 1), np.stack([x, x], 1), EDGES, rng())
    for edges in ([0, 1, 1], [1], [0, np.nan, 2]):
        with pytest.raises(InputError, match="rising"):
            residual_metrics.response_matrix(x, x, edges)
    with pytest.raises(InputError, match="edges for 1 observables, values of 2"):
        residual_metrics.response_matrix(np.stack([x, x], 1), np.stack([x, x], 1), [EDGES])
    with pytest.raises(InputError, match="not finite"):
        residual_metrics.response_matrix(np.full(4, np.nan), x, EDGES)
    with pytest.raises(InputError, match="a diagonal needs"):
        residual_metrics.response_matrix(x, x, EDGES, [0, 4]).trace_fraction()


def test_inversion_undoes_a_known_response():
    random = rng()
    truth = random.uniform(300, 1000, 20_000)
    reco = 100 + 0.7 * truth + random.normal(0, 20, len(truth))
    edges = np.linspace(300, 1000, 15)
    calibrated = residual_metrics.fit_inversion(truth, reco, edges)(reco)
    raw, after = (
        residual_metrics.binned_figures(truth, values, edges[1:-1], random, n_replicas=50)
        for values in (reco, calibrated)
    )
    assert max(abs(f.median.value) for f in raw) > 50
    assert all(abs(f.median.value) < 5 * f.median.error + 3 for f in after)
    assert residual_metrics.figures(truth, calibrated, random).width.value == pytest.approx(2 * 20 / 0.7, rel=0.05)
    nothing = residual_metrics.fit_inversion(truth, reco, edges)(np.array([np.nan]))
    assert np.isnan(nothing).all()
    with pytest.raises(InputError, match="rise"):
        residual_metrics.fit_inversion(truth, -reco, edges)
    with pytest.raises(InputError, match="no solved"):
        residual_metrics.fit_inversion(truth, reco, [300, 1000, 2000])


def test_quantities_of_draws_are_those_of_each_draw(dilepton):
    data = dilepton[:20]
    pairing_true = pairing.truth(data)
    draws = torch.stack([data.neutrinos, 2 * data.neutrinos], 1)
    both = residual_metrics.quantities(data, draws, pairing_true)
    for i in range(2):
        for name, values in residual_metrics.quantities(data, draws[:, i], pairing_true).items():
            torch.testing.assert_close(both[name][:, i], values, equal_nan=True)
    perfect = residual_metrics.compare(data, residual_metrics.true_quantities(data), rng(), n_replicas=5)
    assert all(figure.rmse.value == 0 for figure in perfect.values())
