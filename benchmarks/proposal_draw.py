"""A draw of chapter 10's proposal, alone and beside two busy processes: what a thread that waits costs.

The cost beside others is counted per core that a draw gets: on ``n`` cores that ``m`` processes share, each gets n / m
of its threads' cores. With OMP_WAIT_POLICY=ACTIVE in the environment threads spin, which shows what passive waiting,
rewind's default, is worth.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import os
import subprocess
import sys

import torch

from event_integrals import PROCESSES, prepared
from timing import Row, durations

BUSY = "while True: pass"


def seconds_a_draw(n_draws, repeat):
    """Return the seconds of one draw, several times."""
    generator = torch.Generator().manual_seed(77)
    _, flow, every = prepared(PROCESSES["tth"], 1, generator)
    return durations(lambda: flow.sample(every, n_draws, generator), repeat) / n_draws


def beside(n_busy, call):
    """Return what ``call`` returns while so many other processes keep a core busy each."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
    try:
        return call()
    finally:
        for other in others:
            other.kill()
            other.wait()


def share_of_cores(n_threads, n_busy):
    """Return the share of its threads' cores that a process gets beside ``n_busy`` of one thread each."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(1.0, n_cores / (n_threads + n_busy))


def compare(n_draws, repeat, n_busy=2):
    """Return µs a draw alone and beside others, and the ratio per core that the draw gets."""
    alone = seconds_a_draw(n_draws, repeat)
    busy = beside(n_busy, lambda: seconds_a_draw(n_draws, repeat))
    ratio = float(torch.tensor(busy).median() / torch.tensor(alone).median())
    return 1e6 * alone, 1e6 * busy, ratio * share_of_cores(torch.get_num_threads(), n_busy)


def small() -> list[Row]:
    """Compare a draw's cost beside two busy processes with its cost alone, per core that it gets."""
    return [Row("a draw beside two busy processes / alone, per core", compare(5_000, 5)[2])]


def main():
    """Print the cost of a draw alone and beside others."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=20_000)
    options.add_argument("--repeat", type=int, default=10)
    options.add_argument("--busy", type=int, default=2, help="other processes")
    options = options.parse_args()
    alone, busy, ratio = compare(options.draws, options.repeat, options.busy)
    print(f"{torch.get_num_threads()} threads, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}")
    for name, spent in (("alone", alone), (f"beside {options.busy}", busy)):
        low, middle, high = torch.quantile(torch.tensor(spent), torch.tensor([0.16, 0.5, 0.84]).double())
        print(f"{name:10} {middle:6.0f} µs a draw (68 % between {low:.0f} and {high:.0f})")
    print(f"per core that a draw gets: {ratio:.2f} times")


if __name__ == "__main__":
    main()
