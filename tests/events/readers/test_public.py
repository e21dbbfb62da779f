"""The public HDF5 layouts of ν²-Flows, ν-Flows and PIPPIN become our own event record."""

import awkward as ak
import h5py
import numpy as np
import pytest

from rewind import events
from rewind.cli import main
from rewind.errors import InputError

JET = [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("energy", "f4"), ("is_tagged", "i4")]
LEPTON = [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("energy", "f4"), ("charge", "i4"), ("type", "i4")]
NEUTRINO = [("PDGID", "i4"), ("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("mass", "f4")]
MET = [("MET", "f4"), ("phi", "f4")]


def tables(n_leptons=2, neutrinos="neutrinos"):
    """Three events with 2, 3 and 4 jets; the first jet is the b̄, the second the b."""
    rng = np.random.default_rng(1)
    jets = np.zeros((3, 10), JET)
    indices = np.full((3, 10), -1)
    for event, n in enumerate((2, 3, 4)):
        jets["pt"][event, :n] = np.sort(rng.uniform(30, 200, n))[::-1]
        jets["eta"][event, :n], jets["phi"][event, :n] = rng.uniform(-2, 2, n), rng.uniform(-3, 3, n)
        jets["energy"][event, :n] = np.hypot(jets["pt"] * np.cosh(jets["eta"]), 5)[event, :n]
        jets["is_tagged"][event, :2] = 1
        indices[event, :2] = 1, 0
    leptons = np.zeros((3, n_leptons), LEPTON)
    leptons["pt"], leptons["energy"], leptons["type"] = 50, 50, [0, 1][:n_leptons]
    leptons["charge"] = [-1, 1][:n_leptons]
    truth = np.zeros((3, n_leptons), NEUTRINO)
    truth["pt"], truth["phi"], truth["PDGID"] = 40, [0.0, np.pi / 2][:n_leptons], [12, -14][:n_leptons]
    met = np.zeros(3, MET)
    met["MET"], met["phi"] = 33, 0.5
    return {"jets": jets, "jets_indices": indices, "leptons": leptons, neutrinos: truth, "MET": met}


def written(path, content):
    with h5py.File(path, "w") as file:
        for name, table in content.items():
            file[f"delphes/{name}"] = table
    return path


def test_two_neutrinos(tmp_path):
    sample = events.load(written(tmp_path / "two.h5", tables()))
    assert ak.num(sample.Jet).to_list() == [2, 3, 4]
    np.testing.assert_allclose(sample.Jet.mass[:, 0], 5, atol=0.05)
    assert sample.Lepton.pdgId.to_list() == [[11, -13]] * 3
    assert sample.GenPart.pdgId.to_list() == [[12, -14, 5, -5]] * 3
    np.testing.assert_array_equal(sample.GenPart.pdgId[sample.Jet.partonIdx[:, :2]], [[-5, 5]] * 3)
    assert ak.all(sample.GenPart[sample.Jet.partonIdx[:, :2]].pt == sample.Jet.pt[:, :2], axis=None)
    assert sample.Jet.hadronFlavour[2].to_list() == [5, 5, 0, 0]
    np.testing.assert_allclose(sample.GenMET.pt, 40 * 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(sample.GenMET.phi, np.pi / 4, rtol=1e-6)
    np.testing.assert_allclose(sample.MET.pt, 33)
    assert ak.all(sample.pass_detector)


def test_one_neutrino_under_the_other_name_and_without_indices(tmp_path):
    content = tables(1, "truth_neutrinos")
    del content["jets_indices"]
    sample = events.load(written(tmp_path / "one.hdf5", content))
    assert sample.GenPart.pdgId.to_list() == [[12]] * 3
    assert ak.all(sample.Jet.partonIdx == -1, axis=None)


def test_absent_leptons_may_be_of_any_type(tmp_path):
    content = tables()
    content["leptons"]["pt"][0, 1], content["leptons"]["type"][0, 1] = 0, -99
    assert events.load(written(tmp_path / "two.h5", content)).Lepton.pdgId.to_list()[0] == [11]


def test_metadata_and_summary(tmp_path, capsys):
    path = written(tmp_path / "two.H5", tables())
    assert events.metadata(path) == {"title": "public neutrino data set", "process": "public", "n_events": 3}
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "3 events" in printed
    assert "  leptons: pt, eta, phi, energy, charge, type" in printed
    assert "  jets_indices: int64" in printed
    for read in (events.metadata, events.summary):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "absent.h5")


def test_the_same_fields_as_our_own_files(tmp_path, sample):
    public = events.load(written(tmp_path / "two.h5", tables()))
    assert set(public.fields) == set(sample.fields)
    for name in sample.fields:
        assert set(public[name].fields) == set(sample[name].fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("MET"), "lacks the table 'delphes/MET'"),
        (lambda t: t.pop("neutrinos"), "lacks the table 'delphes/neutrinos'"),
        (lambda t: t.update(jets=t["jets"][["pt", "eta", "phi"]]), "lacks the column energy, is_tagged"),
        (lambda t: t["leptons"]["pt"].fill(np.nan), "column 'pt' has entries that are not finite"),
        (lambda t: t.update(MET=t["MET"][:2]), "3 events in 'jets', 2 in 'MET'"),
        (lambda t: t.update({name: table[:0] for name, table in t.items()}), "holds no events"),
        (lambda t: t["leptons"]["type"].fill(2), "entries other than 0 .* and 1"),
        (lambda t: t["leptons"]["type"].fill(-1), "entries other than 0 .* and 1"),
        (lambda t: t.update(jets_indices=t["jets_indices"][:2]), r"shape \(2, 10\), 'jets' \(3, 10\)"),
        (lambda t: t.update(jets_indices=t["jets_indices"][:, :5]), r"shape \(3, 5\), 'jets' \(3, 10\)"),
    ],
)
def test_files_that_are_not_whole(tmp_path, spoil, message):
    content = tables()
    spoil(content)
    with pytest.raises(InputError, match=message):
        events.load(written(tmp_path / "x.h5", content))


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"not hdf5")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        events.load(path)
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(InputError, match="no group 'delphes'"):
        events.load(path)
    with pytest.raises(InputError, match="no such file"):
        events.load(tmp_path / "absent.h5")
