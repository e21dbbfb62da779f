import math
import runpy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import crossings, ellipse, quartic
from rewind.physics.constants import M_TOP, M_W

BENCHMARK = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "ellipse.py"))
exact_events, smeared, nearest = (BENCHMARK[name] for name in ("exact_events", "smeared", "nearest"))
ROUTES = pytest.mark.parametrize("route", [ellipse, quartic], ids=["ellipse", "quartic"])
SHARE = {ellipse: 1.0, quartic: 0.999}  # the quartic loses digits where a lepton and its b have nearly the same E/p_z
EXACT, TRUTH = exact_events(5000, seed=11)
MIX = smeared(EXACT, seed=12)
LEGS = (("lepton_plus", "bottom"), ("lepton_minus", "antibottom"))


def massless(p):
    return torch.cat([p.norm(dim=-1, keepdim=True), p], -1)


def on_circle(t):
    """Return (cos t, sin t, 1)."""
    return torch.tensor([math.cos(t), math.sin(t), 1.0], dtype=torch.float64)


def assert_constraints_hold(event, solutions, m_top=M_TOP, m_w=M_W, tolerance=1e-6, share=1.0):
    """All valid solutions, or that share of them, have the masses and the transverse sum asked for."""
    valid = solutions.valid
    masses = [torch.as_tensor(m, dtype=torch.float64).expand(len(valid), 2) for m in (m_top, m_w)]
    for leg, (nu, names) in enumerate(zip((solutions.neutrino, solutions.antineutrino), LEGS, strict=True)):
        lepton, b = (event[name][:, None] for name in names)
        w = lepton + massless(nu)
        for p, mass in ((w + b, masses[0]), (w, masses[1])):
            rounding = 1e-13 * p[..., 0] ** 2
            off = kinematics.mass_squared(p) - mass[:, leg, None] ** 2
            good = off.abs() < tolerance * mass[:, leg, None] ** 2 + rounding
            assert not valid.any() or good[valid].double().mean() >= share
        assert nu[~valid].isnan().all()
    total = (solutions.neutrino + solutions.antineutrino)[..., :2]
    assert ((total - event["met"][:, None]).abs().amax(-1) < 1e-6)[valid].all()


@ROUTES
@pytest.mark.parametrize("m_lepton", [0.0, 0.10566, 1.777])
@pytest.mark.parametrize("m_b", [1e-6, 4.8, 12.0])
def test_truth_is_among_the_solutions(route, m_lepton, m_b):
    event, truth = exact_events(2000, seed=1, m_lepton=m_lepton, m_b=m_b)
    solutions = route.solve(**event)
    assert (nearest(solutions, truth) < 1e-6).double().mean() > 0.999
    assert_constraints_hold(event, solutions, share=SHARE[route])


@ROUTES
def test_solutions_of_smeared_events_satisfy_the_constraints(route):
    assert_constraints_hold(MIX, route.solve(**MIX), share=SHARE[route])


@pytest.mark.parametrize("event", [EXACT, MIX], ids=["exact", "smeared"])
def test_both_routes_find_the_same(event):
    mine, theirs = ellipse.solve(**event), quartic.solve(**event)
    assert set(mine.count.tolist()) <= {0, 2, 4}
    agree = mine.count == theirs.count
    assert agree.double().mean() > 0.999
    order = mine.neutrino[..., 0].nan_to_num(math.inf).argsort(1)  # the quartic's
    pairs = torch.stack([mine.neutrino, mine.antineutrino], 2)
    pairs = pairs.gather(1, order[..., None, None].expand_as(pairs))
    apart = (pairs - torch.stack([theirs.neutrino, theirs.antineutrino], 2)).norm(dim=(2, 3))
    assert (apart[agree].nan_to_num(0.0).amax(1) < 1e-3).double().mean() > 0.999


@ROUTES
def test_masses_by_event_and_leg(route):
    generator = torch.Generator().manual_seed(3)
    m_top = 172.5 + 3 * torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    m_w = 80.4 + 2 * torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    event, truth = exact_events(1000, seed=4, m_top=m_top, m_w=m_w)
    solutions = route.solve(**event, m_top=m_top, m_w=m_w)
    assert (nearest(solutions, truth) < 1e-6).double().mean() > 0.999
    assert_constraints_hold(event, solutions, m_top, m_w, share=SHARE[route])
    one_mass, truth = exact_events(1000, seed=4, m_top=m_top[:, :1].expand(-1, 2))
    assert (nearest(route.solve(**one_mass, m_top=m_top[:, 0]), truth) < 1e-6).double().mean() > 0.999


