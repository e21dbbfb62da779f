"""Figures of merit by name: what a chapter has just computed beside what its full profile found."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

import rewind
from rewind import paths
from rewind.errors import InputError
from rewind.nn import checkpoints
from rewind.stats import Estimate

__all__ = ["MIME", "PROFILE", "Figure", "FullRun", "Missing", "Record", "read", "result_path", "stated", "write"]

MIME = "application/vnd.rewind.record+json"
"""Under this type a chapter's output carries its figures."""

PROFILE = "REWIND_PROFILE"
"""The environment variable that tells a chapter by which profile it is run."""

_FIELDS = ("chapter", "figures", "checkpoints", "command", "parameters", "versions", "device", "seconds", "date")


@dataclass(frozen=True)
class Figure:
    """State a figure of merit: value and standard error, size, meaning, and what to compare it with.

    ``comparable`` tells that quick and full profile judge the same model by the same definition, so that they must
    agree within their errors.

    >>> accuracy = Figure(0.512, 0.0123, n=400, definition="Accuracy of a classifier.", against="½: none")
    >>> f"{accuracy.estimate:.3f}"
    '0.512 ± 0.012'
    """

    value: float
    error: float
    n: int
    definition: str
    against: str
    unit: str = ""
    comparable: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"value {self.value}: a finite number is needed")
        if not (math.isfinite(self.error) and self.error >= 0):
            raise InputError(f"error {self.error}: a finite number that is not negative is needed")
        if self.n < 1:
            raise InputError(f"n = {self.n}: at least one event is needed")
        if not (self.definition.strip() and self.against.strip()):
            raise InputError("a definition and what the figure is compared with are needed")

    @property
    def estimate(self) -> Estimate:
        """Return value and error."""
        return Estimate(self.value, self.error)


class Missing(Estimate):
    """Stand for a figure that is not there yet: false, not a number, and printed as the reason why."""

    def __new__(cls, reason: str) -> Missing:
        """Make the estimate (nan, nan) with a reason."""
        missing = super().__new__(cls, math.nan, math.nan)
        missing.reason = reason
        return missing

    def __bool__(self) -> bool:
        return False

    def __format__(self, _format_spec: str) -> str:
        return f"({self.reason})"

    def __repr__(self) -> str:
        return f"({self.reason})"


def result_path(root: Path, chapter: str) -> Path:
    """Return where the record of a chapter's full run is kept."""
    return root / "data" / "results" / f"{chapter[:2]}.json"


