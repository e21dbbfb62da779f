"""The library's imports only point down, and no topic imports another."""

import ast
import re
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "lib" / "rewind"
FLOORS = (
    ("errors",),
    ("kinematics", "paths", "progress", "random_numbers"),
    ("physics", "stats"),
    ("events", "nn"),
    ("integrate",),
    ("toys",),
    ("neutrino", "partons", "transfer", "mem", "diffusion", "unfolding", "generation"),
    ("apply",),
    ("plots",),
    ("records",),
    ("book",),
    ("runner",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = [path for path in sorted(LIBRARY.rglob("*.py")) if path != LIBRARY / "__init__.py"]


def room_of(path):
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


def imported(path):
    """Name the rooms that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module] if node.module != "rewind" else [f"rewind.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("rewind."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_imports_point_down(path):
    here = room_of(path)
    assert here in FLOOR, f"{here}: give it a floor, here and in book/api.md"
    upwards = [room for room in imported(path) if room != here and FLOOR[room] >= FLOOR[here]]
    assert upwards == []


def test_only_notebooks_import_plots():
    assert [path for path in MODULES if room_of(path) != "plots" and "plots" in imported(path)] == []


def test_the_api_page_lists_every_module():
    page = (LIBRARY.parents[1] / "book" / "api.md").read_text()
    listed = set(re.findall(r"automodule:: rewind\.([\w.]+)", page))
    parts = (path.relative_to(LIBRARY).with_suffix("").parts for path in MODULES if "__all__" in path.read_text())
    names = {".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts}
    assert names - listed == set()
    assert {name for name in listed if not list(LIBRARY.glob(f"{name.replace('.', '/')}*"))} == set()
