"""What the full simulation says to the matrix element method: its jets' energies, its recoil, its measured events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from rewind import stats
from rewind.errors import InputError
from rewind.events.batch.columns import Columns
from rewind.events.batch.tensors import momenta, transverse
from rewind.events.batch.truth_record import INCOMING, before_radiation
from rewind.events.chain.processes import Selection
from rewind.mem.detector_model import TTH, Measured, Response
from rewind.physics import double_gaussian
from rewind.physics.constants import M_B
from rewind.physics.double_gaussian import DoubleGaussian
from rewind.physics.leg_kinematics import along, unit_vector
from rewind.physics.recoil import fit_recoil

__all__ = ["Matched", "OneLepton", "dilepton_events", "fit", "matched", "tth_events"]

_BOTTOM, _NEUTRINOS = 5, (12, 14, 16)


def dilepton_events(records: ak.Array) -> Measured:
    """Return fully simulated dilepton events as the response's: ℓ⁺, ℓ⁻, the two hardest b-tagged jets, p_T^miss.

    Leptons count as massless, jets as b quarks of their energy and direction. Raises InputError for an event without
    one lepton of each charge and two tagged jets.
    """
    leptons = records.Lepton[ak.argsort(records.Lepton.charge, ascending=False)]
    jets = records.Jet[records.Jet.btag == 1]
    jets = jets[ak.argsort(jets.pt, ascending=False)]
    wrong = (ak.num(leptons) != 2) | (ak.sum(leptons.charge, axis=1) != 0) | (ak.num(jets) < 2)
    if ak.any(wrong):
        event = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"event {event}: one lepton of each charge and two b-tagged jets are needed; select events first"
        )
    return _measured(records, leptons, jets[:, :2], jets[:, :0])


class OneLepton(NamedTuple):
    """Hold ``events`` ``(B,)`` of tt̄H with one lepton, which of them are ``mirrored``, and of which all six jets stem
    from the six quarks (``complete``); ``kept`` tells which records they are.
    """

    events: Measured
    mirrored: Tensor
    complete: Tensor
    kept: np.ndarray


def tth_events(records: ak.Array) -> OneLepton:
    """Return fully simulated events with four b-tagged jets or more and two others or more: the hardest of each.

    Events with an ℓ⁻ are CP-mirrored, all momenta reversed, to those with an ℓ⁺; cos α sin α changes its sign in them.
    Raises InputError where an event has not one lepton.
    """
    wrong = ak.num(records.Lepton) != 1
    if ak.any(wrong):
        raise InputError(f"event {int(np.flatnonzero(wrong)[0])}: one lepton is needed; select events first")
    jets = records.Jet[ak.argsort(records.Jet.pt, ascending=False)]
    bottoms, lights = jets[jets.btag == 1], jets[jets.btag == 0]
    kept = ak.to_numpy((ak.num(bottoms) >= len(TTH.bottoms)) & (ak.num(lights) >= len(TTH.lights)))
    records, bottoms, lights = records[kept], bottoms[kept, : len(TTH.bottoms)], lights[kept, : len(TTH.lights)]
    found = _measured(records, records.Lepton, bottoms, lights)
    mirrored = torch.from_numpy(ak.to_numpy(records.Lepton.charge[:, 0]) < 0)
    turn = torch.where(mirrored, -1.0, 1.0)[:, None].double()
    signs = torch.cat([torch.ones_like(turn), turn, turn, turn], 1)[:, None]
    objects = (p * signs for p in (found.leptons, found.bottoms, found.lights))
    known = (ak.all(jets.partonIdx >= 0, axis=1) for jets in (bottoms, lights))
    complete = torch.from_numpy(np.logical_and(*(ak.to_numpy(x) for x in known)))
    return OneLepton(Measured(*objects, found.met * turn), mirrored, complete, kept)


def _measured(records: ak.Array, leptons: ak.Array, bottoms: ak.Array, lights: ak.Array) -> Measured:
    """Return objects, as many in each event, without a mass but for the b quark's."""
    leptons, bottoms, lights = (
        torch.from_numpy(momenta(part)).reshape(len(records), -1, 4) for part in (leptons, bottoms, lights)
    )
    return Measured(
        along(leptons[..., 1:].norm(dim=-1), unit_vector(leptons), 0.0),
        along(bottoms[..., 0], unit_vector(bottoms), M_B),
        along(lights[..., 0], unit_vector(lights), 0.0),
        torch.from_numpy(transverse(records.MET)),
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


def fit(dilepton: ak.Array, one_lepton: ak.Array, selection: Selection) -> Response:
    """Return the response nearest to fully simulated tt̄ events with two leptons and with one.

    Quarks' transfer functions are fitted to the matched jets of both; recoil, the last copies of both tops against the
    beam, and p_T^miss, half its 16–84 % range about the neutrinos, to the first. Raises InputError as
    :func:`rewind.physics.double_gaussian.fit` does.
    """
    pairs = Matched.concatenate([matched(records) for records in (dilepton, one_lepton)])
    sums = {}
    for name, kinds in (("tops", (6,)), ("neutrinos", _NEUTRINOS)):
        chosen = dilepton.GenPart[sum(abs(dilepton.GenPart.pdgId) == kind for kind in kinds) > 0]
        sums[name] = momenta(chosen).reshape(len(dilepton), 2, 4).sum(1)[:, 1:3]
    error = transverse(dilepton.MET) - sums["neutrinos"]
    return Response(
        bottom=_transfer(pairs[pairs.is_bottom], selection),
        light=_transfer(pairs[~pairs.is_bottom], selection),
        met_sigma=stats.width68(error.flatten()) / 2,
        recoil=fit_recoil(torch.from_numpy(sums["tops"])),
    )
