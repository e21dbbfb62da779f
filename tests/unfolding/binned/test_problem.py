import re
import warnings
from dataclasses import replace

import hist
import numpy as np
import pytest

from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.stats.response import histogram_of_draws, response_of_draws
from rewind.unfolding.binned import (
    Nuisance,
    iterative_bayes,
    matrix_inversion,
    poisson_likelihood,
    svd,
    tikhonov,
    workspace,
)
from rewind.unfolding.binned.problem import read

RESPONSE, TRUTH = np.array([[40.0, 8.0, 0.0], [9.0, 50.0, 6.0], [0.0, 7.0, 30.0], [2.0, 1.0, 4.0]]), [60.0, 80.0, 50.0]
DATA = [50.0, 70.0, 30.0, 9.0]
PLAIN = {"response": RESPONSE, "truth": TRUTH, "data": DATA}

UNFOLDINGS = {
    "inversion": matrix_inversion,
    "Bayes": iterative_bayes,
    "SVD": lambda response, truth, data, **options: svd(response, truth, data, k=2, **options),
    "Tikhonov": lambda response, truth, data, **options: tikhonov(response, truth, data, tau=0.01, **options),
}
each_unfolding = pytest.mark.parametrize("unfold", UNFOLDINGS.values(), ids=UNFOLDINGS.keys())


def with_bin(row=None, column=None):
    """Return the response with one more reconstructed or true bin."""
    response = RESPONSE if row is None else np.vstack([RESPONSE, row])
    return response if column is None else np.column_stack([response, column])


