"""Neural importance sampling against `madnis` (optional: `make peers`) on known integrands, equal evaluations.

Prints for each integrand, as mean ± standard error over seeds, the weights' relative standard deviation, the
unweighting efficiency and the seconds that training took; the pull of every estimate that is 3 σ from the truth; and
the verdicts. Samplers: ours (VEGAS start, spline flow), a VEGAS grid, madnis with its defaults and, where `vegas` is
installed too, madnis after its own VEGAS start. Every evaluation of an integrand in training counts.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import math
import time
from importlib.util import find_spec

import torch

from rewind.integrate import adapted_grid, integrate, started_flow, summarize
from rewind.toys.integrands import INTEGRANDS
from timing import Row

GRID_POINTS, GRID_ITERATIONS = 20_000, 3
TEST_BATCH = 50_000


class Counted:
    """Count the points at which a function is evaluated."""

    def __init__(self, function):
        self.function, self.n = function, 0

    def __call__(self, x):
        """Return the function at ``x``."""
        self.n += len(x)
        return self.function(x)


def ours(integrand, evaluations, seed):
    """Return a flow after a VEGAS start."""
    generator = torch.Generator().manual_seed(seed)
    flow = started_flow(integrand.function, integrand.dims, evaluations, generator, seed=seed)
    return lambda n: integrate(integrand.function, flow, n, generator)


def vegas_grid(integrand, evaluations, seed):
    """Return a VEGAS grid alone, adapted in 20 iterations."""
    generator = torch.Generator().manual_seed(seed)
    grid = adapted_grid(integrand.function, integrand.dims, evaluations, generator)
    return lambda n: integrate(integrand.function, grid, n, generator)


def madnis(integrand, evaluations, seed, *, start=False):
    """Return madnis' integrator with its defaults, trained until it has used the evaluations."""
    from madnis.integrator import Integrator, VegasPreTraining

    torch.manual_seed(seed)
    function = Counted(integrand.function)
    integrator = Integrator(function, dims=integrand.dims)
    if start:
        grid = VegasPreTraining(integrator)
        for _ in range(GRID_ITERATIONS):
            grid.train_step(GRID_POINTS)
        grid.initialize_integrator()
    while function.n < evaluations:
        integrator.train_step()

    def evaluate(n):
        weights = [integrator.sample(min(TEST_BATCH, n - k)).weights for k in range(0, n, TEST_BATCH)]
        return summarize(torch.cat(weights))

    return evaluate


def rivals():
    """Return the samplers at hand by name; ours first."""
    methods = {"ours": ours, "VEGAS grid": vegas_grid}
    if find_spec("madnis"):
        methods["madnis"] = madnis
        if find_spec("vegas"):
            methods["VEGAS + madnis"] = lambda *given: madnis(*given, start=True)
    return methods


def mean(values):
    """Return mean and standard error."""
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


def small() -> list[Row]:
    """Compare our flow with a VEGAS grid, and with madnis where it is installed, on one integrand."""
    camel = INTEGRANDS["camel 4D"]
    spread = {}
    for name in [name for name in rivals() if name != "VEGAS + madnis"]:
        spread[name] = rivals()[name](camel, 60_000, 0)(20_000).relative_std
    return [Row(f"camel 4D: σ/I of our flow / {name}", spread["ours"] / spread[name]) for name in list(spread)[1:]]


def main():
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=5, help="at least 2 for errors and verdicts")
    options.add_argument("--evaluations", type=int, default=300_000, help="for training, of each sampler")
    options.add_argument("--points", type=int, default=200_000, help="for the estimate")
    options.add_argument("--integrands", nargs="*", default=list(INTEGRANDS), choices=list(INTEGRANDS))
    options.add_argument("--samplers", nargs="*", default=list(rivals()), choices=list(rivals()))
    options = options.parse_args()
    torch.set_num_threads(1)
    print(f"{options.evaluations:,} evaluations, {options.seeds} seeds, one thread; estimates from {options.points:,}")
    verdicts = []
    for name in options.integrands:
        integrand, table = INTEGRANDS[name], {}
        for sampler in options.samplers:
            results, seconds = [], []
            for seed in range(options.seeds):
                began = time.perf_counter()
                evaluate = rivals()[sampler](integrand, options.evaluations, seed)
                seconds.append(time.perf_counter() - began)
                results.append(evaluate(options.points))
            figures = [mean([getattr(r, of) for r in results]) for of in ("relative_std", "unweighting_efficiency")]
            table[sampler] = figures
            (spread, d_spread), (efficiency, d_efficiency) = figures
            print(
                f"{name:12} {sampler:15} σ/I {spread:.3f} ± {d_spread:.3f}   "
                f"efficiency {efficiency:6.1%} ± {d_efficiency:.1%}   {mean(seconds)[0]:5.0f} s",
                flush=True,
            )
            pulls = [(r.value - integrand.value) / r.error if r.error else math.inf for r in results]
            for seed, (pull, result) in enumerate(zip(pulls, results, strict=True)):
                if abs(pull) > 3 or not result.trusted:
                    print(
                        f"    seed {seed}: {pull:+.1f} σ from the truth; {'; '.join(result.warnings) or 'no warning'}"
                    )
        for rival in ("madnis", "VEGAS + madnis"):
            if options.seeds > 1 and {"ours", rival} <= table.keys():
                gaps = []
                for (own, d_own), (other, d_other), sign in zip(table["ours"], table[rival], (1, -1), strict=True):
                    gaps.append(sign * (own - other) / max(math.hypot(d_own, d_other), 1e-12))
                verdicts.append(f"{name:12} against {rival:15} σ/I {gaps[0]:+.1f} σ, efficiency {gaps[1]:+.1f} σ")
    print(
        "\n".join(["ours minus rival, negative is better:", *verdicts])
        if verdicts
        else "no verdict: it takes two seeds and a rival"
    )


if __name__ == "__main__":
    main()
