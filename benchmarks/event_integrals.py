"""How VEGAS should spend its evaluations on one event of the matrix element method: a scan of its schedules.

For each schedule the median of the quoted relative error, and the 68 % quantile of the true deviation from a long run
of the shipped flow. The best one is the default of `rewind.mem.integrals.by_vegas`. The events are not chapter 10's.
"""

import argparse
from itertools import product

import torch

from rewind import paths
from rewind.generation import partons
from rewind.mem import integrals, proposal
from rewind.mem.response import DILEPTON, rows
from rewind.mem.unknowns import DileptonUnknowns


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--evaluations", type=int, default=2_000, help="of an event")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(77)
    checkpoints = paths.root() / "data/checkpoints"
    model = proposal.load_proposal(checkpoints / "dilepton_proposal.safetensors")
    unknowns = DileptonUnknowns(partons.hadronic_process("ttbar_dilepton"), model.response)
    sampler = partons.load_sampler(checkpoints / "ttbar_dilepton_sampler.safetensors", "ttbar_dilepton")
    outgoing = partons.leading_order("ttbar_dilepton", 5 * options.events, generator, sampler=sampler)
    event = model.response.simulate(outgoing, DILEPTON, generator)[1][: options.events]
    found = rows(event, DILEPTON)
    flow = proposal.EventFlow(unknowns, model)
    long = integrals.summarize(integrals.draw(unknowns, flow, found, 8_000, generator).weights).value[:, 0]
    print("iterations  bins  adapting  quoted error  true deviation")
    for iterations, bins, adapting in product((3, 5, 10), (8, 12, 24), (0.3, 0.5, 0.7)):
        schedule = {"iterations": iterations, "bins": bins, "adapting": adapting}
        one = integrals.by_vegas(unknowns, found, options.evaluations, generator, **schedule)
        quoted, true = (one.error / one.value[:, 0]).median(), (one.value[:, 0] / long - 1).abs().quantile(0.68)
        print(f"{iterations:10}  {bins:4}  {adapting:8.1f}  {quoted:12.3f}  {true:14.3f}")


if __name__ == "__main__":
    main()
