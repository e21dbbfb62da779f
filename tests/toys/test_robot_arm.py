"""The robot arm: geometry, and exact samplers against quadrature and against tight windows of simulations."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chance import KOLMOGOROV, assert_agrees, assert_mean, assert_spread
from rewind import stats
from rewind.errors import InputError
from rewind.nn import checkpoints
from rewind.toys import robot_arm

SHIPPED = Path(__file__).parents[2] / "data" / "checkpoints" / "robot_arm.safetensors"
HANDS = [(1.5, -0.9), (1.95, 0.1), (1.0, 1.3), (1.2, 1.0)]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(x, width):
    return torch.exp(-0.5 * (x / width) ** 2) / (width * math.sqrt(2 * math.pi))


def features(x):
    """Statistics that pin a distribution of arms down: joints, their squares and products, the last link's side."""
    last = x[:, 1:].sum(1)
    products = torch.stack([x[:, i] * x[:, j] for i in range(4) for j in range(i, 4)], 1)
    return torch.cat([x, products, (last > 0)[:, None].to(x), (x[:, 1] > 0.2)[:, None].to(x)], 1).double()


def assert_means_agree(x, weighted, weights, *, tolerance=0.0):
    """Compare the mean features of draws ``x`` with those of a weighted sample, within five standard errors."""
    mine, theirs = features(x), features(weighted)
    mean = (weights[:, None] * theirs).sum(0) / weights.sum()
    variance = (weights[:, None] ** 2 * (theirs - mean) ** 2).sum(0) / weights.sum() ** 2
    error = (mine.var(0) / len(mine) + variance).sqrt()
    assert_agrees(mine.mean(0), mean, error, rounding=tolerance)


@pytest.mark.parametrize(
    ("arm", "hand"),
    [
        ((0.3, 0.0, 0.0, 0.0), (2.0, 0.3)),
        ((0.0, math.pi / 2, 0.0, 0.0), (0.0, 2.0)),
        ((0.1, math.pi / 2, -math.pi / 2, 0.0), (1.5, 0.6)),
        ((-0.2, 0.0, math.pi, 0.0), (-1.0, -0.2)),
    ],
)
def test_forward_of_known_arms(arm, hand):
    torch.testing.assert_close(robot_arm.forward(torch.tensor(arm)), torch.tensor(hand), atol=1e-6, rtol=0)


