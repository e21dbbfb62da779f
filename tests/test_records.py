"""Records of full runs: what chapters state, what is kept and shown, and that quick runs agree with it."""

import json
import math
import re
from html.parser import HTMLParser

import nbformat
import pytest

from rewind import paths, records
from rewind.book import Book, Chapter
from rewind.errors import InputError
from rewind.nn import checkpoints
from rewind.records import Figure, Record
from rewind.runner import run
from rewind.stats import Estimate

ROOT = paths.root()
KEPT = sorted((ROOT / "data" / "results").glob("*.json"))
ABOUT = {"n": 100, "definition": "Mean of N over its square.", "against": "1"}
STATE = """from rewind.records import Record
record = Record("1")
record.state("mean", (0.5 * N, 0.25), n=100, definition="Mean of N.", against="1")
print(f"full profile: {record.full['mean']:.2f}")
record"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A book of one chapter with a record."""
    for folder in ("notebooks", "lib", "profiles", "data/checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "profiles" / "full.yml").write_text("01_first: {N: 20}\n")
    cells = [nbformat.v4.new_code_cell("N = 2"), nbformat.v4.new_code_cell(STATE)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / "01_first.ipynb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(records.PROFILE, raising=False)
    return tmp_path


def keep(root, **changes):
    """Write a record of a full run as the runner does."""
    record = Record("1")
    record.state("mean", Estimate(10.0, 0.25), **ABOUT)
    page = record._repr_mimebundle_()[records.MIME]
    run = {"command": "rewind run 01 --profile full", "parameters": {"N": 20}, "seconds": 90.0, "date": "2026-01-31"}
    path = records.result_path(root, "01_first")
    records.write(path, page, **run | changes)
    return path


def test_a_figure_is_shown_beside_the_full_profiles(root):
    keep(root)
    record = Record("01")
    record.state("mean", (1.0, 0.25), unit="GeV", **ABOUT)
    assert record["mean"] == (1.0, 0.25)
    assert f"{record.full['mean']:.2f}" == "10.00 ± 0.25"
    shown = record._repr_mimebundle_()
    for form in ("text/html", "text/plain"):
        for part in ("1.00 ± 0.25 GeV", "10.00 ± 0.25", "Mean of N", "rewind run 01 --profile full", "2026-01-31"):
            assert part in shown[form]
    assert shown[records.MIME]["figures"]["mean"]["value"] == 1.0


def test_without_a_full_run_a_figure_says_so_and_is_no_number(root):
    record = Record("01")
    record.state("mean", (1.0, 0.25), **ABOUT)
    missing = record.full["mean"]
    assert f"{missing:.2f}" == "(not on record: rewind run 01 --profile full)"
    assert not missing
    assert math.isnan(missing.value)
    assert "has not been run yet" in record._repr_mimebundle_()["text/html"]


def test_a_full_run_reads_its_own_figures_and_not_what_is_kept(root, monkeypatch):
    keep(root).write_text("damaged")
    monkeypatch.setenv(records.PROFILE, "full")
    record = Record("01")
    assert not record.full["mean"]
    record.state("mean", (3.0, 0.5), **ABOUT)
    assert record.full["mean"] == record["mean"] == (3.0, 0.5)


def test_text_is_escaped_and_tags_are_closed(root):
    record = Record("01")
    record.state("a < b & c", (1.0, 0.0), n=1, definition="<script>", against="x > y")
    html, open_tags = record._repr_mimebundle_()["text/html"], []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, _attributes):
            open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Tags().feed(html)
    assert open_tags == []
    assert "<script>" not in html
    assert "a &lt; b &amp; c" in html


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.51234, 0.0123, "0.512 ± 0.012"),
        (1234567.0, 3210.0, "1,234,567 ± 3,210"),
        (1.5, 0.0, "1.5"),
        (1e-9, 2e-10, "1.00e-09 ± 2.00e-10"),
    ],
)
def test_figures_have_two_digits_of_their_error(value, error, text):
    assert records._shown(Figure(value, error, **ABOUT)) == text


