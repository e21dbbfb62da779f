import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chance import assert_mean, assert_spread
from literal_unfoldings import by_singular_values
from peer_unfoldings import COMPONENTS, REFERENCE, example
from rewind.errors import InputError
from rewind.unfolding.binned import svd
from rewind.unfolding.binned.penalties import flat_differences
from rewind.unfolding.binned.problem import read
from rewind.unfolding.binned.spectral import SpectralAnalysis
from smeared_spectra import smeared

RESPONSE, TRUTH = smeared(7, 11, 0.9)
DATA = np.random.default_rng(6).poisson(RESPONSE @ (1 + 0.2 * np.sin(np.arange(7)))).astype(float)
PRIOR = np.linspace(3e4, 5e3, 7)
FAKES, PURITY = np.linspace(100.0, 400.0, 11), np.linspace(0.95, 0.7, 11)
SIZE = np.sqrt(DATA)
COVARIANCE = np.outer(SIZE, SIZE) * 0.6 ** np.abs(np.subtract.outer(range(11), range(11)))


def against_tsvdunfold(answers):
    """Compare values (1e-6 of the peak) and covariances, of Poisson errors and of a full covariance."""
    given = example()
    for kind, options in (("poisson", {}), ("full", {"data_covariance": given["covariance"]})):
        for k in COMPONENTS:
            result = svd(given["response"], given["truth"], given["data"], k=k, **options)
            values, covariance = (np.array(answers[kind][str(k)][name]) for name in ("values", "covariance"))
            np.testing.assert_allclose(result.values, values, atol=1e-6 * values.max())
            np.testing.assert_allclose(result.covariance, covariance, atol=1e-6 * np.diag(covariance).min())


def test_values_and_covariances_are_those_of_tsvdunfold():
    against_tsvdunfold(json.loads(REFERENCE.read_text())["tsvdunfold"])


def test_values_and_covariances_are_those_of_the_tsvdunfold_that_is_installed():
    if importlib.util.find_spec("ROOT") is None:
        pytest.skip("optional extra 'peers' (ROOT) is not installed")
    script = Path(__file__).parents[2] / "peer_unfoldings.py"
    answer = subprocess.run([sys.executable, script, "tsvd"], capture_output=True, text=True, check=True)
    against_tsvdunfold(json.loads(answer.stdout))


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["truth", "prior"])
def test_fakes_and_a_purity_enter_as_they_do_in_the_formula(k, prior):
    given = {"k": k, "prior": prior}
    absolute = svd(RESPONSE, TRUTH, DATA, fakes=FAKES, **given)
    literal = by_singular_values(RESPONSE[None], TRUTH[None], FAKES[None], DATA[None], variances=DATA[None], **given)
    np.testing.assert_allclose(absolute.values, literal[0], rtol=1e-9)
    share = svd(RESPONSE, TRUTH, DATA, purity=PURITY, **given)
    signal, variances = PURITY * DATA, PURITY**2 * DATA
    literal = by_singular_values(
        RESPONSE[None], TRUTH[None], np.zeros((1, 11)), signal[None], variances=variances[None], **given
    )
    np.testing.assert_allclose(share.values, literal[0], rtol=1e-9)


@pytest.mark.parametrize("k", [1, 4, 7])
def test_a_full_covariance_of_the_data_reaches_the_jacobian(k):
    result = svd(RESPONSE, TRUTH, DATA, k=k, data_covariance=COVARIANCE)
    step = 1e-3 * SIZE
    moved = [
        [svd(RESPONSE, TRUTH, DATA + sign * e, k=k, data_covariance=COVARIANCE).values for e in np.diag(step)]
        for sign in (1, -1)
    ]
    jacobian = ((np.array(moved[0]) - moved[1]) / (2 * step[:, None])).T
    np.testing.assert_allclose(result.jacobian, jacobian, atol=1e-6 * np.abs(jacobian).max())
    np.testing.assert_allclose(result.covariance, jacobian @ COVARIANCE @ jacobian.T, rtol=1e-6)