@given(st.lists(st.floats(-4, 4), min_size=4, max_size=4))
def test_links_keep_their_lengths_and_the_rail_moves_all(arm):
    x = torch.tensor(arm, dtype=torch.float64)
    points = robot_arm.joints(x)
    torch.testing.assert_close(points.diff(dim=0).norm(dim=1), robot_arm.LENGTHS.double())
    torch.testing.assert_close(points[0], torch.stack([torch.zeros_like(x[0]), x[0]]))
    up = robot_arm.forward(x + torch.tensor([1.0, 0, 0, 0])) - robot_arm.forward(x)
    torch.testing.assert_close(up, torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_prior_has_its_widths():
    x = robot_arm.sample_prior(100_000, seeded(1))
    widths = torch.tensor([0.25, 0.5, 0.5, 0.5])
    assert_agrees(x.mean(0), 0, widths / 100_000**0.5)
    assert_agrees(x.std(0) / widths, 1, 1 / 200_000**0.5)
    assert (torch.corrcoef(x.T) - torch.eye(4)).abs().max() < 0.02


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_posterior_agrees_with_a_narrow_window_of_simulations(hand, noise):
    """An independent route: keep prior angles whose y1 falls in a window; weight by the height that x1 must have."""
    y = torch.tensor(hand, dtype=torch.float64)
    draws = robot_arm.sample_posterior(y, 4000, seeded(2), noise=noise)
    generator = seeded(3)
    angles = torch.cat([torch.zeros(6_000_000, 1), 0.5 * torch.randn(6_000_000, 3, generator=generator)], 1)
    missing = y - robot_arm.forward(angles)
    window = 5 * noise if noise else 0.004
    keep = missing[:, 0].abs() < window
    angles, missing = angles[keep].double(), missing[keep]
    weights = normal(missing[:, 1], math.hypot(0.25, noise))
    if noise:
        weights = weights * normal(missing[:, 0], noise)
    share = 0.25**2 / (0.25**2 + noise**2)
    narrow = noise * share**0.5
    angles[:, 0] = missing[:, 1] * share + narrow * torch.randn(len(angles), generator=generator)
    assert_means_agree(draws, angles, weights)


@pytest.mark.parametrize("hand", HANDS)
def test_noiseless_draws_lie_on_the_surface(hand):
    x = robot_arm.sample_posterior(torch.tensor(hand), 500, seeded(4))
    assert (robot_arm.forward(x) - torch.tensor(hand)).abs().max() < 1e-6
    assert len(x.unique(dim=0)) == 500


def test_small_noise_approaches_no_noise():
    y = torch.tensor([1.6, 0.8])
    surface = robot_arm.sample_posterior(y, 4000, seeded(5))
    near = robot_arm.sample_posterior(y, 4000, seeded(6), noise=3e-3)
    assert_means_agree(near, surface, torch.ones(4000, dtype=torch.float64))


def test_levers_are_bounded_from_below():
    """The rejection constant holds: no arm with the hand at y1 has all its levers shorter than the bound."""
    lengths = robot_arm.LENGTHS.double()
    theta = (2 * torch.rand(2_000_000, 3, generator=seeded(7), dtype=torch.float64) - 1) * math.pi
    y1 = theta.cos() @ lengths
    longest = (lengths * theta.sin()).abs().amax(1)
    for low in (-1.5, -0.4, 0.3, 0.7, 1.25, 1.6, 1.9, 1.98):
        inside = (y1 > low) & (y1 < low + 0.01)
        bound = min(
            robot_arm._longest_lever_at_least(torch.tensor(edge, dtype=torch.float64), lengths)
            for edge in (low, low + 0.01)
        )
        assert bound > 0
        assert longest[inside].min() > bound


def test_evidence_normalises_the_posterior():
    """The mean of a normalised Gaussian over the posterior density, on exact draws, is one."""
    y, noise = torch.tensor([1.2, 0.9]), 0.1
    x = robot_arm.sample_posterior(y, 20_000, seeded(8), noise=noise).double()
    log_p = robot_arm.log_joint(x, y.double(), noise) - robot_arm.log_evidence(y, noise, seeded(9))[0]
    core = x[(x - x.mean(0)).norm(dim=1).argsort()[:5000]]
    density = torch.distributions.MultivariateNormal(core.mean(0), torch.cov(core.T))
    ratio = (density.log_prob(x) - log_p).exp()
    assert_mean(ratio, 1, rounding=0.01)


def test_evidence_knows_its_error():
    y, noise = torch.tensor([1.2, 0.9]), 0.05
    values, errors = zip(*(robot_arm.log_evidence(y, noise, seeded(s), n=20_000) for s in range(60)), strict=True)
    assert_spread(torch.tensor(values) * 60 / sum(errors))


def test_seed_decides():
    y = torch.tensor([1.5, 0.5])
    for noise in (0.0, 0.02):
        first, second, other = (robot_arm.sample_posterior(y, 50, seeded(s), noise=noise) for s in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_abc_keeps_what_falls_close_and_counts():
    y = torch.tensor([1.6, 0.4])
    x, n_simulated = robot_arm.sample_abc(y, 3000, seeded(10), 0.05)
    assert x.shape == (3000, 4)
    assert (robot_arm.forward(x) - y).norm(dim=1).max() < 0.05
    share = robot_arm.abc_acceptance(y, 0.05, seeded(11))
    assert n_simulated >= 3000
    kept = 3000 / share
    assert kept < n_simulated * 1.2 + 5 * kept / 3000**0.5


def test_abc_approaches_the_posterior():
    y, noise = torch.tensor([1.6, 0.4]), 0.1
    x, _ = robot_arm.sample_abc(y, 4000, seeded(12), 0.03, noise=noise)
    exact = robot_arm.sample_posterior(y, 4000, seeded(13), noise=noise)
    assert_means_agree(x, exact, torch.ones(4000, dtype=torch.float64), tolerance=0.005)


@pytest.mark.parametrize("chart", [robot_arm.ResidualChart(0.02), robot_arm.FoldChart(0.02)])
def test_charts_invert_in_the_far_tails(chart):
    x, y = robot_arm.simulate(2000, seeded(14), noise=0.02)
    x, y = 2 * x.double(), y.double()
    coordinates, log_det = chart(x, y)
    assert torch.isfinite(log_det).all()
    torch.testing.assert_close(chart.inverse(coordinates, y), x, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("hand", "noise", "message"),
    [
        ((2.1, 0.0), 0.0, "out of reach"),
        ((-2.0, 0.0), 0.0, "out of reach"),
        ((1.0, math.nan), 0.02, "finite"),
        ((1.0, 0.0, 0.0), 0.02, "two finite numbers"),
        ((1.0, 0.0), -0.1, "noise"),
        ((4.0, 0.0), 0.02, "likelier"),
        ((-1.95, 0.0), 0.0, "likelier"),
    ],
)
def test_impossible_hands(hand, noise, message, monkeypatch):
    monkeypatch.setattr(robot_arm, "_TRIAL", 400_000)
    with pytest.raises(InputError, match=message):
        robot_arm.sample_posterior(torch.tensor(hand), 10, seeded(0), noise=noise)


def test_other_bad_input(monkeypatch):
    monkeypatch.setattr(robot_arm, "_TRIAL", 400_000)
    y = torch.tensor([1.5, 0.0])
    with pytest.raises(InputError, match="n = 0"):
        robot_arm.sample_posterior(y, 0, seeded(0))
    with pytest.raises(InputError, match="tolerance"):
        robot_arm.sample_abc(y, 10, seeded(0), 0.0)
    with pytest.raises(InputError, match="likelier"):
        robot_arm.sample_abc(torch.tensor([5.0, 0.0]), 10, seeded(0), 0.1)
    with pytest.raises(InputError, match="choose one of plain"):
        robot_arm.posterior_flow(noise=0.1, coordinates="polar")


@pytest.fixture(scope="module")
def shipped():
    return checkpoints.load(SHIPPED, robot_arm.posterior_flow, noise=0.02)


def test_shipped_flow_has_the_loss_it_claims(shipped):
    claimed = checkpoints.describe(SHIPPED)["training"]["best_validation_loss"]
    x, y = robot_arm.simulate(20_000, seeded(15), noise=0.02)
    with torch.no_grad():
        log_q = shipped.log_prob(x, y)
    assert_agrees(-log_q.mean(), claimed, log_q.std() / 10_000**0.5)


def test_shipped_flow_is_as_good_as_the_exact_density(shipped):
    """The divergence of the flow from the exact posterior is small for hands of the prior predictive."""
    divergences = []
    for seed, y in enumerate(robot_arm.simulate(4, seeded(16), noise=0.02)[1]):
        x = robot_arm.sample_posterior(y, 2000, seeded(seed), noise=0.02)
        with torch.no_grad():
            log_q = shipped.log_prob(x, y.expand(2000, 2))
        log_p = robot_arm.log_joint(x, y, 0.02) - robot_arm.log_evidence(y, 0.02, seeded(17))[0]
        divergences.append((log_p - log_q).mean())
    assert torch.stack(divergences).mean() < 0.03


def test_shipped_flow_is_calibrated(shipped):
    truth, y = robot_arm.simulate(1000, seeded(18), noise=0.02)
    torch.manual_seed(19)
    draws, rng = shipped.sample(y, 63), np.random.default_rng(20)
    ranks = stats.rank_uniformity(stats.sbc_ranks(draws, truth, rng), 63)
    assert (ranks.max_deviation < KOLMOGOROV / 1000**0.5).all()
    assert stats.tarp(draws, truth, rng).max_deviation < KOLMOGOROV / 1000**0.5
