"""The forward chain's throughput, in one run on one machine.

Prints the rate of the whole chain relative to Pythia's bare ``nextBatch`` with the same settings (chunks alternate,
the error is the spread over pairs), the gain of two workers over one, and the peak memory of a worker.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rewind import events
from rewind.events.chain.chunks import CHUNK_EVENTS
from rewind.events.chain.generator import generate, start
from rewind.events.chain.processes import PROCESSES, base_settings
from rewind.events.chain.reconstruction import reconstruct
from timing import Row


def timed(function, *arguments, **options):
    """Return what a call returns, and its seconds of the processor, on which other work counts for little."""
    began = time.process_time()
    return function(*arguments, **options), time.process_time() - began


def chain_over_bare(process: str, n_pairs: int, n_events: int = CHUNK_EVENTS) -> tuple[float, float, float]:
    """Return the ratio of rates in pairs of ``n_events`` each, its error, and the chain's events per second."""
    chosen = PROCESSES[process]
    pythia = start((*base_settings(), *chosen.settings, *chosen.channels[0]), 1)
    first, _ = generate(pythia, n_events, 1)
    reconstruct(first, chosen.selection, np.random.default_rng(1), keep_constituents=False)
    bare, whole = [], []
    for pair in range(n_pairs):
        seed = 2 + pair
        pythia.rndm.init(seed)
        bare.append(timed(pythia.nextBatch, n_events)[1])
        (batch, _), seconds = timed(generate, pythia, n_events, seed)
        _, more = timed(reconstruct, batch, chosen.selection, np.random.default_rng(seed), keep_constituents=False)
        whole.append(seconds + more)
    ratios = np.array(bare) / np.array(whole)
    return ratios.mean(), ratios.std(ddof=1) / n_pairs**0.5, n_events * n_pairs / sum(whole)


def sample_rate(process: str, n_events: int, workers: int) -> float:
    """Return generated events per second of a whole ``simulate``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.root"
        began = time.perf_counter()
        events.simulate(process, n_events, path, seed=1, workers=workers)
        return events.metadata(path)["n_generated"] / (time.perf_counter() - began)


def peak_memory() -> float:
    """Return the largest resident memory of any worker so far, in GB."""
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def small() -> list[Row]:
    """Compare the chain with Pythia alone; two workers take a large sample to compare, for each starts anew."""
    rate, error, _ = chain_over_bare("ttbar_dilepton", 4, 100)
    return [Row("chain's rate / Pythia's", rate, error)]


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--process", default="ttbar_dilepton")
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--events", type=int, default=1000)
    options = options.parse_args()

    ratio, error, rate = chain_over_bare(options.process, options.pairs)
    print(f"chain / bare nextBatch: {ratio:.3f} ± {error:.3f} ({rate:.0f} events/s)")
    one = sample_rate(options.process, options.events, 1)
    for n_events in (options.events // 4, options.events):
        two = sample_rate(options.process, n_events, 2)
        print(f"two workers, -n {n_events}: {two:.0f} events/s, peak memory of a worker {peak_memory():.2f} GB")
    print(f"two workers / one: {two / one:.2f} ({one:.0f} events/s with one)")


if __name__ == "__main__":
    main()
