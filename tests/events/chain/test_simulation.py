"""Samples: what is in them, that they can be reproduced, and every way to ask for the impossible."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from chance import assert_agrees
from rewind import events
from rewind.errors import InputError
from rewind.events.chain import chunks, simulation
from rewind.events.chain.chunks import Chunk
from rewind.events.readers import samples, store

FAST = {"seed": 5, "underlying_event": False}


@pytest.fixture
def made(monkeypatch):
    """The numbers of the chunks that this process makes."""
    numbers, make_chunk = [], simulation.make_chunk

    def recorded(request, index):
        numbers.append(index)
        return make_chunk(request, index)

    monkeypatch.setattr(simulation, "make_chunk", recorded)
    return numbers


def test_counts_flags_and_metadata_agree(sample, sample_path):
    about = events.metadata(sample_path)
    assert ak.sum(sample.pass_detector) == about["n_pass_detector"] >= 40
    assert ak.sum(sample.pass_particle) == about["n_pass_particle"]
    assert ak.all(sample.pass_particle | sample.pass_detector)
    assert len(sample) == about["n_events"]
    assert about["process"] == "ttbar_dilepton"
    assert about["seed"] == 5
    sigma = about["cross_section"]
    assert 0 < sigma["error"] < 0.1 * sigma["value"]


@pytest.mark.parametrize("level", ["particle", "detector"])
def test_flags_follow_from_the_stored_objects(sample, level):
    leptons, jets = (sample.GenLepton, sample.GenJet) if level == "particle" else (sample.Lepton, sample.Jet)
    is_b = jets.hadronFlavour == 5 if level == "particle" else jets.btag == 1
    expected = (ak.num(leptons) == 2) & (ak.sum(leptons.charge, axis=1) == 0)
    expected = expected & (ak.num(jets) >= 2) & (ak.sum(is_b, axis=1) >= 2)
    np.testing.assert_array_equal(expected, sample[f"pass_{level}"])


def test_objects_meet_the_cuts_and_come_in_falling_pt(sample):
    for name, pt in (("Jet", 25), ("GenJet", 25), ("Lepton", 15), ("GenLepton", 15)):
        objects = sample[name]
        assert ak.all(objects.pt > pt, axis=None)
        assert ak.all(abs(objects.eta) < 2.5, axis=None)
        assert ak.all(objects.pt[:, 1:] <= objects.pt[:, :-1], axis=None)
    for leptons, jets in ((sample.Lepton, sample.Jet), (sample.GenLepton, sample.GenJet)):
        both = ak.cartesian({"l": leptons, "j": jets})
        phi = (both.l.phi - both.j.phi + np.pi) % (2 * np.pi) - np.pi
        assert ak.all(np.hypot(both.l.eta - both.j.eta, phi) > 0.4 - 1e-5, axis=None)


def test_matched_partons_are_quarks_near_their_jets_and_unique(sample):
    for name in ("Jet", "GenJet"):
        jets = sample[name][sample[name].partonIdx >= 0]
        partons = sample.GenPart[jets.partonIdx]
        assert ak.all((abs(partons.pdgId) <= 5) | (partons.pdgId == 21), axis=None)
        phi = (jets.phi - partons.phi + np.pi) % (2 * np.pi) - np.pi
        assert ak.all(np.hypot(jets.eta - partons.eta, phi) < 0.4 + 1e-5, axis=None)
        assert ak.all(ak.num(jets.partonIdx) == [len(set(one)) for one in ak.to_list(jets.partonIdx)])
    # the two b quarks of a dilepton event become b jets
    assert ak.mean(ak.flatten(sample.GenJet[sample.GenJet.partonIdx >= 0].hadronFlavour) == 5) > 0.97


def test_genpart_mothers_lead_from_leptons_to_tops(sample):
    parts = sample.GenPart
    lepton = parts[(abs(parts.pdgId) == 11) | (abs(parts.pdgId) == 13)]
    w = parts[lepton.genPartIdxMother]
    top = parts[w.genPartIdxMother]
    assert ak.all(abs(w.pdgId) == 24, axis=None)
    assert ak.all(abs(top.pdgId) == 6, axis=None)
    assert ak.all(np.sign(lepton.pdgId) == -np.sign(w.pdgId), axis=None)


def test_missing_momentum_follows_the_neutrinos(sample):
    difference = sample.MET.pt * np.exp(1j * sample.MET.phi) - sample.GenMET.pt * np.exp(1j * sample.GenMET.phi)
    assert np.median(np.abs(difference)) < 0.5 * np.median(sample.GenMET.pt)


def test_a_dilepton_quantity_can_be_evaluated_on_the_hard_process(sample):
    """The spin-averaged |M|² of t → b ℓ ν is ∝ (t·ℓ)(b·ν): positive, and it needs consistent mothers and momenta."""
    hard = sample.LHEPart

    def dot(a, b):
        return a.energy * b.energy - a.px * b.px - a.py * b.py - a.pz * b.pz

    for sign in (1, -1):
        top, b = hard[hard.pdgId == 6 * sign][:, 0], hard[hard.pdgId == 5 * sign][:, 0]
        lepton = hard[(hard.pdgId == -11 * sign) | (hard.pdgId == -13 * sign)][:, 0]
        neutrino = hard[(hard.pdgId == 12 * sign) | (hard.pdgId == 14 * sign)][:, 0]
        assert ak.all(dot(top, lepton) * dot(b, neutrino) > 0)
        w2 = 2 * dot(lepton, neutrino)
        assert np.median(np.sqrt(w2)) == pytest.approx(80.4, abs=1.0)


def test_workers_executors_and_resuming_change_nothing(sample, sample_path, tmp_path, monkeypatch, made):
    two, threads, resumed = (tmp_path / f"{name}.root" for name in ("two", "threads", "resumed"))
    with monkeypatch.context() as patch:
        patch.setattr(simulation, "make_chunk", chunks.make_chunk)
        events.simulate("ttbar_dilepton", 40, two, workers=2, **FAST)
    with ThreadPoolExecutor(2) as executor:
        events.simulate("ttbar_dilepton", 40, threads, executor=executor, workers=2, **FAST)

    made.clear()
    save = Chunk.save

    def interrupted(chunk, path):
        save(chunk, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Chunk, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            events.simulate("ttbar_dilepton", 40, resumed, **FAST)
    assert made == [0]
    assert not resumed.exists()
    events.simulate("ttbar_dilepton", 40, resumed, **FAST)
    assert made == list(range(ak.max(sample.luminosityBlock)))
    for path in (two, threads, resumed):
        assert ak.array_equal(events.load(path), sample, dtype_exact=True)
        assert ak.array_equal(events.load_generated(path), events.load_generated(sample_path))
        assert events.metadata(path)["cross_section"] == events.metadata(sample_path)["cross_section"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["resumed.root", "threads.root", "two.root"]


SCRIPT = """
from rewind import events
events.simulate("ttbar_dilepton", 100, {path!r}, seed=5, underlying_event=False, workers=2)
"""


def finished_chunks(folder):
    return {int(file.stem): file.read_bytes() for file in folder.glob(".*.chunks/[0-9]*.npz")}


def has_members(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def waited_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_no_worker_behind(tmp_path, made):
    path, whole = tmp_path / "killed.root", tmp_path / "whole.root"
    run = subprocess.Popen([sys.executable, "-c", SCRIPT.format(path=str(path))], start_new_session=True)
    assert waited_for(lambda: finished_chunks(tmp_path), 120)
    run.send_signal(signal.SIGKILL)
    run.wait()
    finished = finished_chunks(tmp_path)
    assert finished
    assert not path.exists()
    assert waited_for(lambda: not has_members(run.pid), 60)
    assert finished_chunks(tmp_path) == finished
    events.simulate("ttbar_dilepton", 100, path, **FAST)
    assert made
    assert not set(made) & set(finished)
    events.simulate("ttbar_dilepton", 100, whole, **FAST)
    assert ak.array_equal(events.load(path), events.load(whole))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["killed.root", "whole.root"]


def killed(_request, _index):
    os.kill(os.getpid(), signal.SIGKILL)


def unlucky(_request, _index):
    time.sleep(0.2)
    raise InputError("no luck")


@pytest.mark.parametrize(("task", "message"), [(killed, "a worker was killed"), (unlucky, "no luck")])
def test_a_failing_pool_ends_its_own_workers_only(tmp_path, monkeypatch, task, message):
    monkeypatch.setattr(simulation, "make_chunk", task)
    bystander = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    bystander.start()
    try:
        with pytest.raises(InputError, match=message):
            events.simulate("z_jets", 5, tmp_path / "x.root", workers=2, **FAST)
        assert waited_for(lambda: multiprocessing.active_children() == [bystander], 10)
    finally:
        bystander.kill()
        bystander.join()
    assert list(tmp_path.iterdir()) == []


def test_what_waits_in_a_callers_executor_is_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "make_chunk", unlucky)
    submitted = []

    class Recording(ThreadPoolExecutor):
        def submit(self, *task):
            submitted.append(super().submit(*task))
            return submitted[-1]

    with Recording(1) as executor, pytest.raises(InputError, match="no luck"):
        events.simulate("z_jets", 5, tmp_path / "x.root", executor=executor, workers=4, **FAST)
    assert [future.cancelled() for future in submitted[2:]] == [True, True]


def test_damaged_chunks_are_deleted_and_no_array_is_read_to_count(tmp_path, monkeypatch):
    monkeypatch.setattr(Chunk, "load", None)
    about = dict.fromkeys(Chunk.__dataclass_fields__, 7) | {"cross_sections": []}
    np.savez(tmp_path / "000000.npz", about=json.dumps(about))
    whole = (tmp_path / "000000.npz").read_bytes()
    for index, content in enumerate((b"", b"hello" * 20, whole[: len(whole) // 2]), 1):
        (tmp_path / f"{index:06d}.npz").write_bytes(content)
    np.savez(tmp_path / "000004.npz", x=1)
    del about["n_failed"]
    np.savez(tmp_path / "000005.npz", about=json.dumps(about))
    np.savez(tmp_path / "000006.npz", about="{")
    assert simulation._finished_before(tmp_path) == {0: 7}
    assert [file.name for file in tmp_path.iterdir()] == ["000000.npz"]


def test_events_that_pythia_gives_up_on_are_counted(tmp_path, monkeypatch):
    generate = chunks.generate
    monkeypatch.setattr(chunks, "generate", lambda pythia, n, seed: generate(pythia, n - 3, seed))
    path = tmp_path / "x.root"
    events.simulate("ttbar_semileptonic", 1, path, **FAST)
    about, generated = events.metadata(path), events.load_generated(path)
    assert (about["n_generated"], about["n_failed"]) == (394, 6)
    np.testing.assert_array_equal(generated.event, [*range(1, 198), *range(201, 398)])
    monkeypatch.setattr(chunks, "generate", lambda pythia, n, seed: generate(pythia, 0, seed))
    with pytest.raises(InputError, match="gives up on each of 200 events"):
        events.simulate("ttbar_semileptonic", 1, path, force=True, **FAST)


def test_cached_samples_are_made_once_for_a_request_and_its_versions(tmp_path, monkeypatch):
    simulated = []

    def simulate(process, n_events, path, **options):
        simulated.append((process, n_events, options))
        path.touch()

    monkeypatch.setattr(samples.paths, "root", lambda: tmp_path)
    monkeypatch.setattr(samples, "simulate", simulate)
    first = events.sample("z_jets", 5, seed=3, m_top=170.0)
    assert first.is_file()
    assert events.sample("z_jets", 5, seed=3, m_top=170.0, workers=2) == first
    assert simulated == [("z_jets", 5, {"seed": 3, "workers": 1, "m_top": 170.0})]
    others = {events.sample("z_jets", 5, seed=3), events.sample("z_jets", 6, seed=3, m_top=170.0)}
    monkeypatch.setattr(samples, "versions", lambda: {"rewind": "next"})
    others.add(events.sample("z_jets", 5, seed=3, m_top=170.0))
    assert len(others | {first}) == len(simulated) == 4


def test_only_whole_chunks_and_at_least_n_events(sample):
    blocks = ak.to_numpy(sample.luminosityBlock)
    assert np.all(np.diff(blocks) >= 0)
    without_last = ak.sum(sample.pass_detector[blocks < blocks.max()])
    assert without_last < 40 <= ak.sum(sample.pass_detector)


def test_generated_tree_keeps_every_event_a_share_or_none(sample_path, tmp_path):
    everything = events.load_generated(sample_path)
    about = events.metadata(sample_path)
    assert len(everything) == about["n_generated"]
    assert ak.sum(everything.pass_detector) == about["n_pass_detector"]
    np.testing.assert_array_equal(np.sort(everything.event), np.arange(1, len(everything) + 1))
    stored = events.load(sample_path)
    same = everything[np.isin(everything.event, stored.event)]
    assert ak.all(abs(same.LHEPart.px - stored.LHEPart.px) < 1e-3, axis=None)

    share = tmp_path / "share.root"
    events.simulate("ttbar_dilepton", 10, share, generated_fraction=0.25, **FAST)
    n = len(events.load_generated(share))
    total = events.metadata(share)["n_generated"]
    assert_agrees(n, total / 4, np.sqrt(total * 3 / 16))

    none = tmp_path / "none.root"
    events.simulate("ttbar_dilepton", 10, none, generated_fraction=0.0, **FAST)
    with pytest.raises(InputError, match="Generated"):
        events.load_generated(none)


def test_semileptonic_sample_holds_both_charges_in_equal_numbers_of_generated_events(tmp_path):
    path = tmp_path / "semi.root"
    events.simulate("ttbar_semileptonic", 15, path, **FAST)
    hard = events.load_generated(path).LHEPart
    lepton = ak.flatten(hard.pdgId[(abs(hard.pdgId) == 11) | (abs(hard.pdgId) == 13)])
    assert np.sum(lepton > 0) == np.sum(lepton < 0) == len(hard) / 2


def test_z_jets_keeps_the_constituents_of_the_leading_jet(tmp_path):
    path = tmp_path / "z.root"
    events.simulate("z_jets", 20, path, pt_hat_min=60.0, **FAST)
    z = events.load(path)
    for level in ("GenJet", "Jet"):
        some = z[ak.num(z[level]) > 0]
        jet, inside = some[level][:, 0], some[f"{level}Constituent"]
        px, py = (ak.sum(inside.pt * f(inside.phi), axis=1) for f in (np.cos, np.sin))
        np.testing.assert_allclose(np.hypot(px, py), jet.pt, rtol=2e-5)
        phi = (inside.phi - jet.phi + np.pi) % (2 * np.pi) - np.pi
        assert ak.mean(np.hypot(inside.eta - jet.eta, phi) < 0.4, axis=None) > 0.97
    assert events.metadata(path)["pt_hat_min"] == 60.0
    muons = z.Lepton[z.pass_detector]
    assert ak.all(abs(muons.pdgId) == 13, axis=None)


def test_m_top_variants_and_cuts_reach_the_events(tmp_path):
    path = tmp_path / "m.root"
    events.simulate("ttbar_dilepton", 5, path, m_top=165.0, variant="isr_up", cuts={"jet_pt": 40.0}, **FAST)
    sample, about = events.load(path), events.metadata(path)
    top = ak.flatten(sample.LHEPart[abs(sample.LHEPart.pdgId) == 6])
    mass = np.sqrt(top.energy**2 - top.px**2 - top.py**2 - top.pz**2)
    assert np.median(mass) == pytest.approx(165.0, abs=0.5)
    assert ak.min(sample.Jet.pt, axis=None) > 40
    assert any("renormMultFac = 0.25" in line for line in about["settings"][0])


def test_independent_nanoaod_reader_opens_the_file(sample, sample_path):
    nanoevents = pytest.importorskip("coffea.nanoevents", reason="optional extra 'peers' (coffea) is not installed")
    nanoevents.NanoAODSchema.warn_missing_crossrefs = False
    read = nanoevents.NanoEventsFactory.from_root(
        {str(sample_path): "Events"}, schemaclass=nanoevents.NanoAODSchema, mode="eager"
    ).events()
    assert ak.all(read.Jet.pt == sample.Jet.pt, axis=None)
    assert ak.all(read.GenPart.pdgId == sample.GenPart.pdgId, axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"process": "higgs"}, "unknown process 'higgs': choose one of ttbar_dilepton"),
        ({"variant": "fsr"}, "unknown variant 'fsr'"),
        ({"cuts": {"jet_et": 3}}, "unknown cut 'jet_et'"),
        ({"cuts": {"jet_pt": "abc"}}, "cut jet_pt = abc: must be a finite number"),
        ({"cuts": {"jet_pt": float("nan")}}, "cut jet_pt = nan: must be a finite number"),
        ({"cuts": {"jet_pt": None}}, "cut jet_pt = None: must be a finite number"),
        ({"cuts": {"jet_eta": True}}, "cut jet_eta = True: must be a finite number"),
        ({"cuts": {"n_jets": 2.5}}, "cut n_jets = 2.5: must be a whole number"),
        ({"cuts": {"same_flavour": 1}}, "cut same_flavour = 1: must be true or false"),
        ({"m_top": 0.0}, "m_top = 0.0: must be a finite, positive mass"),
        ({"m_top": float("nan")}, "m_top = nan: must be a finite, positive mass"),
        ({"m_top": float("inf")}, "m_top = inf: must be a finite, positive mass"),
        ({"n_events": 0}, "n_events = 0"),
        ({"n_events": -5}, "n_events = -5"),
        ({"workers": 0}, "workers = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"generated_fraction": 1.5}, "generated_fraction"),
        ({"settings": ("PartonLevel:ISR = maybe",)}, "takes on or off"),
        ({"lhe": "missing.lhe"}, "no such Les Houches file"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, change, message):
    request = {"process": "ttbar_dilepton", "n_events": 5, "path": tmp_path / "x.root", **FAST} | change
    with pytest.raises(InputError, match=message):
        events.simulate(**request)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such folder"):
        events.simulate("z_jets", 5, tmp_path / "nowhere" / "x.root")
    there = tmp_path / "there.root"
    there.write_text("precious")
    with pytest.raises(InputError, match="--force"):
        events.simulate("z_jets", 5, there)
    assert there.read_text() == "precious"
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        events.simulate("z_jets", 5, tmp_path / "folder", force=True)

    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InputError, match="cannot be written to"):
        events.simulate("z_jets", 5, tmp_path / "x.root")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_finished_chunks_and_says_so(tmp_path, monkeypatch, code):
    def full(path, *_args, **_options):
        assert path.parent.name.endswith(".chunks")  # where a part that a killed run leaves is cleared away later
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        with pytest.raises(InputError, match="disk is full"):
            events.simulate("z_jets", 5, tmp_path / "x.root", **FAST)
    assert list(tmp_path.glob(".x.root.*.chunks/*.npz"))
    assert not (tmp_path / "x.root").exists()
    events.simulate("z_jets", 5, tmp_path / "x.root", **FAST)


def test_hopeless_cuts_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "_HOPELESS_CHUNKS", 2)
    with pytest.raises(InputError, match="none of 800 generated events"):
        events.simulate("z_jets", 5, tmp_path / "x.root", cuts={"jet_pt": 5000.0}, **FAST)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="names its processors elsewhere")
def test_processors_of_one_name_are_told_apart():
    """Two generations share a name, and round differently: their events are not the same to the last bit."""
    text = Path("/proc/cpuinfo").read_text()
    processor = simulation._processor()
    for key in ("cpu family", "model\t", "stepping"):
        line = next((line for line in text.splitlines() if line.startswith(key)), None)
        assert line is None or f"{key.strip()} {line.partition(':')[2].strip()}" in processor


SHIPPED = Path(__file__).parents[3] / "data" / "samples"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.root")))
def test_head_of_a_shipped_sample_is_regenerated(name, tmp_path):
    """Bitwise with the same wheels on the same kind of processor, else statistically."""
    shipped, about = events.load(SHIPPED / f"{name}.root"), events.metadata(SHIPPED / f"{name}.root")
    path = tmp_path / "head.root"
    asked = ("seed", "pt_hat_min", "generated_fraction", "variant", "m_top", "underlying_event", "levels")
    options = {key: about[key] for key in asked if key in about}
    events.simulate(about["process"], 1, path, **options)
    head, here = events.load(path), events.metadata(path)
    original = shipped[shipped.luminosityBlock <= ak.max(head.luminosityBlock)]
    if (here["processor"], here["versions"]) == (about["processor"], about["versions"]):
        assert ak.array_equal(head, original, dtype_exact=True)
        return
    assert_agrees(len(head), len(original), np.sqrt(len(head) + len(original)))
    ours, theirs = (ak.flatten(one.GenJet.pt) for one in (head, original))
    assert_agrees(np.mean(ours), np.mean(theirs), np.std(theirs) * np.sqrt(1 / len(ours) + 1 / len(theirs)))
