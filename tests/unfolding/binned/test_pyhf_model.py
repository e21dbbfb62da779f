import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from rewind.errors import InputError
from rewind.stats import response_matrix
from rewind.unfolding.binned import Nuisance, poisson_likelihood, workspace

REFERENCE = Path(__file__).parent / "pyhf_reference.json"
BOUND = 1e-3  # standard errors


def example():
    """Return 10 true by 20 reconstructed bins with two asymmetric nuisances, one of which is pulled beyond 1."""
    true, reconstructed = np.linspace(-3, 3, 11), np.linspace(-3.2, 3.2, 21)
    centres = (true[1:] + true[:-1]) / 2
    truth = 40_000 * np.diff(norm.cdf(true, 0, 1.4))

    def smeared(scale, width):
        return truth * 0.8 * np.diff(norm.cdf(reconstructed[:, None], centres * scale, width), axis=0)

    across = np.linspace(0, 1, 20)
    inputs = {
        "response": smeared(1.0, 0.3),
        "truth": truth,
        "fakes": 60 + 40 * across,
        "background": 900 * np.exp(-2 * across),
        "nuisances": {
            "energy_scale": Nuisance(
                smeared(1.05, 0.3), smeared(0.96, 0.31), fakes_up=80 + 40 * across, fakes_down=50 + 40 * across
            ),
            "background_slope": Nuisance(
                background_up=900 * np.exp(-1.6 * across), background_down=900 * np.exp(-2.3 * across)
            ),
        },
    }
    shifted = smeared(1.09, 0.3) @ (1 + 0.2 * np.sin(centres)) + 80 + 40 * across + 900 * np.exp(-1.6 * across)
    inputs["data"] = np.round(shifted + np.sqrt(shifted) * np.cos(7 * np.arange(20)))
    return inputs


def fitted_by_pyhf(spec):
    """Return pyhf's parameters and standard errors by name, by MINUIT to a tight tolerance."""
    import pyhf

    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-5, strategy=2))
    loaded = pyhf.Workspace(spec)  # which validates it against pyhf's schema
    model = loaded.model(poi_name=None)
    fit = pyhf.infer.mle.fit(loaded.data(model), model, return_uncertainties=True)
    return {
        name: (float(value), float(error)) for name, (value, error) in zip(model.config.par_names, fit, strict=True)
    }


def deviations(fit, truth, theirs):
    """Return the distances of all parameters from pyhf's, in its standard errors."""
    ours = {f"ratio_{t}": value for t, value in enumerate(fit.values / truth)}
    ours |= dict(zip(fit.nuisances, fit.nuisance_values, strict=True))
    assert ours.keys() == theirs.keys()
    return np.array([abs(ours[name] - value) / error for name, (value, error) in theirs.items()])


def test_it_agrees_with_what_pyhf_answered():
    stored, inputs = json.loads(REFERENCE.read_text()), example()
    fit = poisson_likelihood(**inputs)
    assert fit.nuisance_values[0] > 1
    assert deviations(fit, inputs["truth"], stored["parameters"]).max() < BOUND


def test_the_stored_answer_is_to_this_model():
    stored, spec = json.loads(REFERENCE.read_text())["workspace"], workspace(**example())
    assert json.loads(json.dumps(spec)).keys() == stored.keys()
    assert stored["measurements"][0]["config"].keys() == spec["measurements"][0]["config"].keys()
    np.testing.assert_allclose(_numbers(spec), _numbers(stored), rtol=1e-10)


def _numbers(part):
    if isinstance(part, dict):
        return [number for key in sorted(part) for number in _numbers(part[key])]
    if isinstance(part, list):
        return [number for each in part for number in _numbers(each)]
    return [part] if isinstance(part, float | int) else []


def test_pyhf_fits_the_exported_workspace_alike():
    pytest.importorskip("pyhf")
    inputs = example()
    theirs = fitted_by_pyhf(workspace(**inputs))
    assert deviations(poisson_likelihood(**inputs), inputs["truth"], theirs).max() < BOUND


def test_pyhf_goes_to_negative_yields_too():
    pytest.importorskip("pyhf")
    response, truth, data = [[5.0, 4.0], [4.0, 5.0]], np.array([10.0, 10.0]), [500.0, 300.0]
    fit = poisson_likelihood(response, truth, data)
    assert fit.values.min() < 0
    assert deviations(fit, truth, fitted_by_pyhf(workspace(response, truth, data))).max() < BOUND


def test_pyhf_expects_what_the_templates_say_between_and_beyond_them():
    pyhf = pytest.importorskip("pyhf")
    from rewind.unfolding.binned.nuisances import Templates, read_nuisances, sources
    from rewind.unfolding.binned.problem import read

    inputs = example()
    nuisances = inputs.pop("nuisances")
    problem = read(**inputs)
    nominal = sources(problem, inputs["fakes"], inputs["background"])
    templates = Templates.of(read_nuisances(problem, nuisances), nominal)
    pyhf.set_backend("numpy")
    model = pyhf.Workspace(workspace(**inputs, nuisances=nuisances)).model(poi_name=None)
    ratio = np.linspace(0.5, 1.5, 10)
    for theta in np.array([[0.0, 0.0], [0.3, -0.8], [-0.6, 1.7], [2.5, -3.0], [1.0, -1.0]]):
        signal, others = templates.at(theta)
        mean = (problem.yields + signal) @ ratio + problem.background + others
        at = dict(zip((f"ratio_{t}" for t in range(10)), ratio, strict=True)) | dict(zip(nuisances, theta, strict=True))
        theirs = model.expected_actualdata([at[name] for name in model.config.par_names])
        np.testing.assert_allclose(mean, theirs, rtol=1e-12)


def test_a_record_exports_as_its_arrays_do():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 1.5, 20_000)
    record = response_matrix(truth + rng.normal(0, 0.3, 20_000), truth, [-2.0, -1.0, 0.0, 1.0, 2.0], [-2.0, 0.0, 2.0])
    parts, data = record.parts, np.array([700.0, 900.0, 800.0, 500.0])
    assert workspace(record, None, data) == workspace(parts.yields, parts.truth, data, fakes=parts.fakes)


def test_bins_without_expectation_are_left_out_with_their_data():
    response = np.array([[8.0, 2.0, 0.0], [2.0, 8.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.warns(UserWarning, match=r"reconstructed bins \[2\]|true bins \[2\]"):
        spec = workspace(response, [10.0, 10.0, 5.0], [70.0, 30.0, 4.0])
    assert [sample["name"] for sample in spec["channels"][0]["samples"]] == ["true_bin_0", "true_bin_1"]
    assert spec["observations"][0]["data"] == [70.0, 30.0]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"response": [[8.0, -9.0], [2.0, 10.0]]}, "expected in reconstructed bin 0; merge bins"),
        ({"nuisances": {"ratio_1": Nuisance(background_up=[1, 1], background_down=[0, 0])}}, "rename it"),
        ({"data": [-1.0, 3.0]}, "Poisson counts are not negative"),
    ],
    ids=["nothing expected", "a name taken", "negative data"],
)
def test_refusals(changed, text):
    inputs = {"response": [[8.0, 2.0], [2.0, 8.0]], "truth": [10.0, 10.0], "data": [70.0, 30.0]} | changed
    with pytest.raises(InputError, match=re.escape(text)):
        workspace(**inputs)
