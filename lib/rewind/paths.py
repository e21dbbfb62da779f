"""Where the book lies: find its root and its files from any working folder."""

from __future__ import annotations

from pathlib import Path

from rewind.errors import InputError

__all__ = ["locate", "root"]


def root() -> Path:
    """Return the book's root: the first folder with ``_toc.yml`` and ``notebooks`` above the working folder.

    Else above this package. Raises InputError where there is none.
    """
    here, package = Path.cwd().resolve(), Path(__file__).resolve()
    for folder in (here, *here.parents, *package.parents):
        if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise InputError(f"{here}: no book here or above (no _toc.yml with notebooks/); change to its folder")


def locate(path: str | Path) -> Path:
    """Return an existing file, given absolutely, relative to the working folder, or to the book's root."""
    given = Path(path).expanduser()
    for candidate in (given, root() / given):
        if candidate.exists():
            return candidate.resolve()
    raise InputError(f"{path}: no such file, neither in {Path.cwd()} nor in {root()}")
