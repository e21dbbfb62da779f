"""Stored notebooks are clean: literal parameters, outputs only where nbval compares them, texts in place."""

import ast
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from rewind.book import Book

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    return nbformat.read(request.param, as_version=4).cells


def tagged(cells, tag):
    return [cell for cell in cells if tag in cell.metadata.get("tags", [])]


def test_parameters_are_literals(cells):
    (cell,) = tagged(cells, "parameters")
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert statement.targets[0].id.isupper()


def test_every_parameter_is_explained(cells):
    (cell,) = tagged(cells, "parameters")
    table = next(c.source for c in cells if c.cell_type == "markdown" and "## Parameters" in c.source)
    for statement in ast.parse(cell.source).body:
        assert f"`{statement.targets[0].id}`" in table


def test_outputs_are_stored_where_nbval_compares_them_and_nowhere_else(cells):
    kept = tagged(cells, "keep_output")
    assert 1 <= len(kept) <= 3
    for cell in cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count == (1 if cell in kept else None)
        if cell in kept:
            assert cell.source.startswith("# NBVAL_CHECK_OUTPUT\n")
            text = "".join(output.text for output in cell.outputs)
            assert any(character.isdigit() for character in text)
        else:
            assert cell.outputs == []
            assert "NBVAL_CHECK_OUTPUT" not in cell.source


def test_a_figure_has_a_caption_a_name_and_is_announced(cells):
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for cell in cells:
        if cell.cell_type == "code" and ("plots.figure(" in cell.source or "plots.columns(" in cell.source):
            figure = cell.metadata["mystnb"]["figure"]
            assert len(figure["caption"]) > 40
            assert f"{{numref}}`{figure['name']}`" in prose or "slider" in figure["name"]
            assert cell.metadata["mystnb"]["image"]["alt"]


def test_profiles_name_known_chapters():
    for path in (ROOT / "profiles").glob("*.yml"):
        assert set(yaml.safe_load(path.read_text())) <= {notebook.stem for notebook in NOTEBOOKS}


def test_the_commit_hook_leaves_stored_notebooks_as_they_are(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    Book(tmp_path).strip()
    for path in NOTEBOOKS:
        assert (tmp_path / "notebooks" / path.name).read_text() == path.read_text()
