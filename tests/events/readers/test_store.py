"""Files: what is written is read back, and a file that is not whole or not ours is refused in one line."""

import awkward as ak
import numpy as np
import pytest
import uproot

from rewind import events
from rewind.errors import InputError
from rewind.events.readers import store


def rewritten(path, out, *, without=(), **changed):
    """Copy the tree of ``path`` to ``out`` with branches left out or changed, as a foreign program might."""
    with uproot.open(path) as file, uproot.recreate(out) as copy:
        tree = file["Events"]
        counters = {name for name in tree.keys() if name.startswith("n") and name[1].isupper()}
        columns = {name: tree[name].array() for name in tree.keys() if name not in counters and name not in without}
        copy["Events"] = columns | changed
        copy["metadata"] = str(file["metadata"])
    return out


def test_what_is_written_is_read_back(sample, sample_path, tmp_path):
    path = tmp_path / "copy.root"
    store.write(path, [sample[:7], sample[7:]], {"process": "ttbar_dilepton"})
    assert ak.array_equal(events.load(path), sample, dtype_exact=True)
    assert events.metadata(path) == {"process": "ttbar_dilepton"}
    assert [file.name for file in tmp_path.iterdir()] == ["copy.root"]
    assert sample.LHEPart.px.type.content.content.primitive == "float64"


def test_branches_are_named_as_nanoaod_names_them(sample_path):
    with uproot.open(sample_path) as file:
        tree = file["Events"]
        names = set(tree.keys())
        wanted = (
            "nJet Jet_pt Jet_eta Jet_phi Jet_mass Jet_btag nLepton Lepton_pt MET_pt MET_phi GenJet_pt GenPart_pdgId "
        )
        wanted += (
            "GenPart_genPartIdxMother Generator_id1 Generator_x1 Generator_scalePDF genWeight event run LHEPart_px"
        )
        assert set(wanted.split()) <= names
        np.testing.assert_array_equal(tree["nJet"].array(), ak.num(tree["Jet_pt"].array()))


def test_summary_says_what_a_file_holds(sample_path):
    text = events.summary(sample_path)
    assert "events stored of" in text
    assert "Jet: pt, eta, phi, mass" in text
    assert "  pass_detector: bool" in text


@pytest.mark.parametrize("record", ["{}", "[]", '{"title": 1, "n_generated": 2, "cross_section": 3}', "3"])
def test_summary_of_foreign_metadata(sample_path, tmp_path, record):
    path = rewritten(sample_path, tmp_path / "x.root")
    with uproot.update(path) as file:
        file["metadata"] = record
    with pytest.raises(InputError, match="not one of this book's"):
        events.summary(path)


def test_a_sample_without_events_is_written_and_read(sample, tmp_path):
    for chunks in ([], [sample[:0]], [ak.Array([]), sample[:0]]):
        path = tmp_path / "empty.root"
        store.write(path, chunks, {})
        empty = events.load(path)
        assert len(empty) == 0
        assert empty.type.content.fields == sample[:0].type.content.fields
        assert events.to_tensors(empty.Jet, ["pt"])[0].shape == (0, 0, 1)
        assert events.momenta(empty.LHEPart).shape == (0, 4)


@pytest.mark.parametrize(("name", "expected"), [("MET_pt", "one number"), ("Jet_pt", "a list of numbers")])
def test_columns_of_another_depth_are_refused(sample, sample_path, tmp_path, name, expected):
    collection = name.split("_")[0]
    other = {"MET": sample.Jet.pt, "Jet": sample.MET.pt}[collection]
    path = rewritten(sample_path, tmp_path / "x.root", **{name: other})
    with pytest.raises(InputError, match=rf"x\.root: '{name}' must hold {expected} for each event"):
        events.load(path)
    spoilt = ak.with_field(sample, ak.zip({key: other for key in sample[collection].fields}), collection)
    with pytest.raises(InputError, match=f"must hold {expected} for each event"):
        store.write(tmp_path / "y.root", [spoilt], {})
    assert [file.name for file in tmp_path.iterdir()] == ["x.root"]


