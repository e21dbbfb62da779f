"""Samples of simulated events: whole chunks, in parallel, resumable, the same for any number of workers.

>>> simulate("ttbar_dilepton", 0, "sample.root")
Traceback (most recent call last):
    ...
rewind.errors.InputError: n_events = 0: must be a whole number of at least 1
"""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import file_digest
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from rewind.errors import InputError
from rewind.events.chain.chunks import CHUNK_EVENTS, LEVELS, Chunk, Request, make_chunk
from rewind.events.chain.les_houches import count_events
from rewind.events.chain.processes import base_settings, find_process, find_variant
from rewind.events.readers import store
from rewind.physics.constants import M_TOP
from rewind.progress import visible

__all__ = ["simulate"]

_HOPELESS_CHUNKS = 50


def simulate(
    process: str,
    n_events: int,
    path: str | Path,
    *,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    m_top: float | None = None,
    variant: str = "nominal",
    underlying_event: bool = True,
    settings: tuple[str, ...] = (),
    lhe: str | Path | None = None,
    pt_hat_min: float | None = None,
    generated_fraction: float = 1.0,
    levels: Sequence[str] = LEVELS,
    cuts: dict[str, float] | None = None,
    force: bool = False,
) -> None:
    """Simulate at least ``n_events`` events that pass the detector-level selection and write them to ``path``.

    Events are stored that pass the selection at any of ``levels``, "particle" or "detector". ``settings`` are
    further Pythia settings "Key = value"; ``lhe`` a Les Houches file to shower instead of the internal hard
    process; ``generated_fraction`` the share of all generated events whose hard process is kept; ``cuts`` changes
    fields of :class:`~rewind.events.chain.processes.Selection`. ``m_top`` and ``pt_hat_min`` in GeV. ``executor``
    runs the chunks, up to twice ``workers`` at a time (default: a pool of ``workers`` processes). A run that
    was interrupted goes on from its finished chunks when repeated. The chunks of a Les Houches file take the
    channels of the process in turn, and its cross-section is the file's own, before decays.

    Raises InputError for anything that cannot be simulated or written.
    """
    path = Path(path)
    _check(n_events=n_events, workers=workers, seed=seed, generated_fraction=generated_fraction, m_top=m_top)
    if not levels or set(levels) - set(LEVELS):
        raise InputError(f"levels = {levels}: expected one or both of {', '.join(LEVELS)}")
    chosen = find_process(process)
    if pt_hat_min is None:
        pt_hat_min = chosen.pt_hat_min
    common = (
        *base_settings(m_top),
        *(chosen.settings if lhe is None else _without_hard_process(chosen.settings)),
        *((f"PhaseSpace:pTHatMin = {pt_hat_min}",) if pt_hat_min is not None else ()),
        *(() if underlying_event else ("PartonLevel:MPI = off",)),
        *(() if lhe is None else ("Beams:frameType = 4",)),
        *find_variant(variant),
        *settings,
    )
    request = Request(
        process=process,
        channels=tuple((*common, *channel) for channel in chosen.channels),
        selection=chosen.selection.changed(**(cuts or {})),
        seed=seed,
        keep_constituents=chosen.keep_constituents,
        generated_fraction=generated_fraction,
        levels=tuple(level for level in LEVELS if level in levels),
        lhe=None if lhe is None else str(Path(lhe).resolve()),
        lhe_events=0 if lhe is None else count_events(lhe),
        lhe_digest=None if lhe is None else _digest(lhe),
    )
    about = {
        "process": process,
        "title": chosen.title,
        "seed": seed,
        "variant": variant,
        "m_top": M_TOP if m_top is None else m_top,
        "underlying_event": underlying_event,
        "pt_hat_min": pt_hat_min,
        "lhe": request.lhe,
        "settings": request.channels,
        "selection": asdict(request.selection),
        "generated_fraction": generated_fraction,
        "levels": request.levels,
        "versions": dict(request.versions),
        "processor": _processor(),
    }
    _check_output(path, force)
    work = path.with_name(f".{path.name}.{request.fingerprint()}.chunks")
    with _writing(work), _pool(executor, workers) as pool:
        work.mkdir(exist_ok=True)
        finished = _run(request, n_events, work, pool, workers)
        chunks = (Chunk.load(file) for file in finished)
        about |= _summary(request, finished)
        whole = work / "whole.root"
        store.write(whole, (chunk.events for chunk in chunks), about, (Chunk.load(file).generated for file in finished))
        os.replace(whole, path)
    shutil.rmtree(work)


