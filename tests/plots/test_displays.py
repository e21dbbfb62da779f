"""Pictures that a reader turns or moves."""

import json

import awkward as ak
import numpy as np
import pytest

from rewind import plots
from rewind.plots import displays


def traces(page):
    """Return what a picture draws, as plotly was told."""
    assert "<script" in page.data
    assert 'src="http' not in page.data
    call = page.data[page.data.rindex("Plotly.newPlot(") :]
    return json.JSONDecoder().raw_decode(call, call.index("[{"))[0]


@pytest.fixture
def event():
    def jets(*pts):
        return [{"pt": pt, "eta": 0.5, "phi": 1.0} for pt in pts]

    partons = [
        one | {"pdgId": pdg_id} for one, pdg_id in zip(jets(50.0, 40.0, 30.0, 20.0), (5, 6, -11, 24), strict=True)
    ]
    fields = {"GenPart": partons, "GenJet": jets(45.0), "Jet": jets(44.0, 31.0), "Lepton": jets(29.0)}
    missing = {"pt": 60.0, "phi": -1.0}
    return ak.Array([fields | {"MET": missing, "GenMET": missing}])[0]


def test_an_event_shows_all_levels(event):
    drawn = {trace["name"]: trace for trace in traces(plots.event_display(event))}
    expected = ["quarks and leptons", "particle jets", "detector jets", "detector leptons"]
    assert list(drawn) == [*expected, "missing pT", "neutrinos", "beam"]
    assert drawn["quarks and leptons"]["text"][0] == "quark or lepton: pT = 50.0 GeV, η = 0.50"
    assert len(drawn["quarks and leptons"]["text"]) == 6  # b quark and lepton, neither top nor W
    looks = [(trace["line"]["color"], trace["line"].get("dash")) for trace in drawn.values()]
    assert len(set(looks)) == len(looks)
    assert [name for name, trace in drawn.items() if trace.get("showlegend") is False] == ["beam"]


def test_a_ray_is_as_long_as_the_logarithm_of_its_momentum():
    end = displays._ray(99.0, 1.3, 0.7)
    assert np.linalg.norm(end) == pytest.approx(np.log(100))
    assert np.arctanh(end[2] / np.linalg.norm(end)) == pytest.approx(1.3)


def test_a_leg_shows_shell_ellipse_rays_and_a_black_truth():
    rng = np.random.default_rng(1)
    rays = {"lepton": [30.0, 0, 10], "b quark": [0, 40.0, 5]}
    page = plots.leg_picture(rng.random((4, 5, 3)), rng.random((6, 3)), rays, [1.0, 2.0, 3.0])
    drawn = {trace["name"]: trace for trace in traces(page)}
    assert list(drawn) == ["W mass shell", "ellipse", "its transverse shadow", "lepton", "b quark", "truth"]
    assert drawn["truth"]["marker"]["color"] == "black"


def test_interactive_draws_once_where_no_one_moves_sliders(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    calls = []
    plots.interactive(lambda first=1.0, second=2.0: calls.append((first, second)), first=(0, 2, 0.1))
    assert calls == [(1.0, 2.0)]


def test_interactive_has_sliders_in_a_session(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    calls = []
    plots.interactive(lambda first=1.0: calls.append(first), first=(0, 2, 0.1))
    assert calls == [1.0]
