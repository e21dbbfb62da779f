"""Phase-space maps: exact both ways, with the volumes and Jacobians that they claim."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from chance import assert_agrees, assert_mean
from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.phase_space import (
    BreitWigner,
    DecayTree,
    Exchange,
    IncomingFractions,
    Leg,
    PowerLaw,
    RamboOnDiet,
    Split,
    from_lab,
    massless_volume,
    momentum_fractions,
    to_lab,
)

SQRT_S = 1000.0
T, H, B = 173.0, 125.0, 4.8


def unit(n, dims, seed=1):
    return torch.rand(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def top(b, lepton, neutrino, reach=math.inf):
    w = Split(Leg(lepton), Leg(neutrino), BreitWigner(80.4, 2.1, reach))
    return Split(Leg(b, B), w, BreitWigner(172.5, 1.33, reach))


MAPS = {
    "two massless": RamboOnDiet([0.0, 0.0]),
    "eight massless": RamboOnDiet([0.0] * 8),
    "two massive": RamboOnDiet([T, B]),
    "tth": RamboOnDiet([T, T, H]),
    "mixed": RamboOnDiet([0.0, T, 1e-3, H, 0.0]),
    "dilepton": DecayTree(Split(top(0, 1, 2), top(3, 4, 5), exchange=Exchange(172.5))),
    "within reach": DecayTree(Split(top(0, 1, 2, reach=10.0), top(3, 4, 5, reach=3.0))),
    "shuffled": DecayTree(Split(top(4, 0, 2), top(1, 5, 3))),
    "s-channel": DecayTree(Split(Split(Leg(1, T), Leg(0, T), PowerLaw(1.0)), Leg(2, H))),
    "t-channel": DecayTree(
        Split(Leg(1, T), Split(Leg(2, H), Leg(0, T), PowerLaw(0.5), Exchange(173.0, 0.7)), exchange=Exchange(T))
    ),
    "massless exchange": DecayTree(Split(Leg(0), Split(Leg(1), Leg(2)), exchange=Exchange(0.0, 0.7))),
}


@pytest.fixture(params=MAPS, ids=str)
def mapped(request):
    return MAPS[request.param]


def test_round_trip(mapped):
    r = unit(10_000, mapped.dims)
    momenta, weight = mapped.forward(r, SQRT_S)
    back, same = mapped.inverse(momenta)
    torch.testing.assert_close(back, r, rtol=0, atol=1e-9)
    torch.testing.assert_close(same, weight, rtol=1e-9, atol=0)
    again, _ = mapped.forward(back, SQRT_S)
    torch.testing.assert_close(again, momenta, rtol=0, atol=1e-9 * SQRT_S)


def test_momenta_balance_on_their_shells(mapped):
    momenta, weight = mapped.forward(unit(2000, mapped.dims), SQRT_S)
    total = torch.tensor([SQRT_S, 0, 0, 0], dtype=torch.float64).expand(2000, 4)
    torch.testing.assert_close(momenta.sum(1), total, rtol=0, atol=1e-10 * SQRT_S)
    excess = (kinematics.mass_squared(momenta) - mapped.masses**2).abs()
    assert (excess < 1e-11 * SQRT_S**2).all()
    assert (momenta[..., 0] > 0).all()
    assert (weight > 0).all()


def test_energy_may_differ_event_by_event(mapped):
    r = unit(20, mapped.dims)
    sqrt_s = torch.linspace(500, 5000, 20, dtype=torch.float64)
    momenta, weight = mapped.forward(r, sqrt_s)
    for i in (0, 7, 19):
        one, alone = mapped.forward(r[i : i + 1], float(sqrt_s[i]))
        torch.testing.assert_close(momenta[i], one[0])
        torch.testing.assert_close(weight[i], alone[0])
    torch.testing.assert_close(mapped.inverse(momenta)[0], r, rtol=0, atol=1e-9)


def test_edges_stay_finite_in_momenta(mapped):
    corners = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, mapped.dims)
    momenta, _ = mapped.forward(corners, SQRT_S)
    assert momenta.isfinite().all()
    assert mapped.inverse(momenta)[0].isfinite().all()


@pytest.mark.parametrize("n", range(2, 9))
def test_massless_weight_is_the_exact_volume(n):
    _, weight = RamboOnDiet([0.0] * n).forward(unit(10_000, 3 * n - 4, seed=n), SQRT_S)
    s = SQRT_S**2
    exact = (math.pi / 2) ** (n - 1) * s ** (n - 2) / (math.factorial(n - 1) * math.factorial(n - 2))
    torch.testing.assert_close(weight, torch.full_like(weight, exact), rtol=1e-9, atol=0)
    assert massless_volume(n, SQRT_S) == pytest.approx(exact, rel=1e-12)


def two_body_volume(mass, first, second):
    product = (mass**2 - (first + second) ** 2) * (mass**2 - (first - second) ** 2)
    return math.pi / 2 * math.sqrt(max(product, 0.0)) / mass**2


def volume(sqrt_s, masses):
    """Peel particles off one by one: Φ_n(M) = ∫ dM'² Φ_2(M; M', m) Φ_{n−1}(M'), by quadrature."""

    def below(total):
        return two_body_volume(total, masses[-2], masses[-1])

    rest = masses[-2] + masses[-1]
    for i, mass in enumerate(reversed(masses[:-2]), start=3):
        power = (3 * i - 5) / 2 - 1.5  # of the excess over threshold, so that what is interpolated is smooth

        def peel(total, mass=mass, rest=rest, below=below):
            span = total - mass - rest

            def integrand(x):  # excess span·sin²: smooth at both thresholds
                left = rest + span * math.sin(x) ** 2
                jacobian = 2 * left * 2 * span * math.sin(x) * math.cos(x)
                return jacobian * two_body_volume(total, left, mass) * below(left)

            return quad(integrand, 0, math.pi / 2, epsrel=1e-9, epsabs=0)[0] if span > 0 else 0.0

        rest += mass
        if i == len(masses):
            return peel(sqrt_s)
        grid = rest + (sqrt_s - rest) * np.sin(np.linspace(1e-3, math.pi / 2, 40)) ** 2
        table = CubicSpline(grid, [peel(total) / (total - rest) ** (power + 0.5) for total in grid])

        def below(total, table=table, rest=rest, power=power):
            return float(table(total)) * max(total - rest, 0.0) ** (power + 0.5)

    return below(sqrt_s)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_the_quadrature_knows_the_massless_volumes(n):
    assert volume(SQRT_S, [0.0] * n) == pytest.approx(massless_volume(n, SQRT_S), rel=1e-5)


@pytest.mark.parametrize("masses", [[T, B], [T, T, H], [B, B, H, 80.4], [T, T, H, B], [T, 0.0, H, T, B]], ids=str)
def test_massive_volume(masses):
    mapped = RamboOnDiet(masses)
    _, weight = mapped.forward(unit(400_000 if len(masses) == 5 else 200_000, mapped.dims, seed=3), SQRT_S)
    error = float(weight.std()) / len(weight) ** 0.5
    expected = volume(SQRT_S, masses)
    assert error < 1e-3 * expected
    assert_agrees(weight.mean(), expected, error, rounding=1e-5 * expected)


@pytest.mark.parametrize("name", ["s-channel", "t-channel"])
def test_trees_fill_the_same_volume(name):
    _, weight = MAPS[name].forward(unit(100_000, 5), SQRT_S)
    error = float(weight.std()) / len(weight) ** 0.5
    assert error < 5e-3 * weight.mean()
    assert_agrees(weight.mean(), volume(SQRT_S, [T, T, H]), error)


def test_breit_wigner_tree_flattens_its_propagators():
    """∫ dΦ_4 BW BW over both W's of a pair: the tree's weights hardly vary where flat phase space's do."""
    m, width, sqrt_s = 80.4, 2.1, 500.0

    def pole(p):
        return m * width / math.pi / ((kinematics.mass_squared(p) - m**2) ** 2 + (m * width) ** 2)

    def f(momenta):
        return pole(momenta[:, 0] + momenta[:, 1]) * pole(momenta[:, 2] + momenta[:, 3])

    w = [Split(Leg(i), Leg(i + 1), BreitWigner(m, width)) for i in (0, 2)]
    spread = {}
    for name, mapped in (("tree", DecayTree(Split(*w))), ("flat", RamboOnDiet([0.0] * 4))):
        momenta, weight = mapped.forward(unit(100_000, 8), sqrt_s)
        value = weight * f(momenta)
        spread[name] = float(value.mean()), float(value.std() / value.mean())

    def inner(s1):
        def outer(angle):
            s2 = m**2 + m * width * math.tan(angle)
            return two_body_volume(sqrt_s, math.sqrt(s1), math.sqrt(s2)) / math.pi

        top = math.atan(((sqrt_s - math.sqrt(s1)) ** 2 - m**2) / (m * width))
        return quad(outer, math.atan(-m / width), top, epsrel=1e-7)[0]

    def middle(angle):
        return inner(m**2 + m * width * math.tan(angle)) / math.pi

    exact = (math.pi / 2) ** 2 * quad(middle, math.atan(-m / width), math.atan((sqrt_s**2 - m**2) / (m * width)))[0]
    assert_agrees(spread["tree"][0] / exact, 1, spread["tree"][1] / 100_000**0.5)
    assert spread["tree"][1] < 0.1
    assert spread["flat"][1] > 5


def test_exchange_flattens_its_propagator():
    mapped = MAPS["dilepton"]
    plain = DecayTree(Split(top(0, 1, 2), top(3, 4, 5)))
    spread = []
    for one in (mapped, plain):
        momenta, weight = one.forward(unit(20_000, 14), 5000.0)
        first = momenta[:, :3].sum(1)
        t = kinematics.mass_squared(first - torch.tensor([2500.0, 0, 0, 2500.0], dtype=torch.float64))
        poles = [
            (kinematics.mass_squared(p) - m**2) ** 2 + (m * g) ** 2
            for i in (0, 3)
            for p, m, g in (
                (momenta[:, i : i + 3].sum(1), 172.5, 1.33),
                (momenta[:, i + 1 : i + 3].sum(1), 80.4, 2.1),
            )
        ]
        value = weight / (172.5**2 - t) / torch.stack(poles).prod(0)
        spread.append(float(value.std() / value.mean()))
    assert spread[0] < 0.6 * spread[1]


@pytest.mark.parametrize(
    ("tree", "unit_of_t", "legs", "mass", "exponent"),
    [
        (DecayTree(Split(Leg(0, T), Leg(1, H), exchange=Exchange(180.0, 0.7))), 0, [0], 180.0, 0.7),
        (MAPS["t-channel"], 3, [1, 2], 173.0, 0.7),
        (MAPS["massless exchange"], 1, [0], 0.0, 0.7),
    ],
)
def test_weight_follows_the_exchange(tree, unit_of_t, legs, mass, exponent):
    """Along the variable of t alone, the weight goes like (m² − t)^ν exactly."""
    r = unit(1, tree.dims, seed=6).repeat(200, 1)
    r[:, unit_of_t] = torch.linspace(0.01, 0.99, 200, dtype=torch.float64)
    momenta, weight = tree.forward(r, SQRT_S)
    incoming = torch.tensor([SQRT_S / 2, 0, 0, SQRT_S / 2], dtype=torch.float64)
    distance = mass**2 - kinematics.mass_squared(incoming - momenta[:, legs].sum(1))
    ratio = weight / distance**exponent
    torch.testing.assert_close(ratio, ratio[:1].expand(200), rtol=1e-9, atol=0)
    assert weight.max() > 1.5 * weight.min()


@pytest.mark.parametrize("name", ["tth", "mixed", "s-channel", "t-channel", "dilepton", "eight massless"])
def test_weight_is_autograds_jacobian(name):
    """dΦ = Π_{i<n−1} d³p_i/(2E_i) |q| dΩ/(4 M) for the last two in their rest frame: 3n − 4 coordinates."""
    mapped = MAPS[name]
    rows = unit(3, mapped.dims, seed=8)

    def coordinates(r):
        momenta = mapped.forward(r[None], SQRT_S)[0][0]
        pair = momenta[-2] + momenta[-1]
        m = kinematics.mass(pair)
        rest = kinematics.boost_between(momenta[-2], pair, torch.stack([m, *[torch.zeros_like(m)] * 3]))
        angles = torch.stack([rest[3] / rest[1:].norm(), torch.atan2(rest[2], rest[1])])
        return torch.cat([momenta[:-2, 1:].flatten(), angles])

    for r in rows:
        jacobian = torch.autograd.functional.jacobian(coordinates, r).det().abs()
        momenta, weight = mapped.forward(r[None], SQRT_S)
        pair = momenta[0, -2] + momenta[0, -1]
        m = kinematics.mass(pair)
        last = two_body_volume(float(m), *mapped.masses[-2:].tolist()) / (4 * math.pi)
        expected = jacobian * last / (2 * momenta[0, :-2, 0]).prod()
        torch.testing.assert_close(weight[0], expected, rtol=1e-7, atol=0)


def test_derivatives_of_momenta_and_weight(mapped):
    r = 0.1 + 0.8 * unit(2, mapped.dims, seed=4)
    energy = torch.tensor([900.0, 1500.0], dtype=torch.float64, requires_grad=True)

    def scaled(r, sqrt_s):
        momenta, weight = mapped.forward(r, sqrt_s)
        return momenta / SQRT_S, weight.log()

    torch.autograd.gradcheck(scaled, (r.requires_grad_(), energy), eps=1e-6, atol=1e-5, rtol=1e-4)


def test_inverse_is_differentiable():
    mapped = MAPS["tth"]
    r = unit(1, mapped.dims, seed=5)[0].requires_grad_()
    back = torch.autograd.functional.jacobian(lambda x: mapped.inverse(mapped.forward(x[None], SQRT_S)[0])[0][0], r)
    torch.testing.assert_close(back, torch.eye(mapped.dims, dtype=torch.float64), rtol=0, atol=1e-8)


def test_masses_may_differ_event_by_event():
    masses = torch.tensor([[173.0, 171.0, 125.0], [180.0, 160.0, 120.0]], dtype=torch.float64)
    r = unit(2, 5)
    momenta, weight = RamboOnDiet(masses).forward(r, SQRT_S)
    for i in range(2):
        one, alone = RamboOnDiet(masses[i]).forward(r[i : i + 1], SQRT_S)
        torch.testing.assert_close(momenta[i], one[0])
        torch.testing.assert_close(weight[i], alone[0])
    torch.testing.assert_close(RamboOnDiet(masses).inverse(momenta)[0], r, rtol=0, atol=1e-9)


def test_flat_momenta_are_isotropic_and_alike():
    """Massless particles of flat phase space share one energy spectrum, and each direction is uniform."""
    momenta, _ = MAPS["eight massless"].forward(unit(50_000, 20), 1.0)
    energy = momenta[..., 0]
    assert_mean(energy, 1 / 8)
    assert_mean((energy - 1 / 8) ** 2, energy.var(0).mean())
    cos = momenta[..., 1:] / energy[..., None]
    assert_agrees(cos.mean(0), 0, 1 / math.sqrt(3 * 50_000))
    assert_agrees(cos.square().mean(0), 1 / 3, math.sqrt(4 / 45 / 50_000))


@given(st.floats(1e-6, 0.5), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_fractions_round_trip_and_area(tau_min, exponent):
    fractions = IncomingFractions(tau_min, exponent)
    r = unit(400, 2)
    x, jacobian = fractions.forward(r)
    assert (x > 0).all()
    assert (x <= 1).all()
    assert (x.prod(1) >= tau_min * (1 - 1e-12)).all()
    back, same = fractions.inverse(x)
    torch.testing.assert_close(back, r, rtol=0, atol=1e-9)
    torch.testing.assert_close(same, jacobian, rtol=1e-9, atol=0)
    matrix = torch.autograd.functional.jacobian(lambda one: fractions.forward(one[None])[0][0], r[0])
    torch.testing.assert_close(matrix.det().abs(), jacobian[0], rtol=1e-9, atol=0)


def test_area_of_the_fractions():
    tau_min = 0.01
    for exponent in (0.0, 1.0):
        jacobian = IncomingFractions(tau_min, exponent).forward(unit(200_000, 2))[1]
        area = 1 - tau_min + tau_min * math.log(tau_min)
        assert_mean(jacobian, area)


def test_lab_momenta_carry_the_partons():
    x = IncomingFractions(0.01).forward(unit(50, 2))[0]
    beam = 6500.0
    momenta, _ = MAPS["tth"].forward(unit(50, 5), 2 * beam * x.prod(1).sqrt())
    lab = to_lab(momenta, x)
    total = lab.sum(1)
    torch.testing.assert_close(total[:, 0], beam * x.sum(1))
    torch.testing.assert_close(total[:, 3], beam * (x[:, 0] - x[:, 1]))
    torch.testing.assert_close(from_lab(lab, x), momenta)


TTH, TREE = MAPS["tth"], MAPS["s-channel"]
GOOD = TTH.forward(unit(3, 5), SQRT_S)[0]
OFF_SHELL, MOVING, LOST = GOOD.clone(), to_lab(GOOD, torch.tensor([[0.5, 0.4]] * 3)), GOOD.clone()
OFF_SHELL[1, 0, 0] += 1.0
LOST[2, 1, 1] = math.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RamboOnDiet([1.0]), r"masses: shape \(1,\)"),
        (lambda: RamboOnDiet([1.0, -1.0]), "masses: some are negative"),
        (lambda: RamboOnDiet([1.0, math.nan]), "not finite"),
        (lambda: TTH.forward(unit(3, 4), SQRT_S), r"r: shape \(3, 4\); \(events, 5\)"),
        (lambda: TTH.forward(unit(3, 5) + torch.eye(3, 5), SQRT_S), r"r: event 0 lies outside \[0, 1\]"),
        (lambda: TREE.forward(-unit(3, 5), SQRT_S), r"r: event 0 lies outside \[0, 1\]"),
        (lambda: TTH.forward(unit(3, 5) * math.nan, SQRT_S), "outside"),
        (lambda: TTH.forward(unit(3, 5), 471.0), "sqrt_s: event 0 has 471 GeV; .* above the masses' sum, 471"),
        (lambda: TREE.forward(unit(2, 5), torch.tensor([500.0, 400.0])), "sqrt_s: event 1 has 400 GeV"),
        (lambda: TTH.forward(unit(2, 5), torch.ones(3)), r"sqrt_s: shape \(3,\)"),
        (lambda: TTH.forward(unit(1, 5), math.inf), "must be finite"),
        (lambda: RamboOnDiet(torch.ones(2, 3)).forward(unit(3, 5), SQRT_S), "given for 2 events, but there are 3"),
        (lambda: RamboOnDiet(torch.ones(2, 3)).inverse(GOOD), "given for 2 events, but there are 3"),
        (lambda: TTH.inverse(GOOD[:, :2]), r"momenta: shape \(3, 2, 4\); \(events, 3, 4\)"),
        (lambda: TTH.inverse(OFF_SHELL), "momenta: event 1 is off the mass shells 173, 173, 125 GeV"),
        (lambda: TREE.inverse(GOOD.flip(1)), "off the mass shells 173, 173, 125 GeV"),
        (lambda: TTH.inverse(MOVING), "momenta: event 0 is not at rest"),
        (lambda: TTH.inverse(LOST), "momenta: event 2 is not finite"),
        (lambda: DecayTree(Split(Leg(0), Leg(2))), r"places \[0, 2\]"),
        (lambda: DecayTree(Split(Leg(0, -1.0), Leg(1))), "negative or not finite"),
        (lambda: DecayTree(Split(Split(Leg(0), Leg(1), exchange=Exchange(1.0)), Leg(2))), "an exchange must stand"),
        (lambda: Split(Leg(0), Leg(1), PowerLaw(1.0)), "exponent below 1"),
        (lambda: Exchange(0.0), "massless exchange"),
        (lambda: Exchange(-1.0), "not negative"),
        (lambda: BreitWigner(80.0, 0.0), "all must be positive"),
        (lambda: BreitWigner(80.0, 2.0, 0.0), "reach 0: all must be positive"),
        (lambda: PowerLaw(math.nan), "must be finite"),
        (lambda: IncomingFractions(1.5), "tau_min = 1.5"),
        (lambda: IncomingFractions(0.1).forward(unit(2, 3)), r"r: shape \(2, 3\)"),
        (lambda: IncomingFractions(0.1).inverse(torch.tensor([[0.5, 1.2]])), r"x: event 0 lies outside \(0, 1\]"),
        (lambda: IncomingFractions(0.1).inverse(torch.tensor([[0.5, 0.1]])), "below tau_min = 0.1"),
        (lambda: to_lab(GOOD, torch.tensor([0.5, 0.5])), r"x: shape \(2,\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_reach_of_a_breit_wigner():
    law = BreitWigner(172.5, 1.33, 4.0)
    low, high = torch.tensor(100.0**2), torch.tensor(500.0**2)
    r = unit(10_000, 1)[:, 0]
    s, jacobian = law.forward(r, low, high)
    assert float((s.sqrt() - 172.5).abs().max()) <= 4 * 1.33 * (1 + 1e-9)
    density = 1 / ((s - 172.5**2) ** 2 + (172.5 * 1.33) ** 2)
    ends = [math.atan(((172.5 + k * 1.33) ** 2 - 172.5**2) / (172.5 * 1.33)) for k in (-4, 4)]
    torch.testing.assert_close(jacobian * density, torch.full_like(r, (ends[1] - ends[0]) / (172.5 * 1.33)))
    assert law.inverse(torch.tensor([180.0**2]), low, high)[1].isinf()
    assert law.forward(r, low, torch.tensor(150.0**2))[1].eq(0).all()
    tree = DecayTree(Split(top(0, 1, 2, reach=10.0), top(3, 4, 5, reach=10.0)))
    assert tree.threshold == pytest.approx(2 * (172.5 - 13.3))
    wide = DecayTree(Split(top(0, 1, 2), top(3, 4, 5)))
    momenta, weight = wide.forward(unit(3000, wide.dims), SQRT_S)
    masses = kinematics.mass(torch.stack([momenta[:, :3].sum(1), momenta[:, 3:].sum(1)], 1))
    bosons = kinematics.mass(torch.stack([momenta[:, 1:3].sum(1), momenta[:, 4:].sum(1)], 1))
    inside = ((masses - 172.5).abs() < 13.3).all(1) & ((bosons - 80.4).abs() < 21).all(1)
    weight_back = tree.inverse(momenta)[1]
    assert weight_back[inside].isfinite().all()
    assert weight_back[~inside].isinf().all()
    assert 0.5 < inside.double().mean() < 0.95
    assert (weight_back[inside] < weight[inside]).all()


@given(x1=st.floats(1e-4, 1.0), x2=st.floats(1e-4, 1.0))
def test_momentum_fractions_are_those_of_the_partons(x1, x2):
    x, half = torch.tensor([x1, x2]).double(), SQRT_S / 2
    total = half * torch.stack([x[0] + x[1], *torch.zeros(2).double(), x[0] - x[1]])
    torch.testing.assert_close(momentum_fractions(total, SQRT_S), x, rtol=1e-10, atol=0)
    resting = from_lab(total[None, None], x[None])[0, 0]
    torch.testing.assert_close(resting[0], SQRT_S * x.prod().sqrt(), rtol=1e-10, atol=0)
    assert abs(resting[3]) < 1e-9 * resting[0]
