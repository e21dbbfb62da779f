"""Paths are the same from every folder of the book."""

import re

import pytest

from rewind import paths
from rewind.errors import InputError


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "events.root").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def test_files_are_relative_to_the_books_root(root):
    assert paths.locate("events.root") == paths.locate(root / "events.root") == root / "events.root"
    assert paths.output("_run/train/flow.safetensors") == root / "_run" / "train" / "flow.safetensors"
    assert (root / "_run" / "train").is_dir()
    assert paths.output(root / "a" / "b") == root / "a" / "b"


def test_what_is_not_there_or_cannot_be_made_is_refused(root):
    (root / "notebooks" / "mine.root").touch()
    with pytest.raises(InputError, match=re.escape(f"mine.root: no such file in the book's folder {root}")):
        paths.locate("mine.root")
    with pytest.raises(InputError, match="its folder cannot be made"):
        paths.output("events.root/flow.safetensors")


def test_chapters_are_named_by_number_or_name(root):
    for name in ("02_b", "01_a"):
        (root / "notebooks" / f"{name}.ipynb").touch()
    assert [path.stem for path in paths.notebooks(root)] == ["01_a", "02_b"]
    for name in ("1", "01", "01_a", "notebooks/01_a.ipynb"):
        assert paths.notebook(root, name).stem == "01_a"
    with pytest.raises(InputError, match="unknown chapter '3': choose one of 01_a, 02_b"):
        paths.notebook(root, "3")