def turned(p, angle):
    """Rotate the x and y of the vectors ``(..., 2 or more)`` that start with them."""
    x, y = p[..., 0], p[..., 1]
    c, s = math.cos(angle), math.sin(angle)
    return torch.cat([torch.stack([c * x - s * y, s * x + c * y], -1), p[..., 2:]], -1)


def boosted(p, rapidity):
    c, s = math.cosh(rapidity), math.sinh(rapidity)
    return torch.stack([c * p[..., 0] + s * p[..., 3], p[..., 1], p[..., 2], s * p[..., 0] + c * p[..., 3]], -1)


def assert_same_pairs(answer, expected):
    pairs = [torch.stack([s[0], s[1]], 2) for s in (answer, expected)]
    same_count = (pairs[0].isnan() == pairs[1].isnan()).all((1, 2, 3) if pairs[0].ndim == 4 else (1, 2))
    assert same_count.double().mean() > 0.999
    scale = 1 + pairs[1].nan_to_num(0.0).abs().flatten(1).amax(1)
    off = (pairs[0] - pairs[1]).nan_to_num(0.0).abs().flatten(1).amax(1)
    assert (off / scale < 1e-6)[same_count].double().mean() > 0.999


@pytest.mark.parametrize("angle", [0.7, 2.9])
def test_rotations_about_the_beam_carry_the_solutions_along(angle):
    event = {
        name: turned(p, angle) if name == "met" else torch.cat([p[:, :1], turned(p[:, 1:], angle)], 1)
        for name, p in MIX.items()
    }
    before, after = ellipse.solve(**MIX), ellipse.solve(**event)
    expected = [turned(nu, angle) for nu in (before.neutrino, before.antineutrino)]
    assert_same_pairs((after.neutrino, after.antineutrino), expected)
    assert ((after.distance - before.distance).nan_to_num(0.0).abs() < 1e-6).double().mean() > 0.999
    assert torch.equal(after.has_ellipse, before.has_ellipse)


@pytest.mark.parametrize("rapidity", [-1.5, 0.6])
def test_boosts_along_the_beam_carry_the_solutions_along(rapidity):
    event = {name: p if name == "met" else boosted(p, rapidity) for name, p in MIX.items()}
    before, after = ellipse.solve(**MIX), ellipse.solve(**event)
    expected = [boosted(massless(nu), rapidity)[..., 1:] for nu in (before.neutrino, before.antineutrino)]
    assert_same_pairs((after.neutrino, after.antineutrino), expected)
    assert ((after.distance - before.distance).nan_to_num(0.0).abs() < 1e-6).double().mean() > 0.999


def test_exchanged_legs_exchange_the_solutions():
    exchanged = {mine: MIX[theirs] for mine, theirs in zip(sum(LEGS, ()), sum(LEGS[::-1], ()), strict=True)}
    before, after = ellipse.solve(**MIX), ellipse.solve(**exchanged, met=MIX["met"])
    assert_same_pairs((after.antineutrino, after.neutrino), (before.neutrino, before.antineutrino))
    assert torch.equal(after.has_ellipse, before.has_ellipse.flip(1))


def test_solutions_are_in_order_and_the_first_is_the_closest():
    solutions = ellipse.solve(**EXACT)
    visible = sum(EXACT[name] for names in LEGS for name in names)[:, None]
    m_tt = kinematics.mass(visible + massless(solutions.neutrino) + massless(solutions.antineutrino))
    step = m_tt.diff(dim=1)
    assert (step[~step.isnan()] > -1e-9).all()
    assert (solutions.valid.long().diff(dim=1) <= 0).all()
    solved = solutions.is_solved
    assert torch.equal(solutions.closest_neutrino[solved], solutions.neutrino[solved, 0])
    assert torch.equal(solutions.closest_antineutrino[solved], solutions.antineutrino[solved, 0])
    assert (solutions.distance[solved] == 0).all()


