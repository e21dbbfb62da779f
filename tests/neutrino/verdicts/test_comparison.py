"""Reconstructions against the truth of the same events: the perfect one, without true tops, one event."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rewind import events
from rewind.errors import InputError
from rewind.neutrino.classical import pairing
from rewind.neutrino.flows.inputs import MAX_JETS
from rewind.neutrino.verdicts import comparison, reconstruction

SAMPLES = Path(__file__).parents[3] / "data" / "samples"


@pytest.fixture(scope="module")
def dilepton():
    return events.load_batch(SAMPLES / "ttbar_dilepton.root", 2).with_jets(MAX_JETS)


@pytest.fixture(scope="module")
def one_lepton():
    return events.load_batch(SAMPLES / "ttbar_semileptonic.root", 1).with_jets(MAX_JETS)


def rng(seed=1):
    return np.random.default_rng(seed)


def test_perfect_neutrinos_have_no_residual(dilepton, one_lepton):
    for data in (dilepton, one_lepton):
        metrics = comparison.summary(data, data.truth.neutrinos, pairing.true_pairing(data), rng(), n_replicas=20)
        assert all(metrics[axis].width == (0.0, 0.0) for axis in ("px", "py", "pz"))
        assert metrics["pt_top"].n_solved == int(data.matched.sum())
        assert metrics["pt_top"].n_unsolved == len(data) - int(data.matched.sum())
        assert ("m_tt" in metrics) == (data.n_legs == 2)
    assert abs(metrics["pt_top"].median.value) < 30


def test_summary_without_true_tops_scores_the_neutrinos(dilepton):
    data = replace(dilepton, truth=replace(dilepton.truth, tops=torch.full_like(dilepton.truth.tops, torch.nan)))
    metrics = comparison.summary(data, data.truth.neutrinos, pairing.by_mass(data), rng(), n_replicas=5)
    assert set(metrics) == {"px", "py", "pz"}


def test_no_event_and_one_event(dilepton):
    none = dilepton[:0]
    assert reconstruction.tops(none, none.truth.neutrinos, torch.zeros(0, 2, dtype=torch.long)).shape == (0, 2, 4)
    one = dilepton[0]
    off = comparison.summary(one, one.truth.neutrinos + 1, pairing.by_mass(one), rng(), n_replicas=5)
    assert off["px"].mean == pytest.approx((1.0, 0.0))


def test_the_truth_has_no_residual_and_draws_are_no_answer(dilepton):
    perfect = comparison.compare(dilepton, reconstruction.true_quantities(dilepton), rng(), n_replicas=5)
    assert all(metrics.rmse.value == 0 for metrics in perfect.values())
    with pytest.raises(InputError, match="choose one solution"):
        comparison.summary(dilepton, dilepton.truth.neutrinos[:, None], dilepton.truth.b_jets, rng())
