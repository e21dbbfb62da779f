"""Topologies name each outgoing particle once, and each assignment of jets once."""

import math

import pytest

from rewind.mem.topologies import DILEPTON, TTH, TTH_LOST


@pytest.mark.parametrize("topology", [DILEPTON, TTH, TTH_LOST], ids=["dilepton", "tth", "tth_lost"])
def test_every_particle_has_one_part(topology):
    places = topology.leptons + topology.neutrinos + topology.bottoms + topology.lights + topology.lost
    assert sorted(places) == list(range(len(places)))
    n_bottoms, n_lights = len(topology.bottoms), len(topology.lights)
    alike = 2 if n_bottoms == 4 else 1  # both b quarks of a Higgs boson
    assert len(topology.hypotheses) == math.factorial(n_bottoms) // alike * math.factorial(n_lights)
    assert len(set(topology.hypotheses)) == len(topology.hypotheses)
    for bottoms, lights in topology.hypotheses:
        assert (sorted(bottoms), sorted(lights)) == (list(range(n_bottoms)), list(range(n_lights)))
