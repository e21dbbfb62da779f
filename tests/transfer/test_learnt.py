"""The learnt transfer function: a density that is normalised, and draws that follow it; the contract of both."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import kstest

from chance import assert_agrees, assert_likely
from quark_jet_events import drawn_anew, factors, repeated
from rewind import kinematics
from rewind.errors import InputError
from rewind.transfer import learnt, product


@pytest.fixture(scope="module")
def model(event):
    return learnt.train_transfer(event[:1000], event[1000:], size={"width": 16, "layers": 1}, epochs=3)[0]


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
