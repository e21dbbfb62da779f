"""Pythia's cross-sections at tree level: against known formulas, with densities from the table."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from chance import assert_agrees, assert_likely
from rewind.errors import InputError
from rewind.events.chain.generator import generate, start
from rewind.events.chain.leading_order import SUBPROCESSES, cross_section
from rewind.events.chain.pdf_sets import proton_pdf
from rewind.physics import constants as c

GEV_2_IN_PB = 0.3893794e9
QUARKS, ANTIQUARKS = (1, 2, 3, 4, 5), (-1, -2, -3, -4, -5)


@pytest.fixture(scope="module")
def pdf():
    return proton_pdf()


def partonic(subprocess, s, m=c.M_TOP, alpha_s=c.ALPHA_S):
    """σ̂(ŝ) of heavy quarks at tree level (Nason, Dawson and Ellis, Nucl. Phys. B303 (1988) 607)."""
    rho = 4 * m**2 / s
    beta = (1 - rho).sqrt()
    if subprocess == "qq_tt":
        return 4 * math.pi * alpha_s**2 / (27 * s) * beta * (2 + rho)
    log = ((1 + beta) / (1 - beta)).log()
    return math.pi * alpha_s**2 / (3 * s) * ((1 + rho + rho**2 / 16) * log - beta * (7 / 4 + 31 * rho / 16))


def nodes(n):
    places, weights = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(n))
    return (places + 1) / 2, weights / 2


def hadronic(subprocess, pdf, scale=c.M_TOP, n=80):
    """σ in pb: the integral of x₁f x₂f σ̂ over log τ and the rapidity, τ = τ₀^(1−v²)."""
    v, weight_v = nodes(n)
    r, weight_r = nodes(n)
    tau_0 = 4 * c.M_TOP**2 / c.SQRT_S**2
    log_tau = math.log(tau_0) * (1 - v**2)
    y = log_tau[:, None] / 2 * (1 - 2 * r)
    x1, x2 = ((log_tau[:, None] / 2 + sign * y).exp().clip(max=1.0) for sign in (1, -1))
    if subprocess == "gg_tt":
        luminosity = pdf.xf(21, x1, scale) * pdf.xf(21, x2, scale)
    else:
        luminosity = (pdf.xf(QUARKS, x1, scale) * pdf.xf(ANTIQUARKS, x2, scale)).sum(-1)
        luminosity = luminosity + (pdf.xf(ANTIQUARKS, x1, scale) * pdf.xf(QUARKS, x2, scale)).sum(-1)
    jacobian = -2 * v * math.log(tau_0) * -log_tau
    sigma = partonic(subprocess, c.SQRT_S**2 * log_tau.exp())
    return GEV_2_IN_PB * float((weight_v * jacobian * sigma * (luminosity @ weight_r)).sum())


@pytest.mark.parametrize("subprocess", ["gg_tt", "qq_tt"])
def test_top_pairs_against_the_known_formulas(subprocess, pdf):
    ours = hadronic(subprocess, pdf)
    assert ours == pytest.approx(hadronic(subprocess, pdf, n=120), rel=1e-4)
    pythia = cross_section(subprocess, seed=3, n_events=100_000)
    assert pythia.error < 0.0025 * pythia.value
    assert_agrees(ours, pythia.value, pythia.error)
    assert ours == pytest.approx(pythia.value, rel=5e-3)


def test_scale_and_coupling_enter_as_they_should(pdf):
    ours = hadronic("gg_tt", pdf, scale=400.0) * (0.1 / c.ALPHA_S) ** 2
    pythia = cross_section("gg_tt", seed=4, n_events=50_000, scale=400.0, alpha_s=0.1)
    assert (pythia.scale, pythia.alpha_s) == (pytest.approx(400.0), 0.1)
    assert_agrees(ours, pythia.value, pythia.error)


def test_events_carry_the_densities_of_the_table(pdf):
    fixed = ("SigmaProcess:factorScale2 = 5", f"SigmaProcess:factorFixScale = {c.M_TOP**2}", "PDF:pSet = 13")
    pythia = start(("Beams:eCM = 13000", "Top:gg2ttbar = on", "PartonLevel:all = off", *fixed), 1)
    batch, _ = generate(pythia, 500, 1)
    x1 = torch.from_numpy(batch.info.x1.to_numpy())
    np.testing.assert_allclose(pdf.xf(21, x1, c.M_TOP).numpy(), batch.info.pdf1.to_numpy(), rtol=1e-3)


@pytest.mark.parametrize("subprocess", ["gg_tth", "qq_tth"])
def test_higgs_with_a_fixed_yukawa_coupling(subprocess):
    """Pythia's m_t(√ŝ) is 153 GeV at 500 GeV and falls; the integral of our amplitudes stands in test_hadronic."""
    result = cross_section(subprocess, seed=5, n_events=5000)
    assert (c.M_TOP / 153) ** 2 < result.value / result.running_yukawa < (c.M_TOP / 145) ** 2
    assert result.higgs_vev == pytest.approx(246.6225, abs=1e-4)
    assert (result.m_top, result.m_h) == (c.M_TOP, c.M_H)


def test_errors_are_those_of_repetitions():
    results = [cross_section("qq_tt", seed=seed, n_events=3000) for seed in range(1, 11)]
    values = np.array([result.value for result in results])
    pulls = (values - values.mean()) / np.array([result.error for result in results])
    assert_likely([chi2(9).cdf((pulls**2).sum()), chi2(9).sf((pulls**2).sum())])
    assert cross_section("qq_tt", seed=1, n_events=3000) == results[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subprocess": "gg_bb"}, f"unknown subprocess 'gg_bb': choose one of {', '.join(SUBPROCESSES)}"),
        ({"n_events": 0}, "n_events = 0, seed = 1: at least 2 events"),
        ({"seed": -3}, "seed = -3"),
        ({"alpha_s": 0.5}, "alphaSvalue = 0.5': .*out of range"),
        ({"scale": math.nan}, "renormFixScale = nan"),
        ({"sqrt_s": 346.0}, "does not start: .*vanishing cross sections"),
        ({"m_top": -1.0}, "does not start: .*mass too small"),
        ({"pdf_set": 99}, "does not start: .*could not set up PDF"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        cross_section(**({"subprocess": "gg_tth", "seed": 1, "n_events": 100} | options))