def twice(record):
    record.state("mean", (1.0, 0.1), **ABOUT)
    record.state("mean", (1.0, 0.1), **ABOUT)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda _: Record("9"), "unknown chapter '9': choose one of 01_first"),
        (lambda _: Record("1", models=["data/checkpoints/x.safetensors"]), "data/checkpoints/x.safetensors: no such"),
        (twice, "chapter 01_first: 'mean' is stated twice"),
        (lambda record: record["median"], "no figure 'median' on this page; it has none yet"),
        (lambda record: record.state("mean", (math.nan, 0.1), **ABOUT), "'mean': value nan: a finite number"),
        (lambda record: record.state("mean", (1.0, -0.1), **ABOUT), "'mean': error -0.1: a finite number that is not"),
        (lambda record: record.state("mean", (1.0, math.inf), **ABOUT), "'mean': error inf"),
        (lambda record: record.state("mean", (1.0, 0.1), **ABOUT | {"n": 0}), "n = 0: at least one event"),
        (lambda record: record.state("mean", (1.0, 0.1), **ABOUT | {"definition": " "}), "a definition and what"),
    ],
)
def test_mistakes_are_refused_in_one_line(root, mistake, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        mistake(Record("1"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["{", "[]", "{}", '"figures": []', '"figures": {"mean": {}}', '"value": "x"'])
def test_a_damaged_record_is_refused_in_one_line(root, change):
    path = keep(root)
    name, colon, _ = change.partition(": ")
    text = path.read_text()
    if colon:
        content = json.loads(text)
        where = content["figures"]["mean"] if name == '"value"' else content
        where |= json.loads("{" + change + "}")
        change = json.dumps(content)
    path.write_text(change)
    with pytest.raises(InputError, match=r"01\.json: damaged record") as caught:
        Record("1")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_full_run_keeps_its_record_and_other_runs_do_not(root):
    book, said = Book(root), []
    kept = root / "data" / "results" / "01.json"
    run(book, profile="full", report=said.append, parameters={"N": 3})
    assert not kept.exists()
    assert said[-1] == "01_first: run with -p, so data/results/01.json stays as it is"
    run(book, report=said.append)
    assert not kept.exists()
    run(book, profile="full", report=said.append)
    first = records.read(kept)
    assert (first["command"], first["parameters"]) == ("rewind run 01 --profile full", {"N": 20})
    assert first["figures"]["mean"].estimate == (10.0, 0.25)
    assert {path.name for path in kept.parent.iterdir()} == {"01.json"}

    said.clear()
    (kept.parent / "02.json").write_text("another chapter's")
    run(book, report=said.append)
    assert any("done" in line for line in said), "its own record is new"
    (kept.parent / "02.json").write_text("changed")
    kept.rename(root / "01.json")
    (root / "01.json").rename(kept)
    said.clear()
    run(book, report=said.append)
    assert said == ["01_first: unchanged, not run again"]
    kept.unlink()
    run(book, profile="full", report=said.append)
    assert said[1:] == ["01_first: unchanged, not run again", "01_first: 1 figures in data/results/01.json"]
    assert records.read(kept) == first


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_records_checkpoints_are_those_that_ship(path):
    for name, digest in records.read(path)["checkpoints"].items():
        assert checkpoints.describe(ROOT / name)["sha256"] == digest, name


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_record_is_of_its_chapters_full_profile(path):
    record = records.read(path)
    assert records.result_path(ROOT, record["chapter"]) == path
    assert record["parameters"] == Book(ROOT).profile_parameters("full").get(record["chapter"], {})


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_quick_and_full_profile_agree_and_state_the_same_names(path):
    record = records.read(path)
    executed = ROOT / "_run" / "quick" / f"{record['chapter']}.ipynb"
    book = Book(ROOT)
    chapter = Chapter(paths.notebook(ROOT, record["chapter"]))
    as_written = book.profile_parameters("quick").get(chapter.name, {})
    if not executed.exists() or book.last_run(chapter, "quick").get("parameters") != as_written:
        pytest.skip(f"{chapter.name} was not run by the quick profile as it stands")
    quick = {name: Figure(**about) for name, about in records.stated(executed)["figures"].items()}
    assert quick.keys() == record["figures"].keys()
    for name, full in record["figures"].items():
        assert quick[name].definition == full.definition, name
        if full.comparable:
            assert abs(quick[name].value - full.value) <= 5 * math.hypot(quick[name].error, full.error), name
