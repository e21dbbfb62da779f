"""Quarks and their jets, and the learnt transfer function: a density that is normalised, and draws that follow it."""

from dataclasses import replace
from pathlib import Path

import awkward as ak
import pytest
import torch
from scipy.stats import kstest

from chance import assert_agrees, assert_likely
from rewind import events, kinematics
from rewind.errors import InputError
from rewind.physics.constants import M_H
from rewind.physics.recoil import fit_recoil
from rewind.transfer import learnt, product, quark_jets

SAMPLES = Path(__file__).parents[2] / "data/samples"


@pytest.fixture(scope="module")
def records():
    return events.load(SAMPLES / "tth_semileptonic_test.root")[:1200]


@pytest.fixture(scope="module")
def event(records):
    return quark_jets.from_records(records)


@pytest.fixture(scope="module")
def model(event):
    return learnt.train_transfer(event[:1000], event[1000:], size={"width": 16, "layers": 1}, epochs=3)[0]


def test_quarks_stand_in_their_order(records, event):
    top_lep = event.quarks[:, 0] + event.neutrino
    higgs, w, top = event.quarks[:, 4:].sum(1), event.quarks[:, 2:4].sum(1), event.quarks[:, 1:4].sum(1)
    assert abs(float(kinematics.mass(higgs).median()) - M_H) < 0.1
    assert 78 < float(kinematics.mass(w).median()) < 82
    assert 170 < float(kinematics.mass(top).median()) < 175
    assert (kinematics.mass(top_lep) < 172).double().mean() > 0.9
    assert (event.quarks[:, 4, 0] >= event.quarks[:, 5, 0]).all()
    parton = abs(records.LHEPart.pdgId[records.Jet.partonIdx[records.Jet.partonIdx >= 0] + 2])
    assert int(event.has_jet.sum()) == int(ak.sum(parton <= 5))


def test_jets_lie_near_their_quarks(event):
    distance = kinematics.delta_r(event.jets, event.quarks)[event.has_jet]
    assert float((distance < 0.2).double().mean()) > 0.9
    assert (event.jets[~event.has_jet] == 0).all()


def factors(model, events):
    return model.log_factors(events.reconstruction, model.featurize(events))


def drawn_anew(model, events, seed):
    """Return events with one draw each in place of what was measured."""
    return replace(events, **vars(model.sample(events.partons, 1, torch.Generator().manual_seed(seed))[:, 0]))


def repeated(event, n):
    """Return one event ``n`` times."""
    return replace(event, **{k: x.expand(n, *x.shape[1:]).clone() for k, x in vars(event).items()})


def test_densities_are_normalised(model, event):
    """Sums over a grid of one jet's energy, of its angles, and of p_T^miss are one."""
    for one in (event[event.has_jet[:, 1]][i] for i in (0, 5)):
        energy = torch.linspace(0.5, 4_000, 8_000, dtype=torch.float64)
        many = repeated(one, len(energy))
        many.jets[:, 1] = many.jets[:, 1] / many.jets[:, 1, :1] * energy[:, None]
        with torch.no_grad():
            density = factors(model, many).energy[:, 1].exp().double()
        assert abs(float(torch.trapezoid(density, energy)) - 1) < 0.01

        line = torch.sinh(torch.linspace(-5.5, 5.5, 301, dtype=torch.float64)) * 0.02
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).flatten(0, 1)
        many = repeated(one, len(grid))
        eta, phi = (f(one.quarks[:, 1]) + grid[:, i] for i, f in enumerate((kinematics.eta, kinematics.phi)))
        pt = one.jets[:, 1, 0] / eta.cosh()
        many.jets[:, 1] = kinematics.from_pt_eta_phi_mass(pt, eta, phi, torch.zeros_like(eta))
        with torch.no_grad():
            density = factors(model, many).angles[:, 1].exp().double().reshape(301, 301)
        assert abs(float(torch.trapezoid(torch.trapezoid(density, line), line)) - 1) < 0.03

        grid = torch.linspace(-600, 600, 201, dtype=torch.float64)
        shift = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).flatten(0, 1)
        many = replace(repeated(one, len(shift)), met=one.neutrino[:, 1:3] + shift)
        with torch.no_grad():
            assert abs(float(factors(model, many).met.exp().sum()) * 36 - 1) < 0.03


def test_later_objects_do_not_change_earlier_factors(model, event):
    few = event[:50]
    changed = replace(few, has_jet=few.has_jet.clone(), jets=few.jets.clone(), met=few.met + 10)
    changed.has_jet[:, 5] = ~changed.has_jet[:, 5]
    changed.jets[:, 5] = torch.where(changed.has_jet[:, 5, None], few.quarks[:, 5], 0.0)
    with torch.no_grad():
        before, after = factors(model, few), factors(model, changed)
    for name in ("existence", "energy", "angles"):
        torch.testing.assert_close(getattr(before, name)[:, :5], getattr(after, name)[:, :5], rtol=1e-5, atol=1e-5)


