"""Transfer functions: normalised, sampled as they say, and fitted back from what they made."""

import math

import pytest
import torch
from scipy.stats import chi2

from chance import N_ERRORS, P_VALUE, assert_agrees, assert_likely
from rewind.errors import InputError
from rewind.physics.double_gaussian import DoubleGaussian, fit

TRUE = torch.tensor([0.65, -3.6, 1.0, 0.05, 0.99, 5.7, 5.0, 0.85, 0.16, 1.7, 6.6], dtype=torch.float64)
RANGE = (30.0, 400.0)


@pytest.fixture
def transfer():
    return DoubleGaussian(TRUE, torch.zeros(11, 11, dtype=torch.float64), RANGE)


def partons(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 30 + 370 * torch.rand(n, generator=generator, dtype=torch.float64) ** 2, generator


def test_density_and_survival_are_one_integral(transfer):
    measured = torch.linspace(-400, 900, 20_001, dtype=torch.float64)
    for energy in (30.0, 100.0, 400.0):
        at = torch.full_like(measured, energy)
        density = transfer.log_prob(measured, at).exp()
        assert float(torch.trapezoid(density, measured)) == pytest.approx(1.0, abs=1e-5)
        cut = measured > 60
        above = float(torch.trapezoid(density[cut], measured[cut]))
        assert float(transfer.survival(60.0, at[:1])) == pytest.approx(above, abs=1e-3)
        kept = transfer.log_prob(measured[cut], at[cut], least=60.0).exp()
        assert float(torch.trapezoid(kept, measured[cut])) == pytest.approx(1.0, abs=2e-3)


def test_samples_have_the_density(transfer):
    energy = torch.full((200_000,), 80.0, dtype=torch.float64)
    sample = transfer.sample(energy, torch.Generator().manual_seed(3))
    for least in (50.0, 75.0, 90.0):
        expected = float(transfer.survival(least, energy[:1]))
        error = (expected * (1 - expected) / len(sample)) ** 0.5
        assert_agrees((sample > least).double().mean(), expected, error)


@pytest.mark.parametrize("least", [0.0, 40.0], ids=["all measured", "with a threshold"])
def test_fit_finds_what_made_the_sample(transfer, least):
    """Parameters are degenerate; the density is not: its divergence from the true one is that of 11 parameters."""
    energy, generator = partons(30_000)
    measured = transfer.sample(energy, generator)
    keep = measured > least
    fitted = fit(measured[keep], energy[keep], least=least)
    gain = fitted.log_prob(measured[keep], energy[keep], least=least).sum()
    gain = float(gain - transfer.log_prob(measured[keep], energy[keep], least=least).sum())
    assert gain >= 0
    assert_likely(chi2(11).sf(2 * gain))
    fresh, generator = partons(200_000, seed=2)
    seen = transfer.sample(fresh, generator)
    inside = (fresh > fitted.energy_range[0]) & (fresh < fitted.energy_range[1]) & (seen > least)
    fresh, seen = fresh[inside], seen[inside]
    loss = transfer.log_prob(seen, fresh, least=least) - fitted.log_prob(seen, fresh, least=least)
    assert (
        float(loss.mean())
        < (chi2(11).isf(P_VALUE) / 2 / int(keep.sum())) + N_ERRORS * float(loss.std()) / len(fresh) ** 0.5
    )
    sigma = fitted.covariance.diagonal().sqrt()
    assert sigma.isfinite().all()


def test_a_threshold_that_is_ignored_biases_the_fit(transfer):
    energy, generator = partons(20_000)
    measured = transfer.sample(energy, generator)
    keep = measured > 40
    naive, right = (fit(measured[keep], energy[keep], least=least) for least in (0.0, 40.0))
    low = torch.tensor([40.0], dtype=torch.float64)
    true = float(transfer.survival(40.0, low))
    assert abs(float(right.survival(40.0, low)) - true) < 0.1
    assert float(naive.survival(40.0, low)) > true + 0.2


def test_bad_input(transfer):
    energy, generator = partons(1000)
    measured = transfer.sample(energy, generator)
    with pytest.raises(InputError, match="n ≥ 200"):
        fit(measured[:100], energy[:100])
    with pytest.raises(InputError, match="energy: event 3 is not finite and positive"):
        fit(measured, torch.where(torch.arange(1000) == 3, math.nan, energy))
    with pytest.raises(InputError, match=r"measured: event \d+ is below the least energy"):
        fit(measured, energy, least=200.0)
    with pytest.raises(InputError, match="event 0 is outside the fitted range, 30 to 400 GeV"):
        transfer.survival(25.0, torch.tensor([20.0], dtype=torch.float64))
