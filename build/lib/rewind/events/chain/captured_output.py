"""Keep what C++ libraries print from the terminal and the notebook.

>>> with captured_output() as printed:
...     _ = os.write(1, b"a banner\\n")
>>> printed
['a banner']
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["captured_output"]


@contextmanager
def captured_output() -> Iterator[list[str]]:
    """Yield a list that holds, afterwards, the lines that C++ code printed to standard output meanwhile."""
    printed: list[str] = []
    saved = os.dup(1)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        try:
            yield printed
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            sink.seek(0)
            printed += sink.read().decode(errors="replace").splitlines()