def test_draws_follow_the_density(model, event):
    """By the density on the draws themselves: shares of jets, of the last quark too, and ranks of energies."""
    drawn = drawn_anew(model, event, 1)
    with torch.no_grad():
        said = factors(model, drawn)
    for i in (0, 5):
        chance = said.existence[:, i].exp().double()
        chance = torch.where(drawn.has_jet[:, i], chance, 1 - chance)
        assert_agrees((drawn.has_jet[:, i].double() - chance).mean(), 0, (0.25 / len(event)) ** 0.5)
    assert (drawn.jets[~drawn.has_jet] == 0).all()
    mass = kinematics.mass_squared(drawn.jets[drawn.has_jet])
    assert (mass.abs() < 1e-6 * drawn.jets[drawn.has_jet][:, 0] ** 2).all()

    few = drawn[drawn.has_jet[:, 5]][:60]
    below = []
    for i in range(len(few)):
        many = repeated(few[i], 2_000)
        energy = torch.linspace(0.5, 3_000, 2_000, dtype=torch.float64)
        many.jets[:, 5] = many.jets[:, 5] / many.jets[:, 5, :1] * energy[:, None]
        with torch.no_grad():
            density = factors(model, many).energy[:, 5].exp().double()
        below.append(float(density[energy < few.jets[i, 5, 0]].sum() / density.sum()))
    assert_likely(kstest(below, "uniform").pvalue)


def test_turning_an_event_changes_nothing(model, event, turned):
    few, names = event[:20], ("quarks", "jets", "lepton", "neutrino", "met")
    other = replace(few, **{name: turned(getattr(few, name), 0.9, (1, 1)) for name in names})
    both = [model.log_prob(events.reconstruction, events.partons) for events in (few, other)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-3)


def test_a_model_comes_back_from_disk(model, event, tmp_path):
    path = tmp_path / "transfer.safetensors"
    trained, _ = learnt.train_transfer(event[:100], event[100:150], path, size={"width": 16}, epochs=1)
    again = learnt.load_transfer(path)
    target, partons = event[:9].reconstruction, event[:9].partons
    torch.testing.assert_close(again.log_prob(target, partons), trained.log_prob(target, partons))


@pytest.mark.parametrize("kind", ["learnt", "product"])
def test_draws_have_an_axis_of_their_own_and_a_seed(model, event, kind):
    density = model if kind == "learnt" else product.fit(event)
    partons, seeded = density.featurize(event[:20]), torch.Generator().manual_seed(4)
    draws = density.sample(partons, 3, seeded)
    assert draws.jets.shape == (20, 3, 6, 4)
    assert draws.met.shape == (20, 3, 2)
    torch.manual_seed(4)
    assert torch.equal(density.sample(partons, 3).met, draws.met)
    assert density.log_prob(draws[:, 1], partons).shape == (20,)
    factors = density.log_factors(draws[:, 1], partons)
    torch.testing.assert_close(density.log_prob(draws[:, 1], partons), factors.total)
    with pytest.raises(InputError, match="generator: int given"):
        density.sample(partons, 3, 4)


def test_weights_count_like_repetition(model, event):
    """An event of weight two is two events, and an event of weight zero is none."""
    few, twice = event[:1000], torch.arange(1000) % 3
    copies = few[torch.arange(1000).repeat_interleave(twice)]
    both = replace(few, weight=twice.double()), replace(copies, weight=torch.ones(len(copies)).double())
    with torch.no_grad():
        losses = [model.loss(model.tensors(some), (some.weight / some.weight.mean()).float()) for some in both]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    fits = [product.fit(events) for events in both]
    torch.testing.assert_close(*(torch.tensor(fit.met) for fit in fits), rtol=0.02, atol=0)
    chances = [fit.chances(few.partons) for fit in fits]
    torch.testing.assert_close(*chances, rtol=0, atol=0.01)


def without_higgs(records):
    return events.load(SAMPLES / "ttbar_semileptonic_test.root")[:5]


def without_leptons(records):
    return ak.with_field(records, records.Lepton[:, :0], "Lepton")


def of_uneven_lengths(records):
    few, cut = records[:2], ak.Array([list(range(14)), list(range(15))])
    return ak.with_field(few, few.LHEPart[cut], "LHEPart")


REFUSED = [
    (without_higgs, "H → bb̄, one neutrino and two light quarks is needed"),
    (without_leptons, "event 0: 0 leptons; exactly one is needed"),
    (of_uneven_lengths, "hard processes of different lengths"),
]


@pytest.mark.parametrize(("change", "line"), REFUSED, ids=lambda given: getattr(given, "__name__", ""))
def test_other_events_are_refused(records, change, line):
    with pytest.raises(InputError, match=line):
        quark_jets.from_records(change(records))


def test_draws_of_the_product_of_gaussians_follow_it(event):
    known = product.fit(event)
    drawn = drawn_anew(known, event, 3)
    chance, n = known.chances(event.partons), drawn.has_jet.numel()
    assert_agrees(chance.mean(), drawn.has_jet.double().mean(), (0.25 / n) ** 0.5)
    assert_agrees(chance.mean(), event.has_jet.double().mean(), (0.25 / n) ** 0.5)  # the fit's own events
    assert (kinematics.pt(drawn.jets)[drawn.has_jet] > 24.99).all()
    error = drawn.met - drawn.neutrino[:, 1:3]
    torch.testing.assert_close(torch.tensor(fit_recoil(error)), torch.tensor(known.met), rtol=0.25, atol=0)
    one = drawn[drawn.has_jet[:, 1]][0]
    threshold = float(25.0 * kinematics.eta(one.jets[0, 1]).cosh())
    energy = torch.linspace(threshold, 4_000, 8_000, dtype=torch.float64)
    many = repeated(one, len(energy))
    many.jets[:, 1] = many.jets[:, 1] / many.jets[:, 1, :1] * energy[:, None]
    assert abs(float(torch.trapezoid(factors(known, many).energy[:, 1].exp(), energy)) - 1) < 0.01
