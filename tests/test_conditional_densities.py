"""Every conditional density that ships keeps one contract; the models are the shipped ones, on shipped events."""

import copy
import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch

from chance import assert_mean
from rewind import events, paths
from rewind.errors import InputError
from rewind.generation import parton_level
from rewind.mem import proposal
from rewind.mem.integrand import DileptonIntegrand, TTHIntegrand, TTHLostIntegrand
from rewind.neutrino.flows import training
from rewind.neutrino.flows.inputs import MAX_JETS
from rewind.nn import checkpoints
from rewind.nn.densities import ConditionalDensity
from rewind.partons import unfolding_flow
from rewind.toys import robot_arm
from rewind.transfer import learnt, product, quark_jets

N_EVENTS, N_DRAWS = 12, 3
TOLERANCE = 2e-3  # of log-densities in single precision, whose products of matrices depend on the size of the batch


class Case(NamedTuple):
    """Hold a density, targets and measured events, its network if any, and how the density is made of another one."""

    density: Any
    target: Any
    events: Any
    network: torch.nn.Module | None = None
    build: Callable[..., torch.nn.Module] | None = None
    around: Callable[[torch.nn.Module], Any] = lambda network: network


class OfSampler:
    """See a sampler of the unit hypercube as a density that is the same for every event."""

    def __init__(self, sampler):
        self.sampler = sampler

    def featurize(self, given):
        return given

    def log_prob(self, target, event):
        return self.sampler.log_prob(target)

    def sample(self, event, n=1, generator=None):
        generator = torch.default_generator if generator is None else generator
        return self.sampler.sample(len(event) * n, generator)[0].unflatten(0, (len(event), n))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shipped(name):
    return paths.root() / "data" / "checkpoints" / f"{name}.safetensors"


def sample(name):
    return paths.root() / "data" / "samples" / f"{name}_test.root"


def arm():
    network = checkpoints.load(shipped("robot_arm"), robot_arm.posterior_flow)
    arms, hands = robot_arm.simulate(N_EVENTS, seeded(), noise=network.encoder.noise)
    return Case(network, arms, hands, network, robot_arm.posterior_flow)


def neutrinos(name, process, n_leptons):
    network = training.load_flow(shipped(name), n_leptons)
    batch = events.load_batch(sample(process), n_leptons).with_jets(MAX_JETS)[:N_EVENTS]
    return Case(network, batch.truth.neutrinos.float(), batch, network, training.neutrino_flow)


def unfolding():
    network = unfolding_flow.load_unfolding(shipped("unfolding_flow"))
    batch = events.load_batch(sample("tth_semileptonic"), 1)[:N_EVENTS]
    return Case(network, network.examples(batch).values[0], batch, network, unfolding_flow.unfolding_flow)


def mem(name, process, kind):
    network = proposal.load_proposal(shipped(name))
    integrand = kind(parton_level.hadronic_process(process), network.detector)
    outgoing = parton_level.leading_order(process, 40 * N_EVENTS, seeded())
    measured = network.detector.simulate(outgoing, integrand.topology, seeded())[1][:N_EVENTS]
    flow = proposal.EventFlow(integrand, network)
    target = take(flow.sample(flow.featurize(measured), 1, seeded()), (slice(None), 0))
    return Case(flow, target, measured, network, proposal.Proposal, lambda other: proposal.EventFlow(integrand, other))


@cache
def quarks():
    return quark_jets.from_records(events.load(sample("tth_semileptonic")))


def learnt_transfer():
    network, few = learnt.load_transfer(shipped("learnt_transfer")), quarks()[:N_EVENTS]
    return Case(network, few.reconstruction, few, network, learnt.LearntTransfer)


def product_transfer():
    few = quarks()[:N_EVENTS]
    return Case(product.fit(quarks()), few.reconstruction, few)


def sampler(process):
    network = parton_level.load_sampler(shipped(f"{process}_sampler"), process)
    target = torch.rand(N_EVENTS, network.dims, generator=seeded(), dtype=torch.float64)
    return Case(OfSampler(network), target, torch.zeros(N_EVENTS, 0), network, parton_level.build_sampler, OfSampler)


