"""Numerical inversion: a known response is undone, weights count events."""

import numpy as np
import pytest

from rewind.errors import InputError
from rewind.neutrino.verdicts import inversion, residuals


def rng(seed=1):
    return np.random.default_rng(seed)


def test_inversion_undoes_a_known_response():
    random = rng()
    truth = random.uniform(300, 1000, 20_000)
    reco = 100 + 0.7 * truth + random.normal(0, 20, len(truth))
    edges = np.linspace(300, 1000, 15)
    calibrated = inversion.fit_inversion(truth, reco, edges)(reco)
    raw, after = (
        residuals.binned_residual_metrics(truth, values, edges[1:-1], random, n_replicas=50)
        for values in (reco, calibrated)
    )
    assert max(abs(f.median.value) for f in raw) > 50
    assert all(abs(f.median.value) < 5 * f.median.error + 3 for f in after)
    assert residuals.residual_metrics(truth, calibrated, random).width.value == pytest.approx(2 * 20 / 0.7, rel=0.05)
    nothing = inversion.fit_inversion(truth, reco, edges)(np.array([np.nan]))
    assert np.isnan(nothing).all()
    with pytest.raises(InputError, match="rise"):
        inversion.fit_inversion(truth, -reco, edges)
    with pytest.raises(InputError, match="no solved"):
        inversion.fit_inversion(truth, reco, [300, 1000, 2000])


def test_integer_weights_count_events():
    truth, weights = rng(2).uniform(300, 1000, 2001), rng(3).integers(0, 3, 2001)
    reco = 100 + 0.7 * truth + rng(4).normal(0, 20, len(truth))
    weighted = inversion.fit_inversion(truth, reco, [300, 600, 1000], weights=weights)
    copies = inversion.fit_inversion(truth.repeat(weights), reco.repeat(weights), [300, 600, 1000])
    np.testing.assert_allclose(weighted.median, copies.median, atol=1.0)
    with pytest.raises(InputError, match="not negative"):
        inversion.fit_inversion(truth, reco, [300, 600, 1000], weights=-1.0 * weights)
