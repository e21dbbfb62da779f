"""Jets of the legs and their energy scale: symmetries, invented events with a known answer, a small training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import chi_squared, jet_scale, pairing
from rewind.neutrino.flows import pairing_network
from rewind.neutrino.flows.inputs import MAX_JETS, event_tensor
from rewind.nn import checkpoints
from rewind.nn.training import Optimization, fit

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
METHODS = [pairing.by_delta_r, pairing.by_mass, pairing.true_pairing]


@pytest.fixture(scope="module")
def dilepton():
    return events.load_batch(SAMPLES / "ttbar_dilepton.root", 2).with_jets(MAX_JETS)


@pytest.fixture(scope="module")
def one_lepton():
    return events.load_batch(SAMPLES / "ttbar_semileptonic.root", 1).with_jets(MAX_JETS)


def network(n_legs, seed=1):
    torch.manual_seed(seed)
    return pairing_network.pairing_network(n_legs, width=16, encoder_layers=1).eval()


def learnt(n_legs):
    net = network(n_legs)
    return lambda data: net.choose(event_tensor(data))


def by_true_chi_squared(data):
    masses = chi_squared.Masses((172.0, 13.0), (165.0, 20.0), (74.0, 16.0))
    return chi_squared.by_chi_squared(data, data.truth.neutrinos, masses, n_jets=MAX_JETS)


def methods(data):
    return [*METHODS, learnt(data.n_legs), *([by_true_chi_squared] if data.n_legs == 1 else [])]


def reordered(data, seed):
    """Return events with their jets in random order, and the new position of each old one."""
    key = torch.rand(data.jet_mask.shape, generator=torch.Generator().manual_seed(seed)) + ~data.jet_mask
    order = key.argsort(1)
    position = order.argsort(1)
    b_jets = torch.where(data.truth.b_jets >= 0, position.gather(1, data.truth.b_jets.clip(0)), -1)
    moved = {name: getattr(data, name).gather(1, order) for name in ("jet_mask", "btag")}
    moved["jets"] = data.jets.gather(1, order[..., None].expand(-1, -1, 4))
    return replace(data, truth=replace(data.truth, b_jets=b_jets, jet_roles=None), **moved), position


def exchanged(data):
    """Return events with the names of t and t̄ exchanged."""
    truth = {name: getattr(data.truth, name).flip(1) for name in ("neutrinos", "leptons", "tops", "b_jets")}
    seen = {name: getattr(data, name).flip(1) for name in ("leptons", "is_muon", "charge")}
    return replace(data, **seen, truth=replace(data.truth, **truth))


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_reordering_jets_permutes_the_answer(name, request):
    data = request.getfixturevalue(name)[:300]
    moved, position = reordered(data, 1)
    assert (moved.jets != data.jets).any()
    for method in methods(data):
        before, after = method(data), method(moved)
        expected = torch.where(before >= 0, position.gather(1, before.clip(0)), -1)
        # by distance or mass a leg without a lepton goes by the jets' order
        legs = slice(data.n_legs if method in (pairing.by_delta_r, pairing.by_mass) else 2)
        assert torch.equal(after[:, legs], expected[:, legs])


def test_exchanging_the_legs_exchanges_the_answer(dilepton):
    for method in methods(dilepton):
        assert torch.equal(method(exchanged(dilepton)), method(dilepton).flip(1))


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_rotations_and_reflections_change_nothing(name, request):
    data = request.getfixturevalue(name)[:300]
    turn = torch.tensor([[0.6, 0.8, 0], [0.8, -0.6, 0], [0, 0, -1.0]]).double()  # rotated and reflected twice

    def turned(p):
        return torch.cat([p[..., :-3], p[..., -3:] @ turn.T], -1)

    momenta = {part: turned(getattr(data, part)) for part in ("leptons", "jets")}
    truth = replace(data.truth, neutrinos=turned(data.truth.neutrinos))
    other = replace(data, met=data.met @ turn[:2, :2].T, **momenta, truth=truth)
    for method in methods(data):
        assert (method(other) == method(data)).all(1).double().mean() > 0.995  # single precision in the network


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_choices_are_two_different_tagged_jets(name, request):
    data = request.getfixturevalue(name)
    pairs, allowed = pairing.candidates(data)
    n_tagged = data.btag.sum(1)
    assert torch.equal(allowed.sum(1), n_tagged * (n_tagged - 1))
    for method in methods(data):
        chosen = method(data)
        chosen = chosen[(chosen >= 0).all(1)] if method is pairing.true_pairing else chosen
        rows = data.matched if method is pairing.true_pairing else slice(None)
        assert (pairs[None] == chosen[:, None]).all(-1)[allowed[rows]].sum() == len(chosen)


def test_accuracies_are_ordered(dilepton):
    truth, mass, delta_r = (pairing.accuracy(m(dilepton), dilepton) for m in (*METHODS[::-1][:2], METHODS[0]))
    assert truth == (1.0, 0.0)
    assert 1 > mass.value > delta_r.value + 3 * mass.error > 0.6
    wrong = pairing.accuracy(pairing.true_pairing(dilepton).flip(1), dilepton)
    assert wrong == (0.0, 0.0)
    n = int(dilepton.matched.sum())
    assert mass.error == pytest.approx((mass.value * (1 - mass.value) / n) ** 0.5)


def decays(n, seed, extra=0.0):
    """Return exact decays t → bℓν of both legs with the first jets of each event, b then b̄, and soft light ones."""
    generator = torch.Generator().manual_seed(seed)

    def direction():
        x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
        return x / x.norm(dim=1, keepdim=True)

    def two_body(parent, m1, m2):
        m = kinematics.mass(parent)[:, None]
        p = ((m**2 - (m1 + m2) ** 2) * (m**2 - (m1 - m2) ** 2)).sqrt() / (2 * m) * direction()
        at_rest = torch.cat([m, torch.zeros_like(p)], 1)
        first, second = (
            kinematics.boost_between(torch.cat([(mass**2 + (q**2).sum(1, True)).sqrt(), q], 1), at_rest, parent)
            for mass, q in ((m1, p), (m2, -p))
        )
        return first, second

    tops = []
    for _ in range(2):
        p = 200 * direction()
        tops.append(torch.cat([(172.5**2 + (p**2).sum(1, True)).sqrt(), p], 1))
    b, leptons, neutrinos = [], [], []
    for top in tops:
        w, quark = two_body(top, 80.38, 4.8)
        lepton, neutrino = two_body(w, 0.0, 0.0)
        b.append(quark), leptons.append(lepton), neutrinos.append(neutrino[:, 1:])
    jet = torch.zeros(n, MAX_JETS, 4, dtype=torch.float64)
    jet[:, 0], jet[:, 1] = b
    mask = torch.zeros(n, MAX_JETS, dtype=torch.bool)
    mask[:, :2] = True
    neutrinos = torch.stack(neutrinos, 1)
    one = torch.ones(n, dtype=torch.float64)
    b_jets = torch.tensor([[0, 1]]).expand(n, 2).clone()
    return events.EventBatch(
        leptons=torch.stack(leptons, 1),
        is_muon=torch.zeros(n, 2, dtype=torch.bool),
        charge=torch.stack([one, -one], 1),
        jets=jet,
        jet_mask=mask,
        btag=mask.clone(),
        met=neutrinos[..., :2].sum(1) + extra,
        weight=one,
        truth=events.Truth(neutrinos, torch.stack(leptons, 1), torch.stack(tops, 1), b_jets=b_jets),
    ).check()


def test_mass_never_breaks_the_bound_where_one_choice_keeps_it():
    """In exact decays the right choice has m²(ℓb) < m_t² − m_W², so one that breaks it must lose."""
    data = decays(3000, 2)
    bound = 172.5**2 - 80.38**2
    mass = kinematics.mass_squared(data.leptons[:, :, None] + data.jets[:, None, :2])
    right = torch.stack([mass[:, 0, 0], mass[:, 1, 1]], 1)
    crossed = torch.stack([mass[:, 0, 1], mass[:, 1, 0]], 1)
    assert (right < bound + 100).all()  # m_b
    broken = (crossed > 1.25 * bound).any(1)  # beyond, Σ m⁴ of one leg alone is not enough to win
    assert broken.double().mean() > 0.2
    chosen = pairing.by_mass(data)
    assert pairing.accuracy(chosen[broken], data[broken]).value > 0.97
    assert torch.equal((chosen == data.truth.b_jets).all(1), (right**2).sum(1) < (crossed**2).sum(1))


def semileptonic(n, seed):
    """Return exact decays in which the second top decays to jets: b in place 1, quarks in places 2 and 3."""
    data = decays(n, seed)
    w = data.truth.tops[:, 1] - data.jets[:, 1]
    quark = data.leptons[:, 1]
    moved = data.jets.clone()
    moved[:, 2], moved[:, 3] = quark, w - quark
    mask = data.jet_mask.clone()
    mask[:, 2:4] = True
    one = {name: getattr(data, name)[:, :1] for name in ("leptons", "is_muon", "charge")}
    truth = {name: getattr(data.truth, name)[:, :1] for name in ("neutrinos", "leptons")}
    met = data.truth.neutrinos[:, 0, :2]
    return replace(data, jets=moved, jet_mask=mask, met=met, **one, truth=replace(data.truth, **truth)).check()


def test_chi_squared_finds_exact_decays():
    data = semileptonic(1000, 3)
    masses = chi_squared.Masses((172.5, 1.0), (172.5, 1.0), (80.38, 1.0))
    assert pairing.accuracy(chi_squared.by_chi_squared(data, data.truth.neutrinos, masses), data).value > 0.999
    everything = replace(data, btag=data.jet_mask)
    chosen = chi_squared.by_chi_squared(everything, data.truth.neutrinos, masses)
    assert pairing.accuracy(chosen, everything).value > 0.98
    for mean, width in vars(chi_squared.fit_masses(data)).values():
        assert min(abs(mean - 172.5), abs(mean - 80.38)) < 1e-3
        assert width < 1e-3


def test_chi_squared_without_quarks_goes_by_the_leptonic_top():
    data = semileptonic(500, 4)
    masses = chi_squared.Masses((172.5, 1.0), (172.5, 1.0), (80.38, 1.0))
    mask = data.jet_mask & (torch.arange(MAX_JETS) < 3)
    few = replace(data, jets=data.jets * mask[..., None], jet_mask=mask)
    assert pairing.accuracy(chi_squared.by_chi_squared(few, few.truth.neutrinos, masses), few).value > 0.99
    unsolved = few.truth.neutrinos.clone()
    unsolved[7] = torch.nan
    chosen = chi_squared.by_chi_squared(few, unsolved, masses)
    assert chosen[7].tolist() == [-1, -1]
    assert (chosen >= 0).all(1).sum() == len(few) - 1


def test_chi_squared_beats_distance_on_simulated_events(one_lepton):
    train, test = one_lepton[:1000], one_lepton[1000:]
    masses = chi_squared.fit_masses(train)
    assert 155 < masses.leptonic_top[0] < 175
    assert 65 < masses.hadronic_w[0] < 85
    chosen = pairing.accuracy(chi_squared.by_chi_squared(test, test.truth.neutrinos, masses), test)
    assert chosen.value > pairing.accuracy(pairing.by_delta_r(test), test).value + 3 * chosen.error


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_probabilities_are_normalised_over_candidates(name, request):
    data = request.getfixturevalue(name)[:200]
    log_p = network(data.n_legs).log_probabilities(event_tensor(data))
    _, allowed = pairing.candidates(data)
    assert torch.equal(log_p.isfinite(), allowed)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(200))


def test_probability_is_told_for_the_legs_of_the_laboratory(dilepton):
    """Exchanging t and t̄ exchanges the entries (i, j) and (j, i)."""
    net = network(2)
    pairs, _ = pairing.candidates(dilepton)
    mirror = (pairs[:, None] == pairs.flip(1)[None]).all(-1).long().argmax(0)
    with torch.no_grad():
        before, after = (net.log_probabilities(event_tensor(d)).exp() for d in (dilepton, exchanged(dilepton)))
    torch.testing.assert_close(after, before[:, mirror])


@pytest.mark.parametrize("n_legs", [1, 2])
def test_gradients_reach_the_parameters_and_checkpoints_keep_them(n_legs, request, tmp_path):
    data = request.getfixturevalue("one_lepton" if n_legs == 1 else "dilepton")[:200]
    net = network(n_legs)
    batch = pairing_network.training_tensors(data)
    assert len(batch[0]) == len(batch[1]) == int(data.matched.sum())
    net.loss(batch).backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or (p.grad == 0).all()}
    assert idle <= {"encoder.transformer.token"}
    shape = {"n_legs": n_legs, "width": 16, "encoder_layers": 1}
    checkpoints.save(
        tmp_path / "pairing.safetensors",
        net,
        pairing_network.pairing_network,
        configuration=shape,
        data="",
        training={},
    )
    again = checkpoints.load(tmp_path / "pairing.safetensors", pairing_network.pairing_network, n_legs=n_legs)
    assert torch.equal(again.choose(batch[0]), net.choose(batch[0]))


def test_training_learns_what_the_mass_knows():
    """On exact decays a small network soon does better than distances, on events that it has not seen."""
    train, test = decays(6000, 5), decays(2000, 6)
    net = network(2)
    batches = [pairing_network.training_tensors(data) for data in (train, test)]
    record = fit(net, *batches, epochs=4, batch_size=256, optimization=Optimization(5e-3), device="cpu")
    learnt, delta_r = (pairing.accuracy(p, test) for p in (net.choose(event_tensor(test)), pairing.by_delta_r(test)))
    assert learnt.value > delta_r.value + 3 * delta_r.error
    assert record["best_validation_loss"] < 0.6


def scaled(data, factor):
    return replace(data, jets=data.jets * factor[..., None])


def test_a_scale_that_was_applied_is_found():
    """Jets that lost pT by a known law, and p_T^miss by half of it, come back."""
    exact = decays(4000, 7)
    pt = kinematics.pt(exact.jets)
    raw = torch.where(pt > 8, (pt - 8) / 1.05, 0.3 * pt)  # pT = 1.05 raw + 8
    factor = torch.where(exact.jet_mask, raw / pt, torch.ones_like(pt))
    measured = scaled(exact, factor)
    met = exact.met + 0.5 * (exact.jets - measured.jets)[..., 1:3].sum(1)
    measured = replace(measured, met=met)
    scale = jet_scale.fit(measured)
    assert scale.constant == pytest.approx(1.05, abs=1e-3)
    assert scale.slope == pytest.approx(8, abs=0.05)
    assert scale.met_share == pytest.approx(0.5, abs=0.01)
    back, hard = scale.apply(measured), pt > 20
    torch.testing.assert_close(back.jets[hard], exact.jets[hard], rtol=3e-3, atol=0.1)
    assert (back.met - exact.met).norm(dim=1).median() < 0.1


def test_resolution_of_the_scale_is_the_spread():
    exact = decays(20_000, 8)
    noise = 1 / (1 + 0.1 * torch.randn(exact.btag.shape, generator=torch.Generator().manual_seed(9))).clip(0.3)
    scale = jet_scale.fit(scaled(exact, noise.double()))
    assert scale.sigma_constant + scale.sigma_slope / 80 == pytest.approx(0.1, rel=0.06)


def test_scale_brings_simulated_tops_closer(dilepton):
    corrected = jet_scale.fit(dilepton).apply(dilepton)
    w = dilepton.leptons + kinematics.massless(dilepton.truth.neutrinos)
    off = []
    for data in (dilepton, corrected):
        m_top = kinematics.mass((jet_scale.leg_jets(data, data.truth.b_jets) + w)[data.matched])
        off.append((m_top - 172.5).abs().mean())
    assert off[1] < 0.9 * off[0]
    residual = [(data.truth.neutrinos[..., :2].sum(1) - data.met).abs().mean() for data in (dilepton, corrected)]
    assert residual[1] < residual[0]
    untouched = ~dilepton.btag
    assert torch.equal(corrected.jets[untouched], dilepton.jets[untouched])
    assert torch.equal(corrected.matched, dilepton.matched)
    corrected.check()


@pytest.mark.parametrize("name", ["dilepton", "one_lepton"])
def test_no_event_and_one_event(name, request):
    data = request.getfixturevalue(name)
    scale = jet_scale.JetScale(0.95, 13.7, 0.6, 0.03, 6.8)
    for few in (data[:0], data[5]):
        for method in methods(data):
            assert method(few).shape == (len(few), 2)
        assert scale.apply(few).jets.shape == few.jets.shape
    for method in methods(data):
        assert torch.equal(method(data[5]), method(data)[5:6])


def test_bad_input(dilepton, one_lepton):
    masses = chi_squared.Masses((172.5, 1.0), (172.5, 1.0), (80.38, 1.0))
    with pytest.raises(InputError, match="pairing of shape"):
        pairing.accuracy(torch.zeros(3, 2, dtype=torch.long), dilepton)
    with pytest.raises(InputError, match="no event in which"):
        pairing.accuracy(torch.zeros(0, 2, dtype=torch.long), dilepton[:0])
    with pytest.raises(InputError, match="one lepton"):
        chi_squared.by_chi_squared(dilepton, dilepton.truth.neutrinos, masses)
    with pytest.raises(InputError, match="neutrino of shape"):
        chi_squared.by_chi_squared(one_lepton, one_lepton.truth.neutrinos[:, 0], masses)
    with pytest.raises(InputError, match="n_jets = 1"):
        chi_squared.by_chi_squared(one_lepton, one_lepton.truth.neutrinos, masses, n_jets=1)
    with pytest.raises(InputError, match="at least 100"):
        chi_squared.fit_masses(one_lepton[:50])
    with pytest.raises(InputError, match="n_legs = 3"):
        pairing_network.pairing_network(3)
    with pytest.raises(InputError, match="pairing of shape"):
        jet_scale.leg_jets(dilepton, dilepton.truth.b_jets[:, :1])
    with pytest.raises(InputError, match="position 12"):
        jet_scale.leg_jets(dilepton, torch.full((len(dilepton), 2), 12))
    with pytest.raises(InputError, match="jet scale"):
        jet_scale.fit(dilepton[:20])
    with pytest.raises(InputError, match="with true tops"):
        jet_scale.fit(replace(dilepton, truth=replace(dilepton.truth, tops=None)))
