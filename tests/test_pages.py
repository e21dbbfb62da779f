"""The text of the pages: chapters carry their numbers, a mention of one is a link, code fits the page."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from rewind.book import Book

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "book").glob("*.md"))
CODE_COLUMNS = 100  # what the style sheet leaves room for beside both side bars; test_site.py measures it

_NO_TEXT = re.compile(r"```[^\n{]*\n.*?```|`[^`\n]+`|\[[^\]]*\]\([^)]*\)|^#+ [^\n]*", re.S | re.M)
_MENTION = re.compile(r"\bchapters?\s+\d+", re.I)


def bare_mentions(text):
    """Return mentions of chapters outside code, links and headings."""
    return _MENTION.findall(_NO_TEXT.sub("", text))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_a_mention_is_found_in_text_alone():
    assert bare_mentions("As in chapter 3, and Chapters\n4 to 6") == ["chapter 3", "Chapters\n4"]
    assert bare_mentions("[chapter 3](03_a.ipynb)'s `chapter 4`\n# 5. Chapter 6\n```python\n# chapter 7\n```") == []
    assert bare_mentions("```{dropdown} Solution\nas in chapter 8\n```") == ["chapter 8"]


def test_a_mention_of_a_chapter_is_a_link_to_it(notebook):
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert bare_mentions(cell.source) == [], cell.id
        assert bare_mentions(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")) == [], cell.id


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_mention_on_a_page_is_a_link_to_it(path):
    assert bare_mentions(path.read_text()) == []


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_a_link_says_the_number_of_the_chapter_it_leads_to(path):
    for words, number in re.findall(r"\[([^\]\n]*)\]\([^)\s]*?(\d\d)_\w+\.ipynb\)", path.read_text()):
        said = re.fullmatch(r"(?:[Cc]hapter )?(\d+)", words)
        assert said is None or int(said.group(1)) == int(number), words


def test_titles_carry_the_numbers_of_the_notebooks():
    chapters = Book(ROOT).chapters
    assert [int(chapter.name[:2]) for chapter in chapters] == list(range(1, len(chapters) + 1))
    for number, chapter in enumerate(chapters, start=1):
        assert re.match(rf"{number}\. \S", chapter.title), chapter.name


def test_chapters_stand_in_the_side_bar_in_their_order():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    names = [entry["file"] for part in parts for entry in part["chapters"]]
    listed = [Path(name).name for name in names if name.startswith("notebooks/")]
    assert listed == [path.stem for path in NOTEBOOKS]


def test_code_is_as_wide_as_the_page(notebook):
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            assert max(map(len, cell.source.splitlines()), default=0) <= CODE_COLUMNS, cell.id
