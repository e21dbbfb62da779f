"""Les Houches event files, checked before Pythia reads them."""

from __future__ import annotations

import gzip
from pathlib import Path

from rewind.errors import InputError

__all__ = ["count_events"]

_END = b"</LesHouchesEvents>"


def count_events(path: str | Path) -> int:
    """Return the number of events in a Les Houches file (plain or gzip; hep-ph/0609017).

    Raises InputError where there is no such file, where it is of another kind, or where its end is cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such Les Houches file")
    opener = gzip.open if path.suffix == ".gz" else open
    n_begun = n_complete = 0
    is_les_houches = ended = False
    try:
        with opener(path, "rb") as file:
            for line in file:
                line = line.lstrip()
                is_les_houches |= line.startswith(b"<LesHouchesEvents")
                n_begun += line.startswith((b"<event>", b"<event "))
                n_complete += line.startswith(b"</event>")
                ended |= line.startswith(_END)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read to its end ({error})") from error
    if not is_les_houches:
        raise InputError(f"{path}: is not a Les Houches event file (no <LesHouchesEvents> tag)")
    if not ended or n_begun != n_complete:
        raise InputError(f"{path}: is cut off after {n_complete} complete events (no {_END.decode()} tag at its end)")
    return n_complete