@pytest.mark.parametrize("legs", LEGS)
def test_leg_ellipse_satisfies_both_masses(legs):
    lepton, b = (MIX[name] for name in legs)
    leg = ellipse.leg_ellipse(lepton, b)
    t = torch.linspace(0, 2 * math.pi, 13, dtype=torch.float64)
    nu = leg.point(t)
    assert nu.shape == (len(lepton), 13, 3)
    w = lepton[:, None] + massless(nu)
    for p, mass in ((w, M_W), (w + b[:, None], M_TOP)):
        off = kinematics.mass_squared(p) - mass**2
        assert (off.abs() < 1e-6 * mass**2 + 1e-13 * p[..., 0] ** 2)[leg.is_real].all()
    assert nu[~leg.is_real].isnan().all()
    assert 0.01 < (~leg.is_real).double().mean() < 0.2
    torch.testing.assert_close(leg.point(0.4), leg.H @ on_circle(0.4), equal_nan=True)
    torch.testing.assert_close(leg.point(t.expand(len(lepton), 13)), nu, equal_nan=True)


def test_true_neutrinos_lie_on_the_ellipse():
    for leg, (lepton, b) in enumerate(LEGS):
        H = ellipse.leg_ellipse(EXACT[lepton], EXACT[b]).H
        circle = torch.linalg.solve(H, TRUTH[:, leg])
        good = torch.linalg.cond(H) < 1e6
        assert good.double().mean() > 0.9
        torch.testing.assert_close(
            circle[good, 2], torch.ones(len(circle), dtype=torch.float64)[good], atol=1e-6, rtol=0
        )
        torch.testing.assert_close(circle[good, :2].norm(dim=1), circle[good, 2], atol=1e-6, rtol=0)


def test_masses_that_exclude_each_other_have_no_ellipse():
    for m_top, m_w, names in ((85.0, M_W, ("m_top",)), (M_TOP, 170.0, ("m_w",)), (60.0, M_W, ("m_top",))):
        solutions = ellipse.solve(**EXACT, m_top=m_top, m_w=m_w)
        assert not solutions.has_ellipse.any(), names
        assert not solutions.valid.any()
        for nu in (solutions.neutrino, solutions.closest_neutrino, solutions.closest_antineutrino):
            assert nu.isnan().all()
        assert solutions.distance.isnan().all()
    one_leg = ellipse.solve(**EXACT, m_top=torch.tensor([[M_TOP, 84.0]]).expand(5000, 2))
    assert one_leg.has_ellipse[:, 0].all()
    assert not one_leg.has_ellipse[:, 1].any()
    assert one_leg.closest_neutrino.isnan().all()
    heavy, _ = exact_events(100, seed=6, m_lepton=1.777)
    assert not ellipse.solve(**heavy, m_w=1.5).has_ellipse.any()


def test_threshold_is_where_the_ellipse_begins():
    """The heaviest b-lepton pair of a top decay has m² = m_t² − m_W² at m_b = m_ℓ = 0."""
    limit2 = M_TOP**2 - M_W**2
    energy = torch.linspace(0.99, 1.01, 21, dtype=torch.float64) * limit2**0.5 / 2
    lepton = torch.stack([energy, energy, 0 * energy, 0 * energy], 1)
    leg = ellipse.leg_ellipse(lepton, lepton * torch.tensor([1, -1, 1, 1]))
    assert torch.equal(leg.is_real, 4 * energy**2 < limit2 * (1 + 1e-12))


def missed(event):
    solutions = ellipse.solve(**event)
    return solutions, solutions.has_ellipse.all(1) & ~solutions.is_solved


@pytest.mark.parametrize(("jets", "met"), [(0.02, 5.0), (0.12, 20.0), (0.3, 80.0)])
def test_closest_approach_is_global(jets, met):
    """No pair on a dense grid of both angles, refined around its best, comes closer."""
    event = smeared(EXACT, 21, jets, met)
    solutions, index = missed(event)
    index = index.nonzero()[:50, 0]
    reference = BENCHMARK["least_distance"]({name: p[index] for name, p in event.items()}, n_angles=500)
    assert (solutions.distance[index] < reference + 1e-3).all()


@pytest.mark.parametrize(("jets", "met"), [(0.02, 5.0), (0.12, 20.0), (0.3, 80.0)])
def test_more_starts_find_nothing_closer(jets, met, monkeypatch):
    event = smeared(EXACT, 22, jets, met)
    solutions, index = missed(event)
    monkeypatch.setattr(crossings, "_GRID", 300)
    closer = solutions.distance - ellipse.solve(**event).distance
    assert (closer[index] < 1e-3).double().mean() > 0.999


