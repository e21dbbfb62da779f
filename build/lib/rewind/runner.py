"""Run chapters with papermill, side by side within the machine's cores, and keep what full runs state."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import nbformat
import yaml

import rewind
from rewind import paths, records
from rewind.book import Book, Chapter
from rewind.errors import InputError

__all__ = ["environment", "ran_as_it_stands", "run"]

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Job:
    """Hold what a chapter is run with; ``changed`` are the parameters given beside the profile."""

    chapter: Chapter
    profile: str
    parameters: dict
    changed: dict
    digest: str

    @property
    def command(self) -> str:
        """Return the command that repeats the run."""
        changes = "".join(f" -p {name}={value}" for name, value in self.changed.items())
        return f"rewind run {self.chapter.name[:2]} --profile {self.profile}{changes}"


def run(
    book: Book,
    names: Sequence[str] = (),
    *,
    profile: str = "quick",
    parameters: dict | None = None,
    force: bool = False,
    report: Report = print,
) -> None:
    """Execute chapters whose inputs changed, side by side within the machine's cores.

    A run of the full profile, without further parameters, becomes the chapter's record in ``data/results``. Raises
    InputError for an unknown chapter, profile or parameter, before anything runs, and for chapters that fail, after
    all have run: their notebooks are left as ``NAME.failed.ipynb``. Ctrl-C ends the chapters that run and leaves
    nothing of them.
    """
    from_profile = book.profile_parameters(profile)
    changed = _resolved(parameters or {})
    jobs = []
    for chapter in book.find(names):
        chosen = {**from_profile.get(chapter.name, {}), **changed}
        unknown = sorted(set(chosen) - set(chapter.parameters))
        if unknown:
            raise InputError(
                f"chapter {chapter.name} has no parameter {', '.join(unknown)}: it has {', '.join(chapter.parameters)}"
            )
        job = _Job(chapter, profile, chosen, changed, _digest(book.root, chapter, chosen, profile))
        if _ran(book, chapter, profile, job.digest) and not force:
            report(f"{chapter.name}: unchanged, not run again")
            _keep_record(book, job, report)
        else:
            jobs.append(job)
    side_by_side, n_threads = _shares(len(jobs))
    processes = _Processes(environment(n_threads, profile))
    with ThreadPoolExecutor(side_by_side) as pool:
        try:
            running = [pool.submit(_execute, book, job, processes, report) for job in jobs]
            failures = [error for future in running if (error := future.result())]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
    if failures:
        raise InputError("; ".join(failures))


def ran_as_it_stands(book: Book, chapter: Chapter, profile: str = "quick") -> bool:
    """Return whether the last run of a chapter had the inputs that it has now, and the profile's own parameters."""
    parameters = book.profile_parameters(profile).get(chapter.name, {})
    return _ran(book, chapter, profile, _digest(book.root, chapter, parameters, profile))


def _ran(book: Book, chapter: Chapter, profile: str, digest: str) -> bool:
    return book.executed(chapter, profile).exists() and book.last_run(chapter, profile).get("digest") == digest


def _shares(n_jobs: int) -> tuple[int, int]:
    """Return how many chapters run side by side, and with how many threads each.

    A single chapter gets all cores and chapters side by side one each, unless ``OMP_NUM_THREADS`` says otherwise.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked and not (asked.isdecimal() and int(asked)):
        raise InputError(f"OMP_NUM_THREADS={asked}: a whole number of threads is needed")
    side_by_side = max(1, min(n_cores // int(asked or 1), n_jobs))
    return side_by_side, int(asked or (n_cores if side_by_side == 1 else 1))


def environment(n_threads: int, profile: str) -> dict[str, str]:
    """Return the environment of a chapter's kernel: so many threads, which wait without spinning, and its profile.

    >>> kernel = environment(2, "quick")
    >>> kernel["OMP_NUM_THREADS"], kernel["OMP_WAIT_POLICY"]
    ('2', 'PASSIVE')
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    ours = {"JPY_SESSION_NAME": "", records.PROFILE: profile}  # from JupyterLab or not
    return rewind.PASSIVE_WAITING | os.environ | dict.fromkeys(names, str(n_threads)) | ours


def _execute(book: Book, job: _Job, processes: _Processes, report: Report) -> str | None:
    """Run one chapter in a process of its own; return what went wrong."""
    name, notebook = job.chapter.name, job.chapter.notebook
    final = book.executed(job.chapter, job.profile)
    final.parent.mkdir(parents=True, exist_ok=True)
    running, failed = (final.with_suffix(f".{state}.ipynb") for state in ("running", "failed"))
    for left_behind in (running, failed):
        left_behind.unlink(missing_ok=True)
    command = [sys.executable, "-m", "papermill", str(notebook), str(running)]
    command += ["--cwd", str(notebook.parent), "--no-progress-bar", "-y", yaml.safe_dump(job.parameters)]
    report(f"{name}: running ({job.profile})")
    began = time.monotonic()
    status, said = processes.run(command)
    seconds = round(time.monotonic() - began, 1)
    if processes.stopped:
        running.unlink(missing_ok=True)
        return None
    if status:
        if not running.exists():
            return f"chapter {name} did not start: {_last_line(said)}"
        os.replace(running, failed)
        return f"chapter {name} failed in {_failing_cell(failed)}; see {failed}"
    about = final.with_suffix(".json")
    about.unlink(missing_ok=True)
    os.replace(running, final)
    facts = {"digest": job.digest, "seconds": seconds, "date": date.today().isoformat(), "parameters": job.parameters}
    paths.write_text(about, json.dumps(facts, indent=1, default=str))
    report(f"{name}: done in {seconds} s")
    _keep_record(book, job, report)
    return None


def _keep_record(book: Book, job: _Job, report: Report) -> None:
    """Store what a full run stated, but for a run with parameters of its own."""
    page = records.stated(book.executed(job.chapter, job.profile)) if job.profile == "full" else None
    if page is None:
        return
    path = records.result_path(book.root, job.chapter.name)
    if job.changed:
        report(f"{job.chapter.name}: run with -p, so {path.relative_to(book.root)} stays as it is")
        return
    last = book.last_run(job.chapter, job.profile)
    facts = {name: last[name] for name in ("parameters", "seconds", "date")}
    records.write(path, page, command=job.command, **facts)
    report(f"{job.chapter.name}: {len(page['figures'])} figures in {path.relative_to(book.root)}")


def _digest(root: Path, chapter: Chapter, parameters: dict, profile: str) -> str:
    """Digest everything a chapter's result depends on: of the records its own, and none in a full run."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    own = records.result_path(root, chapter.name)
    data = (path for path in (root / "data").rglob("*") if path.is_file() and path.parent != own.parent)
    inputs = [chapter.notebook, *sorted((root / "lib").rglob("*.py")), *sorted(data)]
    inputs += [own] if profile != "full" and own.exists() else []
    inputs += [Path(value) for value in parameters.values() if isinstance(value, str) and Path(value).is_file()]
    for path in inputs:
        digest.update(str(path).encode() + b"\0")
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class _Processes:
    """Run commands in an ``environment``, from several threads, until all are stopped together."""

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
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