def test_truncated_empty_and_foreign_files(sample_path, tmp_path):
    whole = sample_path.read_bytes()
    bad = tmp_path / "bad.root"
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"\x89HDF\r\n\x1a\n" + bytes(500), b"hello" * 100):
        bad.write_bytes(content)
        for read in (events.load, events.metadata, events.load_generated):
            with pytest.raises(InputError, match=r"bad\.root") as caught:
                read(bad)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        events.load(tmp_path / "absent.root")


def test_root_file_of_another_kind(tmp_path):
    path = tmp_path / "other.root"
    with uproot.recreate(path) as file:
        file["tree"] = {"x": np.arange(3)}
    with pytest.raises(InputError, match="no tree 'Events'"):
        events.load(path)
    with pytest.raises(InputError, match="no metadata record"):
        events.metadata(path)


def test_missing_branch_is_named(sample_path, tmp_path):
    path = rewritten(sample_path, tmp_path / "x.root", without=("MET_phi", "Jet_btag"))
    with pytest.raises(InputError, match="lacks the branch Jet_btag, MET_phi"):
        events.load(path)


@pytest.mark.parametrize("name", ["MET_pt", "Jet_eta", "LHEPart_px"])
def test_not_a_number_is_located(sample, sample_path, tmp_path, name):
    collection, column = name.split("_")
    values = ak.to_list(sample[collection][column])
    event = next(i for i in range(3, len(values)) if not isinstance(values[i], list) or values[i])
    if isinstance(values[event], list):
        values[event][0] = float("nan")
    else:
        values[event] = float("inf")
    path = rewritten(sample_path, tmp_path / "x.root", **{name: ak.Array(values)})
    with pytest.raises(InputError, match=f"branch '{name}' is not finite in event {event} "):
        events.load(path)


def test_interrupted_write_leaves_nothing(sample, tmp_path):
    def chunks():
        yield sample
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(tmp_path / "x.root", chunks(), {})
    assert list(tmp_path.iterdir()) == []


def test_tensors_are_padded_masked_and_clipped(sample):
    values, mask = events.to_tensors(sample.Jet, ["pt", "eta"])
    assert values.shape == (len(sample), ak.max(ak.num(sample.Jet)), 2)
    np.testing.assert_array_equal(mask.sum(1), ak.num(sample.Jet))
    assert (values[~mask] == 0).all()
    np.testing.assert_array_equal(values[..., 0][mask], ak.flatten(sample.Jet.pt))
    two, mask = events.to_tensors(sample.Jet, ["pt"], 2)
    assert two.shape == (len(sample), 2, 1)
    np.testing.assert_array_equal(mask.sum(1), np.minimum(ak.num(sample.Jet), 2))
    nothing, mask = events.to_tensors(sample.Jet[:0], ["pt", "eta"], 3)
    assert nothing.shape == (0, 3, 2)
    assert mask.shape == (0, 3)
    assert events.to_tensors(sample.Jet[:0], ["pt"])[0].shape == (0, 0, 1)
    with pytest.raises(InputError, match="no field charm"):
        events.to_tensors(sample.Jet, ["pt", "charm"])


def test_momenta_agree_in_both_coordinates(sample):
    b = sample.LHEPart[(abs(sample.LHEPart.pdgId) == 5) & (sample.LHEPart.status == 1)]
    p4 = events.momenta(b)
    np.testing.assert_allclose(p4[:, 0] ** 2 - (p4[:, 1:] ** 2).sum(1), 4.8**2, rtol=1e-3)
    jets = events.momenta(sample.Jet)
    np.testing.assert_allclose(np.hypot(jets[:, 1], jets[:, 2]), ak.flatten(sample.Jet.pt), rtol=1e-6)