def read(path: Path) -> dict[str, Any] | None:
    """Return the record of a full run with its figures as :class:`Figure`, None where there is no file.

    Raises InputError for a file that is damaged.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        record = {name: content[name] for name in _FIELDS}
        figures = {name: Figure(**about) for name, about in record["figures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: damaged record ({reason}); make it anew by a full run") from error
    return record | {"figures": figures}


def stated(notebook: Path) -> dict[str, Any] | None:
    """Return what the record of an executed notebook says, None where the chapter states none."""
    cells = json.loads(notebook.read_text())["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    records = [data[MIME] for data in outputs if MIME in data]
    return records[-1] if records else None


def write(path: Path, page: Mapping[str, Any], **run: Any) -> None:
    """Keep what a full run's page stated, with the facts of the ``run``; the file takes its name when whole.

    The run's facts are command, parameters, seconds and date.
    """
    record = {**page, **run}
    content = {name: record[name] for name in _FIELDS}
    path.parent.mkdir(parents=True, exist_ok=True)
    paths.write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


class FullRun(Mapping[str, Estimate]):
    """Give what the full profile found, by name, and :class:`Missing` where it has not been run."""

    def __init__(self, figures: Mapping[str, Figure], reason: str):
        self.figures, self.reason = figures, reason

    def __getitem__(self, name: str) -> Estimate:
        return self.figures[name].estimate if name in self.figures else Missing(self.reason)

    def __iter__(self) -> Iterator[str]:
        return iter(self.figures)

    def __len__(self) -> int:
        return len(self.figures)


class Record:
    """Collect a chapter's figures of merit; the last expression of a cell, it shows them in a table.

    ``chapter`` is its number or name, ``models`` the paths of the checkpoints that the figures judge. ``record[name]``
    is what this page found and ``record.full[name]`` what the full profile did; a page that is itself a full run
    reads its own figures.
    """

    def __init__(self, chapter: str, models: Sequence[str | Path] = ()):
        root = paths.root()
        self.chapter = paths.notebook(root, chapter).stem
        self.figures: dict[str, Figure] = {}
        self.checkpoints = {}
        for path in map(paths.locate, models):
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
            self.checkpoints[name] = checkpoints.describe(path)["sha256"]
        self.command = f"rewind run {self.chapter[:2]} --profile full"
        self.is_full = os.environ.get(PROFILE) == "full"
        self.kept = None if self.is_full else read(result_path(root, self.chapter))
        figures = self.figures if self.is_full else (self.kept or {"figures": {}})["figures"]
        when = "not stated on this page" if self.is_full else f"not on record: {self.command}"
        self.full = FullRun(figures, when)

    def state(
        self,
        name: str,
        estimate: Estimate | tuple[float, float],
        *,
        n: int,
        definition: str,
        against: str,
        unit: str = "",
        comparable: bool = True,
    ) -> None:
        """State a figure by name, as :class:`Figure` describes it.

        Raises InputError for a name that was stated before and a figure that is none.
        """
        if name in self.figures:
            raise InputError(f"chapter {self.chapter}: '{name}' is stated twice")
        value, error = map(float, estimate)
        try:
            self.figures[name] = Figure(value, error, int(n), definition, against, unit, comparable)
        except InputError as reason:
            raise InputError(f"chapter {self.chapter}: '{name}': {reason}") from reason

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.figures:
            known = ", ".join(self.figures) or "none yet"
            raise InputError(f"chapter {self.chapter}: no figure '{name}' on this page; it has {known}")
        return self.figures[name].estimate

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Return the table as HTML and text, and the figures as JSON, which the runner reads."""
        page = {
            "chapter": self.chapter,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "checkpoints": self.checkpoints,
            "versions": {
                "rewind": rewind.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "device": _device(),
        }
        return {"text/html": self._html(), "text/plain": self._text(), MIME: page}

    def _source(self) -> str:
        """Say where the full profile's figures come from."""
        if self.is_full:
            return "This page is a run of the full profile."
        if not self.kept:
            return f"The full profile has not been run yet: {self.command}"
        date, device, minutes = self.kept["date"], self.kept["device"], self.kept["seconds"] / 60
        return f"Full profile: {self.kept['command']}, {date}, {minutes:.0f} min on {device}."

    def _text(self) -> str:
        lines = []
        for name, figure in self.figures.items():
            here, full = _shown(figure), _shown(self.full.figures.get(name))
            lines.append(f"{name}: {here} here, {full} full profile ({figure.definition} {figure.against})")
        return "\n".join([*lines, self._source()])

    def _html(self) -> str:
        rows = []
        for name, figure in self.figures.items():
            about = f"{escape(figure.definition)} <em>Compare with:</em> {escape(figure.against)}"
            cells = [f"<th scope='row'>{escape(name)}<small>{about}</small></th>", _cell(figure)]
            rows.append("".join(cells if self.is_full else [*cells, _cell(self.full.figures.get(name))]))
        heads = ["figure of merit", "full profile" if self.is_full else "this page"]
        heads += [] if self.is_full else ["full profile"]
        head = "".join(f"<th scope='col'>{head}</th>" for head in heads)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f"<style>{_STYLE}</style><div class='rewind-record' tabindex='0'><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table><p>{escape(self._source())}</p></div>"
        )


_STYLE = """
.rewind-record { max-width: 100%; overflow-x: auto; color: inherit; }
.rewind-record table { border-collapse: collapse; width: 100%; margin: 0; color: inherit; font-size: 0.9em; }
.rewind-record tr, .rewind-record tbody tr:nth-child(odd), .rewind-record tbody tr:hover { background: transparent; }
.rewind-record th, .rewind-record td { text-align: left; vertical-align: top; padding: 0.4em 0.6em;
  white-space: normal; border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.5); color: inherit; }
.rewind-record tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 8em; }
.rewind-record small { display: block; font-weight: 400; font-size: 0.85em; }
.rewind-record td { font-variant-numeric: tabular-nums; min-width: 5.5em; }
@media (min-width: 700px) { .rewind-record td { white-space: nowrap; } }
.rewind-record p { margin: 0.4em 0.6em; font-size: 0.85em; overflow-wrap: anywhere; }
""".strip()


def _cell(figure: Figure | None) -> str:
    size = f"<small>n = {figure.n:,}</small>" if figure else ""
    return f"<td>{escape(_shown(figure))}{size}</td>"


def _shown(figure: Figure | None) -> str:
    """Print a figure to two digits of its error, with its unit."""
    if figure is None:
        return "not run"
    unit = f" {figure.unit}" if figure.unit else ""
    if figure.error == 0:
        return f"{figure.value:,.4g}{unit}"
    digits = max(0, 1 - math.floor(math.log10(figure.error)))
    return f"{figure.estimate:,.{digits}f}{unit}" if digits < 7 else f"{figure.estimate:.2e}{unit}"


def _device() -> str:
    """Name what computes here."""
    n = torch.get_num_threads()
    cpu = f"CPU, {n} thread{'s' if n > 1 else ''}"
    return f"{torch.cuda.get_device_name()}; {cpu}" if torch.cuda.is_available() else cpu
