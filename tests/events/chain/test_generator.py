"""Pythia's settings and the hard process that is dug out of its event record."""

import awkward as ak
import numpy as np
import pytest

from chance import assert_agrees
from rewind import kinematics
from rewind.errors import InputError
from rewind.events.chain.generator import generate, start
from rewind.events.chain.hard_process import find_hard_process
from rewind.events.chain.processes import PROCESSES, VARIANTS, base_settings

FAST = ("PartonLevel:MPI = off", "HadronLevel:all = off")


def started(process, variant="nominal", extra=FAST):
    chosen = PROCESSES[process]
    threshold = (f"PhaseSpace:pTHatMin = {chosen.pt_hat_min}",) if chosen.pt_hat_min else ()
    return start((*base_settings(), *chosen.settings, *chosen.channels[0], *threshold, *VARIANTS[variant], *extra), 1)


def les_houches(batch):
    hard = find_hard_process(batch).les_houches(len(batch))
    return hard, np.stack([ak.to_numpy(ak.flatten(hard[name])) for name in ("energy", "px", "py", "pz")], axis=1)


@pytest.mark.parametrize("process", PROCESSES)
def test_hard_process_equals_pythias_own_record(process):
    pythia = started(process)
    batch, _ = generate(pythia, 50, 7)
    hard, p4 = les_houches(batch)
    pythia.stat()
    pythia.rndm.init(7)
    particles = iter(zip(ak.flatten(hard.pdgId), p4, strict=True))
    for event in range(50):
        assert pythia.next()
        record = [pythia.process[i] for i in range(3, pythia.process.size())]
        ours = sorted((next(particles) for _ in range(ak.num(hard.pdgId)[event])), key=lambda pair: (pair[0], *pair[1]))
        theirs = [(p.id(), np.array([p.e(), p.px(), p.py(), p.pz()])) for p in record]
        for (our_id, our_p4), (their_id, their_p4) in zip(
            ours, sorted(theirs, key=lambda pair: (pair[0], *pair[1])), strict=True
        ):
            assert our_id == their_id
            np.testing.assert_allclose(our_p4, their_p4, atol=1e-10 * record[0].e())


@pytest.mark.parametrize("variant", ["nominal", "vincia"])
def test_hard_process_conserves_momentum_at_every_vertex(variant):
    batch, _ = generate(started("tth_semileptonic", variant), 50, 3)
    hard, p4 = les_houches(batch)
    n = ak.to_numpy(ak.num(hard.pdgId))
    first = np.repeat(np.cumsum(n) - n, n)
    status, mother = (ak.to_numpy(ak.flatten(hard[name])) for name in ("status", "mother"))
    event = np.repeat(np.arange(50), n)
    signed = p4 * np.select([status == -1, status == 1], [-1.0, 1.0], 0.0)[:, None]
    total = np.stack([np.bincount(event, column) for column in signed.T], axis=1)
    np.testing.assert_allclose(total, 0, atol=1e-9)
    children = np.zeros_like(p4)
    decayed = mother >= 2
    np.add.at(children, (first + mother)[decayed], p4[decayed])
    np.testing.assert_allclose(children[status == 2], p4[status == 2], atol=1e-9)


def test_generator_record_agrees_with_the_hard_process():
    batch, _ = generate(started("ttbar_dilepton"), 100, 3)
    hard, _ = les_houches(batch)
    incoming = hard[hard.status == -1]
    x = 2 * ak.to_numpy(incoming.energy) / 13_000
    np.testing.assert_allclose(x, np.stack([batch.info.x1, batch.info.x2], 1), rtol=1e-9)
    np.testing.assert_array_equal(incoming.pdgId[:, 0], batch.info.id1)
    np.testing.assert_array_equal(incoming.pdgId[:, 1], batch.info.id2)


def test_a_batch_depends_on_its_seed_alone():
    used, fresh = started("ttbar_dilepton"), started("ttbar_dilepton")
    generate(used, 37, 1)
    generate(used, 11, 2)
    (first, sigma), (second, same_sigma) = generate(used, 40, 9), generate(fresh, 40, 9)
    np.testing.assert_array_equal(first.p4, second.p4)
    assert sigma == same_sigma
    other, _ = generate(fresh, 40, 10)
    assert not np.array_equal(ak.to_numpy(other.info.x1), ak.to_numpy(second.info.x1))


def test_top_and_w_have_the_masses_of_the_table():
    batch, _ = generate(started("ttbar_dilepton"), 600, 3)
    chain = find_hard_process(batch)
    for pdg_id, mass, width in ((6, 172.5, 1.33), (24, 80.38, 2.085)):
        masses = kinematics.mass(chain.p4[np.abs(chain.pdg_id) == pdg_id])
        assert abs(np.median(masses) - mass) < 0.15 * width
        half = np.subtract(*np.quantile(masses, [0.75, 0.25])) / 2  # half width at half maximum of a Breit–Wigner
        assert_agrees(half, width / 2, width / 2 * np.pi / 2 / len(masses) ** 0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("PartonLevel:MPI = maybe", "takes on or off"),
        ("NoSuch:key = 1", "not found"),
        ("Tune:pp = 99", "out of range"),
        ("Beams:eCM = 13k", "takes a number"),
        ("6:m0 = heavy", "takes a number"),
        ("Random:seed = abc", "not meaningful"),
        ("999:m0 = 1", "not found"),
        ("23:mayDecay = maybe", "takes on or off"),
        ("6:doForceWidth = maybe", "takes on or off"),
        ("23:isResonance = maybe", "takes on or off"),
        ("24:0:onMode = maybe", "takes on, off or a mode"),
        ("24:onMode = maybe", "takes on, off or a mode"),
        ("24:onIfAny = abc", "takes particle numbers"),
        ("24:onPosIfAny = 11 x", "takes particle numbers"),
        ("24:addChannel = 1 0.1 0 11 x", "takes numbers"),
        ("6:spinType = 2.5", "takes an integer"),
        ("6:m0 = nan", "takes a number"),
        ("6 m0 = 170", "names neither a setting nor a property"),
        ("", "names neither a setting nor a property"),
        ("#PartonLevel:MPI = off", "names neither a setting nor a property"),
        ("-x = 3", "names neither a setting nor a property"),
    ],
)
def test_settings_that_pythia_rejects_or_misreads(setting, message):
    with pytest.raises(InputError, match=message) as caught:
        start((setting,), 1)
    assert f"'{setting}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    ["24:onMode = 2", "24:onMode off", "24:onIfAny = 11 -13", "6 : m0 = 170.5", "Beams:eCM=1.3e4", "6:mayDecay = Yes"],
)
def test_settings_in_all_the_forms_that_pythia_reads(setting):
    start((setting, "HardQCD:gg2gg = on", "PartonLevel:all = off", "PhaseSpace:pTHatMin = 50"), 1)


def test_impossible_beams_give_pythias_reason():
    with pytest.raises(InputError, match="does not start: PYTHIA Error in"):
        start(("Beams:eCM = 1.0", "Top:gg2ttbar = on"), 1)