def test_closest_pair_lies_on_the_ellipses_at_its_distance():
    solutions, index = missed(MIX)
    assert index.sum() > 500
    nu = (solutions.closest_neutrino, solutions.closest_antineutrino)
    gap = (nu[0] + nu[1])[:, :2] - MIX["met"]
    torch.testing.assert_close(gap.norm(dim=1)[index], solutions.distance[index], rtol=1e-9, atol=1e-9)
    for p, (lepton, b) in zip(nu, LEGS, strict=True):
        w = MIX[lepton] + massless(p)
        for system, mass in ((w, M_W), (w + MIX[b], M_TOP)):
            off = (kinematics.mass_squared(system) - mass**2)[index].abs()
            assert (off < 1e-6 * mass**2 + 1e-13 * system[index, 0] ** 2).all()


def test_distance_vanishes_continuously():
    """From a missed event towards one of its ellipses, the distance falls by the length of the way and then is zero."""
    solutions, index = missed(MIX)
    index = index.nonzero()[:200, 0]
    event = {name: p[index] for name, p in MIX.items()}
    gap = (solutions.closest_neutrino + solutions.closest_antineutrino)[index, :2] - event["met"]
    halfway = ellipse.solve(**event | {"met": event["met"] + gap / 2})
    torch.testing.assert_close(halfway.distance, solutions.distance[index] / 2, rtol=1e-6, atol=1e-7)
    beyond = ellipse.solve(**event | {"met": event["met"] + gap * (1 + 1e-6)})
    assert (beyond.is_solved | (beyond.distance < 1e-3)).all()


momentum = st.tuples(*[st.floats(-200, 200)] * 3).filter(lambda p: math.hypot(*p) > 5)
angles = st.tuples(*[st.floats(0, 2 * math.pi)] * 2)


@given(st.lists(momentum, min_size=4, max_size=4, unique=True), angles, st.booleans())
def test_any_point_of_both_ellipses_is_found(momenta, t, is_central):
    """Also where the ellipses are seen edge-on, because nothing measured has a p_z."""
    p = torch.tensor(momenta, dtype=torch.float64)
    if is_central:
        p[:, 2] = 0.0
    if (p.norm(dim=1) < 1).any() or len(p.unique(dim=0)) < 4:
        return
    p = torch.cat([(p.square().sum(1, keepdim=True) + 4.8**2).sqrt(), p], 1)
    lepton_plus, lepton_minus, bottom, antibottom = p[:, None]
    legs = [ellipse.leg_ellipse(lepton_plus, bottom), ellipse.leg_ellipse(lepton_minus, antibottom)]
    if not all(leg.is_real for leg in legs):
        return
    nu = torch.stack([leg.point(angle) for leg, angle in zip(legs, t, strict=True)], 1)
    solutions = ellipse.solve(lepton_plus, lepton_minus, bottom, antibottom, nu.sum(1)[:, :2])
    scale = float(torch.cat([leg.H for leg in legs]).abs().max())
    event = dict(zip(("lepton_plus", "lepton_minus", "bottom", "antibottom"), p[:, None], strict=True))
    assert_constraints_hold(event | {"met": nu.sum(1)[:, :2]}, solutions, tolerance=1e-5)
    slopes = [leg.point(angle + math.pi / 2) - leg.H[..., 2] for leg, angle in zip(legs, t, strict=True)]
    crossing = torch.linalg.svdvals(torch.cat(slopes)[:, :2])
    if crossing[1] < 0.02 * scale:  # where ellipses almost touch, rounding decides whether they do
        return
    pairs = torch.stack([solutions.neutrino, solutions.antineutrino], 2)[solutions.valid]
    assert (pairs - nu).norm(dim=(1, 2)).min() < 1e-4 * scale


def test_edge_on_ellipses_that_touch_are_no_false_solutions():
    """Both neutrinos at the ends of what look like lines: all that is called a solution is one."""
    p = torch.tensor([[0.0, 6.0, 0.0], [0.0, 7.0, 0.0], [5.0, 1.0, 0.0], [6.0, 0.0, 0.0]], dtype=torch.float64)
    names = ("lepton_plus", "lepton_minus", "bottom", "antibottom")
    event = dict(zip(names, torch.cat([(p.square().sum(1, keepdim=True) + 4.8**2).sqrt(), p], 1)[:, None], strict=True))
    legs = [ellipse.leg_ellipse(event[lepton], event[b]) for lepton, b in LEGS]
    event["met"] = sum(leg.point(torch.zeros(1, dtype=torch.float64)).reshape(1, 3)[:, :2] for leg in legs)
    assert_constraints_hold(event, ellipse.solve(**event), tolerance=1e-5)


