"""Showering events from a file of another generator, and files that are not whole."""

import gzip

import awkward as ak
import numpy as np
import pytest

from rewind import events
from rewind.errors import InputError
from rewind.events.chain import chunks, simulation
from rewind.events.chain.generator import start
from rewind.events.chain.les_houches import count_events, write_excerpt
from rewind.events.chain.processes import base_settings

N_EVENTS = 450


def written(path, n_events, colour=None):
    """Write undecayed top pairs as a matrix-element generator does; ``colour`` replaces some events' tops' colours."""
    quiet = ("PartonLevel:all = off", "HadronLevel:all = off", "ProcessLevel:resonanceDecays = off")
    pythia = start((*base_settings(), "Top:gg2ttbar = on", *quiet), 3)
    lines = ['<LesHouchesEvents version="1.0">', "<init>", "2212 2212 6500 6500 0 0 0 0 3 1", "500 1 1 9999", "</init>"]
    for event in range(n_events):
        assert pythia.next()
        lines += ["<event>", "4 9999 1 172.5 0.0078 0.118"]
        for i in range(3, 7):
            p = pythia.process[i]
            origin = "-1 0 0" if i < 5 else "1 1 2"
            momentum = " ".join(f"{value:.12e}" for value in (p.px(), p.py(), p.pz(), p.e(), p.m()))
            col = (colour or {}).get(event, p.col()) if p.id() == 6 else p.col()
            lines.append(f"{p.id()} {origin} {col} {p.acol()} {momentum} 0 9")
        lines.append("</event>")
    path.write_text("\n".join([*lines, "</LesHouchesEvents>", ""]))
    return path


@pytest.fixture(scope="session")
def lhe(tmp_path_factory):
    return written(tmp_path_factory.mktemp("lhe") / "ttbar.lhe", N_EVENTS)


@pytest.fixture
def small_chunks(monkeypatch):
    for module in (chunks, simulation):
        monkeypatch.setattr(module, "CHUNK_EVENTS", 50)


def test_events_of_the_file_are_showered_in_order(lhe, tmp_path):
    assert count_events(lhe) == N_EVENTS
    out = tmp_path / "x.root"
    events.simulate("ttbar_dilepton", 10, out, seed=1, lhe=lhe, underlying_event=False)
    about, generated = events.metadata(out), events.load_generated(out)
    assert about["lhe"] == str(lhe)
    hard = generated.LHEPart
    assert ak.all(ak.sum((abs(hard.pdgId) == 11) | (abs(hard.pdgId) == 13), axis=1) == 2)
    top = hard[hard.pdgId == 6][:, 0]
    lines = lhe.read_text().split("<event>")[1:]
    px = [float(next(row for row in one.splitlines() if row.split()[:1] == ["6"]).split()[6]) for one in lines]
    np.testing.assert_allclose(np.abs(top.px), np.abs(px[: len(top)]), rtol=1e-5, atol=1e-4)


def test_chunks_take_the_lepton_charges_in_turn(lhe, small_chunks, tmp_path):
    path, out = tmp_path / "odd name=x.lhe", tmp_path / "x.root"
    path.write_bytes(lhe.read_bytes())
    cuts = {"n_jets": 0, "n_bjets": 0}
    events.simulate("ttbar_semileptonic", 60, out, seed=1, lhe=path, underlying_event=False, cuts=cuts)
    about, generated = events.metadata(out), events.load_generated(out)
    hard = generated.LHEPart
    lepton = hard.pdgId[(abs(hard.pdgId) == 11) | (abs(hard.pdgId) == 13)]
    assert ak.all(ak.num(lepton) == 1)
    block = (ak.to_numpy(generated.event).astype(int) - 1) // 50
    assert block.max() >= 1
    np.testing.assert_array_equal(np.sign(lepton[:, 0]), np.where(block % 2, 1, -1))
    assert about["cross_section"]["value"] == pytest.approx(500)
    assert about["cross_section"]["error"] == pytest.approx(1)


