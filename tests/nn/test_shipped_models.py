"""Every shipped model answers as when it was stored: densities, draws, predictions of 200 events, weights to the bit.

The reference, ``shipped_models.safetensors``, is written by ``store_shipped_models.py``. Inputs are not stored: they
come from the shipped samples by the public path, so that columns in another order are noticed. Networks are evaluated
in double precision: in single, the same weights on two processors differ by more than the tolerance.
"""

import json
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rewind import events, paths
from rewind.generation import parton_level
from rewind.mem import proposal
from rewind.mem.integrand import DileptonIntegrand, TTHIntegrand, TTHLostIntegrand
from rewind.mem.measured import rows
from rewind.neutrino.classical import pairing
from rewind.neutrino.flows import training
from rewind.neutrino.flows.inputs import MAX_JETS, event_tensor
from rewind.nn import checkpoints
from rewind.partons import conditioner, unfolding_flow
from rewind.toys import robot_arm
from rewind.transfer import learnt, quark_jets

REFERENCE = Path(__file__).with_name("shipped_models.safetensors")
TOLERANCE = 1e-5  # of logarithms and probabilities; of anything else, of the largest component of its row, at least 1
N_EVENTS, N_DRAWS, SEED = 200, 2, 12


def shipped(name):
    return paths.root() / "data" / "checkpoints" / f"{name}.safetensors"


def sample(name):
    return paths.root() / "data" / "samples" / f"{name}_test.root"


def seeded():
    return torch.Generator().manual_seed(SEED)


@cache
def with_neutrinos(name, n_leptons):
    return events.load_batch(sample(name), n_leptons).with_jets(MAX_JETS)[:N_EVENTS]


@cache
def with_partons():
    return events.load_batch(sample("tth_semileptonic"), 1)[:N_EVENTS]


@cache
def at_leading_order(process):
    """Return leading-order momenta that need no network."""
    return parton_level.leading_order(process, 20 * N_EVENTS, seeded())


def of_neutrino_flow(model, data):
    told = pairing.true_pairing(data)
    unknown, known = model.featurize(data), model.featurize(data, told)
    neutrinos = data.truth.neutrinos
    tensors = {"log p": model.log_prob(neutrinos, unknown), "log p, told": model.log_prob(neutrinos, known)}
    for name, event in (("draws", unknown), ("draws, told", known)):
        torch.manual_seed(SEED)
        tensors[name] = model.sample(event, N_DRAWS)
    return tensors


def nu_flow():
    return of_neutrino_flow(training.load_flow(shipped("nu_flow"), 1), with_neutrinos("ttbar_semileptonic", 1))


def nu2_flow():
    model, data = training.load_flow(shipped("nu2_flow"), 2), with_neutrinos("ttbar_dilepton", 2)
    return {"pairing probability": model.pairing_probability(model.featurize(data)), **of_neutrino_flow(model, data)}


def nu2_pairing():
    model, data = training.load_pairing(shipped("nu2_pairing"), 2), with_neutrinos("ttbar_dilepton", 2)
    event = event_tensor(data)
    return {"log p": model.log_probabilities(event), "chosen": model.choose(event)}


def of_conditioner(name):
    model = conditioner.load_conditioner(shipped(name))
    return {"partons": model.predict(model.featurize(with_partons()))}


def conditioner_with_scores():
    roles = conditioner.load_conditioner(shipped("conditioner_with_scores")).roles
    return {"role probability": roles.scores(with_partons()), **of_conditioner("conditioner_with_scores")}


def unfolding():
    model, data = unfolding_flow.load_unfolding(shipped("unfolding_flow")), with_partons()
    target, event = model.examples(data).values
    draws = model.draws(event, N_DRAWS, seeded())
    return {
        "log p": model.log_prob(target, event),
        "numbers": target,
        "drawn partons": draws.partons,
        "drawn fractions": draws.fractions,
        "drawn numbers": draws.coordinates,
    }


def of_proposal(name, process, kind):
    model = proposal.load_proposal(shipped(name))
    draw = model.flow.sample
    model.flow.sample = lambda *given, dtype: draw(*given, dtype=torch.float64)  # it asks for single
    integrand, outgoing = kind(parton_level.hadronic_process(process), model.detector), at_leading_order(process)
    learnt = proposal.pairs(integrand, outgoing, seeded())[:N_EVENTS]
    seen_rows = rows(model.detector.simulate(outgoing, integrand.topology, seeded())[1][:N_EVENTS], integrand.topology)
    flow = proposal.EventFlow(integrand, model)
    which, points, log_density = flow.sample_and_log_prob(seen_rows, N_DRAWS, seeded())
    return {
        "log P of hypotheses": model.log_probability(flow.features(seen_rows)),
        "log p": model.log_prob(learnt.which, learnt.points, learnt.features),
        "drawn hypotheses": which,
        "draws": points,
        "log p of draws": log_density,
        "posterior": flow.posterior(seen_rows, N_DRAWS, seeded()),
    }


