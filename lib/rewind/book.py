"""Run the chapters with papermill and render the book."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import papermill
import yaml
from nbstripout import strip_output

from rewind.errors import InputError

__all__ = ["PROFILES", "Book", "Chapter"]

PROFILES = ("quick", "full", "paper")

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
        found = papermill.inspect_notebook(str(self.notebook))
        return {name: about["default"] for name, about in found.items()}

    @property
    def title(self) -> str:
        """Return the first heading."""
        cells = nbformat.read(self.notebook, as_version=4).cells
        lines = (line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
        return next((line.lstrip("# ") for line in lines if line.startswith("# ")), self.name)


class Book:
    """Find, run and render the chapters of the book that lies in ``root``."""

    def __init__(self, root: Path):
        self.root = root

    @cached_property
    def chapters(self) -> list[Chapter]:
        """Return all chapters in order."""
        return [Chapter(path) for path in sorted((self.root / "notebooks").glob("[0-9][0-9]_*.ipynb"))]

    def find(self, names: Sequence[str]) -> list[Chapter]:
        """Return the chapters named by number or name (all if none is); raise InputError for an unknown one."""
        chosen = []
        for name in names:
            stem = Path(name).stem
            fitting = [
                chapter
                for chapter in self.chapters
                if chapter.name == stem or (stem.isdigit() and int(chapter.name[:2]) == int(stem))
            ]
            if not fitting:
                known = ", ".join(chapter.name for chapter in self.chapters)
                raise InputError(f"unknown chapter '{name}': choose one of {known}")
            chosen += fitting
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

    def run(
        self,
        names: Sequence[str] = (),
        *,
        profile: str = "quick",
        parameters: dict | None = None,
        force: bool = False,
        report=print,
    ) -> None:
        """Execute chapters whose inputs changed, side by side within the machine's cores.

        Raises InputError for an unknown chapter, profile or parameter, before anything runs, and for chapters
        that fail, after all have run: their notebooks are left as ``NAME.failed.ipynb``. Ctrl-C ends the chapters
        that run and leaves nothing of them.
        """
        from_profile = self.profile_parameters(profile)
        jobs = []
        for chapter in self.find(names):
            chosen = {**from_profile.get(chapter.name, {}), **_resolved(parameters or {})}
            unknown = sorted(set(chosen) - set(chapter.parameters))
            if unknown:
                raise InputError(
                    f"chapter {chapter.name} has no parameter {', '.join(unknown)}: "
                    f"it has {', '.join(chapter.parameters)}"
                )
            digest = self._digest(chapter, chosen)
            ran = self.executed(chapter, profile).exists() and self.last_run(chapter, profile).get("digest") == digest
            if ran and not force:
                report(f"{chapter.name}: unchanged, not run again")
            else:
                jobs.append((chapter, chosen, digest))
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        side_by_side = max(1, min(n_cores, len(jobs)))
        processes = _Processes(n_cores // side_by_side)
        with ThreadPoolExecutor(side_by_side) as pool:
            try:
                running = [pool.submit(self._execute, *job, profile, processes, report) for job in jobs]
                failures = [error for future in running if (error := future.result())]
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                processes.stop()
                raise
        if failures:
            raise InputError("; ".join(failures))

    def _execute(self, chapter, parameters, digest, profile, processes, report) -> str | None:
        """Run one chapter in a process of its own; return what went wrong."""
        final = self.executed(chapter, profile)
        final.parent.mkdir(parents=True, exist_ok=True)
        running, failed = (final.with_suffix(f".{state}.ipynb") for state in ("running", "failed"))
        for left_behind in (running, failed):
            left_behind.unlink(missing_ok=True)
        command = [sys.executable, "-m", "papermill", str(chapter.notebook), str(running)]
        command += ["--cwd", str(chapter.notebook.parent), "--no-progress-bar", "-y", yaml.safe_dump(parameters)]
        report(f"{chapter.name}: running ({profile})")
        began = time.monotonic()
        status, said = processes.run(command)
        seconds = round(time.monotonic() - began, 1)
        if processes.stopped:
            running.unlink(missing_ok=True)
            return None
        if status:
            if not running.exists():
                return f"chapter {chapter.name} did not start: {_last_line(said)}"
            os.replace(running, failed)
            return f"chapter {chapter.name} failed in {_failing_cell(failed)}; see {failed}"
        record = final.with_suffix(".json")
        record.unlink(missing_ok=True)
        os.replace(running, final)
        about = {"digest": digest, "seconds": seconds, "parameters": parameters}
        _replace(record, json.dumps(about, indent=1, default=str))
        report(f"{chapter.name}: done in {seconds} s")
        return None

    def _digest(self, chapter: Chapter, parameters: dict) -> str:
        """Digest everything a chapter's result depends on."""
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
        inputs = [chapter.notebook, *sorted((self.root / "lib").rglob("*.py"))]
        inputs += sorted(path for path in (self.root / "data").rglob("*") if path.is_file())
        inputs += [Path(value) for value in parameters.values() if isinstance(value, str) and Path(value).is_file()]
        for path in inputs:
            digest.update(str(path).encode() + b"\0")
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

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


class _Processes:
    """Run commands with ``n_threads`` threads each, from several threads, until all are stopped together."""

    def __init__(self, n_threads: int):
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.environment = os.environ | dict.fromkeys(names, str(n_threads)) | {"JPY_SESSION_NAME": ""}
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def run(self, command: Sequence[str]) -> tuple[int | None, str]:
        """Wait for ``command``; return its status and what it said on stderr. Once stopped, start nothing."""
        with self.lock:
            if self.stopped:
                return None, ""
            streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            process = subprocess.Popen(command, env=self.environment, text=True, **streams)
            self.running.add(process)
        _, said = process.communicate()
        with self.lock:
            self.running.remove(process)
        return process.returncode, said

    def stop(self) -> None:
        """Terminate what runs; those that wait for it clean up."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def _replace(path: Path, text: str) -> None:
    """Write ``text`` to a temporary name, then give it its own."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def _write(notebook, path: Path) -> None:
    """Store a notebook; nbval compares no outputs of a cell without a count."""
    for cell in notebook.cells:
        if cell.get("outputs"):
            cell.execution_count = 1
    _replace(path, nbformat.writes(notebook).rstrip("\n") + "\n")


def _resolved(parameters: dict) -> dict:
    """Make paths of existing files absolute: the chapter runs in another folder."""
    return {
        name: str(Path(value).resolve()) if isinstance(value, str) and Path(value).is_file() else value
        for name, value in parameters.items()
    }


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _failing_cell(path: Path) -> str:
    """Name the cell with an error, or the last one begun, by its number among the code cells, and the error."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    last_begun = 0
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                return f"code cell {number} ({output.ename}: {output.evalue.partition(chr(10))[0]})"
        if cell.metadata.get("papermill", {}).get("start_time"):
            last_begun = number
    return f"code cell {last_begun} (the kernel died)"