def test_collinear_lepton_and_b():
    """The ellipse is a circle around their common axis."""
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    b = torch.cat([torch.tensor([(80.0**2 + 4.8**2) ** 0.5], dtype=torch.float64), 80 * direction])[None]
    lepton = torch.cat([torch.tensor([50.0], dtype=torch.float64), 50 * direction])[None]
    for nudge in (0.0, 1e-14, 1e-9, 1e-5):
        moved = lepton + torch.tensor([0.0, 0.0, 50 * nudge, 0.0])
        moved[:, 0] = moved[:, 1:].norm(dim=1)
        leg = ellipse.leg_ellipse(moved, b, m_top=400.0)
        assert leg.is_real
        nu = leg.point(torch.linspace(0, 6, 7, dtype=torch.float64))
        assert ((nu @ direction - (nu @ direction).mean()).abs() < 1 * nudge**0.5 * nu.norm() + 1e-6).all()
        for p, mass in ((moved + massless(nu), M_W), (moved + massless(nu) + b, 400.0)):
            torch.testing.assert_close(
                kinematics.mass(p), torch.full((1, 7), mass, dtype=torch.float64), rtol=1e-6, atol=0
            )


def test_single_precision_and_chunks(monkeypatch):
    rounded = {name: p[:1000].float() for name, p in MIX.items()}
    single, double = ellipse.solve(**rounded), ellipse.solve(**{name: p.double() for name, p in rounded.items()})
    torch.testing.assert_close(single.neutrino, double.neutrino, equal_nan=True)
    monkeypatch.setattr(ellipse, "_CHUNK", 300)
    pieces = ellipse.solve(**rounded)
    torch.testing.assert_close(pieces.closest_neutrino, single.closest_neutrino, rtol=1e-6, atol=1e-5, equal_nan=True)
    assert torch.equal(pieces.valid, single.valid)


@ROUTES
def test_empty_and_single(route):
    empty = route.solve(*[torch.zeros(0, 4)] * 4, torch.zeros(0, 2))
    assert (empty.neutrino.shape, empty.antineutrino.shape, empty.valid.shape) == ((0, 4, 3), (0, 4, 3), (0, 4))
    assert empty.count.shape == (0,)
    whole = route.solve(**{name: p[:20] for name, p in MIX.items()})
    for i in range(20):
        one = route.solve(**{name: p[i : i + 1] for name, p in MIX.items()})
        torch.testing.assert_close(one.neutrino[0], whole.neutrino[i], equal_nan=True)


def test_empty_has_the_shapes_of_the_closest_pair():
    empty = ellipse.solve(*[torch.zeros(0, 4)] * 4, torch.zeros(0, 2))
    assert (empty.closest_neutrino.shape, empty.has_ellipse.shape, empty.distance.shape) == ((0, 3), (0, 2), (0,))
    assert ellipse.leg_ellipse(torch.zeros(0, 4), torch.zeros(0, 4)).H.shape == (0, 3, 3)


def altered(name, event, value):
    p = EXACT[name][:10].clone()
    p[event] = value
    return {name: p}


@ROUTES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bottom": torch.ones(10, 3)}, r"bottom: shape \(10, 3\); \(10, 4\)"),
        ({"lepton_minus": EXACT["lepton_minus"][:9]}, r"lepton_minus: shape \(9, 4\); \(10, 4\)"),
        ({"met": torch.zeros(10)}, r"met: shape \(10,\); \(10, 2\)"),
        (altered("antibottom", 7, math.nan), "antibottom: event 7 is not finite"),
        (altered("met", 3, math.inf), "met: event 3 is not finite"),
        (altered("lepton_plus", 4, 0.0), "lepton_plus: event 4 has no momentum"),
        (altered("bottom", 5, torch.tensor([9.0, 10.0, 0.0, 0.0])), r"bottom: event 5 has E < \|p\|"),
        (altered("lepton_minus", 2, EXACT["lepton_plus"][2]), "lepton_plus and lepton_minus: event 2"),
        (altered("antibottom", 6, EXACT["bottom"][6]), "bottom and antibottom: event 6"),
        ({"m_top": 0.0}, "m_top = 0: a finite, positive mass"),
        ({"m_w": torch.full((10, 2), math.nan)}, "m_w: event 0 is not a finite, positive mass"),
        ({"m_top": torch.ones(10, 3)}, r"m_top: shape \(10, 3\); one of \(\), \(10,\), \(10, 2\)"),
    ],
)
def test_bad_input(route, change, message):
    with pytest.raises(InputError, match=message):
        route.solve(**({name: p[:10] for name, p in EXACT.items()} | change))
