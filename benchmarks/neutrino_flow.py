"""How fast the shipped ν²-Flow answers: one event at a time, and draws in batches.

python benchmarks/neutrino_flow.py [--events N] [--draws N] [--blocks N]
"""

from __future__ import annotations

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse

import torch

from rewind import events, paths
from rewind.neutrino.flows import training
from rewind.neutrino.flows.inputs import MAX_JETS
from timing import Row, alternating, durations, ratio

SAMPLE, SHIPPED = "data/samples/ttbar_dilepton_test.root", "data/checkpoints/nu2_flow.safetensors"


def seconds(call, blocks: int) -> tuple[float, float]:
    """Return mean and standard error of the seconds a call takes."""
    spent = durations(call, blocks)
    return spent.mean(), spent.std(ddof=1) / blocks**0.5


def small() -> list[Row]:
    """Compare draws one event at a time with draws in a batch, and reading events with drawing once."""
    data = events.load_batch(paths.locate(SAMPLE), 2).with_jets(MAX_JETS)[:200]
    model = training.load_flow(paths.locate(SHIPPED), 2)
    event, n = model.featurize(data), 10
    calls = {
        "one by one": lambda: [model.sample(model.featurize(data[i : i + 1]), 1) for i in range(n)],
        "batch": lambda: model.sample(event, n),
        "read": lambda: model.featurize(data),
    }
    spent = alternating(calls, 5)
    return [
        ratio("a draw's time alone / in a batch", spent["one by one"] / n, spent["batch"] / (n * len(data))),
        ratio("an event's time to read / a draw's in a batch", spent["read"] * n, spent["batch"]),
    ]


def main() -> None:
    """Print milliseconds an event and draws a second, with the error over blocks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=10)
    options = parser.parse_args()

    data = events.load_batch(paths.locate(SAMPLE), 2).with_jets(MAX_JETS)[: options.events]
    model = training.load_flow(paths.locate(SHIPPED), 2)
    print(f"{torch.get_num_threads()} threads")

    singles = [data[i : i + 1] for i in range(20)]

    def one_by_one():
        for event in singles:
            model.sample(model.featurize(event), 1)

    mean, error = seconds(one_by_one, options.blocks)
    print(f"batch of one, from the event to a draw: {50 * mean:.2f} ± {50 * error:.2f} ms an event")

    event = model.featurize(data)
    mean, error = seconds(lambda: model.sample(event, options.draws), options.blocks)
    rate = len(data) * options.draws / mean
    print(f"in batches: {rate:,.0f} ± {rate * error / mean:,.0f} draws/s")
    mean, error = seconds(lambda: model.featurize(data), options.blocks)
    print(f"reading events: {len(data) / mean:,.0f} ± {len(data) / mean * error / mean:,.0f} events/s")


if __name__ == "__main__":
    main()