CASES = {
    "robot_arm": arm,
    "nu_flow": lambda: neutrinos("nu_flow", "ttbar_semileptonic", 1),
    "nu2_flow": lambda: neutrinos("nu2_flow", "ttbar_dilepton", 2),
    "unfolding_flow": unfolding,
    "dilepton_proposal": lambda: mem("dilepton_proposal", "ttbar_dilepton", DileptonIntegrand),
    "tth_proposal": lambda: mem("tth_proposal", "tth_semileptonic", TTHIntegrand),
    "tth_lost_proposal": lambda: mem("tth_lost_proposal", "tth_semileptonic", TTHLostIntegrand),
    "learnt_transfer": learnt_transfer,
    "product transfer": product_transfer,
    "ttbar_dilepton_sampler": lambda: sampler("ttbar_dilepton"),
    "tth_semileptonic_sampler": lambda: sampler("tth_semileptonic"),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    return CASES[request.param]()


def take(values, which):
    """Return rows of a tensor, of a named tuple of tensors, or of columns."""
    if isinstance(values, torch.Tensor):
        return values[which]
    return type(values)(*(part[which] for part in values)) if isinstance(values, tuple) else values[which]


def tensors(values):
    if isinstance(values, torch.Tensor):
        return [values]
    parts = values if isinstance(values, tuple) else [getattr(values, one.name) for one in dataclasses.fields(values)]
    return [part for part in parts if part is not None]


def flat(draws):
    """Return draws ``(B, n, …)`` as ``B n`` rows."""
    if isinstance(draws, torch.Tensor):
        return draws.flatten(0, 1)
    parts = [part.flatten(0, 1) for part in tensors(draws)]
    return type(draws)(*parts)


@torch.no_grad()
def log_prob(density, target, event):
    return density.log_prob(target, event).double()


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(tensors(first), tensors(second), strict=True))


def test_every_shipped_density_is_here():
    others = {"conditioner", "conditioner_half", "conditioner_with_scores", "nu2_pairing"}  # no densities of targets
    assert {path.stem for path in shipped("any").parent.glob("*.safetensors")} - others <= CASES.keys()


def test_contract_and_shapes(case):
    density, event = case.density, case.density.featurize(case.events)
    assert isinstance(density, ConditionalDensity)
    assert len(event) == N_EVENTS
    densities = log_prob(density, case.target, event)
    assert densities.shape == (N_EVENTS,)
    assert densities.isfinite().all()
    draws = density.sample(event, N_DRAWS, seeded())
    for part, target in zip(tensors(draws), tensors(case.target), strict=True):
        assert part.shape == (N_EVENTS, N_DRAWS, *target.shape[1:])
        assert part.isfinite().all()


def test_order_of_events_and_a_batch_of_one(case):
    event = case.density.featurize(case.events)
    whole = log_prob(case.density, case.target, event)
    order = torch.randperm(N_EVENTS, generator=seeded(1))
    again = case.density.featurize(take(case.events, order))
    exchanged = log_prob(case.density, take(case.target, order), again)
    torch.testing.assert_close(exchanged, whole[order], rtol=0, atol=TOLERANCE)
    for one in (slice(0, 1), slice(N_EVENTS - 1, N_EVENTS)):
        alone = log_prob(case.density, take(case.target, one), case.density.featurize(take(case.events, one)))
        torch.testing.assert_close(alone, whole[one], rtol=0, atol=TOLERANCE)


def test_same_seed_same_draws(case):
    density, event = case.density, case.density.featurize(case.events)
    first = density.sample(event, N_DRAWS, seeded(3))
    assert same(first, density.sample(event, N_DRAWS, seeded(3)))
    assert not same(first, density.sample(event, N_DRAWS, seeded(4)))
    torch.manual_seed(3)
    assert same(first, density.sample(event, N_DRAWS))


def test_another_type_of_generator_is_refused(case):
    with pytest.raises(InputError, match="generator: int given; a torch generator is needed"):
        case.density.sample(case.density.featurize(case.events), 1, 5)


def test_draws_have_the_density(case):
    """The mean of q'/q over draws from q is one for every density q' with the same support: one with other weights."""
    if case.network is None:
        pytest.skip("no weights to change")
    event, n = case.density.featurize(take(case.events, slice(0, 4))), 500
    draws = flat(case.density.sample(event, n, seeded(5)))
    repeated = take(event, torch.arange(4).repeat_interleave(n))
    other = copy.deepcopy(case.network)
    torch.manual_seed(6)
    with torch.no_grad():
        for values in other.parameters():
            values.add_(0.02 * values.std(correction=0) * torch.randn_like(values))
        ratio = (log_prob(case.around(other), draws, repeated) - log_prob(case.density, draws, repeated)).exp()
    assert 1e-3 < float(ratio.std()) < 3
    assert_mean(ratio, 1.0)


def test_coordinates_give_back_the_target(case):
    if not hasattr(case.density, "chart"):
        pytest.skip("no chart")
    event = case.density.featurize(case.events).double()
    draws = flat(case.density.sample(event.float(), 1, seeded(7))).double().flatten(1)
    chart = copy.deepcopy(case.density.chart).double()
    back = chart.inverse(chart(draws, event)[0], event)
    torch.testing.assert_close(back, draws, rtol=1e-6, atol=1e-6 * float(draws.abs().max()))


@pytest.mark.parametrize("name", [name for name in CASES if name != "product transfer"])
def test_same_density_after_save_and_load(name, tmp_path):
    case, stored = CASES[name](), checkpoints.describe(shipped(name))["configuration"]
    path = tmp_path / "model.safetensors"
    checkpoints.save(path, case.network, case.build, configuration=stored, data="", training={})
    event = case.density.featurize(case.events)
    again = case.around(checkpoints.load(path, case.build))
    assert torch.equal(log_prob(again, case.target, event), log_prob(case.density, case.target, event))
