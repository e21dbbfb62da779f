"""Likelihoods of known densities: pulls, coverage, information."""

import numpy as np
import pytest
import torch

from chance import assert_agrees
from rewind.errors import InputError
from rewind.mem import likelihood


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_pulls_and_scores_of_known_numbers():
    rng = np.random.default_rng(3)
    pulls = 0.3 + 1.2 * rng.standard_normal(4_000)
    mean, width = likelihood.pull_moments(pulls, rng, common=0.01)
    assert_agrees(mean.value, 0.3, 1.2 / 4_000**0.5)
    assert abs(mean.error - (1.2**2 / 4_000 + 0.01) ** 0.5) < 0.002
    assert_agrees(width.value, 1.2, width.error)
    assert abs(width.error / (1.2 / 8_000**0.5) - 1) < 0.3
    true, noise = rng.standard_normal((2, 200_000))
    assert_agrees(likelihood.score_information(2 * true, 2 * true), 4, 4 * (2 / 200_000) ** 0.5)
    assert_agrees(likelihood.score_information(true + noise, true), 0.5, (1.5 / 200_000) ** 0.5)


def test_likelihood_of_a_known_polynomial():
    """Events of density (1 + θ y)/2 on [−1, 1]: the coefficients are (1, y)/2, σ_vis is 1 for every θ."""
    rng = np.random.default_rng(3)
    y = rng.uniform(-1, 1, (400, 500))
    y = np.where(rng.uniform(0, 1, y.shape) < (1 + 0.4 * y) / 2, y, -y)
    theta = np.linspace(-0.9, 0.95, 75)
    coefficients = torch.from_numpy(np.stack([np.full(y.shape, 0.5), y / 2], -1))
    known = likelihood.VisibleCrossSection(torch.tensor([1.0, 0.0]).double(), torch.zeros(2, 2).double())
    scans = torch.stack([likelihood.log_likelihood(c, known, likelihood.powers(theta, 1)).sum(0) for c in coefficients])
    fitted = likelihood.fit(scans, theta)
    pulls = fitted.pulls(0.4)
    assert_agrees(pulls.mean(), 0, 1 / len(pulls) ** 0.5)
    assert_agrees(pulls.std(), 1, 1 / (2 * len(pulls)) ** 0.5)
    inside = (fitted.low < 0.4) & (fitted.high > 0.4)
    assert_agrees(inside.mean(), 0.683, (0.683 * 0.317 / len(pulls)) ** 0.5)


def test_visible_cross_section_is_the_mean_of_weights():
    coefficients = torch.tensor([[1.0, 0.5], [2.0, 3.0], [4.0, 4.0]]).double()
    cross_section = likelihood.visible(coefficients, torch.tensor([True, False, True]), 6.0)
    torch.testing.assert_close(cross_section.coefficients, torch.tensor([4.0, 3.0]).double())
    with pytest.raises(InputError, match=r"σ_vis is .* unknown to 5 %"):
        cross_section.at(likelihood.powers([1.0], 1))
    assert cross_section.known(likelihood.powers([0.0, 1.0], 1)).tolist() == [True, False]


def test_information_of_known_observables():
    """A score of unit variance: an observable that is it has information 1, one with correlation ρ has ρ²."""
    rng = np.random.default_rng(1)
    score, noise = rng.standard_normal((2, 40_000))
    for rho in (1.0, 0.6, 0.0):
        told = likelihood.information(rho * score + (1 - rho**2) ** 0.5 * noise, score, rng, bins=40)
        assert_agrees(told.value, rho**2, max(told.error, 0.005))
    with pytest.raises(InputError, match="30 events in 10 bins"):
        likelihood.information(score[:30], score[:30], rng)


def test_a_coarse_scan_is_refused():
    theta = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    with pytest.raises(InputError, match="flat or too coarse"):
        likelihood.fit(-5 * theta[None] ** 2, theta)
    fitted = likelihood.fit(-0.05 * theta[None] ** 2, theta)
    assert np.isinf(fitted.high).all()
    assert abs(fitted.value[0]) < 1e-9


def test_pulls_take_the_error_on_the_side_of_the_truth():
    fitted = likelihood.Fit(np.array([1.0, -1.0, 2.0]), np.array([-1.0, -2.0, -np.inf]), np.array([4.0, 3.0, 3.0]))
    np.testing.assert_allclose(fitted.pulls(0.0), [0.5, -0.25, 0.0])


def test_visible_cross_section_from_events_at_another_coupling():
    """Events that follow (1 + θ x)/2 at θ = 0.8 give the same means of 1 and x as those at θ = 0."""
    x = 2 * torch.rand(200_000, generator=generator(20), dtype=torch.float64) - 1
    keep = torch.rand(len(x), generator=generator(21), dtype=torch.float64) < (1 + 0.8 * x) / 1.8
    form = torch.stack([torch.ones_like(x), x], 1)
    at = torch.tensor([1.0, 0.8]).double()
    cross_section = likelihood.visible(form[keep], x[keep] > 0, 1.0, generated_at=at)
    scale, error = float(cross_section.coefficients @ at), cross_section.covariance.diagonal().sqrt()
    assert_agrees(scale, 0.7, (0.7 * 0.3 / int(keep.sum())) ** 0.5)
    ratio = cross_section.coefficients / scale - torch.tensor([0.5, 0.25]).double() / 0.7
    assert_agrees(ratio, 0, error / scale)
    assert (error < 0.01).all()


def test_slope_of_the_visible_cross_section_and_its_error():
    covariance = torch.tensor([[4e-4, 1e-4], [1e-4, 9e-4]]).double()
    total = likelihood.VisibleCrossSection(torch.tensor([2.0, 0.5]).double(), covariance)
    theta = torch.tensor(0.7).double()

    def log_value(s, theta):
        return (s @ torch.stack([torch.ones_like(theta), theta])).log()

    estimate = total.log_slope(torch.stack([torch.ones_like(theta), theta]), torch.tensor([0.0, 1.0]).double())
    slope = torch.func.grad(log_value, argnums=1)
    gradient = torch.func.grad(lambda s: slope(s, theta))(total.coefficients)
    assert abs(estimate.value - float(slope(total.coefficients, theta))) < 1e-12
    assert abs(estimate.error - float(gradient @ covariance @ gradient) ** 0.5) < 1e-12
