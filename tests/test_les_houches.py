"""Showering events from a file of another generator, and files that are not whole."""

import gzip

import awkward as ak
import numpy as np
import pytest

from rewind import events
from rewind.errors import InputError
from rewind.events.generator import start
from rewind.events.les_houches import count_events
from rewind.events.processes import base_settings

N_EVENTS = 450


@pytest.fixture(scope="session")
def lhe(tmp_path_factory):
    """Undecayed top pairs, as a matrix-element generator writes them."""
    path = tmp_path_factory.mktemp("lhe") / "ttbar.lhe"
    quiet = ("PartonLevel:all = off", "HadronLevel:all = off", "ProcessLevel:resonanceDecays = off")
    pythia = start((*base_settings(), "Top:gg2ttbar = on", *quiet), 3)
    lines = ['<LesHouchesEvents version="1.0">', "<init>", "2212 2212 6500 6500 0 0 0 0 3 1", "500 1 1 9999", "</init>"]
    for _ in range(N_EVENTS):
        assert pythia.next()
        lines += ["<event>", "4 9999 1 172.5 0.0078 0.118"]
        for i in range(3, 7):
            p = pythia.process[i]
            origin = "-1 0 0" if i < 5 else "1 1 2"
            momentum = " ".join(f"{value:.12e}" for value in (p.px(), p.py(), p.pz(), p.e(), p.m()))
            lines.append(f"{p.id()} {origin} {p.col()} {p.acol()} {momentum} 0 9")
        lines.append("</event>")
    path.write_text("\n".join([*lines, "</LesHouchesEvents>", ""]))
    return path


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
