"""A draw of chapter 10's proposal, alone and beside two busy processes: what a thread that waits costs.

Threads wait for one another asleep, rewind's default, or spinning (OMP_WAIT_POLICY=ACTIVE), each in a process of its
own: OpenMP reads the policy once. Blocks alone and beside the others alternate. A draw's processor time is its cost per
core that it gets; the wall's time is shown beside it.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from event_integrals import PROCESSES, prepared
from timing import Row, ratio

BUSY = "while True: pass"
POLICIES = {
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"},
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "infinite"},
}


@contextmanager
def busy(n):
    """Keep ``n`` processes of one thread each busy."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        time.sleep(0.2)  # until they run
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def costs(n_draws, repeat, n_busy):
    """Return seconds of a draw ``(repeat, 2, 2)``: alone and beside others, by the wall and by the processor."""
    generator = torch.Generator().manual_seed(77)
    _, flow, event = prepared(PROCESSES["dilepton"], 1, generator)
    flow.sample(event, n_draws, generator)
    spent = []
    for n in (0, n_busy) * repeat:
        with busy(n):
            began = time.perf_counter(), time.process_time()
            flow.sample(event, n_draws, generator)
            spent.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return np.reshape(spent, (repeat, 2, 2)) / n_draws


def costs_of_process(waiting, n_draws, repeat, n_busy, n_threads):
    """Return `costs` of a process whose ``n_threads`` threads wait in a way of `POLICIES`."""
    given = [str(n) for n in (n_draws, repeat, n_busy)]
    command = [sys.executable, "-c", "import sys, proposal_draw; proposal_draw.report(*map(int, sys.argv[1:]))", *given]
    environment = os.environ | POLICIES[waiting] | {"OMP_NUM_THREADS": str(n_threads)}
    done = subprocess.run(command, cwd=Path(__file__).parent, env=environment, stdout=subprocess.PIPE, check=True)
    return np.array(json.loads(done.stdout))


def report(*arguments):
    """Print `costs` for the process that asked for them."""
    print(json.dumps(costs(*arguments).tolist()))


def small() -> list[Row]:
    """Compare a draw's cost beside two busy processes with its cost alone, per core that it gets."""
    cost = costs_of_process("asleep", 2_000, 5, n_busy=2, n_threads=2)
    return [ratio("a draw beside two busy processes / alone, per core", cost[:, 1, 1], cost[:, 0, 1])]


def main():
    """Print the cost of a draw alone and beside others."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=20_000)
    options.add_argument("--repeat", type=int, default=10)
    options.add_argument("--busy", type=int, default=2, help="other processes")
    options.add_argument("--threads", type=int, default=2, help="of the process that draws")
    options = options.parse_args()
    print(f"{options.threads} threads, {options.busy} other processes; medians of µs a draw by the wall (processor)")
    for name in POLICIES:
        cost = costs_of_process(name, options.draws, options.repeat, options.busy, options.threads)
        (wall, processor), (busy_wall, busy_processor) = 1e6 * np.median(cost, 0)
        per_core = ratio("", cost[:, 1, 1], cost[:, 0, 1])
        print(
            f"{name:9} alone {wall:4.0f} ({processor:4.0f}), beside them {busy_wall:4.0f} ({busy_processor:4.0f}); "
            f"beside / alone per core {per_core.value:.2f} ± {per_core.error:.2f}"
        )


if __name__ == "__main__":
    main()
