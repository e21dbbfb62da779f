"""A detector's energy-flow response, particle by particle, after Delphes' CMS card (1307.6346).

Tables are functions of a particle's true η, pT and E in GeV, evaluated on whole arrays. Simplifications: no magnetic
field, no bremsstrahlung in material, no pile-up, no calorimeter cells: each neutral deposit is measured for itself.

>>> b_tag_efficiency(flavour=np.array([5, 4, 0]), pt=np.array([80.0, 80.0, 80.0])).round(2).tolist()
[0.69, 0.2, 0.01]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewind import kinematics
from rewind.random_numbers import require_rng

__all__ = [
    "EnergyFlow",
    "b_tag_efficiency",
    "ecal_resolution",
    "energy_flow",
    "hcal_resolution",
    "identification_efficiency",
    "response_moments",
    "track_efficiency",
    "track_resolution",
]

Reals, Integers = NDArray[np.floating], NDArray[np.integer]

TRACKER_ETA, CALORIMETER_ETA = 2.5, 5.0
ECAL_THRESHOLD, HCAL_THRESHOLD, SIGNIFICANCE = 0.5, 1.0, 2.0

ELECTRON, MUON, PHOTON = 11, 13, 22
_NEUTRINOS = (12, 14, 16)
_LONG_LIVED_STRANGE, _STRANGE_ECAL_FRACTION = (310, 3122), 0.3
_HADRON, _ELECTRON, _MUON = range(3)

# rows: hadron, electron, muon; then |η| ≤ 1.5 and 1.5–2.5; columns: pT in 0.1–1, 1–100, above 100
_TRACK_EFFICIENCY = np.array(
    [
        [[0.70, 0.95, 0.95], [0.60, 0.85, 0.85]],
        [[0.73, 0.95, 0.99], [0.50, 0.83, 0.90]],
        [[0.75, 0.99, 0.99], [0.70, 0.98, 0.98]],
    ]
)
# rows: hadron, electron, muon; columns: |η| ≤ 0.5, 0.5–1.5, 1.5–2.5
_CONSTANT_TERM = np.array([[0.01, 0.015, 0.025], [0.03, 0.05, 0.15], [0.01, 0.015, 0.025]])
_LINEAR_TERM = np.array([[1.5e-4, 2.5e-4, 5.5e-4], [1.3e-3, 1.7e-3, 3.1e-3], [1.0e-4, 1.5e-4, 3.5e-4]])


def _track_kind(pdg_id):
    pdg_id = np.abs(pdg_id)
    return np.where(pdg_id == ELECTRON, _ELECTRON, np.where(pdg_id == MUON, _MUON, _HADRON))


def track_efficiency(pdg_id: Integers, pt: Reals, eta: Reals) -> Reals:
    """Return the probability that a charged particle leaves a track."""
    table = _TRACK_EFFICIENCY[
        _track_kind(pdg_id), np.searchsorted([1.5], np.abs(eta)), np.searchsorted([1.0, 100.0], pt)
    ]
    return np.where((np.abs(eta) <= TRACKER_ETA) & (pt > 0.1), table, 0.0)


def track_resolution(pdg_id: Integers, pt: Reals, eta: Reals) -> Reals:
    """Return the relative resolution of a track's pT, √(a² + (b pT)²)."""
    where = _track_kind(pdg_id), np.searchsorted([0.5, 1.5], np.abs(eta))
    return np.hypot(_CONSTANT_TERM[where], _LINEAR_TERM[where] * pt)


def ecal_resolution(energy: Reals, eta: Reals) -> Reals:
    """Return σ(E) of the electromagnetic calorimeter in GeV."""
    eta = np.abs(eta)
    root = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
    forward = np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
    barrel, endcap = (1 + 0.64 * eta**2) * root, (2.16 + 5.6 * (eta - 2) ** 2) * root
    return np.where(eta <= 1.5, barrel, np.where(eta <= 2.5, endcap, forward))


def hcal_resolution(energy: Reals, eta: Reals) -> Reals:
    """Return σ(E) of the hadronic calorimeter in GeV."""
    central = np.sqrt((0.050 * energy) ** 2 + 1.50**2 * energy)
    forward = np.sqrt((0.130 * energy) ** 2 + 2.70**2 * energy)
    return np.where(np.abs(eta) <= 3.0, central, forward)


def identification_efficiency(pdg_id: Integers, pt: Reals, eta: Reals) -> Reals:
    """Return the probability that a tracked electron or muon is identified; zero for anything else."""
    pdg_id, eta = np.abs(pdg_id), np.abs(eta)
    electron = np.where(eta <= 1.5, 0.95, np.where(eta <= 2.5, 0.85, 0.0))
    muon = np.where(eta <= 2.4, 0.95, 0.0)
    efficiency = np.where(pdg_id == ELECTRON, electron, np.where(pdg_id == MUON, muon, 0.0))
    return np.where(pt > 10.0, efficiency, 0.0)


def b_tag_efficiency(flavour: Integers, pt: Reals) -> Reals:
    """Return the probability that a jet of hadron flavour 5, 4 or 0 is b-tagged."""
    beauty = 0.85 * np.tanh(0.0025 * pt) * 25.0 / (1 + 0.063 * pt)
    charm = 0.25 * np.tanh(0.018 * pt) / (1 + 0.0013 * pt)
    light = 0.01 + 0.000038 * pt
    return np.where(flavour == 5, beauty, np.where(flavour == 4, charm, light))


