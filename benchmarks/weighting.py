"""Neutrino weighting by bounds against a NumPy scan of the whole grid, in one run on one thread.

The grid is that of 2307.02405: 51 × 51 pseudorapidities, 7 top masses, all b-jet pairings, 2 × 2 solutions; the events
are those of the shipped dilepton sample with two leptons and two b-tags. NumPy scans one event at a time, its arrays
fit a cache. It does so as published (momenta, m_tt veto and exponential of every point) and as lean as can be (χ²
only: on-shell tops never meet the veto). Blocks of events alternate; the error is that of the mean over blocks. Times
are those of the processor, so that other work on the machine counts for little.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import time
from functools import partial
from itertools import permutations

import awkward as ak
import numpy as np
import torch

from rewind import events, kinematics, paths
from rewind.neutrino.classical import weighting
from rewind.physics.constants import M_W
from timing import Row, alternating, ratio

SIGMA, M_TT_MIN = 10.0, 300.0


def load(n_max):
    """Return lepton⁺, lepton⁻, b-tagged jets, their mask and p_T^miss of selected events."""
    sample = events.load(paths.locate("data/samples/ttbar_dilepton.root"))
    sample = sample[sample.pass_detector & (ak.sum(sample.Jet.btag, axis=1) >= 2)][:n_max]
    leptons = sample.Lepton[ak.argsort(sample.Lepton.charge)]
    fields = ("pt", "eta", "phi", "mass")
    leptons, _ = events.to_tensors(leptons, fields, 2, dtype=torch.float64)
    jets, mask = events.to_tensors(sample.Jet[sample.Jet.btag == 1], fields, dtype=torch.float64)
    leptons, jets = (kinematics.from_pt_eta_phi_mass(*z.unbind(-1)) for z in (leptons, jets))
    pt, phi = (torch.from_numpy(ak.to_numpy(sample.MET[name]).astype(float)) for name in ("pt", "phi"))
    return leptons[:, 1], leptons[:, 0], jets, mask, torch.stack([pt * phi.cos(), pt * phi.sin()], -1)


def numpy_leg(lepton, b, eta, m_top):
    """Return px, py, pz, E of a leg's neutrinos, ``(P, M, 2 n)``, inf where there is none, for b ``(P, 4)``.

    The direction e of the neutrino solves a/(A − ℓ·e) = a_b/(A_b − b·e).
    """
    eta, m_top, b = np.asarray(eta), np.asarray(m_top)[:, None], b[:, :, None, None]
    energy, bx, by, bz = b[:, 0], b[:, 1], b[:, 2], b[:, 3]
    cosh, sinh = np.cosh(eta), np.sinh(eta)
    A, A_b = lepton[0] * cosh - lepton[3] * sinh, energy * cosh - bz * sinh
    a = (M_W**2 - kinematics.mass_squared(lepton)) / 2
    dot = lepton[0] * energy - lepton[1] * bx - lepton[2] * by - lepton[3] * bz
    a_b = (m_top**2 - M_W**2 - (energy**2 - bx**2 - by**2 - bz**2)) / 2 - dot
    nx, ny = a_b * lepton[1] - a * bx, a_b * lepton[2] - a * by
    c, n2 = a_b * A - a * A_b, nx * nx + ny * ny
    with np.errstate(invalid="ignore"):
        root = np.sqrt(n2 - c * c) * np.array([1, -1])[:, None, None, None]
        ex, ey = (c * nx - root * ny) / n2, (c * ny + root * nx) / n2
    pt = a / (A - lepton[1] * ex - lepton[2] * ey)
    solutions = (np.where(np.isfinite(pt), z, np.inf) for z in (pt * ex, pt * ey, pt * sinh, pt * cosh))
    return [np.concatenate([*z], -1) for z in solutions]


def numpy_legs(lepton_plus, lepton_minus, jets):
    """Return the pairings ``(P, 2)`` of one event and both legs of each."""
    pairings = np.array(list(permutations(range(len(jets)), 2)))
    plus = numpy_leg(lepton_plus, jets[pairings[:, 0]], weighting.ETAS, weighting.M_TOPS)
    minus = numpy_leg(lepton_minus, jets[pairings[:, 1]], weighting.ETAS, weighting.M_TOPS)
    return pairings, plus, minus


def numpy_chi2(plus, minus, met):
    """Return χ² of all grid points ``(P, M, 2 n, 2 n)``."""
    chi2 = plus[0][..., None] - ((met[0] - minus[0])[..., None, :])
    chi2 *= chi2
    dy = plus[1][..., None] - ((met[1] - minus[1])[..., None, :])
    dy *= dy
    chi2 += dy
    chi2 *= 1 / SIGMA**2
    return chi2


def as_published(lepton_plus, lepton_minus, jets, met):
    """Return the logarithm of one event's highest weight and its pairing; veto and weight taken at every point."""
    pairings, plus, minus = numpy_legs(lepton_plus, lepton_minus, jets)
    visible = lepton_plus + lepton_minus + jets[pairings[:, 0]] + jets[pairings[:, 1]]
    with np.errstate(invalid="ignore", under="ignore"):
        weight = np.exp(-0.5 * numpy_chi2(plus, minus, met))
        x, y, z, energy = (p[..., None] + q[..., None, :] for p, q in zip(plus, minus, strict=True))
        energy += visible[:, 0, None, None, None]
        mass2 = energy * energy
        for i, component in enumerate((x, y, z), 1):
            component += visible[:, i, None, None, None]
            component *= component
            mass2 -= component
        weight[~(mass2 >= M_TT_MIN**2)] = 0.0
    best = weight.argmax()
    with np.errstate(divide="ignore"):
        return np.log(weight.flat[best]), *pairings[best // weight[0].size]


def chi2_only(lepton_plus, lepton_minus, jets, met):
    """Return the same from the smallest χ²."""
    pairings, plus, minus = numpy_legs(lepton_plus, lepton_minus, jets)
    chi2 = numpy_chi2(plus, minus, met)
    best = chi2.argmin()
    return -0.5 * chi2.flat[best], *pairings[best // chi2[0].size]


def scan(method, lepton_plus, lepton_minus, jets, mask, met):
    """Return log w and the pairing ``(B, 3)`` by a NumPy method, event by event."""
    rows = (z.numpy() for z in (lepton_plus, lepton_minus, jets, mask, met))
    return np.array([method(p, m, j[there], t) for p, m, j, there, t in zip(*rows, strict=True)])


def bounds(*block):
    """Return the same by the library, −inf where an event is not valid."""
    result = weighting.solve(*block, sigma=SIGMA, m_tt_min=M_TT_MIN)
    return torch.cat([torch.where(result.valid, result.log_weight, -np.inf)[:, None], result.pairing], 1).numpy()


def small() -> list[Row]:
    """Compare the library's bounds with both NumPy scans, on a few events."""
    torch.set_num_threads(1)
    sample = load(60)
    calls = {"bounds": bounds, "published": partial(scan, as_published), "lean": partial(scan, chi2_only)}
    spent = alternating({name: partial(call, *sample) for name, call in calls.items()}, 3, time.process_time)
    return [
        ratio("NumPy's time as published / ours", spent["published"], spent["bounds"]),
        ratio("NumPy's time, χ² only / ours", spent["lean"], spent["bounds"]),
    ]


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=1500)
    options.add_argument("--blocks", type=int, default=10)
    options = options.parse_args()

    torch.set_num_threads(1)
    sample = load(options.events)
    methods = {
        "bounds": bounds,
        "NumPy as published": partial(scan, as_published),
        "NumPy, χ² only": partial(scan, chi2_only),
    }
    for method in methods.values():
        method(*(z[:50] for z in sample))
    results, seconds = ({name: [] for name in methods} for _ in range(2))
    for block in zip(*(z.chunk(options.blocks) for z in sample), strict=True):
        for name, method in methods.items():
            began = time.process_time()
            results[name].append(method(*block))
            seconds[name].append(time.process_time() - began)

    ours = np.concatenate(results["bounds"])
    valid = np.isfinite(ours[:, 0])
    n_jets = sample[3].sum(1)
    pairings = (n_jets * (n_jets - 1)).double().mean()
    print(f"{len(ours)} events, {pairings:.2f} pairings on average, {valid.mean():.1%} with a solution")
    for name in methods:
        ratio = np.array(seconds[name]) / np.array(seconds["bounds"])
        theirs = np.concatenate(results[name])
        solved = theirs[:, 0] >= np.log(np.finfo(float).tiny)
        both = valid & solved
        worst = np.abs(ours[both, 0] - theirs[both, 0]).max()
        print(
            f"{name:20}{len(ours) / sum(seconds[name]):8.0f} events/s, "
            f"{ratio.mean():5.2f} ± {ratio.std(ddof=1) / len(ratio) ** 0.5:.2f} times the time; "
            f"solved alike {(solved == valid).mean():.2%}, largest |Δ log w| {worst:.0e}, "
            f"same pairing {(ours[both, 1:] == theirs[both, 1:]).all(1).mean():.2%}"
        )


if __name__ == "__main__":
    main()
