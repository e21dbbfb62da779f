"""Samples: what is in them, that they can be reproduced, and every way to ask for the impossible."""

import errno
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from rewind import events
from rewind.errors import InputError
from rewind.events import simulation, store
from rewind.events.chunks import Chunk

FAST = {"seed": 5, "underlying_event": False}


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


def test_workers_executors_and_resuming_change_nothing(sample, sample_path, tmp_path, monkeypatch):
    two, threads, resumed = (tmp_path / f"{name}.root" for name in ("two", "threads", "resumed"))
    events.simulate("ttbar_dilepton", 40, two, workers=2, **FAST)
    with ThreadPoolExecutor(1) as executor:
        events.simulate("ttbar_dilepton", 40, threads, executor=executor, **FAST)

    save, n_saved = Chunk.save, 0

    def interrupted(chunk, path):
        nonlocal n_saved
        save(chunk, path)
        n_saved += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Chunk, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        events.simulate("ttbar_dilepton", 40, resumed, **FAST)
    monkeypatch.setattr(Chunk, "save", save)
    assert n_saved == 1
    assert not resumed.exists()
    events.simulate("ttbar_dilepton", 40, resumed, **FAST)
    for path in (two, threads, resumed):
        assert ak.array_equal(events.load(path), sample, dtype_exact=True)
        assert ak.array_equal(events.load_generated(path), events.load_generated(sample_path))
        assert events.metadata(path)["cross_section"] == events.metadata(sample_path)["cross_section"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["resumed.root", "threads.root", "two.root"]


SCRIPT = """
from rewind import events
events.simulate("ttbar_dilepton", 40, {path!r}, seed=5, underlying_event=False, workers={workers})
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_no_worker_behind(sample, tmp_path):
    path = tmp_path / "killed.root"
    command = [sys.executable, "-c", SCRIPT.format(path=str(path), workers=2)]
    run = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".killed.root.*.chunks/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not path.exists()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and subprocess.run(["pgrep", "-g", str(run.pid)], capture_output=True).stdout:
        time.sleep(0.5)
    assert not subprocess.run(["pgrep", "-g", str(run.pid)], capture_output=True).stdout
    subprocess.run(command, check=True)
    assert ak.array_equal(events.load(path), sample)


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
    assert abs(n - total / 4) < 4 * np.sqrt(total * 3 / 16)

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

    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InputError, match="cannot be written to"):
        events.simulate("z_jets", 5, tmp_path / "x.root")


def test_a_full_disk_keeps_finished_chunks_and_says_so(tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

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


SHIPPED = Path(__file__).parent.parent / "data" / "samples"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.root")))
def test_head_of_a_shipped_sample_is_regenerated(name, tmp_path):
    """Bitwise with the same wheels on the same kind of processor, else statistically."""
    shipped, about = events.load(SHIPPED / f"{name}.root"), events.metadata(SHIPPED / f"{name}.root")
    path = tmp_path / "head.root"
    options = {key: about[key] for key in ("seed", "pt_hat_min", "generated_fraction")}
    events.simulate(about["process"], 1, path, **options)
    head, here = events.load(path), events.metadata(path)
    original = shipped[shipped.luminosityBlock <= ak.max(head.luminosityBlock)]
    if (here["processor"], here["versions"]) == (about["processor"], about["versions"]):
        assert ak.array_equal(head, original, dtype_exact=True)
        return
    assert abs(len(head) - len(original)) < 5 * np.sqrt(len(head) + len(original))
    ours, theirs = (ak.flatten(one.GenJet.pt) for one in (head, original))
    assert abs(np.mean(ours) - np.mean(theirs)) < 5 * np.std(theirs) * np.sqrt(1 / len(ours) + 1 / len(theirs))
