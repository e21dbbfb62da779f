"""The unregularised model of an unfolding as a HistFactory workspace, which pyhf reads (CERN-OPEN-2012-016).

One channel; each true bin is a sample whose free factor is y = x / truth; fakes and background are samples of their
own, and nuisances are ``histosys`` modifiers, interpolated as :mod:`~rewind.unfolding.binned.nuisances` does.

>>> spec = workspace([[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], [700.0, 300.0])
>>> [(sample["name"], sample["data"]) for sample in spec["channels"][0]["samples"]]
[('true_bin_0', [8.0, 2.0]), ('true_bin_1', [2.0, 8.0])]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned.nuisances import Checked, Nuisance, read_nuisances, sources
from rewind.unfolding.binned.problem import Problem, read

__all__ = ["workspace"]

Array = NDArray[np.float64]
_WIDEST = 10.0  # standard deviations to which a nuisance may go


def workspace(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    *,
    nuisances: Mapping[str, Nuisance] | None = None,
    fakes: ArrayLike | None = None,
    background: ArrayLike | None = None,
) -> dict[str, Any]:
    """Return the workspace, of plain lists and numbers, for ``json.dump`` or ``pyhf.Workspace``.

    Sample ``true_bin_t`` and its parameter ``ratio_t`` count the caller's true bins; x_t = ``ratio_t`` truth_t. A ratio
    is bounded to either side by twice what would explain all data: as in
    :func:`~rewind.unfolding.binned.likelihood.poisson_likelihood` it may be negative. Bins in which nothing is expected
    or that are never reconstructed are left out, as pyhf fails on them. Arguments otherwise, and what is refused, as of
    ``poisson_likelihood``.
    """
    problem = read(response, truth, data, fakes=fakes, background=background)
    checked, nominal = read_nuisances(problem, nuisances), sources(problem, fakes, background)
    expected = problem.yields.sum(1) + problem.background
    if (expected <= 0).any():
        worst = int(np.flatnonzero(problem.reachable)[expected.argmin()])
        raise InputError(f"response: {expected.min():g} expected in reconstructed bin {worst}; merge bins")
    numbers = np.flatnonzero(problem.determined).tolist()
    names = {f"ratio_{number}" for number in numbers} & set(checked)
    if names:
        raise InputError(f"nuisance {min(names)}: a true bin's parameter has this name; rename it")
    samples = [
        _sample(f"true_bin_{number}", problem.yields[:, t], _templates(checked, "response", t), f"ratio_{number}")
        for t, number in enumerate(numbers)
    ]
    for source in ("fakes", "background"):
        templates = _templates(checked, source)
        if nominal[source].any() or templates:
            samples.append(_sample(source, nominal[source], templates))
    return {
        "channels": [{"name": "reconstructed", "samples": samples}],
        "observations": [{"name": "reconstructed", "data": problem.data.tolist()}],
        "measurements": [{"name": "unfolding", "config": {"poi": "", "parameters": _settings(problem, checked)}}],
        "version": "1.0.0",
    }


def _templates(checked: Checked, source: str, column: int | None = None) -> dict[str, tuple[Array, Array]]:
    """Return each nuisance's templates (down, up) ``(R,)`` of a sample."""
    pairs = {name: pair[source] for name, pair in checked.items() if source in pair}
    return pairs if column is None else {name: (down[:, column], up[:, column]) for name, (down, up) in pairs.items()}


def _sample(
    name: str, yields: Array, templates: dict[str, tuple[Array, Array]], factor: str | None = None
) -> dict[str, Any]:
    modifiers: list[dict[str, Any]] = [] if factor is None else [{"name": factor, "type": "normfactor", "data": None}]
    for nuisance, (down, up) in templates.items():
        sides = {"lo_data": down.tolist(), "hi_data": up.tolist()}
        modifiers.append({"name": nuisance, "type": "histosys", "data": sides})
    return {"name": name, "data": yields.tolist(), "modifiers": modifiers}


def _settings(problem: Problem, checked: Checked) -> list[dict[str, Any]]:
    """Return starts and bounds of all parameters."""
    most = 2 * max(problem.data.sum(), 1.0) / problem.yields.sum(0)
    signal = max((problem.data - problem.background).sum(), problem.data.sum() / 10, 1.0)
    start = signal / problem.yields.sum()
    ratios = [
        {"name": f"ratio_{number}", "inits": [float(start)], "bounds": [[-float(most[t]), float(most[t])]]}
        for t, number in enumerate(np.flatnonzero(problem.determined))
    ]
    return ratios + [{"name": name, "inits": [0.0], "bounds": [[-_WIDEST, _WIDEST]]} for name in checked]