def _digest(path: str | Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _processor() -> str:
    """Name the kind of processor: only on the same one are events the same to the last bit."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    first = dict(tuple(part.strip() for part in line.partition(":")[::2]) for line in reversed(lines))
    named = [first.get("model name", "") or platform.processor()]
    named += [f"{key} {first[key]}" for key in ("cpu family", "model", "stepping") if key in first]
    return " ".join([platform.machine(), *named]).strip()


def _check(*, n_events, workers, seed, generated_fraction, m_top):
    for name, value, lowest in (("n_events", n_events, 1), ("workers", workers, 1), ("seed", seed, 0)):
        if not isinstance(value, (int, np.integer)) or value < lowest:
            raise InputError(f"{name} = {value}: must be a whole number of at least {lowest}")
    if not 0.0 <= generated_fraction <= 1.0:
        raise InputError(f"generated_fraction = {generated_fraction}: must lie between 0 and 1")
    if m_top is not None and not 0.0 < m_top < math.inf:
        raise InputError(f"m_top = {m_top}: must be a finite, positive mass in GeV")


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; choose another name, or overwrite it with --force (force=True)")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")


def _without_hard_process(settings):
    """Keep the decay settings: the hard process itself comes from the file."""
    return tuple(line for line in settings if line[0].isdigit())


@contextmanager
def _writing(work: Path):
    """Turn failures to write into clear errors; leave no empty folder behind."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{work.parent}: the disk is full; free some space and repeat the command: finished chunks are kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InputError(f"{work.parent}: cannot be written to; choose another folder") from error
        raise
    except BrokenProcessPool as error:
        raise InputError(
            "a worker was killed (out of memory?); repeat the command, perhaps with fewer "
            "workers: finished chunks are kept"
        ) from error
    finally:
        if work.is_dir() and not any(work.iterdir()):
            work.rmdir()


class _InThisProcess(Executor):
    """Run each task when it is submitted, here."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _follow_parent() -> None:
    """Let a worker end with its parent, however that ends, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _pool(executor: Executor | None, workers: int):
    """Yield the executor; one of our own ends with the block, whatever it is doing."""
    if executor is not None:
        yield executor
        return
    if workers == 1:
        yield _InThisProcess()
        return
    fork = multiprocessing.get_context("fork")  # a plain script has no guard against being imported again
    pool = ProcessPoolExecutor(workers, mp_context=fork, initializer=_follow_parent)
    try:
        yield pool
    finally:  # what still runs is not needed: chunks beyond the last one, or all after an error or Ctrl-C
        for worker in list((pool._processes or {}).values()):
            worker.kill()
        pool.shutdown(wait=False, cancel_futures=True)


def _run(request: Request, n_events: int, work: Path, pool: Executor, workers: int) -> list[Path]:
    """Return the files of chunks 0, 1, … up to the first with which ``n_events`` are reached."""
    last = math.ceil(request.lhe_events / CHUNK_EVENTS) if request.lhe else None
    selected = _finished_before(work)
    under_way: dict[Future, int] = {}
    with _cancelling(under_way), _bar(request, n_events) as bar:
        while (count := _chunks_needed(selected, n_events)) is None:
            bar.update(min(sum(selected.values()), n_events) - bar.n)
            index = next(
                i
                for i in range(len(selected) + len(under_way) + 1)
                if i not in selected and i not in under_way.values()
            )
            within_file = last is None or index < last
            if within_file and len(under_way) < _worth_having(selected, n_events, workers):
                under_way[pool.submit(make_chunk, request, index)] = index
            elif under_way:
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    index, chunk = under_way.pop(future), future.result()
                    chunk.save(work / f"{index:06d}.npz")
                    selected[index] = chunk.n_pass_detector
            else:
                raise InputError(
                    f"{request.lhe}: has {request.lhe_events} events, of which {sum(selected.values())} pass the "
                    f"detector-level selection; {n_events} were asked for"
                )
            if len(selected) >= _HOPELESS_CHUNKS and not any(selected.values()):
                raise InputError(
                    f"none of {len(selected) * CHUNK_EVENTS} generated events passes the detector-level selection; "
                    "loosen the cuts"
                )
        bar.update(n_events - bar.n)
    return [work / f"{index:06d}.npz" for index in range(count)]


@contextmanager
def _cancelling(under_way: dict[Future, int]):
    """Cancel, at the end, what is still under way."""
    try:
        yield
    finally:
        for future in under_way:
            future.cancel()


def _bar(request: Request, n_events: int) -> tqdm:
    return tqdm(total=n_events, desc=request.process, unit="event", disable=not visible())


def _finished_before(work: Path) -> dict[int, int]:
    """Return how many events of each finished chunk are selected; delete chunks that are damaged."""
    selected = {}
    for file in sorted(work.glob("[0-9]*.npz")):
        try:
            selected[int(file.stem)] = Chunk.about(file)["n_pass_detector"]
        except (BadZipFile, EOFError, KeyError, TypeError, ValueError):
            file.unlink()
    return selected


def _chunks_needed(selected: dict[int, int], n_events: int) -> int | None:
    """Return how many leading chunks hold ``n_events``, None while that is not known."""
    total = 0
    for index in range(len(selected)):
        if index not in selected:
            return None
        total += selected[index]
        if total >= n_events:
            return index + 1
    return None


def _worth_having(selected: dict[int, int], n_events: int, workers: int) -> int:
    """Return how many chunks should be under way: enough for the workers, not more than may be needed."""
    if not any(selected.values()):
        return workers
    missing = n_events - sum(selected.values())
    return max(1, min(2 * workers, math.ceil(missing * len(selected) / sum(selected.values()))))


def _summary(request: Request, files: list[Path]) -> dict:
    """Add up the counts and average the cross-sections of all chunks, channels added.

    The chunks of a Les Houches file, each of one channel, all state the file's cross-section and share its error.
    """
    chunks = [Chunk.about(file) for file in files]
    counts = {
        name: sum(chunk[name] for chunk in chunks)
        for name in ("n_generated", "n_failed", "n_pass_particle", "n_pass_detector")
    }
    value = variance = 0.0
    for channel in zip(*(chunk["cross_sections"] for chunk in chunks), strict=True):
        tried = np.array([sigma.n_tried for sigma in channel], dtype=float)
        errors = np.array([sigma.error for sigma in channel])
        value += np.average([sigma.value for sigma in channel], weights=tried)
        total = errors @ tried if request.lhe else np.linalg.norm(errors * tried)
        variance += (total / tried.sum()) ** 2
    sigma = {"value": float(value), "error": math.sqrt(variance), "unit": "pb"}
    return counts | {"n_events": sum(chunk["events"]["length"] for chunk in chunks), "cross_section": sigma}
