"""The book: its chapters, the outputs that are kept, what is refused."""

import json
import re

import nbformat
import pytest

from rewind.book import Book
from rewind.errors import InputError
from rewind.runner import run
from small_book import printed


def test_chapters_have_titles_and_parameters(root):
    first, second = Book(root).chapters
    assert (first.name, first.title) == ("01_first", "A small chapter")
    assert first.parameters == {"N": "2", "DATA": "''"}
    assert Book(root).find(["2"]) == Book(root).find(["02_second"]) == Book(root).find(["2", "02"]) == [second]


@pytest.mark.slow
def test_kept_outputs_are_those_of_the_last_run(root):
    path = root / "notebooks" / "01_first.ipynb"
    content = nbformat.read(path, as_version=4)
    content.cells[2].metadata["tags"] = ["keep_output"]
    nbformat.write(content, path)
    with pytest.raises(InputError, match="01_first was not run as it stands"):
        Book(root).keep_outputs(["1"])
    run(Book(root), ["1"], report=lambda _: None)
    run(Book(root), ["1"], parameters={"N": 3}, report=lambda _: None)
    with pytest.raises(InputError, match="01_first was last run with -p"):
        Book(root).keep_outputs(["1"])
    run(Book(root), ["1"], report=lambda _: None)
    Book(root).keep_outputs(["1"])
    assert printed(path) == "4\n"
    ran = nbformat.read(root / "_run" / "quick" / "01_first.ipynb", as_version=4)
    ran.cells[2].metadata["tags"] = ["keep_output"]
    nbformat.write(ran, path)
    Book(root).strip()
    assert printed(path) == "4\n"
    assert [cell.execution_count for cell in nbformat.read(path, as_version=4).cells[1:]] == [None, 1, None]


def test_record_is_readable_json(root):
    path = root / "_run" / "quick" / "01_first.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"digest": "x", "seconds": 3.0}))
    assert Book(root).last_run(Book(root).chapters[0], "quick")["seconds"] == 3.0
    path.write_text('{"digest"')
    assert Book(root).last_run(Book(root).chapters[0], "quick") == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda book: book.find(["9"]), "unknown chapter '9': choose one of 01_first, 02_second"),
        (lambda book: book.find(["first"]), "unknown chapter 'first'"),
        (
            lambda book: book.profile_parameters("huge"),
            "unknown profile 'huge': choose one of quick, full, train, paper",
        ),
        (lambda book: book.keep_outputs(["9"]), "unknown chapter '9'"),
        (lambda book: book.strip(["9"]), "unknown chapter '9'"),
        (lambda book: book.build(), "chapter 01_first was not run with profile quick: 'rewind run' first"),
        (lambda book: book.build(profile="full"), "chapter 01_first was not run with profile full"),
    ],
    ids=["chapter", "name", "profile", "keep", "strip", "not run", "not run in full"],
)
def test_refusals(root, call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call(Book(root))
    assert not (root / "_build").exists()
