"""Pythia's leading-order cross-sections of tt̄ and tt̄H at 13 TeV, μ = m_t and α_s = 0.130: values, errors, time."""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import time
from functools import partial

from rewind.events.chain.leading_order import SUBPROCESSES, cross_section
from timing import Row, alternating, ratio


def small() -> list[Row]:
    """Compare the time of tt̄H with that of tt̄, and give the error of a small run."""
    few = {name: partial(cross_section, name, seed=11, n_events=3_000) for name in ("gg_tt", "gg_tth")}
    spent, result = alternating(few, 3, time.process_time), few["gg_tth"]()
    return [
        ratio("Pythia's time for gg → tt̄H / gg → tt̄", spent["gg_tth"], spent["gg_tt"]),
        Row("gg → tt̄H: relative error of 3,000 events", result.error / result.value),
    ]


def main():
    """Print one line a subprocess."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=11)
    options = options.parse_args()
    for subprocess in SUBPROCESSES:
        began = time.perf_counter()
        result = cross_section(subprocess, seed=options.seed, n_events=options.events)
        print(
            f"{subprocess}: {result.value:.6g} ± {result.error:.2g} pb ({result.error / result.value:.2%}), "
            f"{result.running_yukawa:.6g} pb as Pythia runs y_t, {time.perf_counter() - began:.0f} s"
        )
    print(f"m_H = {result.m_h} GeV, v = {result.higgs_vev:.4f} GeV")


if __name__ == "__main__":
    main()
