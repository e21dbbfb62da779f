"""Neutrino weighting: mass shells, the whole grid by brute force, symmetries, limits."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chance import assert_agrees
from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import scan, weighting
from rewind.neutrino.classical.weighting import solve
from rewind.physics.constants import M_B, M_TOP, M_W

SMALL = {"etas": tuple(np.linspace(-3, 3, 13)), "m_tops": (171.0, 173.5)}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def decay(parent, m_parent, m_first, m_second, generator):
    """Return the two products of an isotropic decay."""
    energy = (m_parent**2 + m_first**2 - m_second**2) / (2 * m_parent)
    direction = torch.nn.functional.normalize(torch.randn(len(parent), 3, generator=generator).double(), dim=-1)
    first = torch.cat(
        [torch.full((len(parent), 1), energy, dtype=torch.float64), (energy**2 - m_first**2) ** 0.5 * direction], -1
    )
    rest = torch.tensor([m_parent, 0.0, 0.0, 0.0], dtype=torch.float64).expand(len(parent), 4)
    first = kinematics.boost_between(first, rest, parent)
    return first, parent - first


def dilepton(n, seed, m_top=M_TOP):
    """Return lepton⁺, lepton⁻, b and b̄, mask, p_T^miss, ν and ν̄ of on-shell tt̄ events."""
    generator = seeded(seed)
    leptons, quarks, neutrinos = [], [], []
    momentum = torch.randn(n, 3, generator=generator).double() * torch.tensor([80.0, 80.0, 250.0])
    for sign in (1, -1):
        p = sign * momentum + 10 * torch.randn(n, 3, generator=generator)
        top = torch.cat([(p.norm(dim=-1, keepdim=True) ** 2 + m_top**2).sqrt(), p], -1)
        b, w = decay(top, m_top, M_B, M_W, generator)
        lepton, neutrino = decay(w, M_W, 0.1057, 0.0, generator)
        leptons.append(lepton), quarks.append(b), neutrinos.append(neutrino[:, 1:])
    met = (neutrinos[0] + neutrinos[1])[:, :2]
    return *leptons, torch.stack(quarks, 1), torch.ones(n, 2, dtype=torch.bool), met, *neutrinos


def leg_solutions(lepton, b, eta, m_top, m_w=M_W):
    """Return the neutrinos (..., 2, 3) of one leg that the scan works with, NaN where there is none."""
    eta, m_top = (torch.as_tensor(z, dtype=torch.float64)[..., None] for z in (eta, m_top))
    as_it_is = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    xy, there = scan.transverse_solutions(lepton[..., None, :], b[..., None, :], eta, m_top, m_w, *as_it_is)
    xy = torch.where(there[..., None, :], xy, math.nan)[..., 0]
    return torch.stack([*xy, torch.hypot(*xy) * eta.sinh()], -1)


def smeared(n, seed):
    """Return events with mismeasured jets and p_T^miss, and a third jet in some: the arguments of ``solve``."""
    plus, minus, jets, mask, met, _, _ = dilepton(n, seed)
    generator = seeded(seed + 1)
    jets = weighting.smear_jets(torch.cat([jets, jets.flip(1).roll(1, 0)[:, :1]], 1), 1, generator)[:, 0]
    mask = torch.cat([mask, (torch.arange(n) % 3 == 0)[:, None]], 1)
    return plus, minus, jets, mask, met + 15 * torch.randn(n, 2, generator=generator)


def massless(p):
    return torch.cat([p.norm(dim=-1, keepdim=True), p], -1)


def angles_of_leg(lepton, b, eta, m_top):
    """Return p_T by an independent route: both mass shells give |p| as a function of φ; equate the two."""
    E, x, y, z = lepton
    A, A_b = (p[0] * np.cosh(eta) - p[3] * np.sinh(eta) for p in (lepton, b))
    a = (M_W**2 - (E * E - x * x - y * y - z * z)) / 2
    both = lepton + b
    a_b = (m_top**2 - (both[0] ** 2 - both[1:] @ both[1:])) / 2 - a
    u, v = a_b * x - a * b[1], a_b * y - a * b[2]
    with np.errstate(invalid="ignore"):
        half = np.arccos((a_b * A - a * A_b) / np.hypot(u, v))
    phi = np.arctan2(v, u) + half * np.array([[1], [-1]])
    return a / (A - x * np.cos(phi) - y * np.sin(phi)) * np.array([np.cos(phi), np.sin(phi)])


def by_brute_force(plus, minus, jets, mask, met, *, etas, m_tops, sigma=(10.0, 10.0), m_tt_min=0.0, pairings=None):
    """Return log w, pairing, mass, ν and ν̄ of one event after a visit to every point of the grid."""
    etas, best = np.asarray(etas), (-math.inf,)
    present = np.flatnonzero(mask)
    for (i, j), m_top in ((p, m) for p in pairings or permutations(present, 2) for m in m_tops):
        nu, nubar = angles_of_leg(plus, jets[i], etas, m_top), angles_of_leg(minus, jets[j], etas, m_top)
        nu, nubar = (np.stack([*p, np.hypot(*p) * np.sinh(etas)]).reshape(3, -1) for p in (nu, nubar))
        nu, nubar = nu[:, :, None], nubar[:, None]
        delta = (nu + nubar)[:2] - met[:, None, None]
        log_w = -0.5 * ((delta / np.asarray(sigma)[:, None, None]) ** 2).sum(0)
        energy, *p = (plus + minus + jets[i] + jets[j])[:, None, None]
        energy = energy + np.sqrt((nu**2).sum(0)) + np.sqrt((nubar**2).sum(0))
        m_tt = np.sqrt(energy**2 - ((np.array(p) + nu + nubar) ** 2).sum(0))
        log_w = np.where(m_tt >= m_tt_min, np.nan_to_num(log_w, nan=-math.inf), -math.inf)
        first, second = np.unravel_index(log_w.argmax(), log_w.shape)
        if log_w[first, second] > best[0]:
            best = log_w[first, second], (i, j), m_top, nu[:, first, 0], nubar[:, 0, second]
    return best


def assert_same(result, arguments, **options):
    """Compare with brute force, event by event."""
    assert result.valid.float().mean() > 0.5
    for event, (plus, minus, jets, mask, met) in enumerate(zip(*(z.numpy() for z in arguments), strict=True)):
        log_w, *hypothesis = by_brute_force(plus, minus, jets, mask, met, **options)
        assert result.log_weight[event].item() == pytest.approx(log_w, rel=1e-7, abs=1e-9)
        assert bool(result.valid[event]) == (log_w >= math.log(np.finfo(float).tiny))
        if result.valid[event]:
            assert tuple(result.pairing[event].tolist()) == tuple(hypothesis[0])
            assert result.m_top[event] == hypothesis[1]
            for ours, theirs in zip(result[:2], hypothesis[2:], strict=True):
                np.testing.assert_allclose(ours[event], theirs, rtol=1e-6, atol=1e-5)


@given(st.floats(-4, 4), st.floats(165, 180), st.integers(0, 1000))
def test_legs_lie_on_their_mass_shells(eta, m_top, seed):
    lepton, _, jets, *_ = dilepton(200, seed)
    p = leg_solutions(lepton, jets[:, 0], eta, m_top)
    assert p.shape == (200, 2, 3)
    there = p.isfinite().all(-1)
    assert (there[:, 0] == there[:, 1]).all()
    assert p[~there].isnan().all()
    w = massless(p) + lepton[:, None]
    torch.testing.assert_close(kinematics.mass(w)[there], torch.full_like(w[there][:, 0], M_W), rtol=1e-6, atol=0)
    top = kinematics.mass(w + jets[:, :1])[there]
    torch.testing.assert_close(top, torch.full_like(top, m_top), rtol=1e-6, atol=0)
    torch.testing.assert_close(kinematics.eta(massless(p))[there], torch.full_like(top, eta))


def test_one_solution_is_the_true_neutrino():
    lepton, _, jets, _, _, nu, _ = dilepton(2000, 1)
    p = leg_solutions(lepton, jets[:, 0], kinematics.eta(massless(nu)), M_TOP)
    missed = (p - nu[:, None]).norm(dim=-1).amin(-1) / nu.norm(dim=-1)
    assert missed.isfinite().float().mean() > 0.995  # the rest touches the edge, where rounding decides
    assert missed.nan_to_num(0.0).quantile(0.99) < 1e-7


def test_no_solution_for_a_b_along_the_lepton_nor_for_a_heavy_lepton():
    lepton = torch.tensor([64.0, 64.0, 0.0, 0.0], dtype=torch.float64)
    for m_top in (M_TOP, 3 * 64.0):  # the second makes both mass shells one, in powers of two
        assert leg_solutions(lepton, 8 * lepton, torch.tensor([0.0, 1.0]), m_top, m_w=64.0).isnan().all()
    lepton, _, jets, *_ = dilepton(200, 2)
    for eta in (-1.0, 0.0, 1.0):  # a particle of 4.8 GeV from a W of 1 GeV
        assert leg_solutions(jets[:, 0], lepton, eta, 50.0, m_w=1.0).isnan().all()
    plus, minus, jets, mask, met, _, _ = dilepton(1, 2)
    jets[:, 0], jets[:, 1] = 2 * plus, 3 * minus
    assert not solve(plus, minus, jets, mask, met, pairings=((0, 1),)).valid.any()


@pytest.mark.parametrize("sigma", [10.0, (7.0, 25.0)])
def test_same_answer_as_the_whole_of_a_small_grid(sigma):
    arguments = smeared(60, 3)
    both = np.broadcast_to(sigma, 2)
    as_given = sigma if isinstance(sigma, float) else torch.tensor([sigma] * 60)
    assert_same(solve(*arguments, **SMALL, sigma=as_given), arguments, **SMALL, sigma=both)


def test_same_answer_as_the_whole_published_grid():
    arguments = smeared(30, 4)
    options = {"etas": weighting.ETAS, "m_tops": weighting.M_TOPS}
    assert_same(solve(*arguments), arguments, **options, m_tt_min=300.0)


@pytest.mark.parametrize("m_tt_min", [400.0, 520.0])
def test_same_answer_with_a_veto_that_acts(m_tt_min):
    arguments = smeared(40, 5)
    result = solve(*arguments, **SMALL, m_tt_min=m_tt_min)
    assert_same(result, arguments, **SMALL, m_tt_min=m_tt_min)
    free = solve(*arguments, **SMALL, m_tt_min=0.0)
    assert (free.log_weight >= result.log_weight).all()
    assert (free.log_weight > result.log_weight).any()


def test_hypotheses_are_on_shell_and_weights_are_what_they_claim():
    plus, minus, jets, mask, met = smeared(200, 6)
    result = solve(plus, minus, jets, mask, met)
    row, valid = torch.arange(200), result.valid
    tops = [
        p + massless(nu) + jets[row, i]
        for p, nu, i in zip((plus, minus), result[:2], result.pairing.clip(0).T, strict=True)
    ]
    for top in tops:
        torch.testing.assert_close(kinematics.mass(top)[valid], result.m_top[valid], rtol=1e-6, atol=0)
    assert (kinematics.mass(tops[0] + tops[1])[valid] > 2 * result.m_top[valid] * (1 - 1e-6)).all()
    delta = (result.neutrino + result.antineutrino)[:, :2] - met
    log_w = -(delta**2).sum(-1) / 200
    torch.testing.assert_close(log_w[valid], result.log_weight[valid], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(result.weight[valid], log_w[valid].exp())
    assert mask[row[:, None], result.pairing][valid].all()


def test_exact_events_are_solved_exactly_where_the_grid_holds_the_truth():
    *arguments, nu, nubar = dilepton(300, 7)
    truth = torch.stack([kinematics.eta(massless(p)) for p in (nu, nubar)], 1)
    etas = torch.cat([truth[..., None], torch.linspace(-4, 4, 9).double().expand(300, 2, -1)], -1)
    result = solve(*arguments, etas=etas, m_tops=(M_TOP,), pairings=((0, 1),))
    close = (result.neutrino - nu).norm(dim=-1) < 1e-3 * nu.norm(dim=-1)
    assert close.float().mean() > 0.97
    assert result.log_weight.quantile(0.03) > -1e-6


def test_finer_grids_approach_an_exact_solution():
    *arguments, _, _ = dilepton(60, 8)
    missed = []
    for step in (0.4, 0.1, 0.025):
        grid = torch.arange(-4.8, 4.8001, step)
        result = solve(*arguments, etas=grid, m_tops=(M_TOP,), pairings=((0, 1),))
        missed.append(((result.neutrino + result.antineutrino)[:, :2] - arguments[4]).norm(dim=-1))
        assert result.valid.float().mean() > 0.9
    coarse, fine, finest = (z.nanmedian() for z in missed)
    assert fine < coarse / 3
    assert finest < fine / 3
    assert finest < 1.0


def rotated(p, angle):
    """Return momenta with x, y at −3, −2 (or all there is) turned about the beam."""
    at = 0 if p.shape[-1] < 4 else 1
    x, y = p[..., at], p[..., at + 1]
    turned = [x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)]
    return torch.cat([p[..., :at], torch.stack(turned, -1), p[..., at + 2 :]], -1)


def test_rotation_about_the_beam_turns_the_solution():
    plus, minus, jets, mask, met = smeared(50, 9)
    before = solve(plus, minus, jets, mask, met, **SMALL)
    after = solve(*(rotated(p, 1.1) for p in (plus, minus, jets)), mask, rotated(met, 1.1), **SMALL)
    torch.testing.assert_close(after.log_weight, before.log_weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(after.neutrino, rotated(before.neutrino, 1.1), rtol=1e-6, atol=1e-5, equal_nan=True)
    assert torch.equal(after.pairing, before.pairing)


def test_boost_along_the_beam_shifts_the_grid():
    plus, minus, jets, mask, met = smeared(50, 10)
    shift = 0.7

    def boosted(p):
        E, z = (
            p[..., 0] * f(shift) + p[..., 3] * g(shift) for f, g in ((math.cosh, math.sinh), (math.sinh, math.cosh))
        )
        return torch.stack([E, p[..., 1], p[..., 2], z], -1)

    etas = torch.tensor(SMALL["etas"])
    before = solve(plus, minus, jets, mask, met, etas=etas)
    after = solve(*map(boosted, (plus, minus, jets)), mask, met, etas=etas + shift)
    torch.testing.assert_close(after.log_weight, before.log_weight, rtol=1e-6, atol=1e-7)
    expected = boosted(massless(before.neutrino))[:, 1:]
    torch.testing.assert_close(after.neutrino, expected, rtol=1e-6, atol=1e-5, equal_nan=True)


def test_order_of_jets_does_not_matter():
    plus, minus, jets, mask, met = smeared(50, 11)
    order = torch.tensor([2, 0, 1])
    before = solve(plus, minus, jets, mask, met, **SMALL)
    after = solve(plus, minus, jets[:, order], mask[:, order], met, **SMALL)
    torch.testing.assert_close(after.log_weight, before.log_weight)
    valid = before.valid
    assert torch.equal(order[after.pairing[valid]], before.pairing[valid])


def test_charge_conjugation_swaps_everything():
    plus, minus, jets, mask, met = smeared(50, 12)
    before, after = solve(plus, minus, jets, mask, met, **SMALL), solve(minus, plus, jets, mask, met, **SMALL)
    torch.testing.assert_close(after.log_weight, before.log_weight)
    torch.testing.assert_close(after.neutrino, before.antineutrino, equal_nan=True)
    torch.testing.assert_close(after.antineutrino, before.neutrino, equal_nan=True)
    assert torch.equal(after.pairing, before.pairing.flip(1))


def test_events_do_not_see_one_another(monkeypatch):
    arguments = smeared(40, 13)
    together = solve(*arguments)
    monkeypatch.setattr(scan, "_POINTS", 1)
    for apart in (
        solve(*arguments),
        [torch.cat(z) for z in zip(*(solve(*(a[i : i + 1] for a in arguments)) for i in range(40)), strict=True)],
    ):
        for first, second in zip(together, apart, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("run", [1, 3, 7])
def test_boxes_change_nothing(run, monkeypatch):
    arguments = smeared(40, 14)
    before = solve(*arguments, **SMALL)
    monkeypatch.setattr(scan, "_RUN", run)
    torch.testing.assert_close(solve(*arguments, **SMALL).log_weight, before.log_weight, rtol=1e-12, atol=1e-12)


def test_a_grid_of_one_point():
    arguments = smeared(200, 15)
    options = {"etas": (0.3,), "m_tops": (172.5,)}
    result = solve(*arguments, **options, min_weight=0.0)
    for event in range(200):
        log_w, *_ = by_brute_force(*(z[event].numpy() for z in arguments), **options)
        assert result.log_weight[event].item() == pytest.approx(log_w, rel=1e-7, abs=1e-9)
    assert torch.equal(result.valid, result.log_weight > -math.inf)


def test_pairings_can_be_chosen():
    arguments = smeared(60, 16)
    every = solve(*arguments, **SMALL)
    pairs = list(permutations(range(3), 2))
    each = torch.stack([solve(*arguments, **SMALL, pairings=(pair,)).log_weight for pair in pairs], 1)
    torch.testing.assert_close(each.amax(1), every.log_weight)
    chosen = torch.tensor(pairs)[each.argmax(1)][:, None]
    torch.testing.assert_close(solve(*arguments, **SMALL, pairings=chosen).neutrino, every.neutrino, equal_nan=True)


def test_smearing_with_no_width_changes_nothing():
    plus, minus, jets, mask, met = smeared(40, 17)
    copies = weighting.smear_jets(jets, 3, seeded(0), scale=0.0)
    torch.testing.assert_close(copies, jets[:, None].expand(-1, 3, -1, -1))
    before, after = solve(plus, minus, jets, mask, met, **SMALL), solve(plus, minus, copies, mask, met, **SMALL)
    for first, second in zip(before[:7], after[:7], strict=True):
        torch.testing.assert_close(first, second, equal_nan=True)


def test_smears_are_hypotheses():
    plus, minus, jets, mask, met = smeared(60, 18)
    copies = weighting.smear_jets(jets, 5, seeded(1))
    result = solve(plus, minus, copies, mask, met, **SMALL)
    each = torch.stack([solve(plus, minus, copies[:, s], mask, met, **SMALL).log_weight for s in range(5)], 1)
    torch.testing.assert_close(result.log_weight, each.amax(1))
    valid = result.valid
    assert torch.equal(result.smear[valid], each.argmax(1)[valid])


def test_smears_have_their_widths():
    pt = torch.tensor([30.0, 45, 55, 65, 75, 100, 200], dtype=torch.float64)
    jets = kinematics.from_pt_eta_phi_mass(pt, pt / 100, pt / 50, 0.1 * pt)[None]
    factor = weighting.smear_jets(jets, 20_000, seeded(2))[0] / jets
    torch.testing.assert_close(factor[..., 0], factor[..., 3])
    widths = torch.tensor([0.13, 0.14, 0.12, 0.11, 0.09, 0.08, 0.06], dtype=torch.float64)
    assert_agrees(factor[..., 0].std(0) / widths, 1, 1 / 40_000**0.5)
    assert_agrees(factor[..., 0].mean(0), 1, widths / 20_000**0.5)


def test_drawn_etas_follow_their_leptons():
    plus, minus, jets, mask, met = smeared(30, 19)
    etas = weighting.draw_etas(plus, minus, 5000, seeded(3))
    pull = (etas - 0.7 * kinematics.eta(torch.stack([plus, minus], 1))[..., None] + 0.1) / 1.14
    assert pull.shape == (30, 2, 5000)
    assert_agrees(pull.mean(-1), 0, 1 / 5000**0.5)
    assert_agrees(pull.std(-1), 1, 1 / 10_000**0.5)
    few = etas[..., :20]
    result = solve(plus, minus, jets, mask, met, etas=few, m_tops=(172.5,))
    drawn = few[torch.arange(30), 0][result.valid]
    used = kinematics.eta(massless(result.neutrino))[result.valid]
    assert (drawn - used[:, None]).abs().amin(1).max() < 1e-6


def test_seeds_decide():
    plus, minus, jets, *_ = smeared(10, 20)
    for draw in (lambda g: weighting.smear_jets(jets, 5, g), lambda g: weighting.draw_etas(plus, minus, 9, g)):
        assert torch.equal(draw(seeded(1)), draw(seeded(1)))
        assert not torch.equal(draw(seeded(1)), draw(seeded(2)))


def test_relative_sigma():
    sigma = weighting.relative_sigma(torch.tensor([[50.0, -100.0], [0.0, 2.0]]))
    torch.testing.assert_close(sigma, torch.tensor([[10.0, 20.0], [1.0, 1.0]], dtype=torch.float64))


def test_map_peaks_at_the_solution():
    arguments = smeared(6, 21)
    result = solve(*arguments, **SMALL)
    etas = torch.tensor(SMALL["etas"])
    for event in range(6):
        plus, minus, jets, mask, met = (z[event] for z in arguments)
        weights = weighting.weight_map(plus, minus, jets[mask], met, **SMALL)
        assert weights.shape == (13, 13)
        torch.testing.assert_close(weights.max(), result.weight[event])
        if result.valid[event]:
            peak = torch.stack(torch.unravel_index(weights.argmax(), (13, 13)))
            used = [kinematics.eta(massless(p[event])) for p in result[:2]]
            torch.testing.assert_close(etas[peak], torch.stack(used))
    assert not weighting.weight_map(plus, minus, jets[:1], met, **SMALL).any()
    turned = weighting.weight_map(minus, plus, jets[mask], met, **SMALL)
    torch.testing.assert_close(turned.T, weights)


def test_hopeless_events_are_invalid_and_keep_their_log_weight():
    plus, minus, jets, mask, met = smeared(20, 22)
    result = solve(plus, minus, jets, mask, met + 1e5, **SMALL)
    assert not result.valid.any()
    assert not result.weight.any()
    assert (result.log_weight < -700).all()
    assert result.log_weight.isfinite().any()
    for values in (result.neutrino, result.antineutrino, result.m_top):
        assert values.isnan().all()
    assert (result.pairing == -1).all()
    kept = solve(plus, minus, jets, mask, met + 1e5, **SMALL, min_weight=0.0)
    assert torch.equal(kept.valid, kept.log_weight.isfinite())
    strict = solve(plus, minus, jets, mask, met, **SMALL, min_weight=0.5)
    assert torch.equal(strict.valid, strict.log_weight >= math.log(0.5))


def test_missing_jets_make_an_event_invalid():
    plus, minus, jets, mask, met = smeared(6, 23)
    whole = solve(plus, minus, jets, mask, met, **SMALL)
    mask[0], mask[1] = False, torch.tensor([True, False, False])
    jets = torch.where(mask[..., None], jets, math.nan)
    result = solve(plus, minus, jets, mask, met, **SMALL)
    assert not result.valid[:2].any()
    assert (result.log_weight[:2] == -math.inf).all()
    torch.testing.assert_close(result.log_weight[2:], whole.log_weight[2:])
    for n in (0, 1):
        assert not solve(plus, minus, jets[:, :n], mask[:, :n], met).valid.any()


def test_batches_of_none_and_single_precision():
    arguments = smeared(8, 24)
    empty = solve(*(z[:0] for z in arguments))
    assert [tuple(z.shape) for z in empty] == [(0, 3), (0, 3), (0,), (0,), (0,), (0, 2), (0,), (0,)]
    single = solve(*(z.float() if z.is_floating_point() else z for z in arguments), **SMALL)
    assert single.neutrino.dtype == torch.float64
    torch.testing.assert_close(single.log_weight, solve(*arguments, **SMALL).log_weight, rtol=1e-2, atol=1e-2)


def spoilt(position, change):
    arguments = list(smeared(4, 25))
    arguments[position] = change(arguments[position].clone())
    return arguments


def put(index, value):
    def change(z):
        z[index] = value
        return z

    return change


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, put((2, 1), math.nan), "lepton_plus: event 2 .*finite"),
        (1, put((1, 0), math.inf), "lepton_minus: event 1 .*finite"),
        (1, put(3, 0.0), "lepton_minus: event 3 .*no momentum"),
        (0, put((2, 0), 1.0), "lepton_plus: event 2 .*energy"),
        (2, put((1, 0, 2), math.nan), "jets: event 1 .*finite"),
        (2, put((3, 1), 0.0), "jets: event 3 .*no momentum"),
        (2, put((3, 1, 0), -50.0), "jets: event 3 .*energy"),
        (4, put((2, 0), math.nan), "met: event 2 .*finite"),
        (0, lambda z: z[:, :3], "lepton_plus: shape"),
        (1, lambda z: z[:3], "lepton_minus: shape"),
        (2, lambda z: z[:3], "jets: shape"),
        (2, lambda z: z[0], "jets: shape"),
        (3, lambda z: z[:, :2], "jet_mask: shape"),
        (4, lambda z: z[:, 0], "met: shape"),
    ],
)
def test_bad_events(position, change, message):
    with pytest.raises(InputError, match=message):
        solve(*spoilt(position, change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": torch.tensor([[1.0, 1], [1, 1], [-1, 1], [1, 1]])}, "sigma: event 2"),
        ({"sigma": math.nan}, "sigma"),
        ({"etas": ()}, "etas"),
        ({"etas": (0.0, math.nan)}, "etas"),
        ({"etas": torch.zeros(3, 2, 5)}, "etas: shape"),
        ({"m_tops": ()}, "m_tops"),
        ({"m_tops": (-1.0,)}, "m_tops"),
        ({"m_tops": (math.nan,)}, "m_tops"),
        ({"m_w": 0.0}, "m_w"),
        ({"m_tt_min": -1.0}, "m_tt_min"),
        ({"min_weight": 2.0}, "min_weight"),
        ({"pairings": ((0, 3),)}, "pairings: event 0"),
        ({"pairings": ((1, 1),)}, "pairings: event 0"),
        ({"pairings": torch.zeros(4, 1, 3)}, "pairings: shape"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InputError, match=message):
        solve(*smeared(4, 26), **options)


def test_other_bad_input():
    plus, minus, jets, mask, met = smeared(4, 27)
    minus[1] = plus[1]
    with pytest.raises(InputError, match="event 1 has the same momentum twice"):
        solve(plus, minus, jets, mask, met)
    with pytest.raises(InputError, match="n = 0"):
        weighting.draw_etas(plus, minus, 0, seeded(0))
    with pytest.raises(InputError, match="beam"):
        weighting.draw_etas(plus, torch.tensor([[5.0, 0, 0, 5]]).expand(4, 4), 3, seeded(0))
    for n, scale in ((0, 1.0), (1, -1.0), (1, math.nan)):
        with pytest.raises(InputError, match="scale"):
            weighting.smear_jets(jets, n, seeded(0), scale=scale)
    with pytest.raises(InputError, match="shape"):
        weighting.smear_jets(jets[0], 1, seeded(0))
