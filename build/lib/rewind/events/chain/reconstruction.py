"""The forward chain on one batch: from Pythia's record to selected events at four levels.

>>> from rewind.events.chain.generator import generate, start
>>> from rewind.events.chain.processes import base_settings, find_process
>>> process = find_process("ttbar_dilepton")
>>> pythia = start((*base_settings(), *process.settings, "PartonLevel:MPI = off"), seed=1)
>>> pythia_events, _ = generate(pythia, 20, seed=2)
>>> events = reconstruct(pythia_events, process.selection, np.random.default_rng(3))
>>> len(events), events.fields[:3]
(20, ['Jet', 'Lepton', 'MET'])
"""

from __future__ import annotations

import awkward as ak
import numpy as np

from rewind import kinematics
from rewind.events.chain import detector, objects
from rewind.events.chain.generator import PythiaEvents
from rewind.events.chain.hard_process import find_hard_process
from rewind.events.chain.objects import Collection
from rewind.events.chain.processes import Selection

__all__ = ["reconstruct"]


def reconstruct(
    batch: PythiaEvents, selection: Selection, rng: np.random.Generator, *, keep_constituents: bool = False
) -> ak.Array:
    """Return all events of ``batch`` with flags for both levels; objects are filled where a flag may be set.

    An event whose leptons fail at both levels gets no jets. The same particles, smeared once, make the
    detector's jets, isolation and missing transverse momentum.
    """
    n_events = len(batch)
    chain = find_hard_process(batch)
    stable = np.flatnonzero(batch.status > 0)

    gen_leptons, used_by_leptons = objects.dressed_leptons(batch, stable)
    gen_leptons = gen_leptons.within(selection.lepton_pt, selection.lepton_eta)
    flow, flow_charge, leptons, is_selected = _detect(batch, stable, selection, rng)

    gen_lepton_ok = objects.passes(gen_leptons, selection, n_events)
    lepton_ok = objects.passes(leptons, selection, n_events)
    wanted = gen_lepton_ok | lepton_ok

    visible = stable[~np.isin(np.abs(batch.id[stable]), (12, 14, 16))]
    visible = visible[(np.abs(kinematics.eta(batch.p4[visible])) < detector.CALORIMETER_ETA)]
    visible = visible[wanted[batch.event[visible]] & ~np.isin(visible, used_by_leptons)]
    particles = Collection(batch.p4[visible], batch.event[visible])
    gen_jets, gen_inside = _jets(particles, gen_leptons, selection, n_events)

    clustered = wanted[flow.event] & ~is_selected
    smeared = flow[clustered]
    jets, inside = _jets(smeared, leptons, selection, n_events)

    gen_jets, jets = _with_truth(gen_jets, jets, batch, chain)
    tagged = rng.random(len(jets)) < detector.b_tag_efficiency(jets.columns["hadronFlavour"], jets.pt)
    jets.columns["btag"] = tagged.astype(np.int8)

    gen_b = gen_jets.columns["hadronFlavour"] == 5
    neutrino = stable[np.isin(np.abs(batch.id[stable]), (12, 14, 16))]
    fields = {
        "Jet": jets.records(n_events),
        "Lepton": leptons.records(n_events),
        "MET": _transverse(-_sum(flow.p4, flow.event, n_events)),
        "GenJet": gen_jets.records(n_events),
        "GenLepton": gen_leptons.records(n_events),
        "GenMET": _transverse(_sum(batch.p4[neutrino], batch.event[neutrino], n_events)),
        "GenPart": chain.last_copies(batch),
        "LHEPart": chain.les_houches(n_events),
        "Generator": _generator(batch),
        "genWeight": batch.info.weights[:, 0],
        "pass_particle": gen_lepton_ok & _enough_jets(gen_jets, gen_b, selection, n_events),
        "pass_detector": lepton_ok & _enough_jets(jets, tagged, selection, n_events),
    }
    if keep_constituents:
        fields["JetConstituent"] = _leading(jets, inside, smeared, flow_charge[clustered], n_events)
        fields["GenJetConstituent"] = _leading(gen_jets, gen_inside, particles, batch.charge(visible), n_events)
    return ak.zip(fields, depth_limit=1)


def _detect(batch, stable, selection, rng):
    """Return the energy flow, its charges, the selected leptons and which energy-flow objects those are."""
    charge = batch.charge(stable)
    seen = detector.energy_flow(batch.id[stable], batch.p4[stable], charge != 0, rng)
    source = stable[seen.source]
    flow = Collection(seen.p4, batch.event[source])
    candidate = np.flatnonzero(seen.is_lepton)
    leptons = Collection(flow.p4[candidate], flow.event[candidate], objects.lepton_columns(batch.id[source[candidate]]))
    inside = (leptons.pt > selection.lepton_pt) & (np.abs(leptons.eta) < selection.lepton_eta)
    candidate, leptons = candidate[inside], leptons[inside]
    accepted = objects.isolated(leptons, flow)
    is_selected = np.zeros(len(flow), dtype=bool)
    is_selected[candidate[accepted]] = True
    return flow, charge[seen.source], leptons[accepted].by_pt(), is_selected


def _jets(particles, leptons, selection, n_events):
    jets, inside = objects.cluster(particles, n_events, min_pt=selection.jet_pt)
    keep = np.flatnonzero(
        (np.abs(jets.eta) < selection.jet_eta) & objects.without_overlap(jets, leptons, selection.delta_r)
    )
    return jets[keep], inside[keep]


def _with_truth(gen_jets, jets, batch, chain):
    """Add flavours, the matched parton (an index into GenPart) and the matched particle jet to the jets."""
    partons, position = objects.partons(batch, chain)
    for collection in (gen_jets, jets):
        collection.columns["hadronFlavour"] = objects.hadron_flavours(collection, batch)
        local = objects.match(collection, partons)
        start = np.searchsorted(partons.event, collection.event)
        collection.columns["partonIdx"] = np.where(local < 0, -1, np.r_[position, -1][start + local])
    jets.columns["genJetIdx"] = objects.match(jets, gen_jets)
    return gen_jets, jets


def _enough_jets(jets, is_b, selection, n_events):
    return (jets.count(n_events) >= selection.n_jets) & (jets[is_b].count(n_events) >= selection.n_bjets)


def _sum(p4, event, n_events):
    return np.stack([np.bincount(event, component, minlength=n_events) for component in p4.T], axis=1)


def _transverse(p4):
    return ak.zip({"pt": kinematics.pt(p4), "phi": kinematics.phi(p4)})


def _generator(batch: PythiaEvents):
    info = batch.info
    return ak.zip(
        {
            "id1": info.id1,
            "id2": info.id2,
            "x1": info.x1,
            "x2": info.x2,
            "scalePDF": np.sqrt(info.Q2Fac),
        }
    )


def _leading(jets, inside, particles, charge, n_events):
    """Return the constituents of each event's leading jet, in falling pT."""
    _, first = np.unique(jets.event, return_index=True)
    counts = ak.to_numpy(ak.num(inside[first]))
    index = ak.to_numpy(ak.flatten(inside[first]))
    chosen = Collection(particles.p4[index], np.repeat(jets.event[first], counts), {"charge": charge[index]})
    return chosen.by_pt().records(n_events)