def test_data_that_the_prior_folds_to_leave_it():
    """The prior is flat in x / prior, where only 1e-5 on the diagonal holds against it; component k is halved."""
    data = RESPONSE @ (PRIOR / TRUTH) + FAKES
    for k in (2, 4, 7):
        result = svd(RESPONSE, TRUTH, data, k=k, prior=PRIOR, fakes=FAKES)
        np.testing.assert_allclose(result.values, PRIOR, rtol=1e-3)
    half = svd(RESPONSE, TRUTH, data, k=1, prior=PRIOR, fakes=FAKES)
    np.testing.assert_allclose(half.values, PRIOR / 2, rtol=1e-3)


@pytest.mark.parametrize("k", [2, 6])
def test_neither_the_size_of_the_simulation_nor_that_of_the_differences_matters(k):
    once = svd(RESPONSE, TRUTH, DATA, k=k, prior=PRIOR)
    for factor in (1e-30, 7.0, 1e30):
        again = svd(RESPONSE * factor, TRUTH * factor, DATA, k=k, prior=PRIOR)
        other = svd(RESPONSE, TRUTH, DATA, k=k, prior=PRIOR, differences=flat_differences(7) * factor)
        bigger = svd(RESPONSE, TRUTH, DATA, k=k, prior=PRIOR * factor)
        for result in (again, other, bigger):
            np.testing.assert_allclose(result.values, once.values, rtol=1e-8)
            np.testing.assert_allclose(result.covariance, once.covariance, rtol=1e-7)


def test_components_have_unit_variance():
    mean = RESPONSE.sum(1)
    toys = np.random.default_rng(9).poisson(mean, (1_000, 11)).astype(float)
    analysis = SpectralAnalysis(read(RESPONSE, TRUTH, mean, data_covariance=np.diag(mean)))
    components = np.array(
        [SpectralAnalysis(read(RESPONSE, TRUTH, toy, data_covariance=np.diag(mean))).significances for toy in toys]
    )
    off = components - analysis.significances
    assert_mean(off)
    assert_spread(off)
    assert (np.diff(analysis.sizes) <= 0).all()


def test_a_bin_that_is_never_reconstructed_does_not_pull_at_its_neighbours():
    hidden = np.arange(7) == 3
    response = np.where(hidden, 0.0, RESPONSE)
    data = response @ (PRIOR / TRUTH)
    for k in (3, 6):  # beyond the level of either side
        with pytest.warns(UserWarning, match=r"true bins \[3\] are never reconstructed"):
            result = svd(response, TRUTH, data, k=k, prior=PRIOR)
        np.testing.assert_allclose(result.values[~hidden], PRIOR[~hidden], rtol=1e-3)
        assert np.isnan(result.values[3])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"k": 0}, "k = 0: a whole number from 1 to 2 is needed"),
        ({"k": 3}, "k = 3: a whole number from 1 to 2"),
        ({"k": -1}, "k = -1: a whole number"),
        ({"k": 1.0}, "k = 1.0: a whole number"),
        ({"k": True}, "k = True: a whole number"),
        ({"k": None}, "k = None: a whole number"),
        ({"prior": [0.0, 1.0]}, "prior: zero in a bin, where x / prior has no meaning"),
        ({"response": [[5.0, 5.0]], "data": [60.0]}, "response of 1 by 2 bins: fewer reconstructed than true ones"),
        ({"differences": np.eye(3)}, "differences of shape (3, 3)"),
        ({"differences": [[1.0, np.nan], [0.0, 1.0]]}, "finite rows over 2 true bins"),
        ({"differences": [[1.0, -1.0]]}, "differences: they must hold something against every spectrum"),
        ({"response": [[5.0], [2.0]], "truth": [9.0]}, "second differences of 1 bins: at least two"),
    ],
    ids=str,
)
def test_refusals(changed, text):
    arguments = {"response": [[8.0, 2.0], [2.0, 8.0]], "truth": [10.0, 10.0], "data": [70.0, 30.0], "k": 1} | changed
    with pytest.raises(InputError, match=re.escape(text)):
        svd(**arguments)
