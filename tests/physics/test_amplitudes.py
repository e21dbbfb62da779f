import dataclasses
import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics import amplitudes, constants
from rewind.physics.amplitudes import currents, squares
from rewind.physics.amplitudes.currents import LAMBDA

REFERENCE = json.loads((Path(__file__).parent / "me_reference.json").read_text())
SETS = {entry["name"]: entry for entry in REFERENCE["sets"]}
ZERO_WIDTHS = dataclasses.replace(amplitudes.DEFAULT, w_t=0.0, w_h=0.0)
GS4 = (4 * math.pi * amplitudes.DEFAULT.alpha_s) ** 2
CP_AND_DIPOLE = {"alpha": 0.6, "c_tg": 0.8}
UNDECAYED = [f"{incoming}_{pair}" for incoming, pair in product(("gg", "uux"), ("tt", "tth"))]


def relative(value, expected):
    return ((value - expected) / expected).abs().max().item()


def uniform(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boosted(p, frame):
    """Return ``p``, given in the rest frame of ``frame``, in the system where ``frame`` is given."""
    rest = torch.zeros_like(frame)
    rest[..., 0] = kinematics.mass(frame)
    return kinematics.boost_between(p, rest, frame)


def two_body(p, masses, seed):
    """Return both products ``(B, 2, 4)`` of an isotropic decay of ``p`` ``(B, 4)``."""
    m, (first, second) = kinematics.mass(p), masses
    size = ((m**2 - (first + second) ** 2) * (m**2 - (first - second) ** 2)).sqrt() / (2 * m)
    z, phi = 2 * uniform(len(p), seed=seed) - 1, 2 * math.pi * uniform(len(p), seed=seed + 100)
    rho = (1 - z * z).sqrt()
    momentum = size[:, None] * torch.stack([rho * phi.cos(), rho * phi.sin(), z], 1)
    legs = [
        torch.cat([(size**2 + mass**2).sqrt()[:, None], sign * momentum], 1)
        for mass, sign in ((first, 1), (second, -1))
    ]
    return boosted(torch.stack(legs, 1), p[:, None])


def points(process):
    """Return the reference file's momenta of a process; those of its decays that are not in there are drawn."""
    pair = process.removesuffix("_bb")
    name = pair.replace("semilep", "dilep")
    p = torch.tensor(SETS[name if name in SETS else f"{name}_cp"]["momenta"], dtype=torch.float64)
    if process == pair:
        return p
    m_b = amplitudes.DEFAULT.m_b
    return torch.cat([p[:, :-1], two_body(p[:, -1], (m_b, m_b), seed=7)], 1)


def decayed(undecayed, parameters):
    """Return the momenta of a dilepton chain with both tops and both W on their mass shells."""
    legs = []
    for i in (2, 3):
        b, w = two_body(undecayed[:, i], (parameters.m_b, parameters.m_w), seed=i).unbind(1)
        lepton, neutrino = two_body(w, (0.0, 0.0), seed=10 + i).unbind(1)
        legs += [lepton, neutrino, b]
    return torch.cat([undecayed[:, :2], torch.stack(legs, 1), undecayed[:, 4:]], 1)


def mirrored(legs):
    """Return decay products with their momenta reversed in the rest frame of their sum."""
    total = legs.sum(1, keepdim=True)
    rest = torch.zeros_like(total)
    rest[..., 0] = kinematics.mass(total)
    at_rest = kinematics.boost_between(legs, total, rest)
    at_rest[..., 1:] *= -1
    return kinematics.boost_between(at_rest, rest, total)


@pytest.mark.parametrize(("name", "result"), [(name, result) for name in SETS for result in SETS[name]["results"]])
def test_reference(name, result):
    expected = SETS[name]["results"][result]
    changes = expected["param_changes"]
    fields = {"mass:5": "m_b", "DECAY:6": "w_t", "DECAY:25": "w_h"}
    parameters = dataclasses.replace(
        amplitudes.DEFAULT, **{field: changes[key] for key, field in fields.items() if key in changes}
    )
    value = amplitudes.squared(
        name.removesuffix("_cp").removesuffix("_ctG").removesuffix("_mb0"),
        torch.tensor(SETS[name]["momenta"], dtype=torch.float64),
        alpha=changes.get("cptg:1", 0.0),
        c_tg=changes.get("cptg:2", 0.0),
        parameters=parameters,
    )
    assert relative(value, torch.tensor(expected["me2"], dtype=torch.float64)) < 1e-9


def test_default_parameters_are_those_of_the_reference():
    names, derived = REFERENCE["parameters"], REFERENCE["parameters"]["derived"]
    p = amplitudes.DEFAULT
    assert [p.m_t, p.w_t, p.m_t_yukawa, p.m_b, p.m_b_yukawa] == [names[key] for key in ("MT", "WT", "ymt", "MB", "ymb")]
    assert [p.m_h, p.w_h, p.w_w, p.alpha_s, p.g_f] == [names[key] for key in ("MH", "WH", "WW", "alpha_s", "Gf")]
    assert p.m_w == pytest.approx(derived["MW"], rel=1e-12)
    assert p.vev == pytest.approx(derived["vev"], rel=1e-12)
    assert p.sin2_theta_w == pytest.approx(derived["sw2"], rel=1e-12)


def test_parameters_from_the_table_of_constants():
    p = amplitudes.Parameters.from_constants(m_b=0.0)
    assert (p.m_t, p.m_t_yukawa, p.w_t, p.m_w) == (constants.M_TOP, constants.M_TOP, constants.W_TOP, constants.M_W)
    assert (p.m_b, p.m_b_yukawa, p.alpha_s) == (0.0, constants.M_B, constants.ALPHA_S)


def test_textbook_top_pairs():
    # Ellis, Stirling, Webber, QCD and Collider Physics, table 10.2; linear terms in c_tG: 1010.6304
    p = points("gg_tt")
    s = kinematics.mass_squared(p[:, 0] + p[:, 1])
    tau1, tau2 = (
        (s - kinematics.mass_squared(p[:, i] - p[:, 3]) + kinematics.mass_squared(p[:, i] - p[:, 2])) / 2 / s
        for i in (0, 1)
    )
    rho = 4 * 173.0**2 / s
    gluons = 1 / (6 * tau1 * tau2) - 3 / 8
    expected = {
        "gg_tt": gluons * (tau1**2 + tau2**2 + rho - rho**2 / (4 * tau1 * tau2)),
        "uux_tt": 4 / 9 * (tau1**2 + tau2**2 + rho / 2),
    }
    linear = {"gg_tt": 4 * 2**0.5 * gluons, "uux_tt": 16 * 2**0.5 / 9}
    for process in expected:
        minus, middle, plus = (
            amplitudes.squared(process, p, c_tg=c, parameters=ZERO_WIDTHS) / GS4 for c in (-1.0, 0.0, 1.0)
        )
        assert relative(middle, expected[process]) < 1e-9
        assert relative((plus - minus) / 2, linear[process] * ZERO_WIDTHS.vev * 173.0 / LAMBDA**2) < 1e-9


@pytest.mark.parametrize("process", amplitudes.PROCESSES)
def test_lorentz_invariance(process):
    p = points(process)
    generator = torch.zeros(len(p), 4, 4, dtype=torch.float64)
    x = 2 * uniform(len(p), 6, seed=1) - 1
    for (i, j), column in zip(((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)), x.T, strict=True):
        generator[:, i, j], generator[:, j, i] = column, column if i == 0 else -column
    transformed = torch.einsum("bij,bnj->bni", torch.linalg.matrix_exp(generator), p)
    expected = amplitudes.squared(process, p, **CP_AND_DIPOLE)
    assert relative(amplitudes.squared(process, transformed, **CP_AND_DIPOLE), expected) < 1e-9


@pytest.mark.parametrize("process", UNDECAYED)
@pytest.mark.parametrize("shifted", ["first", "second", "both"])
def test_gauge_invariance(process, shifted, monkeypatch):
    p = points(process)
    options = CP_AND_DIPOLE | {"parameters": ZERO_WIDTHS}
    expected = amplitudes.squared(process, p, **options)
    transverse, calls = currents.polarisations, []

    def shift(k, other):
        calls.append(k)
        if len(calls) == {"first": 2, "second": 1}.get(shifted):
            return transverse(k, other)
        return transverse(k, other) + (k if process.startswith("gg") else k + other)

    monkeypatch.setattr(currents, "polarisations", shift)
    assert relative(amplitudes.squared(process, p, **options), expected) < 1e-9


@pytest.mark.parametrize("process", amplitudes.PROCESSES)
def test_the_incoming_partons_are_alike(process):
    p = points(process)
    swapped = torch.cat([p[:, [1, 0]], p[:, 2:]], 1)
    expected = amplitudes.squared(process, p, **CP_AND_DIPOLE)
    assert relative(amplitudes.squared(process, swapped, **CP_AND_DIPOLE), expected) < 1e-9


@pytest.mark.parametrize("process", amplitudes.PROCESSES)
def test_cp_conjugation_reverses_alpha(process):
    p = points(process)
    _, top, antitop, higgs = (
        p.tensor_split((2, 2 + len(amplitudes.PROCESSES[process].tops) // 2, 8), 1)
        if ("lep" in process)
        else p.tensor_split((2, 3, 4), 1)
    )
    conjugate = torch.cat([p[:, [1, 0]], antitop, top, higgs.flip(1)], 1) * torch.tensor([1.0, -1, -1, -1]).double()
    value = amplitudes.squared(process, conjugate, alpha=-0.6, c_tg=0.8)
    assert relative(value, amplitudes.squared(process, p, **CP_AND_DIPOLE)) < 1e-9


@pytest.mark.parametrize("process", ["gg_tth", "uux_tth"])
def test_spin_sums_are_even_in_alpha_and_decays_are_not(process):
    plus, minus = (amplitudes.squared(process, points(process), alpha=a, parameters=ZERO_WIDTHS) for a in (0.7, -0.7))
    assert relative(plus, minus) < 1e-9
    chain = f"{process}_dilep"
    plus, minus = (amplitudes.squared(chain, points(chain), alpha=a) for a in (0.7, -0.7))
    assert relative(plus, minus) > 1e-2


@pytest.mark.parametrize("process", ["gg_tt", "uux_tth", "gg_tth_dilep"])
def test_quadratic_in_c_tg(process):
    p = points(process)
    value = [amplitudes.squared(process, p, c_tg=c, alpha=0.3) for c in (-1.0, 0.0, 1.0, 2.0)]
    assert relative(value[3], value[0] - 3 * value[1] + 3 * value[2]) < 1e-9


def test_three_values_fix_the_dependence_on_alpha():
    p = points("gg_tth_dilep")
    scalar, mixed, pseudo = (amplitudes.squared("gg_tth_dilep", p, alpha=a) for a in (0, math.pi / 4, math.pi / 2))
    c, s = math.cos(1.1), math.sin(1.1)
    expected = c * c * scalar + s * s * pseudo + c * s * (2 * mixed - scalar - pseudo)
    assert relative(amplitudes.squared("gg_tth_dilep", p, alpha=1.1), expected) < 1e-9


@pytest.mark.parametrize("process", ["gg_tt", "uux_tth", "gg_tth_dilep"])
def test_polynomial_in_c_tg(process):
    p = points(process)
    coefficients = amplitudes.c_tg_polynomial(process, p, alpha=0.3)
    for c in (0.0, -0.7):
        expected = amplitudes.squared(process, p, c_tg=c, alpha=0.3)
        assert relative((coefficients * p.new_tensor([1.0, c, c * c])).sum(1), expected) < 1e-9


@pytest.mark.parametrize("process", ["gg_tth_dilep", "uux_tth"])
def test_polynomial_in_the_cp_phase(process):
    p = points(process)
    from_polynomial = amplitudes.cp_polynomial(process, p) @ amplitudes.cp_monomials(1.1)
    assert relative(from_polynomial, amplitudes.squared(process, p, alpha=1.1)) < 1e-9


@pytest.mark.parametrize("process", ["gg_tth_dilep", "uux_tth"])
def test_polynomial_in_all_couplings(process):
    p = points(process)
    form = amplitudes.coupling_polynomial(process, p)
    for alpha, c_tg in ((0.0, 0.0), (1.1, 0.0), (0.4, 2.5), (-2.0, -1.3)):
        from_polynomial = form @ amplitudes.coupling_monomials(1.0, alpha, c_tg)
        assert relative(from_polynomial, amplitudes.squared(process, p, alpha=alpha, c_tg=c_tg)) < 1e-9
        turned = form @ amplitudes.coupling_monomials(-1.0, alpha + math.pi, c_tg)
        assert relative(turned, from_polynomial) < 1e-9
    none, twice = (form @ amplitudes.coupling_monomials(kappa, 0.3, 0.0) for kappa in (0.0, 2.0))
    assert none.abs().max() == 0
    assert relative(twice, 4 * amplitudes.squared(process, p, alpha=0.3)) < 1e-9


@pytest.mark.parametrize("process", UNDECAYED)
def test_decays_average_to_the_undecayed_amplitude(process):
    # a decay is linear in the lepton's direction at rest: two opposite directions average as all do
    parameters, p = amplitudes.DEFAULT, points(process)
    chain = decayed(p, parameters)
    weight = 1
    for leg in (chain[:, 2:5], chain[:, 5:8]):
        _, neutrino, b = leg.unbind(1)
        top_lepton = (parameters.m_t**2 - kinematics.mass_squared(neutrino + b)) / 2
        b_neutrino = (kinematics.mass_squared(b + neutrino) - parameters.m_b**2) / 2
        g2 = 4 * math.pi * parameters.alpha_em / parameters.sin2_theta_w
        widths = parameters.m_w * parameters.w_w * parameters.m_t * parameters.w_t
        weight = weight * g2**2 * 2 * b_neutrino * top_lepton / widths**2
    total = 0
    for plus, minus in product((0, 1), repeat=2):
        q = chain.clone()
        if plus:
            q[:, 2:5] = mirrored(q[:, 2:5])
        if minus:
            q[:, 5:8] = mirrored(q[:, 5:8])
        total = total + amplitudes.squared(f"{process}_dilep", q, **CP_AND_DIPOLE) / 4
    assert relative(total, weight * amplitudes.squared(process, p, **CP_AND_DIPOLE)) < 1e-8


@pytest.mark.parametrize("process", ["gg_tt", "uux_tth"])
def test_quarks_from_the_w_come_in_three_colours(process):
    p = points(f"{process}_dilep")
    expected = 3 * amplitudes.squared(f"{process}_dilep", p)
    assert relative(amplitudes.squared(f"{process}_semilep", p), expected) < 1e-12


@pytest.mark.parametrize("process", ["gg_tth", "uux_tth_dilep"])
def test_higgs_decay_has_its_partial_width(process):
    p = amplitudes.DEFAULT
    ratio = amplitudes.squared(f"{process}_bb", points(f"{process}_bb")) / amplitudes.squared(process, points(process))
    beta = (1 - 4 * p.m_b**2 / p.m_h**2) ** 0.5
    width = ratio * (p.m_h * p.w_h) ** 2 * beta / (8 * math.pi) / (2 * p.m_h)
    expected = 3 * p.g_f * p.m_b_yukawa**2 * p.m_h * beta**3 / (4 * 2**0.5 * math.pi)
    assert relative(width, torch.tensor(expected)) < 1e-6


@pytest.mark.parametrize(
    ("process", "moved"),
    [
        *product(["gg_tt", "uux_tth"], ["momenta", "c_tg", "m_t", "alpha_s"]),
        *product(
            ["gg_tth_dilep_bb"],
            ["momenta", "alpha", "c_tg", *(field.name for field in dataclasses.fields(amplitudes.Parameters))],
        ),
    ],
)
def test_gradients(process, moved):
    p = points(process)
    start = {"momenta": p, "alpha": 0.4, "c_tg": 0.3}.get(moved)
    if start is None:
        start = getattr(amplitudes.DEFAULT, moved)
    step = torch.as_tensor(start * (0.5 + uniform(*p.shape, seed=3)) if moved == "momenta" else start)

    def log_squared(t):
        arguments = {"momenta": p, "alpha": 0.4, "c_tg": 0.3, "parameters": amplitudes.DEFAULT}
        value = start + t * step
        if moved in arguments:
            arguments[moved] = value
        else:
            arguments["parameters"] = dataclasses.replace(amplitudes.DEFAULT, **{moved: value})
        return amplitudes.squared(process, check=False, **arguments).log().sum()

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(log_squared(t), t)
    h = 3e-8  # the Higgs boson's width is 5e-5 of its mass
    with torch.no_grad():
        numeric = (log_squared(t + h) - log_squared(t - h)) / (2 * h)
    assert exact.item() == pytest.approx(numeric.item(), rel=1e-5, abs=1e-6)


def test_alpha_c_tg_and_parameters_by_event():
    p = points("gg_tth")
    alpha, c_tg = uniform(len(p), seed=4), uniform(len(p), seed=5)
    m_t = 173.0 + 1e-3 * uniform(len(p), seed=6)
    batched = amplitudes.squared(
        "gg_tth", p, alpha=alpha, c_tg=c_tg, parameters=dataclasses.replace(amplitudes.DEFAULT, m_t=m_t)
    )
    for i in range(len(p)):
        parameters = dataclasses.replace(amplitudes.DEFAULT, m_t=m_t[i])
        one = amplitudes.squared("gg_tth", p[i : i + 1], alpha=alpha[i], c_tg=c_tg[i].item(), parameters=parameters)
        assert relative(batched[i : i + 1], one) < 1e-12


def test_large_batches_are_the_same(monkeypatch):
    p, alpha = points("gg_tth").repeat(3, 1, 1), uniform(30, seed=8)
    expected = amplitudes.squared("gg_tth", p, alpha=alpha)
    monkeypatch.setitem(squares.CHUNK, "cpu", 7)
    assert relative(amplitudes.squared("gg_tth", p, alpha=alpha), expected) < 1e-12
    assert amplitudes.squared("gg_tth", p[:0]).shape == (0,)


@pytest.mark.parametrize("process", amplitudes.PROCESSES)
def test_single_precision(process):
    p, parameters = points(process), dataclasses.replace(amplitudes.DEFAULT, w_h=1.0)  # 6 MeV are beyond its digits
    single, double = (amplitudes.squared(process, x, parameters=parameters, **CP_AND_DIPOLE) for x in (p.float(), p))
    assert single.dtype == torch.float32
    assert relative(single.double(), double) < 1e-2


@pytest.mark.parametrize("process", ["gg_tt", "uux_tth", "gg_tth_dilep"])
def test_projection_on_the_mass_shell(process):
    p = points(process)
    parameters = amplitudes.Parameters.from_constants()
    projected = amplitudes.on_shell(process, p, parameters)
    amplitudes.squared(process, projected, parameters=parameters)
    nominal = {"t": 172.5, "b": 4.8, "h": 125.0}
    masses = [nominal.get(name.rstrip("~"), 0.0) for name in amplitudes.PROCESSES[process].particles]
    shift = kinematics.mass_squared(projected) - torch.tensor(masses, dtype=torch.float64) ** 2
    assert (shift.abs() < 1e-9 * projected[..., 0] ** 2 + 1e-7).all()
    assert (projected[:, :2].sum(1) - p[:, 2:].sum(1)).abs().max() < 1e-9
    assert (projected[:, 2:].sum(1) - p[:, 2:].sum(1)).abs().max() < 1e-9
    total = p[:, 2:].sum(1, keepdim=True)
    rest = torch.cat([kinematics.mass(total)[..., None], torch.zeros_like(total[..., 1:])], -1)
    before, after = (kinematics.boost_between(x, total, rest)[..., 1:] for x in (p, projected))
    assert (torch.nn.functional.cosine_similarity(before, after, dim=-1) - 1).abs().max() < 1e-12
    assert relative(amplitudes.on_shell(process, projected, parameters)[..., 0], projected[..., 0]) < 1e-12


def test_projection_in_a_moving_frame_and_its_gradient():
    frame = torch.tensor([[500.0, 100.0, -50.0, 300.0]], dtype=torch.float64)
    p = boosted(points("gg_tth"), frame[:, None])
    m_t = torch.tensor(172.0, dtype=torch.float64, requires_grad=True)
    projected = amplitudes.on_shell("gg_tth", p, dataclasses.replace(amplitudes.DEFAULT, m_t=m_t))
    assert kinematics.mass(projected[:, 2:4]).detach() == pytest.approx(torch.full((10, 2), 172.0).double(), rel=1e-9)
    (slope,) = torch.autograd.grad((projected[:, 2, 0] ** 2 - projected[:, 2, 1:].square().sum(1)).sum(), m_t)
    assert slope.item() == pytest.approx(10 * 2 * 172.0, rel=1e-6)


def spoilt(change):
    p = points("gg_tt")
    change(p)
    return p


@pytest.mark.parametrize(
    ("process", "momenta", "options", "message"),
    [
        ("gg_ttz", points("gg_tt"), {}, "process 'gg_ttz' is unknown: choose one of gg_tt, uux_tt"),
        ("gg_tth", points("gg_tt"), {}, r"shape \(10, 4, 4\); for gg_tth \(events, 5, 4\) is needed: g g t t~ h"),
        ("gg_tt", points("gg_tt").long(), {}, "float32 or torch.float64"),
        ("gg_tt", spoilt(lambda p: p[4, 1].fill_(math.nan)), {}, "event 4 is not finite"),
        ("gg_tt", spoilt(lambda p: p[3].neg_()), {}, "event 3 has an energy that is not positive"),
        ("gg_tt", spoilt(lambda p: p[2, 3, 1].add_(0.1)), {}, "event 2 does not balance"),
        ("gg_tt", 0.5 * points("gg_tt"), {}, r"event 0 has particle 2 \(t\) off its mass shell"),
        ("gg_tt", points("gg_tt"), {"c_tg": torch.ones(3)}, r"c_tg: shape \(3,\); \(\) or \(10,\) is needed"),
        ("gg_tt", points("gg_tt"), {"alpha": math.inf}, "alpha: a finite number is needed"),
        ("gg_tt", points("gg_tt"), {"parameters": dataclasses.replace(ZERO_WIDTHS, w_w=-1.0)}, "w_w: a finite number"),
    ],
)
def test_bad_input(process, momenta, options, message):
    with pytest.raises(InputError, match=message):
        amplitudes.squared(process, momenta, **options)


def test_projection_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=r"event 0 has √ŝ below the threshold"):
        amplitudes.on_shell("gg_tt", 0.5 * points("gg_tt"))
    with pytest.raises(InputError, match="event 1 has incoming or outgoing particles at rest"):
        amplitudes.on_shell("gg_tt", spoilt(lambda p: p[1, 0, 1:].zero_()))
    with pytest.raises(InputError, match="event 1 is not finite"):
        amplitudes.on_shell("gg_tt", spoilt(lambda p: p[1].fill_(math.nan)))
