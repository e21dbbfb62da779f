"""Where the book lies: find its root, its files and its chapters from any working folder."""

from __future__ import annotations

import os
from pathlib import Path

from rewind.errors import InputError

__all__ = ["locate", "notebook", "notebooks", "output", "root", "write_text"]


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
    """Return an existing file or folder, given absolutely or relative to the book's root."""
    full = root() / Path(path).expanduser()
    if not full.exists():
        raise InputError(f"{path}: no such file in the book's folder {root()}; give the whole path for one elsewhere")
    return full.resolve()


def output(path: str | Path) -> Path:
    """Return where to write a file given absolutely or relative to the book's root; its folder is made."""
    full = root() / Path(path).expanduser()
    try:
        full.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: its folder cannot be made ({error})") from error
    return full


def notebooks(folder: Path) -> list[Path]:
    """Return the notebooks of all chapters of the book in ``folder``, in order."""
    return sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def notebook(folder: Path, name: str) -> Path:
    """Return the notebook of the chapter that a number or name means; raise InputError for an unknown one.

    >>> notebook(root(), "2").name
    '02_robot_arm.ipynb'
    """
    stem, chapters = Path(name).stem, notebooks(folder)
    for path in chapters:
        if path.stem == stem or (stem.isdigit() and int(path.stem[:2]) == int(stem)):
            return path
    known = ", ".join(path.stem for path in chapters)
    raise InputError(f"unknown chapter '{name}': choose one of {known}")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to a temporary name, then give it its own."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
