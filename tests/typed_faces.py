"""What mypy reads: the public faces as typed code uses them. Run by `make lint`, not by pytest."""

from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewind import events, generation, integrate, kinematics, mem, neutrino, nn, partons, paths, stats, transfer
from rewind.random_numbers import optional_generator, require_generator
from rewind.stats.response import Parts, histogram_of_draws
from rewind.unfolding import binned


def momenta(p: Tensor, q: NDArray[np.float64]) -> None:
    assert_type(kinematics.mass(p), Tensor)
    assert_type(kinematics.pt(q), NDArray[np.floating])
    assert_type(kinematics.to_rest(p, p), Tensor)
    assert_type(kinematics.from_pt_eta_phi_mass(p, p, p, p), Tensor)


def estimates(values: NDArray[np.float64], rng: np.random.Generator) -> None:
    estimate = stats.bootstrap(np.mean, values, rng=rng)
    assert_type(estimate, stats.Estimate)
    assert_type(estimate.error, float)
    assert_type(stats.width68(values, values), float)
    assert_type(stats.share(values > 0), stats.Estimate)
    assert_type(stats.quantile(values, [0.16, 0.84]), NDArray[np.float64])
    assert_type(stats.sbc_ranks(values, values, rng), NDArray[np.int64])
    assert_type(stats.c2st(values, values, seed=0).accuracy, float)


def integrals(generator: torch.Generator) -> None:
    integral = integrate.integrate(lambda x: x[:, 0], integrate.Uniform(2), 1000, generator)
    assert_type(integral, integrate.Integral)
    assert_type(integral.error, float)
    assert_type(integral.trusted, bool)
    assert_type(integrate.VegasGrid(2).log_prob(torch.rand(3, 2)), Tensor)


def batches(batch: events.EventBatch) -> None:
    assert_type(batch.leptons, Tensor)
    assert_type(batch.truth, events.Truth | None)
    assert_type(batch[:3], events.EventBatch)
    assert_type(batch.with_jets(4), events.EventBatch)
    frame = events.canonical_frame(batch)
    assert_type(frame, events.Frame)
    assert_type(frame.leave(frame.enter(batch.leptons)), Tensor)


def files() -> None:
    assert_type(paths.locate("data/README.md"), Path)
    assert_type(require_generator(torch.Generator()), torch.Generator)
    assert_type(optional_generator(None), torch.Generator | None)


def networks(event: Tensor) -> None:
    flow = nn.ConditionalFlow(nn.spline_flow(2, 3), 2, 3)
    assert_type(flow.log_prob(event[:, :2], event), Tensor)
    assert_type(flow.sample(event, 5), Tensor)
    density: nn.ConditionalDensity = flow
    assert density


def unfoldings(response: NDArray[np.float64], data: list[float]) -> None:
    record = stats.response_matrix(data, data, [0.0, 1.0, 2.0])
    assert_type(record, stats.ResponseMatrix)
    assert_type(record.restricted(true=[True, False]).parts, Parts)
    assert_type(histogram_of_draws(response, [0.0, 1.0]), tuple[NDArray[np.float64], NDArray[np.float64]])
    result = binned.iterative_bayes(record, None, data, iterations=3)
    assert_type(result, binned.Unfolded)
    assert_type(binned.svd(response, data, data, k=2, fakes=[1.0, 2.0]), binned.Unfolded)
    assert_type(binned.tikhonov(response, data, data, tau=0.1), binned.Unfolded)
    assert_type(binned.matrix_inversion(response, data, data), binned.Unfolded)
    assert_type(binned.poisson_likelihood(response, data, data), binned.LikelihoodFit)
    assert_type(result.values, NDArray[np.float64])
    assert_type(result.simulation_covariance, NDArray[np.float64] | None)
    assert_type(result.total_covariance, NDArray[np.float64])
    assert_type(result.folded_chi2, float)
    assert_type(result.reachable, NDArray[np.bool_])
    assert_type(binned.global_correlation(result.covariance), NDArray[np.float64])


def topics(batch: events.EventBatch, path: Path) -> None:
    assert_type(neutrino.by_mass(batch), Tensor)
    assert_type(partons.true_partons(batch), Tensor)
    assert_type(generation.hadronic_process("ttbar_dilepton").dims, int)
    assert_type(transfer.load_transfer(path), transfer.LearntTransfer)
    assert_type(mem.load_proposal(path), mem.Proposal)