def record(**options):
    """Return a response of weighted events with fakes and misses."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(-0.5, 3.5, 2_000)
    measured = truth + rng.normal(0, 0.2, 2_000)
    weights = options.get("weights", np.full(2_000, 0.1))
    return response_matrix(measured, truth, [0.0, 0.5, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0], weights=weights)


def negative_misses():
    """Return a record in which negative weights of the lost make more reconstructed than generated."""
    measured, truth = [0.5, 0.5, 1.5, np.nan], [0.5, 0.5, 1.5, 0.5]
    return response_matrix(measured, truth, [0.0, 1.0, 2.0], weights=[1.0, 1.0, 1.0, -0.5])


UNEVEN = np.diag(DATA) + np.diag([5.0, 5.0, 5.0], 1)

REFUSED = {
    "negative data": ({"data": [-1.0, 7.0, 3.0, 1.0]}, "data: -1 in bin 0, Poisson counts are not negative"),
    "nan data": ({"data": [1.0, np.nan, 3.0, 1.0]}, "data: bin 1 is not finite"),
    "infinite data": ({"data": [1.0, 2.0, 3.0, np.inf]}, "data: bin 3 is not finite"),
    "no data": ({"data": np.zeros(4)}, "data: no event in any bin"),
    "data of None": ({"data": None}, "data of shape (): 4 bins are needed"),
    "short data": ({"data": DATA[:3]}, "data of shape (3,): 4 bins are needed, as the response has"),
    "a column of data": ({"data": np.reshape(DATA, (4, 1))}, "data of shape (4, 1): 4 bins are needed"),
    "textual data": ({"data": ["many", "few", "1", "2"]}, "data: an array of numbers is needed"),
    "complex data": ({"data": np.array(DATA) + 1j}, "data: real numbers are needed"),
    "masked data": (
        {"data": np.ma.array(DATA, mask=[0, 1, 0, 0])},
        "data: real numbers are needed, none of them masked",
    ),
    "nan response": ({"response": np.where(RESPONSE == 9, np.nan, RESPONSE)}, "response: 1 cells are not finite"),
    "ragged response": ({"response": [[1.0, 2.0], [3.0]]}, "response: an array of numbers is needed"),
    "flat response": ({"response": [1.0, 2.0, 3.0]}, "response of shape (3,): a matrix [reconstructed, true]"),
    "no response": ({"response": np.zeros((0, 3))}, "response of shape (0, 3): a matrix"),
    "empty response": ({"response": np.zeros((4, 3))}, "response: no simulated event is reconstructed"),
    "transposed response": (
        {"response": [[40.0, 30.0], [5.0, 9.0]], "truth": [50.0, 35.0], "data": [9.0, 5.0]},
        "true bin 1: 39 reconstructed of 35 generated; the response is [reconstructed, true]",
    ),
    "axes exchanged": ({"response": RESPONSE.T}, "truth of shape (3,): 4 bins are needed"),
    "truth of the solved alone": ({"truth": [40.0, 50.0, 30.0]}, "truth holds all generated events"),
    "no truth": ({"truth": None}, "truth: the simulated yield of each true bin is needed"),
    "negative truth": ({"truth": [60.0, -1.0, 50.0]}, "truth: -1 in bin 1; merge bins with a negative sum"),
    "nan truth": ({"truth": [60.0, np.nan, 50.0]}, "truth: bin 1 is not finite"),
    "short truth": ({"truth": [60.0, 80.0]}, "truth of shape (2,): 3 bins are needed"),
    "bin of negative weight": (
        {"response": with_bin(column=[1.0, -2.0, 0.5, 0.0]), "truth": [*TRUTH, 9.0]},
        "true bin 3: its weights sum to no positive number; merge it with another",
    ),
    "nothing expected where nothing is": (
        {"response": with_bin(row=[3.0, -4.0, 0.0]), "data": [*DATA, 0.0]},
        "response: in reconstructed bins [4] no yield above 0 is expected, and the data are empty",
    ),
    "negative fakes": ({"fakes": [-1.0, 0.0, 0.0, 0.0]}, "fakes: -1 in bin 0; expected yields are not negative"),
    "nan background": ({"background": [np.nan, 0.0, 0.0, 0.0]}, "background: bin 0 is not finite"),
    "short background": ({"background": [1.0, 2.0, 3.0]}, "background of shape (3,): 4 bins are needed"),
    "scalar background": ({"background": 3.0}, "background of shape (): 4 bins are needed"),
    "purity above 1": ({"purity": [0.9, 1.1, 1.0, 1.0]}, "purity: 0.9 to 1.1; it must lie between 0 and 1"),
    "negative purity": ({"purity": [-0.1, 0.5, 1.0, 1.0]}, "purity: -0.1 to 1; it must lie between 0 and 1"),
    "no purity at signal": ({"purity": [0.0, 0.5, 1.0, 1.0]}, "purity: 0 in a bin where the response has signal"),
    "fakes and purity": ({"purity": np.ones(4), "fakes": np.zeros(4)}, "fakes and purity: two models of the same"),
    "covariance of another shape": ({"data_covariance": np.eye(3)}, "data_covariance of shape (3, 3): 4 by 4"),
    "variances alone": ({"data_covariance": DATA}, "data_covariance of shape (4,): 4 by 4 finite entries"),
    "nan covariance": ({"data_covariance": np.full((4, 4), np.nan)}, "4 by 4 finite entries"),
    "uneven covariance": ({"data_covariance": UNEVEN}, "data_covariance: it must be symmetric"),
    "small and uneven covariance": ({"data_covariance": 1e-12 * UNEVEN}, "data_covariance: it must be symmetric"),
    "negative variance": ({"data_covariance": -np.diag(DATA)}, "variances that are not negative"),
    "indefinite covariance": ({"data_covariance": 2 * np.ones((4, 4)) - np.eye(4)}, "an eigenvalue is negative"),
    "another truth than the record's": ({"response": record(), "truth": [9.0, 9.0, 9.0]}, "truth: not that of the"),
    "another truth, tiny": (
        {"response": record(weights=np.full(2_000, 1e-15)), "truth": [9e-13, 2e-13, 2e-13]},
        "truth: not that of the response record",
    ),
    "record of nan": ({"response": replace(record(), counts=record().counts * np.nan)}, "response: cells are not"),
    "record without weight": ({"response": record(weights=np.zeros(2_000)), "truth": None}, "no simulated event"),
    "record of more reconstructed": (
        {"response": negative_misses(), "truth": None, "data": [5.0, 3.0]},
        "true bin 0: 2 reconstructed of 1.5 generated",
    ),
}


@pytest.mark.parametrize(("changed", "text"), REFUSED.values(), ids=REFUSED.keys())
@each_unfolding
def test_refusals(unfold, changed, text):
    with pytest.raises(InputError, match=re.escape(text)):
        unfold(**PLAIN | changed)


def test_a_prior_must_fit_as_well():
    for prior, text in (
        ([1.0, 2.0], "prior of shape (2,)"),
        ([1.0, -2.0, 3.0], "prior: -2 in bin 1"),
        (5.0, "prior of"),
    ):
        for method, options in ((iterative_bayes, {}), (svd, {"k": 2}), (tikhonov, {"tau": 1.0})):
            with pytest.raises(InputError, match=re.escape(text)):
                method(**PLAIN, prior=prior, **options)


def quietly(unfold, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return unfold(**given)


@each_unfolding
def test_data_where_nothing_is_expected_are_flagged_and_change_nothing_else(unfold):
    plain = quietly(unfold, **PLAIN)
    given = {"response": with_bin(row=[0.0, 0.0, 0.0]), "truth": TRUTH}
    with pytest.warns(UserWarning, match=re.escape("data: 17 in reconstructed bins [4], where nothing is expected")):
        result = unfold(**given, data=[*DATA, 17.0])
    for other in (result, quietly(unfold, **given, data=[*DATA, 0.0])):
        np.testing.assert_array_equal(other.reachable, [True, True, True, True, False])
        np.testing.assert_array_equal(other.values, plain.values)
        np.testing.assert_array_equal(other.covariance, plain.covariance)
        np.testing.assert_array_equal(other.jacobian[:, 4], 0)
        assert np.isnan(other.folded[4])
        assert other.expected_data(other.values)[4] == 0
        assert other.folded_chi2 == plain.folded_chi2


@each_unfolding
def test_a_background_explains_data_that_signal_does_not_reach(unfold):
    given = {"response": with_bin(row=[0.0, 0.0, 0.0]), "truth": TRUTH, "background": [0.0, 0.0, 0.0, 0.0, 9.0]}
    result = quietly(unfold, **given, data=[*DATA, 12.0])
    plain = quietly(unfold, **PLAIN)
    np.testing.assert_allclose(result.values, plain.values, rtol=1e-12)
    np.testing.assert_allclose(result.folded, [*plain.folded, 9.0], rtol=1e-12)
    assert result.folded_chi2 == pytest.approx(plain.folded_chi2 + 3**2 / 12, rel=1e-9)


@each_unfolding
def test_true_bins_that_are_never_reconstructed_are_not_determined_and_leak_nowhere(unfold):
    plain, column = quietly(unfold, **PLAIN), np.zeros(4)
    with pytest.warns(UserWarning, match=re.escape("true bins [3] are never reconstructed; their values are NaN")):
        result = unfold(with_bin(column=column), [*TRUTH, 20.0], DATA)
    np.testing.assert_array_equal(result.determined, [True, True, True, False])
    np.testing.assert_allclose(result.values[:3], plain.values, rtol=1e-12)
    np.testing.assert_allclose(result.covariance[:3, :3], plain.covariance, rtol=1e-9)
    for values in (result.values[3], result.covariance[3], result.covariance[:, 3], result.jacobian[3]):
        assert np.isnan(values).all()
    np.testing.assert_allclose(result.folded, plain.folded, rtol=1e-12)
    np.testing.assert_allclose(result.expected_data([*TRUTH, np.nan]), RESPONSE.sum(1), rtol=1e-12)
    with pytest.warns(UserWarning, match="never reconstructed"):
        empty = unfold(with_bin(column=column), [*TRUTH, 0.0], DATA)
    np.testing.assert_array_equal(empty.values, result.values)


@each_unfolding
@pytest.mark.parametrize("empty", [0, 3])
def test_a_bin_without_data_still_counts(unfold, empty):
    """Where variances weigh the data, and in χ², it has what the simulation makes one expect, scaled to the data."""
    data = np.array(DATA)
    data[empty] = 0
    result = quietly(unfold, **PLAIN | {"data": data})
    assert np.isfinite(result.values).all()
    assert np.isfinite(result.folded_chi2)
    expected = np.where(data > 0, data, RESPONSE.sum(1) * data.sum() / RESPONSE.sum())
    assert result.folded_chi2 == pytest.approx(np.sum((data - result.folded) ** 2 / expected), rel=1e-9)
    variances = data if unfold is iterative_bayes else expected
    covariance = (result.jacobian * variances) @ result.jacobian.T
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-9, atol=1e-9 * covariance.max())


@each_unfolding
def test_any_kind_of_array_is_read_and_none_is_changed(unfold):
    covariance = np.diag(DATA)
    plain = unfold(**PLAIN, background=[1.0, 2.0, 3.0, 4.0], data_covariance=covariance)
    whole = {
        "response": RESPONSE.astype(int),
        "truth": np.array(TRUTH, dtype=int),
        "data": np.array(DATA, dtype=np.uint16),
        "background": np.array([1, 2, 3, 4]),
        "data_covariance": covariance.astype(np.int32),
    }
    strided = {name: np.repeat(np.repeat(v, 2, 0), 2, -1)[::2][..., ::2] for name, v in whole.items() if v.ndim == 2}
    kinds = (
        whole,
        {name: v.tolist() for name, v in whole.items()},
        whole | strided | {"response": np.asfortranarray(RESPONSE)},
    )
    for kind in kinds:
        for values in kind.values():
            if isinstance(values, np.ndarray):
                values.flags.writeable = False
        before = {name: np.array(values) for name, values in kind.items()}
        result = unfold(**kind)
        np.testing.assert_allclose(result.values, plain.values, rtol=1e-12)
        for name, values in kind.items():
            np.testing.assert_array_equal(values, before[name])
        for mine in (result.problem.data, result.problem.yields, result.problem.truth):
            assert not any(np.shares_memory(mine, np.asarray(values)) for values in kind.values())


@each_unfolding
def test_a_record_is_never_changed(unfold):
    response = record()
    before = response.counts.copy(), response.squares.copy()
    unfold(response, None, DATA)
    np.testing.assert_array_equal(response.counts, before[0])
    np.testing.assert_array_equal(response.squares, before[1])


@each_unfolding
def test_a_record_says_what_its_arrays_say(unfold):
    response = record()
    parts, given = response.parts, {"data": DATA, "background": [5.0, 4.0, 3.0, 2.0]}
    ours = unfold(response, None, **given)
    bare = unfold(parts.yields, parts.truth, **given, fakes=parts.fakes)
    np.testing.assert_allclose(ours.values, bare.values, rtol=1e-10)
    np.testing.assert_allclose(ours.covariance, bare.covariance, rtol=1e-9)
    np.testing.assert_array_equal(unfold(response, parts.truth, **given).values, ours.values)
    assert bare.simulation_covariance is None
    assert np.isfinite(ours.simulation_covariance).all()


def test_one_bin_is_divided_by_its_efficiency():
    for unfold in (matrix_inversion, iterative_bayes, UNFOLDINGS["Tikhonov"]):
        result = unfold([[5.0]], [10.0], [100.0])
        np.testing.assert_allclose([result.values[0], result.covariance[0, 0]], [200.0, 400.0], rtol=1e-12)


def test_a_singular_covariance_is_allowed_and_told_of():
    """A total that is known exactly: one direction has no variance, as of data scaled to a cross section."""
    share = np.array(DATA) / sum(DATA)
    covariance = 100 * (np.diag(share) - np.outer(share, share))
    with pytest.warns(UserWarning, match="no variance in 1 of 4 directions"):
        result = matrix_inversion(**PLAIN, data_covariance=covariance)
    assert len(result.problem.whitening()) == 3
    assert np.isfinite(result.values).all()


def test_data_of_draws_without_their_covariance_are_told_of():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.0, 3.0, 2_000)
    draws = truth[:, None] + rng.normal(0, 0.2, (2_000, 4))
    simulated = response_of_draws(draws, truth, [0.0, 1.0, 2.0, 3.0])
    data, covariance = histogram_of_draws(draws[:700], [0.0, 1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match="response of draws: Poisson errors are not theirs"):
        matrix_inversion(simulated, None, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix_inversion(simulated, None, data, data_covariance=covariance)
        matrix_inversion(simulated, None, np.histogram(draws[:700, 0], [0.0, 1.0, 2.0, 3.0])[0])


def test_the_whitening_turns_a_covariance_into_one():
    size = np.array([1e-6, 1.0, 1e5, 1e9])
    covariance = np.outer(size, size) * 0.5 ** np.abs(np.subtract.outer(range(4), range(4)))
    problem = read(**PLAIN, data_covariance=covariance)
    white = problem.whitening()
    np.testing.assert_allclose(white @ covariance @ white.T, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(
        (white.T @ white) * np.outer(size, size), np.linalg.inv(covariance / np.outer(size, size)), atol=1e-9
    )


def test_a_purity_of_zero_says_that_a_bin_holds_fakes_alone():
    result = quietly(
        matrix_inversion,
        response=with_bin(row=[0.0, 0.0, 0.0]),
        truth=TRUTH,
        data=[*DATA, 50.0],
        purity=[1.0, 1.0, 1.0, 1.0, 0.0],
    )
    np.testing.assert_allclose(result.values, matrix_inversion(**PLAIN).values, rtol=1e-12)
    assert not result.reachable[4]


def test_the_efficiency_counts_what_is_reconstructed_within_the_edges():
    np.testing.assert_allclose(read(**PLAIN).efficiency, RESPONSE.sum(0) / TRUTH)


EDGES = [0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 1.0, 2.0, 4.0]
TRUE_EDGES = [0.0, 1.0, 2.0], [0.0, 1.0, 4.0]


def of_two_observables():
    """Return a response of 4 by 3 reconstructed and 2 by 2 true bins, and reconstructed values with flow."""
    rng = np.random.default_rng(3)
    truth = rng.uniform([-0.1, -0.1], [2.1, 4.2], (4_000, 2))
    measured = truth + rng.normal(0, 0.1, truth.shape)
    return response_matrix(measured, truth, EDGES, TRUE_EDGES), measured[:3_000]


def histogram(values, edges, storage=None):
    filled = hist.Hist(*(hist.axis.Variable(each) for each in edges), storage=storage or hist.storage.Double())
    return filled.fill(*np.transpose(values))


@pytest.mark.parametrize("storage", [hist.storage.Weight(), hist.storage.Int64()], ids=["weights", "integers"])
def test_histograms_and_arrays_of_the_axes_are_read_as_flat_ones(storage):
    response, measured = of_two_observables()
    data = histogram(measured, EDGES, storage)
    small = [histogram(measured[start:100], EDGES) for start in (0, 40)]
    truth, prior = (histogram(measured[:500], TRUE_EDGES) for _ in range(2))
    truth.view()[...] = response.parts.truth.reshape(2, 2)
    given = {"data": data, "fakes": small[0], "background": small[1], "prior": prior, "truth": truth}
    assert data.values(flow=True).sum() > data.values().sum()
    flat, nested = (
        {name: change(values.values()) for name, values in given.items()} for change in (np.ravel, np.array)
    )
    nested["background"] = nested["background"].tolist()
    expected = iterative_bayes(response, **flat)
    for kind in (given, nested):
        before = {name: np.array(values) for name, values in kind.items()}
        result = iterative_bayes(response, **kind)
        np.testing.assert_array_equal(result.values, expected.values)
        np.testing.assert_array_equal(result.covariance, expected.covariance)
        for name, values in kind.items():
            np.testing.assert_array_equal(np.array(values), before[name])
    purity = np.linspace(0.8, 1.0, 12)
    np.testing.assert_array_equal(
        matrix_inversion(response, None, data, purity=purity.reshape(4, 3)).values,
        matrix_inversion(response, None, flat["data"], purity=purity).values,
    )


def test_backgrounds_and_templates_of_a_likelihood_may_be_histograms():
    response, measured = of_two_observables()
    data, background = histogram(measured, EDGES), histogram(measured[:100], EDGES)
    templates = background * 1.3, background * 0.7

    def unfolded(change):
        nuisance = Nuisance(background_up=change(templates[0]), background_down=change(templates[1]))
        given = {"background": change(background), "nuisances": {"size": nuisance}}
        return poisson_likelihood(response, None, change(data), **given), workspace(
            response, None, change(data), **given
        )

    ours, flat = unfolded(lambda given: given), unfolded(lambda given: given.values().ravel())
    np.testing.assert_array_equal(ours[0].values, flat[0].values)
    assert ours[1] == flat[1]


def test_a_histogram_for_bare_arrays_has_no_axes_to_compare():
    data = hist.Hist(hist.axis.Regular(4, 0, 1), storage=hist.storage.Weight())
    data.view().value = DATA
    np.testing.assert_array_equal(matrix_inversion(**PLAIN | {"data": data}).values, matrix_inversion(**PLAIN).values)


def test_edges_may_differ_by_rounding():
    values = np.linspace(-0.95, 0.95, 20)
    response = response_matrix(values, values, np.array([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0]) + 1e-16)
    data = hist.Hist(hist.axis.Regular(5, -1, 1)).fill(values)
    np.testing.assert_allclose(matrix_inversion(response, None, data).values, 4)


OTHER_EDGES = "a histogram with other edges than the reconstructed axes of the response"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda of: {"data": of(EDGES[::-1])}, f"data: {OTHER_EDGES}"),
        (lambda of: {"data": of(([0.0, 0.5, 1.0, 1.6, 2.0], EDGES[1]))}, f"data: {OTHER_EDGES}"),
        (lambda of: {"data": of(EDGES).project(0)}, f"data: {OTHER_EDGES}"),
        (lambda of: {"background": of(TRUE_EDGES)}, f"background: {OTHER_EDGES}"),
        (lambda of: {"prior": of(EDGES)}, "prior: a histogram with other edges than the true axes"),
        (lambda of: {"data": of(EDGES).values().T}, "data of shape (3, 4): 12 bins are needed"),
        (lambda of: {"data": [[1.0, 2.0], [3.0]]}, "data: an array of numbers is needed"),
        (lambda of: {"data": np.ma.array(np.ones((4, 3)), mask=np.eye(4, 3))}, "data: real numbers are needed, none"),
    ],
    ids=["exchanged", "an edge", "one axis", "true axes", "reconstructed axes", "transposed", "ragged", "masked"],
)
def test_histograms_and_arrays_of_other_axes(change, text):
    response, measured = of_two_observables()
    given = {"data": histogram(measured, EDGES)} | change(lambda edges: histogram(measured, edges))
    with pytest.raises(InputError, match=re.escape(text)):
        iterative_bayes(response, None, **given)


def test_a_restricted_record_takes_the_bins_that_it_keeps():
    response, measured = of_two_observables()
    data, keep = histogram(measured, EDGES), np.arange(12) != 5
    fewer = response.restricted(reconstructed=keep)
    assert np.isfinite(matrix_inversion(fewer, None, data.values().ravel()[keep]).values).all()
    with pytest.raises(
        InputError, match="data: a histogram, but the response is restricted; give an array of the bins"
    ):
        matrix_inversion(fewer, None, data)
    with pytest.raises(InputError, match=re.escape("data of shape (4, 3): 11 bins are needed")):
        matrix_inversion(fewer, None, data.values())
