import numpy as np
import pytest

from chance import assert_agrees
from rewind.errors import InputError
from rewind.toys.smeared_spectrum import SmearedSpectrum

TRUE = np.linspace(50, 700, 14)
SEEN = np.r_[-np.inf, np.linspace(100, 600, 11), np.inf]
NATURE = SmearedSpectrum(slope=100.0, bump=0.1)


def test_yields_of_both_masses_add_up_to_the_efficiency_of_each_true_bin():
    middle = np.linspace(50, 700, 130_001)
    middle = (middle[1:] + middle[:-1]) / 2
    density = np.diff(NATURE.cumulative(np.linspace(50, 700, 130_001)))
    expected = np.histogram(middle, TRUE, weights=density * NATURE.efficiency(middle))[0]
    np.testing.assert_allclose(NATURE.yields(SEEN, TRUE, 1.0).sum(0), expected, rtol=1e-5)
    assert NATURE.true_yields(TRUE, 1.0).sum() == pytest.approx(1.0)


def test_a_sample_fills_both_spectra_as_expected():
    n = 200_000
    true, seen = NATURE.sample(n, np.random.default_rng(1))
    counts = np.histogram2d(seen, true, [SEEN, TRUE])[0]
    expected = NATURE.yields(SEEN, TRUE, n)
    assert_agrees(counts, expected, np.sqrt(np.maximum(expected, 5.0)))
    assert_agrees(np.histogram(true, TRUE)[0], NATURE.true_yields(TRUE, n), np.sqrt(NATURE.true_yields(TRUE, n)))


@pytest.mark.parametrize("options", [{"slope": 0.0}, {"resolution": -1.0}, {"bump": 1.2}, {"low": 900.0}])
def test_impossible_worlds_are_refused(options):
    with pytest.raises(InputError, match="positive scales"):
        SmearedSpectrum(**options)
