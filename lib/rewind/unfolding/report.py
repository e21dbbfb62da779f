"""One report an unfolding: what it rests on, how it fits, what regularisation does to it, its bias and coverage.

>>> from rewind.unfolding.binned import matrix_inversion
>>> response, truth, data = [[8.0, 2.0], [2.0, 8.0]], [10.0, 10.0], [700.0, 300.0]
>>> unfold = lambda observed: matrix_inversion(response, truth, observed)
>>> page = report(response, truth, data, unfold, np.random.default_rng(2), n=200)
>>> print(str(page).splitlines()[1])
condition number          response 1.67, whitened 1.96
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewind.errors import InputError
from rewind.stats import ResponseMatrix
from rewind.unfolding.binned.problem import read
from rewind.unfolding.binned.result import Unfolded, global_correlation
from rewind.unfolding.checks import (
    BottomLine,
    Closure,
    ConditionNumbers,
    EffectiveSampleSizes,
    FoldedFit,
    Linearity,
    PriorShift,
    bottom_line,
    closure,
    condition_number,
    effective_sample_sizes,
    folded_fit,
    linearity,
    prior_shift,
)
from rewind.unfolding.pseudo_experiments import Errors, PseudoExperiments, data_errors, pseudo_experiments

__all__ = ["Report", "report"]

Array = NDArray[np.float64]
_UNFOLDED = "the unfolded spectrum, folded back"
_WIDTH, _LONGEST_TABLE = 88, 40
_SIZES = (-0.1, 0.1)


@dataclass(frozen=True)
class Report:
    """Hold all figures of an unfolding; ``str`` sets them out in lines of at most 88 characters.

    ``global_correlations`` ``(T,)`` and a ``bottom_lines`` entry are None where regularisation left the covariance
    without an inverse, ``sample_sizes`` for bare arrays, ``prior`` where no other was given. ``toys`` hold bias and
    coverage about each named truth.
    """

    result: Unfolded
    conditions: ConditionNumbers
    sample_sizes: EffectiveSampleSizes | None
    fit: FoldedFit
    global_correlations: Array | None
    bottom_lines: dict[str, BottomLine | None]
    closure: Closure
    linearity: Linearity
    prior: PriorShift | None
    toys: dict[str, PseudoExperiments]

    def __str__(self) -> str:
        """Return the report as text."""
        return "\n".join([*_heading(self), *_table(self)])


def report(
    response: ArrayLike | ResponseMatrix,
    truth: ArrayLike | None,
    data: ArrayLike,
    unfold: Callable[[Array], Unfolded],
    rng: np.random.Generator,
    *,
    n: int = 1000,
    predictions: Mapping[str, ArrayLike] | None = None,
    alternatives: Mapping[str, ArrayLike] | None = None,
    unfold_from: Callable[[Array], Unfolded] | None = None,
    priors: Sequence[ArrayLike] = (),
    errors: Errors = data_errors,
) -> Report:
    """Return the report of ``unfold(data)``, by any method that unfolds ``data`` ``(R,)`` with this simulation.

    ``n`` toys are thrown about the unfolded spectrum folded back, its negative yields set to zero, and about each of
    the named true spectra ``alternatives`` ``(T,)``: Poisson, or normal where the method was given a covariance of the
    data. The first understate the bias of a regularised method, which has smoothed this truth already.
    ``predictions`` are named true spectra for the bottom line, ``unfold_from(prior)`` the same unfolding from each of
    ``priors``, the one in use first. Raises InputError where ``unfold`` uses another simulation.
    """
    data = np.array(data, dtype=np.float64)
    result = unfold(data)
    problem = result.problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the method has said it already
        given = read(response, truth, data, data_covariance=None if problem.is_poisson else np.eye(len(data)))
    if given.yields.shape != problem.yields.shape or not np.allclose(given.yields, problem.yields):
        raise InputError("unfold: it uses another response than the one given; report on the one in use")
    truths = {_UNFOLDED: np.maximum(result.values, 0.0)} | dict(alternatives or {})
    covariance = None if problem.is_poisson else _data_covariance(result)
    return Report(
        result=result,
        conditions=condition_number(problem),
        sample_sizes=effective_sample_sizes(response) if isinstance(response, ResponseMatrix) else None,
        fit=folded_fit(result),
        global_correlations=_global_correlations(result),
        bottom_lines={name: _bottom_line(result, data, spectrum) for name, spectrum in (predictions or {}).items()},
        closure=closure(result, unfold),
        linearity=linearity(result, unfold, sizes=_SIZES),
        prior=prior_shift(unfold_from, priors) if unfold_from else None,
        toys={
            name: pseudo_experiments(
                unfold, result.expected_data(spectrum), spectrum, n, rng, errors=errors, covariance=covariance
            )
            for name, spectrum in truths.items()
        },
    )


def _data_covariance(result: Unfolded) -> Array:
    """Return the covariance ``(R, R)`` of data as observed, zero where nothing is expected."""
    problem, n = result.problem, len(result.reachable)
    whole = np.zeros((n, n))
    share = np.outer(problem.purity, problem.purity)
    square = np.divide(problem.data_covariance, share, out=np.zeros_like(share), where=share > 0)
    whole[np.ix_(result.reachable, result.reachable)] = square
    return whole


def _global_correlations(result: Unfolded) -> Array | None:
    known = np.ix_(result.determined, result.determined)
    spread = np.full(len(result.determined), np.nan)
    try:
        spread[result.determined] = global_correlation(result.covariance[known])
    except InputError:
        return None
    return spread


def _bottom_line(result: Unfolded, data: Array, prediction: ArrayLike) -> BottomLine | None:
    result.expected_data(prediction)  # a prediction that does not fit is refused; a covariance without inverse is not
    try:
        return bottom_line(result, data, prediction)
    except InputError:
        return None


def _heading(page: Report) -> list[str]:
    result, fit = page.result, page.fit
    correlations = "none, the covariance has no inverse"
    if page.global_correlations is not None:
        correlations = _range(page.global_correlations, ".3f")
    lines = [
        ("unfolded", f"{len(result.determined)} true from {len(result.reachable)} reconstructed bins"),
        *_left_out(result),
        ("condition number", f"response {page.conditions.response:.3g}, whitened {page.conditions.whitened:.3g}"),
        *_sample_sizes(page.sample_sizes),
        ("folded χ²", f"{fit.chi2:.4g} for {fit.dof:.4g} degrees of freedom, p = {fit.p_value:.2g}"),
        ("effective parameters", f"{fit.parameters:.4g}"),
        ("global correlation", correlations),
        ("closure", f"within {abs(page.closure.worst):.2g} of the errors in every bin"),
        ("slope of linearity", _range(page.linearity.slopes, ".2f")),
    ]
    if page.prior is not None:
        lines.append(("other priors", f"shift a bin by up to {page.prior.worst:.2f} of its error"))
    for name, line in page.bottom_lines.items():
        lines += [("bottom line", name), ("", _bottom_line_words(line))]
    for name, toys in page.toys.items():
        failed = f", {toys.failures} refused: {toys.reasons[0]}" if toys.failures else ", none refused"
        lines += [
            ("toys", f"{len(toys.values)} about {name}{failed}"),
            ("  bias / error", f"mean size {toys.mean_relative_bias:.3f}, farthest {toys.worst_relative_bias:+.3f}"),
            ("  pull width", f"farthest from 1 {toys.worst_pull_width:.3f}"),
            ("  coverage at 68 %", f"mean {toys.mean_coverage:.3f}, least {toys.worst_coverage:.3f}"),
        ]
    return [
        f"{name if i == 0 else '':24s}  {part}"
        for name, words in lines
        for i, part in enumerate(wrap(words, _WIDTH - 26, break_on_hyphens=False))
    ]


def _left_out(result: Unfolded) -> list[tuple[str, str]]:
    parts = [
        f"{kind} bins {', '.join(map(str, np.flatnonzero(~flags)))}"
        for kind, flags in (("true", result.determined), ("reconstructed", result.reachable))
        if not flags.all()
    ]
    return [("left out, as empty", "; ".join(parts))] if parts else []


def _sample_sizes(sizes: EffectiveSampleSizes | None) -> list[tuple[str, str]]:
    if sizes is None:
        return []
    row, column = sizes.cell
    return [
        ("effective sample sizes", f"true bins {_range(sizes.bins, '.3g')}"),
        ("", f"poorest cell {sizes.smallest_cell:.3g} (reconstructed {row}, true {column})"),
    ]


def _bottom_line_words(line: BottomLine | None) -> str:
    if line is None:
        return "none, the covariance has no inverse"
    verdict = "holds" if line.holds else "VIOLATED"
    unfolded, folded = f"{line.unfolded:.4g} / {line.unfolded_dof}", f"{line.folded:.4g} / {line.folded_dof}"
    return f"χ² {unfolded} unfolded, {folded} in the data: {verdict}"


def _range(values: Array, form: str) -> str:
    return f"{np.nanmin(values):{form}} to {np.nanmax(values):{form}}, mean {np.nanmean(values):{form}}"


def _table(page: Report) -> list[str]:
    """Return a line a true bin, of the toys about the unfolded spectrum; none where bins are too many to read."""
    result, toys = page.result, page.toys[_UNFOLDED]
    bins = np.flatnonzero(result.determined)
    if len(bins) > _LONGEST_TABLE:
        return []
    columns = {
        "bin": [str(i) for i in bins],
        "value": [f"{result.values[i]:.4g}" for i in bins],
        "error": [f"{result.errors[i]:.3g}" for i in bins],
        "slope": [f"{page.linearity.slopes[i]:.2f}" for i in bins],
        "bias / error": [f"{toys.relative_bias[i]:+.2f}" for i in bins],
        "pull width": [f"{toys.pull_width[i]:.2f}" for i in bins],
        "coverage": [f"{toys.coverage[i]:.3f}" for i in bins],
    }
    if page.global_correlations is not None:
        columns["ρ"] = [f"{page.global_correlations[i]:.3f}" for i in bins]
    widths = {name: max(len(name), *map(len, cells)) for name, cells in columns.items()}
    rows = zip(*columns.values(), strict=True)
    return [
        "",
        "  ".join(f"{name:>{width}}" for name, width in widths.items()),
        *("  ".join(f"{x:>{width}}" for x, width in zip(row, widths.values(), strict=True)) for row in rows),
    ]
