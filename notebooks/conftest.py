"""nbval judges the last quick run of a chapter that ran as it stands, and executes every other."""

from collections import deque
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import IPyNbFile

from rewind.book import Book, Chapter
from rewind.runner import ran_as_it_stands

BOOK = Book(Path(__file__).parents[1])


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    collected = yield
    return [
        _ChapterFile.from_parent(parent, path=file_path) if type(c) is IPyNbFile else c
        for c in collected
    ]


class _ChapterFile(IPyNbFile):
    """Collect a chapter's cells; where it has run as it stands, its kernel is that run."""

    def setup(self):
        chapter = Chapter(self.path)
        if ran_as_it_stands(BOOK, chapter):
            self.kernel = _Ran(nbformat.read(BOOK.executed(chapter, "quick"), as_version=4))
            self.setup_sanitize_files()
        else:
            super().setup()


class _Ran:
    """Answer as a kernel does, with the outputs that an executed notebook holds."""

    def __init__(self, notebook):
        self.cells = (cell for cell in notebook.cells if cell.cell_type == "code")
        self.messages = deque()

    def execute_cell_input(self, source, allow_stdin=None):
        """Take up the messages of the next cell, which must be the one asked for."""
        cell = next(self.cells)
        assert cell.source == source, "the executed copy holds other cells than the chapter"
        said = [(output.output_type, output) for output in cell.outputs]
        ended = ("status", {"execution_state": "idle"})
        self.messages.extend(
            {"msg_type": kind, "content": content} for kind, content in [*said, ended]
        )

    def get_message(self, stream, timeout=None):
        """Return the next message, as an answer to the cell that was asked for."""
        return self.messages.popleft() | {"parent_header": {"msg_id": None}}

    def await_reply(self, msg_id, timeout=None):
        """Return at once: the cell has been executed."""

    def await_idle(self, msg_id, timeout=None):
        """Drop what the cell said after its error."""
        self.messages.clear()

    def is_alive(self):
        """Return True: a run can always be asked."""
        return True

    def stop(self):
        """Leave the run as it is."""
