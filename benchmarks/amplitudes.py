"""Speed of the squared amplitudes, and the ratio to MadGraph's Fortran: 15 µs a point and core.

The 15 µs are taken for every process. Times are those of the processor, on one thread, so that other work on the
machine counts for little; on a GPU they are those of the clock. Points are random, on their mass shells.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import time
from functools import partial

import torch

from rewind.physics import amplitudes
from timing import Row, alternating, durations, ratio

MADGRAPH = 15e-6  # s
PROCESSES = ("gg_tt", "uux_tt", "gg_tth", "uux_tth", "gg_tt_dilep", "uux_tt_dilep", "gg_tth_dilep", "uux_tth_dilep")


def points(process, n, device):
    """Return random momenta ``(n, particles, 4)`` in the rest frame, partons along z."""
    masses = {"t": amplitudes.DEFAULT.m_t, "b": amplitudes.DEFAULT.m_b, "h": amplitudes.DEFAULT.m_h}
    particles = amplitudes.PROCESSES[process].particles[2:]
    m = torch.tensor([masses.get(name.rstrip("~"), 0.0) for name in particles], dtype=torch.float64)
    p = 100 * torch.randn(n, len(m), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p -= p.mean(1, keepdim=True)
    outgoing = torch.cat([(p.square().sum(-1) + m**2).sqrt()[..., None], p], -1)
    half = outgoing[:, :, 0].sum(1)[:, None] / 2
    incoming = torch.stack([half * torch.tensor([1.0, 0.0, 0.0, sign]) for sign in (1.0, -1.0)], 1)
    return torch.cat([incoming, outgoing], 1).to(device)


def seconds(function, repeat, device):
    """Return the durations of several calls after a first one."""
    if device == "cpu":
        return torch.from_numpy(durations(function, repeat, time.process_time))

    def finished():
        function()
        torch.accelerator.synchronize()

    return torch.from_numpy(durations(finished, repeat))


def gradient(process, p):
    """Take |M|² and its derivative in all momenta."""
    p = p.requires_grad_()
    torch.autograd.grad(amplitudes.squared(process, p).sum(), p)


def small() -> list[Row]:
    """Compare with MadGraph, and what precision, checks and gradients cost."""
    rows = []
    for process in ("gg_tt", "gg_tth_dilep"):
        p, n = points(process, 8_192, "cpu"), 8_192
        calls = {
            "checked": partial(amplitudes.squared, process, p),
            "float32": partial(amplitudes.squared, process, p.float(), check=False),
            "gradient": partial(gradient, process, p.clone()),
        }
        spent = alternating(calls, 4, time.process_time)
        rows.append(ratio(f"{process}: MadGraph's time / ours", MADGRAPH * n, spent["checked"]))
        rows += [ratio(f"{process}: {name} / |M|²", spent[name], spent["checked"]) for name in ("float32", "gradient")]
    return rows


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=40_960)
    options.add_argument("--repeat", type=int, default=8)
    options.add_argument("--device", default="cpu")
    options = options.parse_args()
    torch.set_num_threads(1)

    print(f"thousands of points/s on one thread of {options.device}; last column: gain over MadGraph's Fortran, a core")
    print(f"{'':14}{'|M|²':>16}{'unchecked':>12}{'float32':>12}{'with c_tG':>12}{'gradient':>12}{'gain':>15}")
    for process in PROCESSES:
        p = points(process, options.events, options.device)
        squared = partial(amplitudes.squared, process)
        calls = (
            partial(squared, p),
            partial(squared, p, check=False),
            partial(squared, p.float(), check=False),
            partial(squared, p, c_tg=1.0),
            partial(gradient, process, p.clone()),
        )
        rates = [options.events / seconds(call, options.repeat, options.device) for call in calls]
        error = rates[0].std() / len(rates[0]) ** 0.5
        cells = "".join(f"{rate.mean() / 1e3:12.0f}" for rate in rates[1:])
        gain, gain_error = (float(x * MADGRAPH) for x in (rates[0].mean(), error))
        print(f"{process:14}{rates[0].mean() / 1e3:9.0f} ± {error / 1e3:4.0f}{cells}{gain:9.1f} ± {gain_error:.1f}")


if __name__ == "__main__":
    main()
