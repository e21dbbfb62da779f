"""Naming jets by masses alone."""

import pytest
import torch

from rewind.errors import InputError
from rewind.mem import mass_fit


def test_a_mass_fit_names_jets_better_than_chance(simulated):
    _, _, _, rows, row, _ = simulated["tth_semileptonic"]
    probabilities = mass_fit.fit(row).probabilities(rows)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(rows)).double())
    torch.testing.assert_close(probabilities[:, ::2], probabilities[:, 1::2])  # light jets alike
    true = (rows - row[:, None]).abs().sum(2).argmin(1)
    assert float(probabilities[torch.arange(len(true)), true].mean()) > 4 / 24
    with pytest.raises(InputError, match="at least 50"):
        mass_fit.fit(row[:20])
