"""How VEGAS should spend its evaluations on one event of the matrix element method: a scan of its schedules.

Each schedule is repeated with other random numbers. For the median event: the relative root mean square deviation from
a long run of the shipped flow, and the error that VEGAS quotes; then the share of all estimates within three quoted
errors of the long run. Pass the best one to `rewind.mem.event_integrals.by_vegas`. The events are not those of the
chapters.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
from itertools import product
from typing import NamedTuple

import torch

from rewind import paths
from rewind.generation import parton_level
from rewind.integrate import unweight
from rewind.mem import event_integrals, proposal
from rewind.mem.angle_map import MappedIntegrand
from rewind.mem.integrand import DileptonIntegrand, EventIntegrand, TTHIntegrand
from rewind.mem.measured import rows
from rewind.mem.topologies import DILEPTON, TTH, Topology
from timing import Row


class Process(NamedTuple):
    """Hold what integrals of a process need."""

    name: str
    topology: Topology
    integrand: type[EventIntegrand]
    proposal: str
    evaluations: int


PROCESSES = {
    "dilepton": Process("ttbar_dilepton", DILEPTON, DileptonIntegrand, "dilepton_proposal", 2_000),
    "tth": Process("tth_semileptonic", TTH, TTHIntegrand, "tth_proposal", 20_000),
}


def prepared(process, n_events, generator):
    """Return the integrand of a process, its shipped proposal, and rows of simulated events."""
    checkpoints = paths.root() / "data/checkpoints"
    model = proposal.load_proposal(checkpoints / f"{process.proposal}.safetensors")
    hadronic = parton_level.hadronic_process(process.name)
    integrand = process.integrand(hadronic, model.detector)
    sampler = parton_level.load_sampler(checkpoints / f"{process.name}_sampler.safetensors", process.name)
    points = unweight(hadronic, sampler, 8 * n_events, generator, pilot=5_000, batch=5_000).points
    outgoing = hadronic.collisions(points).momenta[:, 2:]
    event = model.detector.simulate(outgoing, process.topology, generator)[1][:n_events]
    return integrand, proposal.EventFlow(integrand, model), rows(event, process.topology)


def small() -> list[Row]:
    """Compare VEGAS with the shipped proposal at equal evaluations: quoted errors of the same integrals."""
    generator = torch.Generator().manual_seed(77)
    integrand, flow, every = prepared(PROCESSES["dilepton"], 10, generator)
    vegas = event_integrals.by_vegas(integrand, every, 2_000, generator)
    drawn = event_integrals.summarize(event_integrals.draw(integrand, flow, every, 2_000, generator).weights)
    worse = (vegas.error / vegas.value[:, 0]) / (drawn.error / drawn.value[:, 0])
    return [Row("dilepton: VEGAS' relative error / the proposal's, median", float(worse.median()))]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--process", choices=PROCESSES, default="dilepton")
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--evaluations", type=int, help="of an event")
    parser.add_argument("--mapped", action="store_true", help="in the coordinates of the angle map")
    options = parser.parse_args()
    process = PROCESSES[options.process]
    generator = torch.Generator().manual_seed(77)
    integrand, flow, every = prepared(process, options.events, generator)
    n = options.evaluations or process.evaluations
    drawn = event_integrals.draw(integrand, flow, every, 4 * n, generator)
    long = event_integrals.summarize(drawn.weights).value[:, 0]
    integrand = MappedIntegrand(integrand) if options.mapped else integrand
    print("iterations  bins  adapting  deviation  quoted error  within 3")
    for iterations, bins, adapting in product((3, 5), (8, 12, 24), (0.3, 0.5, 0.7)):
        schedule = {"iterations": iterations, "bins": bins, "adapting": adapting}
        runs = [event_integrals.by_vegas(integrand, every, n, generator, **schedule) for _ in range(options.repeats)]
        off = torch.stack([run.value[:, 0] / long - 1 for run in runs])
        quoted = torch.stack([run.error / run.value[:, 0] for run in runs])
        rms, inside = off.square().mean(0).sqrt().median(), (off.abs() < 3 * quoted).double().mean()
        print(f"{iterations:10}  {bins:4}  {adapting:8.1f}  {rms:9.3f}  {quoted.median():12.3f}  {inside:8.3f}")


if __name__ == "__main__":
    main()
