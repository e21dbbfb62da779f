"""Random numbers come from a generator of the right type, and anything else is refused in one line."""

import numpy as np
import pytest
import torch

from rewind import integrate, stats
from rewind.errors import InputError
from rewind.mem import event_integrals, likelihood
from rewind.neutrino.classical import weighting
from rewind.neutrino.verdicts import residuals
from rewind.random_numbers import optional_generator, require_generator, require_rng
from rewind.toys import robot_arm


def test_what_is_right_comes_back():
    generator, rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    assert require_generator(generator) is generator
    assert optional_generator(generator) is generator
    assert optional_generator(None) is None
    assert require_rng(rng) is rng


@pytest.mark.parametrize(
    "wrong", [1, "seed", np.random.default_rng(1), torch.manual_seed], ids=lambda wrong: type(wrong).__name__
)
def test_another_type_is_refused(wrong):
    for require in (require_generator, optional_generator):
        with pytest.raises(InputError, match=r"generator: \w+ given; a torch generator is needed") as caught:
            require(wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [1, None, torch.Generator()], ids=["int", "None", "torch"])
def test_another_type_of_rng_is_refused(wrong):
    with pytest.raises(InputError, match=r"rng: \w+ given; a NumPy generator is needed"):
        require_rng(wrong)
    if wrong is None:
        with pytest.raises(InputError, match="NoneType"):
            require_generator(None)


LEPTONS, JETS = torch.tensor([[50.0, 30.0, 0.0, 40.0]]).double(), torch.tensor([[[70.0, 60.0, 0.0, 30.0]]]).double()
VALUES = np.arange(60.0).reshape(30, 2)
TAKE_A_GENERATOR = {
    "robot_arm.simulate": lambda g: robot_arm.simulate(3, g, noise=0.1),
    "robot_arm.sample_posterior": lambda g: robot_arm.sample_posterior(torch.tensor([1.0, 0.5]), 3, g, noise=0.1),
    "Uniform.sample": lambda g: integrate.Uniform(2).sample(3, g),
    "Mixture.sample": lambda g: integrate.Mixture([integrate.Uniform(2)] * 2).sample(3, g),
    "SplineFlow.sample": lambda g: integrate.SplineFlow(2).sample(3, g),
    "weighting.draw_etas": lambda g: weighting.draw_etas(LEPTONS, LEPTONS, 3, g),
    "weighting.smear_jets": lambda g: weighting.smear_jets(JETS, 3, g),
    "event_integrals.posterior": lambda g: event_integrals.posterior(
        event_integrals.Weighted(torch.zeros(1, 2).long(), torch.zeros(1, 2, 1), torch.ones(1, 2, 1)), 3, g
    ),
}
TAKE_AN_RNG = {
    "bootstrap": lambda rng: stats.bootstrap(np.mean, VALUES[:, 0], rng=rng),
    "sbc_ranks": lambda rng: stats.sbc_ranks(VALUES[:, None], VALUES, rng),
    "tarp": lambda rng: stats.tarp(VALUES[:, None], VALUES, rng),
    "reliability": lambda rng: stats.reliability(np.full((30, 2), 0.5), np.zeros(30), [0, 0.5, 1], rng),
    "residual_metrics": lambda rng: residuals.residual_metrics(VALUES, VALUES, rng),
    "likelihood.information": lambda rng: likelihood.information(VALUES[:, 0], VALUES[:, 1], rng, bins=2),
}


@pytest.mark.parametrize("draw", TAKE_A_GENERATOR.values(), ids=TAKE_A_GENERATOR)
def test_who_draws_refuses_what_is_no_torch_generator(draw):
    draw(torch.Generator().manual_seed(1))
    for wrong in (1, np.random.default_rng(1)):
        with pytest.raises(InputError, match=r"generator: \w+ given; a torch generator is needed"):
            draw(wrong)


@pytest.mark.parametrize("estimate", TAKE_AN_RNG.values(), ids=TAKE_AN_RNG)
def test_who_resamples_refuses_what_is_no_numpy_generator(estimate):
    estimate(np.random.default_rng(1))
    for wrong in (1, torch.Generator()):
        with pytest.raises(InputError, match=r"rng: \w+ given; a NumPy generator is needed"):
            estimate(wrong)