def tth_lost_proposal():
    detector = proposal.load_proposal(shipped("tth_lost_proposal")).detector
    topology, outgoing = TTHLostIntegrand.topology, at_leading_order("tth_semileptonic")[:N_EVENTS]
    lost = detector.log_lost(outgoing[:, topology.lights + topology.lost], topology.selection)
    return {"log P lost": lost, **of_proposal("tth_lost_proposal", "tth_semileptonic", TTHLostIntegrand)}


def transfer():
    model = learnt.load_transfer(shipped("learnt_transfer"))
    event = quark_jets.from_records(events.load(sample("tth_semileptonic")))[:N_EVENTS]
    drawn = model.sample(event.partons, 1, seeded())[:, 0]
    factors = model.log_factors(event.reconstruction, event.partons)._asdict()
    factors = {f"log p of {name}": values for name, values in factors.items()}
    return {**factors, "drawn jets": drawn.jets, "which are there": drawn.has_jet, "drawn met": drawn.met}


def of_sampler(process):
    model = parton_level.load_sampler(shipped(f"{process}_sampler"), process)
    points, log_density = model.sample(N_EVENTS, seeded())
    even = torch.rand(N_EVENTS, model.dims, generator=seeded(), dtype=torch.float64)
    return {"draws": points, "log p of draws": log_density, "log p": model.log_prob(even)}


def arm():
    model = checkpoints.load(shipped("robot_arm"), robot_arm.posterior_flow)
    arms, hands = robot_arm.simulate(N_EVENTS, seeded(), noise=model.encoder.noise)
    torch.manual_seed(SEED)
    return {"draws": model.sample(hands, N_DRAWS), "log p": model.log_prob(arms, hands)}


OUTPUTS = {
    "conditioner": lambda: of_conditioner("conditioner"),
    "conditioner_half": lambda: of_conditioner("conditioner_half"),
    "conditioner_with_scores": conditioner_with_scores,
    "dilepton_proposal": lambda: of_proposal("dilepton_proposal", "ttbar_dilepton", DileptonIntegrand),
    "learnt_transfer": transfer,
    "nu2_flow": nu2_flow,
    "nu2_pairing": nu2_pairing,
    "nu_flow": nu_flow,
    "robot_arm": arm,
    "tth_lost_proposal": tth_lost_proposal,
    "tth_proposal": lambda: of_proposal("tth_proposal", "tth_semileptonic", TTHIntegrand),
    "tth_semileptonic_sampler": lambda: of_sampler("tth_semileptonic"),
    "ttbar_dilepton_sampler": lambda: of_sampler("ttbar_dilepton"),
    "unfolding_flow": unfolding,
}


@contextmanager
def double_precision():
    """Make networks, and what they read, double where the library says single."""
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def outputs(name):
    """Return what a shipped model says of its events, by name, on the CPU and by one thread."""
    torch.set_num_threads(1)
    with torch.no_grad(), double_precision():
        return {key: values.contiguous() for key, values in OUTPUTS[name]().items()}


def digests(name):
    """Return the SHA-256 of the bytes of each tensor of a checkpoint, by name."""
    with safe_open(shipped(name), framework="pt") as file:
        return {key: sha256(file.get_tensor(key).numpy().tobytes()).hexdigest() for key in file.keys()}


def stored(name):
    """Return outputs and digests of the reference."""
    with safe_open(REFERENCE, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(f"{name}/")]
        values = {key.removeprefix(f"{name}/"): file.get_tensor(key) for key in keys}
        return values, json.loads(file.metadata()["digests"])[name]


def deviation(key, ours, theirs):
    """Return the largest difference of two finite tensors: see ``TOLERANCE``."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert torch.equal(ours.isfinite(), theirs.isfinite())
    assert torch.equal(ours[~ours.isfinite()], theirs[~theirs.isfinite()])
    ours, theirs = (x.double().where(x.isfinite(), 0.0) for x in (ours, theirs))
    scale = 1.0 if key.startswith("log") else theirs.abs().amax(-1, keepdim=True).clip(1.0)
    return float(((ours - theirs).abs() / scale).max())


def test_reference_is_of_all_checkpoints():
    assert sorted(OUTPUTS) == sorted(path.stem for path in shipped("any").parent.glob("*.safetensors"))


@pytest.mark.parametrize("name", OUTPUTS)
def test_model_is_the_stored_one(name):
    theirs, theirs_digests = stored(name)
    ours_digests = digests(name)
    differing = sorted(
        key for key in ours_digests.keys() | theirs_digests.keys() if ours_digests.get(key) != theirs_digests.get(key)
    )
    assert sorted(ours_digests.values()) == sorted(theirs_digests.values()), f"other weights: {differing}"
    ours = outputs(name)
    assert ours.keys() == theirs.keys()
    off = {key: deviation(key, ours[key], theirs[key]) for key in theirs}
    assert {key: value for key, value in off.items() if not value <= TOLERANCE} == {}
