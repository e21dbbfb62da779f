"""Les Houches event files: written, and checked before Pythia reads them (hep-ph/0609017).

>>> import tempfile
>>> beams, pair = [[9.0, 0.0, 0.0, 9.0], [9.0, 0.0, 0.0, -9.0]], [[9.0, 9.0, 0.0, 0.0], [9.0, -9.0, 0.0, 0.0]]
>>> kinds, none, mother = np.array([[21, 21, 13, -13]]), np.zeros((1, 4), int), np.array([-1, -1, 0, 0])
>>> events = PartonEvents(kinds, np.array([-1, -1, 1, 1]), mother, none, none, np.array([beams + pair]))
>>> with tempfile.TemporaryDirectory() as folder:
...     write(f"{folder}/events.lhe", events, cross_section=1.0, error=0.1, scale=100.0, alpha_s=0.118)
...     count_events(f"{folder}/events.lhe")
1
"""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rewind.errors import InputError
from rewind.kinematics import mass
from rewind.physics.constants import ALPHA_EM, SQRT_S

__all__ = ["PartonEvents", "count_events", "write", "write_excerpt"]

_BEGIN = (b"<event>", b"<event ")
_END = b"</LesHouchesEvents>"


@dataclass(frozen=True)
class PartonEvents:
    """Hold events of one kind: ``pdg_id``, ``colour`` and ``anticolour`` ``(B, n)``, ``momenta`` ``(B, n, 4)`` in GeV.

    ``status`` ``(n,)`` is −1, 2, 1 for incoming, intermediate, final particles; ``mother`` ``(n,)`` their places, −1
    for both incoming ones.
    """

    pdg_id: np.ndarray
    status: np.ndarray
    mother: np.ndarray
    colour: np.ndarray
    anticolour: np.ndarray
    momenta: np.ndarray

    def __len__(self) -> int:
        return len(self.pdg_id)


def write(
    path: str | Path,
    events: PartonEvents,
    *,
    cross_section: float,
    error: float,
    scale: float,
    alpha_s: float,
    comment: str = "",
    sqrt_s: float = SQRT_S,
) -> None:
    """Write events of weight one to a Les Houches file (gzip where its name ends in .gz).

    ``cross_section`` and ``error`` in pb, ``scale`` and ``sqrt_s`` in GeV. Momenta keep sixteen digits. The file takes
    its name when whole; raises InputError where it cannot be written.
    """
    path = Path(path)
    beams = f"2212 2212 {sqrt_s / 2:g} {sqrt_s / 2:g} 0 0 0 0 3 1"
    head = ['<LesHouchesEvents version="1.0">', f"<!-- {comment} -->", "<init>", beams]
    head += [f"{cross_section:.8e} {error:.3e} 1.0 1", "</init>"]
    mothers = np.where(events.mother[:, None] < 0, (1, 2), events.mother[:, None] + (1, 1))
    mothers[events.status == -1] = 0
    n = len(events.status)
    fixed = np.broadcast_to(np.column_stack([events.status, mothers]), (len(events), n, 3))
    whole = np.concatenate([events.pdg_id[..., None], fixed, events.colour[..., None], events.anticolour[..., None]], 2)
    momenta = np.concatenate([events.momenta[..., 1:], events.momenta[..., :1], mass(events.momenta)[..., None]], 2)
    line = "%d %d %d %d %d %d %.16e %.16e %.16e %.16e %.6f 0 9\n"
    begin = f"<event>\n{n} 1 1.0 {scale:.8g} {ALPHA_EM:.8g} {alpha_s:.8g}\n"
    partial = path.with_name(f".{path.name}.part")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(partial, "wt") as file:
            file.write("\n".join(head) + "\n")
            for numbers, p in zip(whole.tolist(), momenta.tolist(), strict=True):
                file.write(begin + "".join(line % (*a, *b) for a, b in zip(numbers, p, strict=True)) + "</event>\n")
            file.write("</LesHouchesEvents>\n")
        os.replace(partial, path)
    except OSError as problem:
        raise InputError(f"{path}: cannot be written ({problem.strerror})") from problem
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _open(path: Path):
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def count_events(path: str | Path) -> int:
    """Return the number of events in a Les Houches file (plain or gzip; hep-ph/0609017).

    Raises InputError where there is no such file, where it is of another kind, or where its end is cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such Les Houches file")
    n_begun = n_complete = 0
    is_les_houches = ended = False
    try:
        with _open(path) as file:
            for line in file:
                line = line.lstrip()
                is_les_houches |= line.startswith(b"<LesHouchesEvents")
                n_begun += line.startswith(_BEGIN)
                n_complete += line.startswith(b"</event>")
                ended |= line.startswith(_END)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read to its end ({error})") from error
    if not is_les_houches:
        raise InputError(f"{path}: is not a Les Houches event file (no <LesHouchesEvents> tag)")
    if not ended or n_begun != n_complete:
        raise InputError(f"{path}: is cut off after {n_complete} complete events (no {_END.decode()} tag at its end)")
    return n_complete


def write_excerpt(path: str | Path, first: int, n_events: int, excerpt: Path) -> None:
    """Write the header of a Les Houches file and ``n_events`` of its events, from number ``first`` on, to ``excerpt``.

    Raises InputError where the file has fewer events.
    """
    event = -1
    with _open(Path(path)) as file, open(excerpt, "wb") as out:
        for line in file:
            start = line.lstrip()
            event += start.startswith(_BEGIN)
            if event >= first + n_events or start.startswith(_END):
                break
            if event < 0 or event >= first:
                out.write(line)
        out.write(_END + b"\n")
    if event + 1 < first + n_events:
        raise InputError(f"{path}: has {event + 1} events now, fewer than when the run began; repeat the command")
