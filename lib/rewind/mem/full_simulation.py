"""What the full simulation says to the matrix element method: its jets' energies, its recoil, its measured events.

>>> from rewind import events, paths
>>> batch = events.load_batch(paths.locate("data/samples/ttbar_dilepton.root"), 2)
>>> chosen = batch[(batch.btag & batch.jet_mask).sum(1) >= 2]
>>> len(dilepton_events(chosen)) == len(chosen)
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import stats
from rewind.events.batch.columns import Columns
from rewind.events.batch.event_batch import EventBatch
from rewind.events.batch.from_records import from_records
from rewind.events.batch.tensors import momenta
from rewind.events.batch.truth_record import INCOMING, before_radiation
from rewind.events.chain.processes import Selection
from rewind.mem.detector_model import DetectorModel
from rewind.mem.measured import Measured
from rewind.mem.topologies import TTH
from rewind.physics import double_gaussian
from rewind.physics.constants import M_B
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.leg_kinematics import along, unit_vector
from rewind.physics.recoil import fit_recoil

__all__ = ["Matched", "OneLepton", "dilepton_events", "fit", "matched", "tth_events"]

_BOTTOM = 5


def dilepton_events(batch: EventBatch) -> Measured:
    """Return fully simulated dilepton events as the model's: ℓ⁺, ℓ⁻, the two hardest b-tagged jets, p_T^miss.

    Leptons count as massless, jets as b quarks of their energy and direction. Raises InputError for events with
    another number of leptons, and for one with fewer than two b-tagged jets.
    """
    batch.require_legs(2).require_tags(2)
    return _measured(batch, _hardest(batch, batch.btag, 2), _hardest(batch, ~batch.btag, 0))


class OneLepton(NamedTuple):
    """Hold ``events`` ``(B,)`` of tt̄H with one lepton, which of them are ``mirrored``, and of which all six jets stem
    from the six quarks (``complete``); ``kept`` tells which events of the batch they are.
    """

    events: Measured
    mirrored: Tensor
    complete: Tensor
    kept: Tensor


def tth_events(batch: EventBatch) -> OneLepton:
    """Return fully simulated events with four b-tagged jets or more and two others or more: the hardest of each.

    Events with an ℓ⁻ are CP-mirrored, all momenta reversed, to those with an ℓ⁺; cos α sin α changes its sign in them.
    Raises InputError for events with another number of leptons, and where no jet's origin is known.
    """
    batch.require_legs(1).require_truth("jet_roles")
    tagged, other = batch.btag & batch.jet_mask, ~batch.btag & batch.jet_mask
    kept = (tagged.sum(1) >= len(TTH.bottoms)) & (other.sum(1) >= len(TTH.lights))
    batch = batch[kept]
    bottoms, lights = _hardest(batch, batch.btag, len(TTH.bottoms)), _hardest(batch, ~batch.btag, len(TTH.lights))
    mirrored = batch.charge[:, 0] < 0
    turn = torch.where(mirrored, -1.0, 1.0)[:, None].double()
    signs = torch.cat([torch.ones_like(turn), turn, turn, turn], 1)[:, None]
    event = _measured(batch, bottoms, lights)
    objects = (p * signs for p in (event.leptons, event.bottoms, event.lights))
    complete = (batch.truth.jet_roles.gather(1, torch.cat([bottoms, lights], 1)) >= 0).all(1)
    return OneLepton(Measured(*objects, event.met * turn), mirrored, complete, kept)


def _hardest(batch: EventBatch, chosen: Tensor, n: int) -> Tensor:
    """Return the places ``(B, n)`` of the first ``n`` of the jets that are ``chosen`` ``(B, J)``."""
    return (chosen & batch.jet_mask).long().argsort(dim=1, descending=True, stable=True)[:, :n]


def _measured(batch: EventBatch, bottoms: Tensor, lights: Tensor) -> Measured:
    """Return events with the jets at these places ``(B, n)``, without a mass but for the b quark's."""
    bottoms, lights = (batch.jets.gather(1, place[..., None].expand(-1, -1, 4)) for place in (bottoms, lights))
    return Measured(
        along(batch.leptons[..., 1:].norm(dim=-1), unit_vector(batch.leptons), 0.0),
        along(bottoms[..., 0], unit_vector(bottoms), M_B),
        along(lights[..., 0], unit_vector(lights), 0.0),
        batch.met,
    )


@dataclass(frozen=True)
class Matched(Columns):
    """Hold jets that stem from a quark of the hard process: both energies (GeV), the jet's η, and if it is a b quark.

    The quark's energy is that of the decay before radiation, in the frame of its resonance's last copy. All ``(J,)``.
    """

    measured: Tensor
    parton: Tensor
    eta: Tensor
    is_bottom: Tensor


def matched(records: ak.Array) -> Matched:
    """Return the matched jets of event records with their hard process (`rewind.events.readers.samples.load`).

    Raises InputError as :func:`rewind.events.batch.truth_record.before_radiation` does.
    """
    jets = records.Jet
    event = np.repeat(np.arange(len(records)), ak.to_numpy(ak.num(jets)))
    place = ak.to_numpy(ak.flatten(jets.partonIdx))
    known = place >= 0
    quark, kinds = before_radiation(records, event[known], place[known] + INCOMING)
    chosen = ak.flatten(jets)[known]
    return Matched(
        torch.from_numpy(momenta(jets)[known][:, 0]),
        torch.from_numpy(quark[:, 0]),
        torch.from_numpy(ak.to_numpy(chosen.eta).astype(float)),
        torch.from_numpy(np.abs(kinds) == _BOTTOM),
    )


def _transfer(pairs: Matched, selection: Selection) -> DoubleGaussian:
    return double_gaussian.fit(pairs.measured, pairs.parton, least=selection.jet_pt * pairs.eta.cosh())


def fit(dilepton: ak.Array, one_lepton: ak.Array, selection: Selection) -> DetectorModel:
    """Return the detector model nearest to records of fully simulated tt̄ events with two leptons and with one.

    Quarks' transfer functions are fitted to the matched jets of both; recoil, the last copies of both tops against the
    beam, and p_T^miss, half its 16–84 % range about the neutrinos, to the first. Raises InputError as
    :func:`rewind.physics.double_gaussian.fit` and :func:`rewind.events.batch.from_records.from_records` do.
    """
    pairs = Matched.concatenate([matched(records) for records in (dilepton, one_lepton)])
    batch = from_records(dilepton, 2)
    truth = batch.require_truth("tops", "neutrinos")
    error = batch.met - truth.neutrinos.sum(1)[:, :2]
    return DetectorModel(
        bottom=_transfer(pairs[pairs.is_bottom], selection),
        light=_transfer(pairs[~pairs.is_bottom], selection),
        met_sigma=stats.width68(error.flatten()) / 2,
        recoil=fit_recoil(truth.tops.sum(1)[:, 1:3]),
    )
