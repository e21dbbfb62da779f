"""Les Houches event files, checked before Pythia reads them."""

from __future__ import annotations

import gzip
from pathlib import Path

from rewind.errors import InputError

__all__ = ["count_events", "write_excerpt"]

_BEGIN = (b"<event>", b"<event ")
_END = b"</LesHouchesEvents>"


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
