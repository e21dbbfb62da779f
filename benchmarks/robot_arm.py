"""The robot arm's shipped flow against the exact posterior and against ABC.

Prints the mean C2ST over hands of the prior predictive (with the residual among the features), the calibration
on prior draws (SBC, TARP), and the arms per second of the flow and of ABC at equal C2ST.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import time
from functools import partial

import numpy as np
import torch

from rewind import paths, stats
from rewind.nn import checkpoints
from rewind.toys import robot_arm
from timing import Row

NOISE = 0.02
SHIPPED = "data/checkpoints/robot_arm.safetensors"
TOLERANCES = (0.05, 0.035, 0.025, 0.018, 0.0125, 0.009)


def c2st(x, y, reference):
    """Return the C2ST accuracy of arms ``x`` against exact ones, by joints and residuals."""
    features = [torch.cat([z, (robot_arm.forward(z) - y) / NOISE], 1) for z in (x, reference)]
    return stats.c2st(*features, seed=0).accuracy


def compare(draw, hands, references):
    """Return the mean C2ST with its standard error over hands, and the arms drawn per second."""
    accuracies, seconds = [], 0.0
    for y, reference in zip(hands, references, strict=True):
        began = time.perf_counter()
        arms = draw(y, len(reference))
        seconds += time.perf_counter() - began
        accuracies.append(c2st(arms, y, reference))
    error = np.std(accuracies, ddof=1) / len(accuracies) ** 0.5
    return np.mean(accuracies), error, sum(map(len, references)) / seconds


def small() -> list[Row]:
    """Compare the shipped flow with ABC of about its accuracy, on a few hands."""
    flow = checkpoints.load(paths.locate(SHIPPED), robot_arm.posterior_flow, noise=NOISE)
    generator = torch.Generator().manual_seed(101)
    torch.manual_seed(101)
    _, hands = robot_arm.simulate(4, generator, noise=NOISE)
    references = [robot_arm.sample_posterior(y, 1_000, generator=generator, noise=NOISE) for y in hands]
    ours, error, rate = compare(lambda y, n: flow.sample(y[None], n)[0], hands, references)
    abc, abc_error, abc_rate = compare(
        lambda y, n: robot_arm.sample_abc(y, n, generator, 0.0125, noise=NOISE)[0], hands, references
    )
    return [
        Row("flow: C2ST against exact draws", ours, error),
        Row("ABC, ε = 0.0125: C2ST against exact draws", abc, abc_error),
        Row("flow's rate / ABC's", rate / abc_rate),
    ]


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hands", type=int, default=20)
    options.add_argument("--draws", type=int, default=4000)
    options.add_argument("--calibration", type=int, default=10_000)
    options.add_argument("--ranks", type=int, default=127)
    options = options.parse_args()

    flow = checkpoints.load(paths.locate(SHIPPED), robot_arm.posterior_flow, noise=NOISE)
    generator, rng = torch.Generator().manual_seed(101), np.random.default_rng(101)
    torch.manual_seed(101)

    _, hands = robot_arm.simulate(options.hands, generator, noise=NOISE)
    exact = partial(robot_arm.sample_posterior, generator=generator, noise=NOISE)
    references = [exact(y, options.draws) for y in hands]
    print(f"{options.hands} hands, {options.draws} arms each, C2ST mean ± standard error over hands")
    for name, draw in (("exact", exact), ("flow", lambda y, n: flow.sample(y[None], n)[0])):
        mean, error, speed = compare(draw, hands, references)
        print(f"{name:14} {mean:.4f} ± {error:.4f}   {speed:10,.0f} arms/s", flush=True)
    of_flow, allowed = (mean, speed), mean + error
    for tolerance in TOLERANCES:
        mean, error, speed = compare(
            lambda y, n, t=tolerance: robot_arm.sample_abc(y, n, generator, t, noise=NOISE)[0], hands, references
        )
        print(f"ABC ε = {tolerance:<6} {mean:.4f} ± {error:.4f}   {speed:10,.0f} arms/s", flush=True)
        if mean <= allowed:
            print(f"at equal C2ST the flow draws {of_flow[1] / speed:.1f} times as many arms per second as ABC")
            break
    else:
        print("no tolerance reaches the flow's C2ST")

    truth, y = robot_arm.simulate(options.calibration, generator, noise=NOISE)
    draws = flow.sample(y, options.ranks)
    everything = [torch.cat([x, robot_arm.forward(x)], -1) for x in (draws, truth)]
    test = stats.rank_uniformity(stats.sbc_ranks(*everything, rng), options.ranks)
    tarp = stats.tarp(draws, truth, rng)
    print(f"{options.calibration} prior draws, {options.ranks} arms each")
    print(
        "SBC largest deviation, four joints and two hand coordinates",
        test.max_deviation.round(4),
        "p",
        test.p_value.round(3),
    )
    print(f"TARP worst deviation {tarp.max_deviation:.4f}")


if __name__ == "__main__":
    main()
