"""Binned unfoldings of a simulation with its variances: processor seconds and peak memory, both covariances included.

Each call runs alone in a fresh process, whose peak is read before and after it: what importing the library and making
the problem take is told apart. Where pyunfold is installed (extra 'peers') it unfolds 100 bins beside the library.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from timing import Row

CALLS = ("inversion", "bayes", "svd", "tikhonov", "tikhonov_l_curve", "likelihood")
FREQUENT = 5_000.0  # events a bin


def peak() -> float:
    """Return the largest memory so far in MB; Linux's own mark, as ``ru_maxrss`` begins with that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def spectrum(n):
    """Return response ``(n, n)``, truth and Poisson data of a falling spectrum smeared by 1.2 bins."""
    import numpy as np

    at = np.arange(n)
    spread = np.exp(-0.5 * ((at[:, None] - at) / 1.2) ** 2)
    truth = FREQUENT * np.exp(-at / n)
    response = 0.7 * spread / spread.sum(0).max() * truth
    data = np.random.default_rng(1).poisson(response @ (1 + 0.2 * np.sin(6 * at / n)))
    return response, truth, data.astype(float)


def simulated(response, truth):
    """Return the record of a simulation of weights 1: every cell and the misses with their variances."""
    import numpy as np

    from rewind.stats import ResponseMatrix, response_matrix

    n = len(truth)
    axes = response_matrix([0.5], [0.5], np.arange(n + 1.0)).true
    counts = np.zeros((n + 3, n + 2))
    counts[1:-2, 1:-1], counts[-1, 1:-1] = response, truth - response.sum(0)
    return ResponseMatrix(axes, axes, counts, counts)


def ours(name, n):
    """Return a call of the library that unfolds ``n`` bins."""
    from rewind.unfolding import binned

    response, truth, data = spectrum(n)
    record = simulated(response, truth)
    calls = {
        "inversion": binned.matrix_inversion,
        "bayes": partial(binned.iterative_bayes, iterations=4),
        "svd": partial(binned.svd, k=n // 10),
        "tikhonov": partial(binned.tikhonov, tau=1e-3),
        "tikhonov_l_curve": binned.tikhonov,
        "likelihood": partial(binned.poisson_likelihood, tau=1e-3),
    }
    return partial(calls[name], record, None, data)


def pyunfolds(n):
    """Return pyunfold's call of four iterations with both covariances."""
    import numpy as np
    from pyunfold import iterative_unfold

    response, truth, data = spectrum(n)
    probabilities = response / truth
    return partial(
        iterative_unfold,
        data=data,
        data_err=np.sqrt(data),
        response=probabilities,
        response_err=np.sqrt(response) / truth,
        efficiencies=probabilities.sum(0),
        efficiencies_err=np.sqrt(response.sum(0)) / truth,
        prior=truth / truth.sum(),
        ts_stopping=1e-12,
        max_iter=4,
    )


def measure(name, n):
    """Print, as JSON, the processor seconds of a call and the peak memory in MB before and after it."""
    call = pyunfolds(n) if name == "pyunfold" else ours(name, n)
    before, began = peak(), time.process_time()
    call()
    print(json.dumps({"seconds": time.process_time() - began, "before": before, "peak": peak()}))


def alone(name, n):
    """Return what :func:`measure` prints in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, str(n)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows(cases) -> list[Row]:
    """Return seconds and memory of several calls, and the ratios to pyunfold's where it can be imported."""
    table = []
    for name, n in cases:
        used = alone(name, n)
        table.append(Row(f"{name}, {n} bins: seconds of the processor", used["seconds"]))
        table.append(Row(f"{name}, {n} bins: peak MB, {used['before']:.0f} before the call", used["peak"]))
    if importlib.util.find_spec("pyunfold"):
        mine, theirs = (alone(name, 100) for name in ("bayes", "pyunfold"))
        table.append(Row("bayes, 100 bins: pyunfold's time / ours", theirs["seconds"] / mine["seconds"]))
        for name, used in (("bayes", mine), ("pyunfold", theirs)):
            what = f"{name}, 100 bins: peak MB, {used['before']:.0f} before the call"
            table.append(Row(what, used["peak"]))
    return table


def small() -> list[Row]:
    """Measure each method but the likelihood at 300 bins once."""
    return rows([(name, 300) for name in CALLS if name != "likelihood"])


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--measure", nargs=2, metavar=("CALL", "BINS"), help="one call alone, as JSON")
    options.add_argument("--repeat", type=int, default=3)
    options = options.parse_args()
    if options.measure:
        measure(options.measure[0], int(options.measure[1]))
        return
    cases = [*((name, 300) for name in CALLS), *((name, 600) for name in CALLS[:4])]
    for i in range(options.repeat):
        for row in rows(cases):
            print(f"run {i}: {row.what:60} {row.value:9.3g}", flush=True)


if __name__ == "__main__":
    main()
