"""Cross-sections of proton collisions: symmetries, Pythia's values, and what each event must conserve."""

import math

import pytest
import torch

from chance import assert_agrees
from rewind import kinematics
from rewind.errors import InputError
from rewind.events.chain.leading_order import cross_section
from rewind.events.chain.pdf_sets import proton_pdf
from rewind.integrate import VegasGrid, integrate
from rewind.physics import constants as c
from rewind.physics.amplitudes import Parameters, colour_flows, squared
from rewind.physics.hadronic import HadronicProcess, decay_tree, luminosities
from rewind.physics.phase_space import RamboOnDiet, from_lab


@pytest.fixture(scope="module")
def pdf():
    return proton_pdf()


def process(final, pdf, parameters=None, **options):
    return HadronicProcess(final, pdf, scale=c.M_TOP, parameters=parameters or Parameters.from_constants(), **options)


def unit(n, dims, seed=1):
    return torch.rand(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigma(integrand, seed=1, n=100_000):
    generator = torch.Generator().manual_seed(seed)
    grid = VegasGrid(integrand.dims).adapt(integrand, generator, points=20_000, iterations=6)
    return integrate(integrand, grid, n, generator)


@pytest.mark.parametrize(("final", "n_events"), [("tt", 100_000), ("tth", 20_000)])
@pytest.mark.parametrize("initial", [0, 1], ids=["gluons", "quarks"])
def test_cross_sections_are_pythias(final, n_events, initial, pdf):
    pythia = cross_section(f"{('gg', 'qq')[initial]}_{final}", seed=7, n_events=n_events)
    parameters = Parameters.from_constants(g_f=1 / (math.sqrt(2) * pythia.higgs_vev**2))
    whole = process(final, pdf, parameters)

    def part(r):
        return whole.collisions(r).cross_section[:, initial]

    part.dims = whole.dims
    ours = sigma(part)
    assert ours.trusted
    combined = math.hypot(ours.error, pythia.error)
    assert abs(ours.value - pythia.value) < max(3 * combined, 0.005 * pythia.value)
    assert combined < 0.01 * pythia.value


def test_any_phase_space_gives_the_same(pdf):
    tree, flat = (process("tth", pdf, mapping=m) for m in (None, RamboOnDiet([c.M_TOP, c.M_TOP, c.M_H])))
    one, two = sigma(tree), sigma(flat, seed=2)
    assert_agrees(one.value, two.value, math.hypot(one.error, two.error))


def test_decays_within_their_reach_factorise(pdf):
    """Narrow tops: σ of the chain is that of stable tops times the branching ratio of the amplitude, squared."""
    narrow = {"w_t": 1e-3, "w_w": 1e-3}
    stable = sigma(process("tt", pdf))
    chain = sigma(process("tt_dilep", pdf, Parameters.from_constants(**narrow)), n=200_000)
    c_f = Parameters.from_constants()
    coupling = 4 * math.pi * c_f.alpha_em / c_f.sin2_theta_w
    w_to_leptons = coupling * c.M_W / (48 * math.pi)
    x, b = (c.M_W / c.M_TOP) ** 2, (c.M_B / c.M_TOP) ** 2
    size = math.sqrt((1 - x - b) ** 2 - 4 * x * b) / 2
    top = coupling / (64 * math.pi) * c.M_TOP * 2 * size / x * ((1 - b) ** 2 + x * (1 + b) - 2 * x**2)
    reach = (2 / math.pi * math.atan(2 * 15)) ** 4
    expected = stable.value * (w_to_leptons / narrow["w_w"] * top / narrow["w_t"]) ** 2 * reach
    assert chain.value == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("final", ["tt", "tth", "tt_dilep", "tth_semilep_bb"])
def test_events_balance_and_stand_on_their_shells(final, pdf):
    hadronic = process(final, pdf)
    x, momenta, parts = hadronic.collisions(unit(2000, hadronic.dims))
    energies = c.SQRT_S / 2 * x
    torch.testing.assert_close(momenta[:, :2, 0], energies)
    torch.testing.assert_close(momenta[:, :2, 3], energies * torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(momenta[:, 2:].sum(1), momenta[:, :2].sum(1), rtol=0, atol=1e-6)
    masses = hadronic.mapping.masses.expand(len(x), -1)
    torch.testing.assert_close(kinematics.mass(momenta[:, 2:]), masses, rtol=0, atol=1e-3)
    assert (parts >= 0).all()
    assert parts.isfinite().all()
    assert (parts > 0).all(1).double().mean() > 0.95


@pytest.mark.parametrize("final", ["tt", "tth", "tt_dilep", "tth_semilep_bb"])
@pytest.mark.parametrize("corner", [0.0, 1e-15, 1.0])
def test_corners_of_the_hypercube_are_part_of_it(final, corner, pdf):
    hadronic = process(final, pdf)
    r = unit(50, hadronic.dims)
    assert hadronic(torch.full_like(r, corner)).isfinite().all()
    for k in range(hadronic.dims):
        r[:, k], before = corner, r[:, k].clone()
        assert hadronic(r).isfinite().all(), f"number {k}"
        r[:, k] = before


def test_quarks_and_antiquarks_may_change_sides(pdf):
    hadronic = process("tth_dilep", pdf, alpha=0.7)
    x, momenta, _ = hadronic.collisions(unit(200, hadronic.dims))
    at_rest = from_lab(momenta, x)
    swapped = torch.cat([at_rest[:, [1, 0]], at_rest[:, 2:]], 1)
    given = {"alpha": 0.7, "parameters": hadronic.parameters}
    torch.testing.assert_close(squared("uux_tth_dilep", swapped, **given), squared("uux_tth_dilep", at_rest, **given))
    one, two = luminosities(pdf, x, 100.0), luminosities(pdf, x.flip(1), 100.0)
    torch.testing.assert_close(one, two)
    up, down = (pdf.xf([quark, -quark], x, 100.0) / x[..., None] for quark in (2, 1))
    assert (one[:, 1] > sum(q[:, 0, 0] * q[:, 1, 1] + q[:, 0, 1] * q[:, 1, 0] for q in (up, down))).all()


def test_a_gluon_gives_its_colour_to_the_top_that_it_flies_with(pdf):
    hadronic = process("tt", pdf)
    momenta = from_lab(*hadronic.collisions(unit(5000, hadronic.dims))[1::-1])
    flows = colour_flows("gg_tt", momenta, parameters=hadronic.parameters, check=False)
    torch.testing.assert_close(flows.sum(1), torch.ones(len(flows), dtype=torch.float64))
    forward = momenta[:, 2, 3] > 0
    assert (flows[forward, 0] > 0.5).all()
    assert (flows[~forward, 0] < 0.5).all()
    swapped = colour_flows("gg_tt", momenta[:, [1, 0, 2, 3]], parameters=hadronic.parameters, check=False)
    torch.testing.assert_close(swapped.flip(1), flows)
    assert (colour_flows("uux_tt", momenta, parameters=hadronic.parameters, check=False) == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final": "ttz"}, "final state 'ttz' is unknown: choose one of tt, "),
        ({"mapping": RamboOnDiet([c.M_TOP] * 3)}, "mapping of 3 particles: tt has 2"),
        ({"sqrt_s": 340.0}, "sqrt_s = 340 GeV: tt begins at 345"),
        ({"scale": 1.0}, "q: .*5"),
    ],
)
def test_bad_input(options, message, pdf):
    given = {"final": "tt", "pdf": pdf, "scale": c.M_TOP, "parameters": Parameters.from_constants()} | options
    with pytest.raises(InputError, match=message):
        HadronicProcess(**given)(unit(3, 4))


def test_unknown_trees():
    with pytest.raises(InputError, match="final state 'zz' is unknown"):
        decay_tree("zz", Parameters.from_constants())
