"""The house: rooms and files of a size to read, every public face annotated, nothing written twice, tests in place."""

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "lib" / "rewind"
MODULES = sorted(LIBRARY.rglob("*.py"))
MAX_LINES, MAX_FILES, BLOCK = 350, 16, 6
OF_THE_REPOSITORY = {
    "architecture",
    "conditional_densities",
    "data",
    "house",
    "notebooks",
    "pages",
    "refusals",
    "shipped_models",
    "site",
}


def name(path):
    return path.relative_to(LIBRARY).as_posix()


def functions(body, owner=""):
    """Yield the public functions and methods of a module with their qualified names, dunder methods too."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name.startswith("__")):
            yield owner + node.name, node


def unannotated(function, is_method):
    """Name the arguments without a type, and ``return`` where it has none."""
    given = function.args
    named = [*given.posonlyargs, *given.args][is_method:] + given.kwonlyargs
    every = [*named, *(star for star in (given.vararg, given.kwarg) if star)]
    returns = ["return"] if function.returns is None and function.name != "__init__" else []
    return [one.arg for one in every if one.annotation is None] + returns


def is_static(function):
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)


def code_lines(path):
    """Return the stripped lines of code with their numbers, without imports, texts, arguments and ends of brackets.

    Lists of arguments may stand twice: functions that are called alike have them in common.
    """
    source = path.read_text()
    left_out = set()
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, node.end_lineno + 1))
        if isinstance(node, ast.FunctionDef):
            left_out.update(range(node.lineno, node.body[0].lineno))
    lines = ((number, line.partition("  # ")[0].strip()) for number, line in enumerate(source.splitlines(), start=1))
    return [(n, line) for n, line in lines if n not in left_out and line.strip("()[]{},") and not line.startswith("#")]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_public_functions_are_annotated(path):
    lacking = []
    for called, function in functions(ast.parse(path.read_text()).body):
        if missing := unannotated(function, "." in called and not is_static(function)):
            lacking.append(f"{called}: {', '.join(missing)}")
    assert lacking == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_fit_on_a_few_screens(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_folders_hold_few_files():
    counts = {name(folder): len(list(folder.glob("*.py"))) for folder in {path.parent for path in MODULES}}
    assert {folder: n for folder, n in counts.items() if n > MAX_FILES} == {}


def sources():
    """Yield the name and the code of every module, test, benchmark, script and chapter."""
    for folder in ("lib", "tests", "benchmarks", "data"):
        yield from ((path, path.read_text()) for path in (ROOT / folder).rglob("*.py"))
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        yield path, "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def test_found_is_no_name():
    nodes = ((path, node) for path, source in sources() for node in ast.walk(ast.parse(source)))
    named = {"Name": "id", "arg": "arg", "keyword": "arg", "Attribute": "attr", "FunctionDef": "name"}
    places = [
        (path, node.lineno) for path, node in nodes if getattr(node, named.get(type(node).__name__, ""), 0) == "found"
    ]
    assert places == []


def test_no_block_stands_in_two_rooms():
    places = defaultdict(set)
    for path in MODULES:
        lines = code_lines(path)
        for start in range(len(lines) - BLOCK + 1):
            block = tuple(line for _, line in lines[start : start + BLOCK])
            places[block].add((name(path).split("/")[0], f"{name(path)}:{lines[start][0]}"))
    twice = [sorted(place for _, place in at) for at in places.values() if len({room for room, _ in at}) > 1]
    assert twice == []


def test_tests_stand_where_their_modules_do():
    astray = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        subject = path.stem.removeprefix("test_")
        module = LIBRARY / path.parent.relative_to(ROOT / "tests") / subject
        exists = module.with_suffix(".py").exists() or (module / "__init__.py").exists()
        if not exists and subject not in OF_THE_REPOSITORY:
            astray.append(path.relative_to(ROOT).as_posix())
    assert astray == []


def test_lowest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = [
        re.match(r"[\w-]+>=[\w.]+", need)[0] for need in project["dependencies"] + extras["book"] + extras["test"]
    ]
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()[1:]
    assert sorted(lines) == sorted(bound.replace(">=", "==") for bound in bounds)
