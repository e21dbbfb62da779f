"""The proton's densities on one core: error against Pythia's own values, and points a second."""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import time
from functools import partial

import torch

from rewind.events.chain.generator import start
from rewind.events.chain.pdf_sets import proton_pdf
from rewind.physics.constants import M_TOP
from rewind.physics.pdfs import FLAVOURS
from timing import Row, alternating, durations, ratio


def points(n, seed):
    """Return x, half of them even in log x from 1e-4 to 0.7 and half in x, and Q even in log Q from 10 GeV to 3 TeV."""
    generator = torch.Generator().manual_seed(seed)
    r = torch.rand(2, n, generator=generator, dtype=torch.float64)
    x = torch.where(torch.arange(n) % 2 == 0, 1e-4 * 7000 ** r[0], 1e-4 + (0.7 - 1e-4) * r[0])
    return x, 10 * 300 ** r[1]


def rate(function, n, repeat):
    """Say points a second: mean and standard error of several calls after a first one."""
    rates = n / durations(function, repeat)
    return f"{rates.mean():12,.0f} ± {rates.std(ddof=1) / repeat**0.5:,.0f} points/s"


def small() -> list[Row]:
    """Compare a table's batch with Pythia in a loop: time and values."""
    pdf, source = proton_pdf(13), start(("ProcessLevel:all = off", "PDF:pSet = 13"), 1).getPDFPtr(2212)
    x, q = points(10_000, 1)
    pairs = list(zip(x.tolist(), q.tolist(), strict=True))

    def loop():
        return torch.tensor([source.xf(21, a, b * b) for a, b in pairs], dtype=torch.float64)

    spent = alternating({"table": partial(pdf.xf, 21, x, q), "loop": loop}, 4, time.process_time)
    truth = loop()
    worst = torch.where(truth > 1e-4, pdf.xf(21, x, q) / truth - 1, 0.0).abs().max()
    return [
        ratio("gluon: Pythia's time in a loop / ours", spent["loop"], spent["table"]),
        Row("gluon: largest relative error", float(worst)),
    ]


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=100_000)
    options.add_argument("--repeat", type=int, default=10)
    options.add_argument("--set", type=int, default=13)
    options = options.parse_args()
    torch.set_num_threads(1)

    began = time.perf_counter()
    pdf = proton_pdf(options.set)
    print(f"table made in {time.perf_counter() - began:.2f} s")

    pythia = start(("ProcessLevel:all = off", f"PDF:pSet = {options.set}"), 1)
    source = pythia.getPDFPtr(2212)
    x, q = points(options.points, 1)
    pairs = list(zip(x.tolist(), q.tolist(), strict=True))
    truth = torch.tensor([[source.xf(f, a, b * b) for f in FLAVOURS] for a, b in pairs], dtype=torch.float64)
    error = torch.where(truth > 1e-4, pdf.xf(FLAVOURS, x, q) / truth - 1, 0.0).abs().amax(0)
    print("largest relative error where x f > 1e-4:")
    print("  " + ", ".join(f"{flavour}: {e:.0e}" for flavour, e in zip(FLAVOURS, error.tolist(), strict=True)))

    for dtype in (torch.float64, torch.float32):
        x_, q_ = x.to(dtype), q.to(dtype)
        for name, flavour in (("gluon", 21), ("12 partons", FLAVOURS)):
            for scale_name, scale in (("one Q", M_TOP), ("each its Q", q_)):
                call = partial(pdf.xf, flavour, x_, scale)
                print(f"{dtype}, {name}, {scale_name}: {rate(call, len(x), options.repeat)}")
    loop = rate(lambda: [source.xf(21, a, b * b) for a, b in pairs], len(x), 3)
    print(f"Pythia in a loop, gluon, each its Q: {loop}")


if __name__ == "__main__":
    main()
