"""What peers make of one example: pyunfold's iterations, and ROOT's TSVDUnfold, which is best run alone.

``python tests/peer_unfoldings.py`` writes the reference of ``test_bayes.py`` and ``test_spectral.py``; it needs the
optional extra 'peers', not the library. With ``tsvd`` it prints ROOT's answer alone.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).parent / "unfolding" / "binned" / "peer_reference.json"
ITERATIONS = (1, 4, 20)
COMPONENTS = (2, 5, 9)
N = 12
KEPT = []  # ROOT's objects, which crash where Python deletes them


def example():
    """Return response, truth, prior, data and a full covariance of the data, all plain arrays."""
    centres = (np.arange(N) + 0.5) / N
    truth = 2e4 * np.exp(-2 * centres)
    spread = np.exp(-0.5 * ((centres[:, None] - centres - 0.02) / 0.09) ** 2)
    response = np.round(spread / spread.sum(0) * truth * (0.55 + 0.3 * centres), 3)
    other = truth * (1 + 0.4 * np.sin(7 * centres))
    data = np.random.default_rng(1).poisson(response @ (other / truth)).astype(float)
    nearness = np.exp(-np.abs(np.subtract.outer(np.arange(N), np.arange(N))) / 2)
    root = np.sqrt(data)
    return {
        "response": response,
        "truth": truth,
        "prior": truth * np.linspace(0.7, 1.3, N),
        "data": data,
        "covariance": np.outer(root, root) * (0.6 * np.eye(N) + 0.4 * nearness),
    }


def by_pyunfold():
    """Return pyunfold's values after each number of iterations."""
    from pyunfold import iterative_unfold

    given = example()
    probabilities = given["response"] / given["truth"]
    steps = iterative_unfold(
        data=given["data"],
        data_err=np.sqrt(given["data"]),
        response=probabilities,
        response_err=np.zeros_like(probabilities),
        efficiencies=probabilities.sum(0),
        efficiencies_err=np.zeros(N),
        prior=given["prior"] / given["prior"].sum(),
        ts_stopping=1e-12,
        max_iter=max(ITERATIONS),
        return_iterations=True,
    )["unfolded"]
    return {str(n): np.asarray(steps[n - 1]).tolist() for n in ITERATIONS}


def by_tsvdunfold():
    """Return TSVDUnfold's values and covariances by k, for Poisson errors and for the full covariance."""
    import ROOT

    ROOT.gROOT.SetBatch(True)
    ROOT.TH1.AddDirectory(False)
    given = example()

    def filled(name, values):
        values = np.asarray(values)
        shape = [number for n in values.shape for number in (n, 0.0, 1.0)]
        histogram = (ROOT.TH1D if values.ndim == 1 else ROOT.TH2D)(name, name, *shape)
        for place, value in np.ndenumerate(values):
            histogram.SetBinContent(*(i + 1 for i in place), float(value))
        KEPT.append(histogram)
        return histogram

    answers = {}
    for kind, covariance in (("poisson", np.diag(given["data"])), ("full", given["covariance"])):
        answers[kind] = {}
        for k in COMPONENTS:
            inputs = (given["data"], covariance, given["response"].sum(1), given["truth"], given["response"])
            names = (f"{kind}{k}{name}" for name in ("data", "cov", "bini", "xini", "adet"))
            unfold = ROOT.TSVDUnfold(*map(filled, names, inputs))
            unfold.SetNormalize(False)
            values, errors = unfold.Unfold(k), unfold.GetXtau()
            KEPT.extend([unfold, values, errors])
            bins = range(1, N + 1)
            answers[kind][str(k)] = {
                "values": [values.GetBinContent(i) for i in bins],
                "covariance": [[errors.GetBinContent(i, j) for j in bins] for i in bins],
            }
    return {"version": str(ROOT.gROOT.GetVersion()), **answers}


def main():
    """Write the reference, or print ROOT's part of it; ROOT crashes as the interpreter ends, which is cut short."""
    with contextlib.redirect_stdout(sys.stderr):
        answers = by_tsvdunfold()
    if sys.argv[1:] != ["tsvd"]:
        from importlib.metadata import version

        pyunfold = {"version": version("pyunfold"), **by_pyunfold()}
        REFERENCE.write_text(json.dumps({"pyunfold": pyunfold, "tsvdunfold": answers}, indent=1) + "\n")
    else:
        print(json.dumps(answers), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