def test_events_that_cannot_be_showered_are_counted_and_no_event_is_taken_twice(small_chunks, tmp_path):
    path, out = written(tmp_path / "bad.lhe", 101, {5: 999, 30: 0, 100: 999}), tmp_path / "x.root"
    with pytest.raises(InputError, match="has 101 events, of which"):
        events.simulate("ttbar_dilepton", 10_000, out, lhe=path, underlying_event=False)
    finished = sorted(tmp_path.glob(".x.root.*.chunks/*.npz"))
    made = [chunks.Chunk.load(file) for file in finished]
    assert [(chunk.n_generated, chunk.n_failed) for chunk in made] == [(48, 2), (50, 0), (0, 1)]
    px = np.concatenate([ak.to_numpy(chunk.generated.LHEPart.px[:, 2]) for chunk in made[:2]])
    assert len(np.unique(px)) == 98

    events.simulate("ttbar_dilepton", made[0].n_pass_detector + 1, out, lhe=path, underlying_event=False)
    about = events.metadata(out)
    assert (about["n_generated"], about["n_failed"]) == (98, 2)


def test_excerpts_hold_the_header_and_the_events_asked_for(lhe, tmp_path):
    packed, excerpt = tmp_path / "ttbar.lhe.gz", tmp_path / "excerpt.lhe"
    packed.write_bytes(gzip.compress(lhe.read_bytes()))
    header, *bodies = lhe.read_text().removesuffix("</LesHouchesEvents>\n").split("<event>")
    for path in (lhe, packed):
        for first, n_events in ((0, 3), (7, 5), (N_EVENTS - 2, 2)):
            write_excerpt(path, first, n_events, excerpt)
            assert count_events(excerpt) == n_events
            wanted = "<event>".join([header, *bodies[first : first + n_events]])
            assert excerpt.read_text() == wanted + "</LesHouchesEvents>\n"
    with pytest.raises(InputError, match=f"has {N_EVENTS} events now"):
        write_excerpt(lhe, N_EVENTS - 2, 3, excerpt)


def test_gzipped_file_counts_the_same(lhe, tmp_path):
    path = tmp_path / "ttbar.lhe.gz"
    path.write_bytes(gzip.compress(lhe.read_bytes()))
    assert count_events(path) == N_EVENTS
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cannot be read to its end"):
        count_events(path)


def test_too_few_events_is_said_clearly(lhe, tmp_path):
    with pytest.raises(InputError, match=rf"has {N_EVENTS} events, of which \d+ pass .*; 10000 were asked for"):
        events.simulate("ttbar_dilepton", 10_000, tmp_path / "x.root", lhe=lhe, underlying_event=False)
    assert not (tmp_path / "x.root").exists()


def test_chunks_of_another_file_of_the_same_name_are_not_taken(lhe, tmp_path):
    copy, out = tmp_path / "ttbar.lhe", tmp_path / "x.root"
    for text in (lhe.read_text(), lhe.read_text().replace("172.5 0.0078", "91.2 0.0078")):
        copy.write_text(text)
        with pytest.raises(InputError, match="were asked for"):
            events.simulate("ttbar_dilepton", 10_000, out, lhe=copy, underlying_event=False)
    assert len(list(tmp_path.glob(".x.root.*.chunks"))) == 2


def test_cut_and_foreign_files(lhe, tmp_path):
    text = lhe.read_text()
    cut = tmp_path / "cut.lhe"
    for content in (text[: len(text) // 2], text.replace("</LesHouchesEvents>", "")):
        cut.write_text(content)
        with pytest.raises(InputError, match=r"cut\.lhe: is cut off after \d+ complete events"):
            events.simulate("ttbar_dilepton", 5, tmp_path / "x.root", lhe=cut)
    cut.write_text("<html></html>")
    with pytest.raises(InputError, match="not a Les Houches event file"):
        count_events(cut)
    assert [file.name for file in tmp_path.iterdir()] == ["cut.lhe"]