@dataclass(frozen=True)
class EnergyFlow:
    """Hold what a detector sees of each particle: ``p4`` ``(n, 4)``, the particle it came from, lepton or not."""

    p4: np.ndarray
    source: np.ndarray
    is_lepton: np.ndarray


def _log_normal(mean, sigma, rng):
    """Draw positive values of given mean and standard deviation, as the card smears."""
    ratio = np.divide(sigma, mean, out=np.zeros_like(mean), where=mean > 0)
    width = np.sqrt(np.log1p(ratio**2))
    return mean * np.exp(width * rng.standard_normal(len(mean)) - width**2 / 2)


def _deposit(energy, resolution, eta, threshold, rng):
    """Measure deposits; what stays below the threshold or two standard deviations is lost.

    The second cut rules: a hadron alone in the central hadronic calorimeter needs about 9 GeV of measured energy.
    Delphes cuts on the sum in a tower, here each particle stands alone, so that more is lost.
    """
    measured = _log_normal(energy, resolution(energy, eta), rng)
    seen = (measured >= threshold) & (measured >= SIGNIFICANCE * resolution(measured, eta))
    return np.where(seen, measured, 0.0)


def response_moments(pdg_id: Integers, p4: Reals, is_charged: NDArray[np.bool_]) -> tuple[Reals, Reals]:
    """Return mean and variance ``(n,)`` of each visible particle's measured pT over its true one, from the formulas.

    What has no track and would fall below threshold or significance without smearing counts as lost for certain;
    hadrons deposit all their energy in the hadronic calorimeter.
    """
    absolute_id, energy = np.abs(pdg_id), p4[:, 0]
    pt, eta = kinematics.pt(p4), kinematics.eta(p4)
    tracked = np.where(is_charged, track_efficiency(pdg_id, pt, eta), 0.0)
    electromagnetic = np.isin(absolute_id, (PHOTON, ELECTRON))
    sigma = np.where(electromagnetic, ecal_resolution(energy, eta), hcal_resolution(energy, eta))
    least = np.maximum(np.where(electromagnetic, ECAL_THRESHOLD, HCAL_THRESHOLD), SIGNIFICANCE * sigma)
    seen = (energy > least) & (np.abs(eta) < CALORIMETER_ETA) & (absolute_id != MUON)
    mean = np.where(seen, 1.0, tracked)
    spread = tracked * track_resolution(pdg_id, pt, eta) ** 2 + np.where(seen, (1 - tracked) * (sigma / energy) ** 2, 0)
    return mean, spread + np.where(seen, 0.0, tracked * (1 - tracked))


def energy_flow(pdg_id: Integers, p4: Reals, is_charged: NDArray[np.bool_], rng: np.random.Generator) -> EnergyFlow:
    """Return the energy-flow objects of stable particles.

    A charged particle with a track counts as its track: smeared pT, true direction and mass. Everything else counts
    as massless calorimeter deposits: photons and electrons electromagnetic, K⁰s and Λ 30 %, other hadrons
    hadronic. Muons without a track, and neutrinos, are lost. ``p4`` is ``(n, 4)`` in GeV. Raises InputError where
    ``rng`` is no NumPy generator.
    """
    require_rng(rng)
    absolute_id = np.abs(pdg_id)
    pt, eta = kinematics.pt(p4), kinematics.eta(p4)
    visible = ~np.isin(absolute_id, _NEUTRINOS) & (np.abs(eta) < CALORIMETER_ETA)
    has_track = visible & is_charged & (rng.random(len(pt)) < track_efficiency(pdg_id, pt, eta))
    track = np.flatnonzero(has_track)
    scale = _log_normal(np.ones(len(track)), track_resolution(pdg_id, pt, eta)[track], rng)
    momentum = p4[track, 1:] * scale[:, None]
    mass_squared = kinematics.mass_squared(p4[track]).clip(0.0)
    energy = np.sqrt((momentum**2).sum(1) + mass_squared)
    identified = rng.random(len(track)) < identification_efficiency(pdg_id, pt, eta)[track]

    tower = np.flatnonzero(visible & ~has_track & (absolute_id != MUON))
    fraction = np.select(
        [np.isin(absolute_id[tower], (PHOTON, ELECTRON)), np.isin(absolute_id[tower], _LONG_LIVED_STRANGE)],
        [1.0, _STRANGE_ECAL_FRACTION],
        0.0,
    )
    true = p4[tower, 0]
    measured = _deposit(fraction * true, ecal_resolution, eta[tower], ECAL_THRESHOLD, rng)
    measured += _deposit((1 - fraction) * true, hcal_resolution, eta[tower], HCAL_THRESHOLD, rng)
    tower, measured = tower[measured > 0], measured[measured > 0]
    direction = p4[tower, 1:] / np.linalg.norm(p4[tower, 1:], axis=1, keepdims=True)

    source = np.concatenate([track, tower])
    order = np.argsort(source, kind="stable")
    tracks = np.column_stack([energy, momentum])
    towers = np.column_stack([measured, measured[:, None] * direction])
    is_lepton = np.concatenate([identified, np.zeros(len(tower), dtype=bool)])
    return EnergyFlow(np.concatenate([tracks, towers])[order], source[order], is_lepton[order])
