"""Quarks and their jets, and the learnt transfer function: a density that is normalised, and draws that follow it."""

from dataclasses import replace
from pathlib import Path

import awkward as ak
import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.mem import full_simulation, learnt_transfer, product_transfer, quark_jets
from rewind.physics.constants import M_H

SAMPLES = Path(__file__).parents[1] / "data/samples"


@pytest.fixture(scope="module")
def records():
    return events.load(SAMPLES / "tth_semileptonic_test.root")[:1200]


@pytest.fixture(scope="module")
def event(records):
    return quark_jets.from_records(records)


@pytest.fixture(scope="module")
def model(event):
    return learnt_transfer.train_transfer(event[:1000], event[1000:], size={"width": 16, "layers": 1}, epochs=3)[0]


def test_quarks_stand_in_their_order(records, event):
    top_lep = event.quarks[:, 0] + event.neutrino
    higgs, w, top = event.quarks[:, 4:].sum(1), event.quarks[:, 2:4].sum(1), event.quarks[:, 1:4].sum(1)
    assert abs(float(kinematics.mass(higgs).median()) - M_H) < 0.1
    assert 78 < float(kinematics.mass(w).median()) < 82
    assert 170 < float(kinematics.mass(top).median()) < 175
    assert (kinematics.mass(top_lep) < 172).double().mean() > 0.9
    assert (event.quarks[:, 4, 0] >= event.quarks[:, 5, 0]).all()
    parton = abs(records.LHEPart.pdgId[records.Jet.partonIdx[records.Jet.partonIdx >= 0] + 2])
    assert int(event.found.sum()) == int(ak.sum(parton <= 5))


def test_jets_lie_near_their_quarks(event):
    turn = kinematics.delta_phi(kinematics.phi(event.jets), kinematics.phi(event.quarks))
    distance = torch.hypot(turn, kinematics.eta(event.jets) - kinematics.eta(event.quarks))[event.found]
    assert float((distance < 0.2).double().mean()) > 0.9
    assert (event.jets[~event.found] == 0).all()


def test_energies_and_angles_and_met_are_normalised(model, event):
    """Sums over a grid of one jet's energy, its angles and p_T^miss are one, whatever the others are."""
    one = event[event.found[:, 0]][:1]

    def repeated(n):
        return replace(
            one, **{name: getattr(one, name).expand(n, *getattr(one, name).shape[1:]).clone() for name in vars(one)}
        )

    energy = torch.linspace(0.5, 4_000, 8_000, dtype=torch.float64)
    many = repeated(len(energy))
    many.jets[:, 0] = many.jets[:, 0] / many.jets[:, :1, 0] * energy[:, None]
    density = model.log_prob(many).energy[:, 0].exp().detach()
    assert abs(float(torch.trapezoid(density.double(), energy)) - 1) < 0.01

    grid = torch.linspace(-600, 600, 201, dtype=torch.float64)
    shift = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).flatten(0, 1)
    many = replace(repeated(len(shift)), met=one.neutrino[:, 1:3] + shift)
    assert abs(float(model.log_prob(many).met.exp().sum().detach()) * 36 - 1) < 0.03


def test_later_objects_do_not_change_earlier_factors(model, event):
    few = event[:50]
    changed = replace(few, found=few.found.clone(), jets=few.jets.clone(), met=few.met + 10)
    changed.found[:, 5] = ~changed.found[:, 5]
    changed.jets[:, 5] = torch.where(changed.found[:, 5, None], few.quarks[:, 5], 0.0)
    with torch.no_grad():
        before, after = model.log_prob(few), model.log_prob(changed)
    for name in ("existence", "energy", "angles"):
        torch.testing.assert_close(getattr(before, name)[:, :5], getattr(after, name)[:, :5], rtol=1e-5, atol=1e-5)


def test_draws_follow_the_density(model, event):
    """E[ln p] over draws and E[(q/p)(draws of q)] cannot be tested; shares of jets against probabilities can."""
    few = event[:200]
    drawn = [model.sample(few, torch.Generator().manual_seed(i)) for i in range(40)]
    share = torch.stack([d.found[:, 0] for d in drawn]).double().mean()
    chance = model.log_prob(few).existence[:, 0].exp().detach()
    chance = torch.where(few.found[:, 0], chance, 1 - chance).double()
    assert abs(float(share - chance.mean())) < 4 * (0.25 / 8000) ** 0.5
    assert (drawn[0].jets[~drawn[0].found] == 0).all()
    mass = kinematics.mass_squared(drawn[0].jets[drawn[0].found])
    assert (mass.abs() < 1e-6 * drawn[0].jets[drawn[0].found][:, 0] ** 2).all()


def test_turning_an_event_changes_nothing(model, event):
    few, c, s = event[:20], torch.cos(torch.tensor(0.9)).double(), torch.sin(torch.tensor(0.9)).double()

    def turned(p):
        out = p.clone()
        i = p.shape[-1] - 3 if p.shape[-1] == 4 else 0
        out[..., i], out[..., i + 1] = c * p[..., i] - s * p[..., i + 1], s * p[..., i] + c * p[..., i + 1]
        return out

    other = replace(
        few, **{name: turned(getattr(few, name)) for name in ("quarks", "jets", "lepton", "neutrino", "met")}
    )
    torch.testing.assert_close(model.log_prob(few).total, model.log_prob(other).total, rtol=1e-4, atol=1e-3)


def test_other_events_are_refused(records):
    without = events.load(SAMPLES / "ttbar_semileptonic_test.root")[:5]
    with pytest.raises(InputError, match="H → bb̄, one neutrino and two light quarks is needed"):
        quark_jets.from_records(without)
    with pytest.raises(InputError, match="event 0: 0 leptons; exactly one is needed"):
        quark_jets.from_records(ak.with_field(records, records.Lepton[:, :0], "Lepton"))
    few, cut = records[:2], ak.Array([list(range(14)), list(range(15))])
    uneven = ak.with_field(few, few.LHEPart[cut], "LHEPart")
    with pytest.raises(InputError, match="hard processes of different lengths"):
        quark_jets.from_records(uneven)


def test_draws_of_the_product_of_gaussians_follow_it(event):
    known = product_transfer.fit(event)
    drawn = known.sample(event, torch.Generator().manual_seed(3))
    chance, n = known.chances(event), drawn.found.numel()
    assert abs(float((chance - drawn.found.double()).mean())) < 4 * (0.25 / n) ** 0.5
    assert abs(float((chance - event.found.double()).mean())) < 4 * (0.25 / n) ** 0.5  # the fit's own events
    assert (kinematics.pt(drawn.jets)[drawn.found] > 24.99).all()
    error = drawn.met - drawn.neutrino[:, 1:3]
    torch.testing.assert_close(
        torch.tensor(full_simulation.fit_recoil(error)), torch.tensor(known.met), rtol=0.25, atol=0
    )
    density = known.log_prob(drawn)
    shifted = replace(drawn, jets=1.3 * drawn.jets)
    assert float(density.energy.sum()) > float(known.log_prob(shifted).energy.sum())
