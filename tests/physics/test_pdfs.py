"""Densities from a table: against their source, known shapes, sum rules."""

import math

import numpy as np
import pytest
import torch

from rewind.errors import InputError
from rewind.events.chain.generator import start
from rewind.events.chain.pdf_sets import proton_pdf
from rewind.physics.pdfs import FLAVOURS, ProtonPDF

G, U, UBAR = (FLAVOURS.index(flavour) for flavour in (21, 2, -2))


@pytest.fixture(scope="module")
def pdf():
    return proton_pdf()


@pytest.fixture(scope="module")
def source():
    pythia = start(("ProcessLevel:all = off", "PDF:pSet = 13"), 1)
    density = pythia.getPDFPtr(2212)
    return lambda flavour, x, q: density.xf(flavour, x, q * q)


@pytest.fixture(scope="module")
def shape():
    """A table of known functions of x and Q."""
    return ProtonPDF.tabulated(lambda flavour, x, q: (1 + abs(flavour)) * x**-0.3 * (1 - x) ** 3.5 * math.log(q))


def points(n, seed, x_range=(1e-4, 0.7), q_range=(10.0, 3000.0)):
    """Draw x, half of them evenly in log x and half in x, and Q evenly in log Q."""
    r = torch.rand(2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    (x_low, x_high), (q_low, q_high) = x_range, q_range
    x = torch.where(torch.arange(n) % 2 == 0, x_low * (x_high / x_low) ** r[0], x_low + (x_high - x_low) * r[0])
    return x, q_low * (q_high / q_low) ** r[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_within_a_thousandth_of_pythia(pdf, source, dtype):
    x, q = points(20_000, 1)
    truth = torch.tensor([[source(f, *point) for f in FLAVOURS] for point in zip(x.tolist(), q.tolist(), strict=True)])
    density = pdf.xf(FLAVOURS, x.to(dtype), q.to(dtype))
    assert density.dtype == dtype
    error = torch.where(truth > 1e-4, density / truth - 1, 0.0).abs().amax(0)
    assert (error < 1e-3).all(), dict(zip(FLAVOURS, error.tolist(), strict=True))
    assert (truth > 1e-4).float().mean(0).min() > 0.3


@pytest.mark.parametrize("pdf_set", [8, 17])
def test_other_sets(pdf_set, source):
    other = proton_pdf(pdf_set)
    pythia = start(("ProcessLevel:all = off", f"PDF:pSet = {pdf_set}"), 1)
    density = pythia.getPDFPtr(2212)
    x, q = points(500, 2)
    for flavour in (21, 2):
        truth = [density.xf(flavour, x_i, q_i**2) for x_i, q_i in zip(x.tolist(), q.tolist(), strict=True)]
        np.testing.assert_allclose(other.xf(flavour, x, q).numpy(), truth, rtol=1e-3, atol=1e-7)
    assert source(21, 0.01, 100.0) != density.xf(21, 0.01, 1e4)


def test_known_shape_and_its_slopes(shape):
    x, q = (values.requires_grad_() for values in points(5000, 3, x_range=(1e-8, 0.9), q_range=(5.0, 9999.0)))
    truth = 22 * x**-0.3 * (1 - x) ** 3.5 * q.log()
    at_points = shape.xf(21, x, q)
    torch.testing.assert_close(at_points, truth, rtol=1e-5, atol=0)
    for values in (x, q):
        slope, true_slope = (torch.autograd.grad(f.sum(), values, retain_graph=True)[0] for f in (at_points, truth))
        torch.testing.assert_close(slope, true_slope, rtol=1e-3, atol=0)


@pytest.mark.parametrize("q_axes", [True, False])
def test_gradients_to_second_order(pdf, q_axes):
    x, q = points(6, 4)
    q = q if q_axes else q[0]
    arguments = x.requires_grad_(), q.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, q: pdf.xf((2, 21), x, q), arguments)
    assert torch.autograd.gradgradcheck(lambda x, q: pdf.xf((2, 21), x, q), arguments, atol=1e-3, rtol=1e-3)


def test_slopes_are_continuous_over_the_nodes(pdf):
    """A kink at one of 2,000 tiny steps would show as a jump of the slope."""
    x = torch.linspace(0.1, 0.3, 2001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(pdf.xf(21, x, 100.0).sum(), x)
    assert (slope.diff() / slope[1:]).abs().max() < 0.01
    assert (slope < 0).all()


@pytest.mark.parametrize("q", [10.0, 100.0, 1000.0])
def test_sum_rules(pdf, source, q):
    """The set itself keeps them to 1 %: it has tops of its own above m_t, and a photon that was added later."""
    log_x = torch.linspace(math.log(1e-9), 0.0, 4001, dtype=torch.float64)
    x = log_x.exp().clip(1e-9, 1.0)
    xf = pdf.xf(FLAVOURS, x, q)
    momentum = torch.trapezoid(x[:, None] * xf, log_x, dim=0)
    assert float(momentum.sum()) == pytest.approx(1, abs=0.01)
    of_source = [[source(f, x_i, q) for f in FLAVOURS] for x_i in x[:-1].tolist()]
    np.testing.assert_allclose(
        momentum.numpy(), torch.trapezoid(x[:-1, None] * torch.tensor(of_source), log_x[:-1], dim=0), rtol=1e-4
    )
    number = {f: float(torch.trapezoid(pdf.xf(f, x, q) - pdf.xf(-f, x, q), log_x)) for f in (1, 2, 3, 4, 5)}
    assert number[1] == pytest.approx(1, abs=0.01)
    assert number[2] == pytest.approx(2, abs=0.01)
    assert max(abs(number[f]) for f in (3, 4, 5)) < 1e-3


def test_shapes_and_selections(pdf):
    x, q = points(12, 5)
    everything = pdf.xf(FLAVOURS, x, q)
    assert everything.shape == (12, 12)
    torch.testing.assert_close(pdf.xf((21, 2), x, q), everything[:, [G, U]], rtol=0, atol=0)
    torch.testing.assert_close(pdf.xf(-2, x, q), everything[:, UBAR], rtol=0, atol=0)
    torch.testing.assert_close(pdf.xf(21, x, 91.2), pdf.xf(21, x, torch.full_like(q, 91.2)), rtol=1e-12, atol=0)
    grid = pdf.xf((1, 2, 3), x.reshape(3, 4, 1), q[:5])
    assert grid.shape == (3, 4, 5, 3)
    torch.testing.assert_close(grid[1, 2, 3], pdf.xf((1, 2, 3), x[6], q[3]))
    assert pdf.xf(21, 0.1, 100.0).shape == ()
    assert pdf.xf(FLAVOURS, torch.zeros(0), 100.0).shape == (0, 12)
    assert pdf.xf(FLAVOURS, torch.ones(1), 100.0).abs().max() < 1e-9


def test_moves_as_a_module(pdf):
    x, q = points(100, 6)
    single = ProtonPDF(torch.ones(720, 60, 12), 1e-9, (5.0, 1e4)).to(torch.float32)
    assert [buffer.dtype for buffer in single.buffers()] == [torch.float32]
    assert list(pdf.parameters()) == []
    torch.testing.assert_close(single.xf(21, x, q), torch.ones_like(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((21, torch.tensor([0.1, 1.1]), 100.0), "x: event 1 must be a number from 1e-09 to 1$"),
        ((21, torch.tensor([[0.1], [0.0]]), 100.0), "x: event 1 must be"),
        ((21, -0.1, 100.0), "x: event 0 must be"),
        ((21, 1e-10, 100.0), "x: event 0 must be"),
        ((21, math.nan, 100.0), "x: event 0 must be"),
        ((21, 0.1, 4.9), "q: event 0 must be a number from 5 to 10000$"),
        ((21, 0.1, torch.tensor([100.0, 2e4])), "q: event 1 must be"),
        ((21, 0.1, math.inf), "q: event 0 must be"),
        ((21, 0.1, math.nan), "q: event 0 must be"),
        ((6, 0.1, 100.0), "flavour 6: not in the table; choose among -5, -4"),
        ((0, 0.1, 100.0), "flavour 0: not in the table"),
        (("g", 0.1, 100.0), "flavour g: not in the table"),
        (([21, 7], 0.1, 100.0), "flavour 7: not in the table"),
    ],
)
def test_bad_input(pdf, arguments, message):
    with pytest.raises(InputError, match=message):
        pdf.xf(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x_min": 0.0}, "x_min = 0.0, q_range"),
        ({"x_min": 1.0}, "0 < x_min < 1"),
        ({"q_range": (100.0, 10.0)}, "0 < low < high"),
        ({"q_range": (10.0, math.inf)}, "0 < low < high"),
    ],
)
def test_bad_ranges(options, message):
    with pytest.raises(InputError, match=message):
        ProtonPDF.tabulated(lambda flavour, x, q: 1.0, **options)


def test_bad_sources():
    with pytest.raises(InputError, match=r"not finite for flavour 21 at x = 1e-09, q = 5 GeV"):
        ProtonPDF.tabulated(lambda flavour, x, q: math.nan if flavour == 21 else 1.0)
    with pytest.raises(InputError, match="PDF set 99: Pythia has none"):
        proton_pdf(99)
