"""Find the chapters, keep their outputs and render the book.

>>> [chapter.name for chapter in Book(paths.root()).find(["2", "05"])]
['02_robot_arm', '05_nu2_flows']
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import papermill
import yaml
from nbstripout import strip_output

from rewind import paths
from rewind.errors import InputError

__all__ = ["PROFILES", "Book", "Chapter"]

PROFILES = ("quick", "full", "train", "paper")

_TRANSIENT = [
    "metadata.language_info",
    "metadata.papermill",
    "metadata.widgets",
    "cell.metadata.papermill",
    "cell.metadata.execution",
]
_JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


@dataclass(frozen=True)
class Chapter:
    """Name a chapter by its notebook."""

    notebook: Path

    @property
    def name(self) -> str:
        """Return the notebook's name without its suffix."""
        return self.notebook.stem

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Return the names of its parameters with their defaults as written."""
        parameters = papermill.inspect_notebook(str(self.notebook))
        return {name: about["default"] for name, about in parameters.items()}

    @property
    def title(self) -> str:
        """Return the first heading."""
        cells = nbformat.read(self.notebook, as_version=4).cells
        lines = (line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
        return next((line.lstrip("# ") for line in lines if line.startswith("# ")), self.name)


class Book:
    """Find and render the chapters of the book that lies in ``root``."""

    def __init__(self, root: Path):
        self.root = root

    @cached_property
    def chapters(self) -> list[Chapter]:
        """Return all chapters in order."""
        return [Chapter(path) for path in paths.notebooks(self.root)]

    def find(self, names: Sequence[str]) -> list[Chapter]:
        """Return the chapters named by number or name (all if none is); raise InputError for an unknown one."""
        chosen = [Chapter(paths.notebook(self.root, name)) for name in names]
        return list(dict.fromkeys(chosen)) or self.chapters

    def executed(self, chapter: Chapter, profile: str) -> Path:
        """Return where a chapter's executed notebook goes."""
        return self.root / "_run" / profile / f"{chapter.name}.ipynb"

    def last_run(self, chapter: Chapter, profile: str) -> dict:
        """Return the record of the last successful run, empty if there is none that can be read."""
        try:
            return json.loads(self.executed(chapter, profile).with_suffix(".json").read_text())
        except (OSError, ValueError):
            return {}

    def profile_parameters(self, profile: str) -> dict[str, dict]:
        """Return what a profile changes, by chapter."""
        if profile not in PROFILES:
            raise InputError(f"unknown profile '{profile}': choose one of {', '.join(PROFILES)}")
        path = self.root / "profiles" / f"{profile}.yml"
        return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}

    def keep_outputs(self, names: Sequence[str] = ()) -> None:
        """Store the outputs of cells tagged ``keep_output``, as the last quick run left them, in the notebooks.

        Raises InputError for an unknown chapter, where a chapter was not run since its cell was changed, and
        where it was last run with other parameters than the profile's.
        """
        of_profile = self.profile_parameters("quick")
        for chapter in self.find(names):
            executed, last = self.executed(chapter, "quick"), self.last_run(chapter, "quick")
            if last and last.get("parameters") != of_profile.get(chapter.name, {}):
                raise InputError(f"chapter {chapter.name} was last run with -p: 'rewind run' without it first")
            ran = nbformat.read(executed, as_version=4).cells if last and executed.exists() else []
            outputs = {cell.source: cell.outputs for cell in ran if cell.cell_type == "code"}
            notebook = nbformat.read(chapter.notebook, as_version=4)
            for cell in notebook.cells:
                if "keep_output" in cell.metadata.get("tags", []):
                    if cell.source not in outputs:
                        raise InputError(f"chapter {chapter.name} was not run as it stands: 'rewind run' first")
                    text = "".join(output.text for output in outputs[cell.source])
                    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
            _write(notebook, chapter.notebook)

    def strip(self, names: Sequence[str] = ()) -> None:
        """Take outputs and counts out of stored notebooks, but for the outputs of cells tagged ``keep_output``."""
        for chapter in self.find(names):
            notebook = nbformat.read(chapter.notebook, as_version=4)
            _write(
                strip_output(notebook, keep_output=False, keep_count=False, keep_id=True, extra_keys=_TRANSIENT),
                chapter.notebook,
            )

    def build(self, *, profile: str = "quick", strict: bool = False) -> Path:
        """Render the executed chapters with the book's pages; return the page to open.

        ``strict`` makes every warning an error. Raises InputError where a chapter was not run, or Sphinx fails.
        """
        executed = [self.executed(chapter, profile) for chapter in self.chapters]
        if missing := [path.stem for path in executed if not path.exists()]:
            raise InputError(f"chapter {missing[0]} was not run with profile {profile}: 'rewind run' first")
        source = self.root / "_build" / "source"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(self.root / "book", source / "book")
        (source / "notebooks").mkdir()
        for name in ("_config.yml", "_toc.yml"):
            shutil.copy(self.root / name, source / name)
        for path in executed:
            shutil.copy(path, source / "notebooks" / path.name)
        command = [sys.executable, "-c", _JUPYTER_BOOK, "build", str(source), "--path-output", str(self.root)]
        command += ["--all", *(["-W", "-n", "--keep-going"] if strict else [])]
        if subprocess.run(command, check=False, cwd=self.root).returncode:
            raise InputError("the book does not build: see Sphinx's messages above")
        return self.root / "_build" / "html" / "index.html"


def _write(notebook, path: Path) -> None:
    """Store a notebook; nbval compares no outputs of a cell without a count."""
    for cell in notebook.cells:
        if cell.get("outputs"):
            cell.execution_count = 1
    paths.write_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")
