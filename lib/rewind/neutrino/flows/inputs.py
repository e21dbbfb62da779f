"""Events as neutrino networks read them: in the canonical frame, packed by one named layout, unpacked into objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.events import Block, EventBatch, Frame, Layout, canonical_blocks, canonical_frame, event_layout
from rewind.neutrino.classical import ellipse
from rewind.nn.encoders import ObjectEncoder, Objects, ObjectTokens
from rewind.nn.features import event_summary, log_mass, log_own_mass, log_transverse_mass, momentum_features
from rewind.nn.transformer import SetEncoder
from rewind.physics.constraints import w_mass_roots

__all__ = [
    "MAX_JETS",
    "EventParts",
    "event_encoder",
    "event_tensor",
    "measured_objects",
    "neutrino_layout",
    "solution_objects",
    "unpack",
]

MAX_JETS = 10
"""Places for jets in an event tensor."""

_N_SOLUTIONS = {1: 4, 2: 8}


@cache
def neutrino_layout(n_legs: int) -> Layout:
    """Return the layout of event tensors: what was measured, the jets told for each leg, and analytic solutions.

    >>> list(neutrino_layout(2).blocks)
    ['frame', 'met', 'leptons', 'jets', 'solutions']
    """
    of_solutions = {"neutrinos": (n_legs, 3), "present": (), "miss": (), "jets": (n_legs,)}
    solutions = Block(of_solutions, rows=_N_SOLUTIONS[n_legs])
    return event_layout(n_legs, MAX_JETS, of_jets={"told": (2,)}, solutions=solutions)


def _pairings(data: EventBatch, pairing: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two pairings ``(B, 2, 2)`` whose solutions are told, and which count ``(B, 2)``.

    Where a pairing is known it is the only one; elsewhere both orders of the two hardest tagged jets.
    """
    position = torch.arange(data.jets.shape[1])
    hardest = (data.btag.long() * 100 - position).topk(2, dim=1).indices
    known = (pairing >= 0).all(1)
    first = torch.where(known[:, None], pairing, hardest)
    return torch.stack([first, first.flip(1)], 1), torch.stack([torch.ones_like(known), ~known], 1)


def _double_solutions(data: EventBatch, pairing: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    bottoms = data.jets.gather(1, pairing[..., None].expand(-1, -1, 4))
    solved = ellipse.solve(*data.leptons.unbind(1), *bottoms.unbind(1), data.met)
    neutrinos = torch.stack([solved.neutrino, solved.antineutrino], 2)
    closest = torch.stack([solved.closest_neutrino, solved.closest_antineutrino], 1)
    missed = ~solved.is_solved & solved.has_ellipse.all(1)
    first = torch.arange(4) == 0
    present = (solved.valid | missed[:, None] & first) & counts[:, None]
    neutrinos = torch.where((missed[:, None] & first)[..., None, None], closest[:, None], neutrinos)
    return neutrinos, present, solved.distance[:, None].nan_to_num().expand(-1, 4)


def _single_solutions(data: EventBatch, pairing: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    roots = w_mass_roots(data.leptons[:, 0], data.met)
    transverse = data.met[:, None].expand(-1, 2, -1)
    neutrinos = torch.cat([transverse, roots.pz[..., None]], -1)[:, :, None]
    different = torch.stack([torch.ones_like(roots.is_real), roots.is_real], 1)
    excess = (-roots.discriminant).clip(0).sqrt() / data.leptons[:, 0, 0]
    return neutrinos, different & counts[:, None], excess[:, None].expand(-1, 2)


def _unsolved(data: EventBatch, pairing: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n = _N_SOLUTIONS[data.n_legs] // 2
    none = data.met.new_zeros(len(data), n)
    return data.met.new_zeros(len(data), n, data.n_legs, 3), none > 0, none


def _solutions(data: EventBatch, pairing: Tensor, frame: Frame, told: bool) -> dict[str, Tensor]:
    """Return the layout's block of analytic solutions; if they are not ``told`` none is present."""
    solve = (_double_solutions if data.n_legs == 2 else _single_solutions) if told else _unsolved
    choices, counts = _pairings(data, pairing)
    twice = torch.arange(len(data)).repeat_interleave(2)
    neutrinos, present, miss = solve(data[twice], choices.flatten(0, 1), counts.flatten())
    neutrinos = torch.where(present[..., None, None], neutrinos, 0.0).unflatten(0, (len(data), 2))
    inside = frame.by_leg(frame.enter(neutrinos).movedim(3, 1)).movedim(1, 3)
    jets = frame.by_leg(choices[..., : data.n_legs].mT).mT[:, :, None].expand(-1, -1, inside.shape[2], -1)
    present, miss = (values.unflatten(0, (len(data), 2)) for values in (present, miss))
    block = {"neutrinos": inside, "present": present, "miss": miss, "jets": jets}
    return {name: values.flatten(1, 2) for name, values in block.items()}


def _checked_pairing(data: EventBatch, pairing: Tensor | None) -> Tensor:
    if pairing is None:
        return torch.full((len(data), 2), -1)
    if pairing.shape != (len(data), 2):
        raise InputError(f"pairing of shape {tuple(pairing.shape)}: two jets an event, ({len(data)}, 2), are expected")
    beyond = pairing >= MAX_JETS
    absent = (pairing >= 0) & ~data.jet_mask.gather(1, pairing.clip(0, MAX_JETS - 1)) | beyond
    if absent.any():
        raise InputError(f"pairing: event {int(absent.any(1).nonzero()[0])} has no such jet")
    same = (pairing >= 0).all(1) & (pairing[:, 0] == pairing[:, 1])
    if same.any():
        raise InputError(f"pairing: event {int(same.nonzero()[0])} takes one jet twice")
    return pairing


def event_tensor(data: EventBatch, pairing: Tensor | None = None, *, solutions: bool = True) -> Tensor:
    """Return events ``(B, F)`` of :func:`neutrino_layout`, in the canonical frame, float32.

    ``pairing`` ``(B, 2)``, the jets taken for the b of each leg by position, is told to the network; −1 where
    nothing is known, as it is everywhere if it is None. Without ``solutions`` the analytic ones are not worked out,
    and none is present. Raises InputError for events that ``EventBatch.check`` refuses, with fewer
    than two tagged jets or more than ``MAX_JETS`` jets (``data.with_jets(MAX_JETS)`` leaves some out), and for a
    pairing with jets that are not there.
    """
    data = data.check().require_jets(1).require_tags(2).padded(MAX_JETS)
    pairing, frame = _checked_pairing(data, pairing), canonical_frame(data)
    blocks = canonical_blocks(data, frame)
    blocks["solutions"] = _solutions(data, pairing, frame, solutions)
    told = frame.by_leg(pairing) if data.n_legs == 2 else pairing
    blocks["jets"]["told"] = torch.arange(MAX_JETS)[:, None] == told[:, None]
    return neutrino_layout(data.n_legs).pack(blocks)


@dataclass(frozen=True)
class EventParts:
    """Hold the parts of event tensors of ``L`` legs, ``J`` jets and ``S`` solutions, in the canonical frame.

    ``met`` ``(n, 2)``, ``leptons`` ``(n, L, 4)``, ``is_muon`` ``(n, L)``, ``jets`` ``(n, J, 4)``, ``btag, present``
    ``(n, J)``, ``told`` ``(n, J, 2)``, 1 for the jet told for a leg. ``solutions`` are the layout's fields by name.
    """

    frame: Frame
    met: Tensor
    leptons: Tensor
    is_muon: Tensor
    jets: Tensor
    btag: Tensor
    present: Tensor
    told: Tensor
    solutions: dict[str, Tensor]

    @property
    def is_told(self) -> Tensor:
        """Say ``(n,)`` in which events a pairing is told."""
        return self.told.sum((1, 2)) > 0


def unpack(event: Tensor, n_legs: int) -> EventParts:
    """Return the parts of an event tensor of :func:`event_tensor`; raise InputError where it has another width."""
    blocks = neutrino_layout(n_legs).unpack(event)
    jets = blocks["jets"]
    return EventParts(
        Frame.from_columns(blocks["frame"]),
        blocks["met"]["momentum"],
        blocks["leptons"]["momentum"],
        blocks["leptons"]["is_muon"],
        jets["momentum"],
        jets["btag"],
        jets["mask"] > 0,
        jets["told"],
        blocks["solutions"],
    )


def object_tokens(n_legs: int, width: int) -> ObjectTokens:
    """Build the tokens of what was measured: leptons, told apart by leg, jets, and the event as a whole."""
    kinds = {"lepton": 8 + n_legs, "jet": 10 + 2 * n_legs, "whole": 9}
    return ObjectTokens(width, kinds, slots={"lepton": n_legs})


def measured_objects(event: Tensor, n_legs: int) -> dict[str, Objects]:
    """Return the objects of an event tensor in the tokens' order: leptons, the whole event, jets."""
    parts = unpack(event, n_legs)
    n_jets = int(parts.present.sum(1).max()) if len(event) else 0
    p, btag, present, told = (values[:, :n_jets] for values in (parts.jets, parts.btag, parts.present, parts.told))
    whole = event_summary(parts.met, parts.leptons, p, btag, present, typical=(4.0, 2.0))
    return {
        "lepton": Objects.all_present(_lepton_features(parts)),
        "whole": Objects.all_present(whole[:, None]),
        "jet": Objects(_jet_features(p, btag, told, parts.leptons), present),
    }


def _lepton_features(parts: EventParts) -> Tensor:
    p, is_muon = parts.leptons, parts.is_muon
    columns = [*momentum_features(p), is_muon, log_transverse_mass(p, parts.met), torch.ones_like(is_muon)]
    if p.shape[1] == 2:
        columns.append(log_mass(p.sum(1, keepdim=True)).expand(-1, 2))
    return torch.stack(columns, -1)


def _jet_features(p: Tensor, btag: Tensor, told: Tensor, leptons: Tensor) -> Tensor:
    columns = [*momentum_features(p), log_own_mass(p), btag, *told.unbind(-1)]
    columns += [log_mass(one[:, None] + p) for one in leptons.unbind(1)]
    eta, azimuth = torch.asinh(p[..., 3] / p[..., 1:3].norm(dim=-1).clip(1e-3)), kinematics.phi(p)
    for one in leptons.unbind(1):
        d_eta = eta - kinematics.eta(one)[:, None]
        d_phi = kinematics.delta_phi(azimuth, kinematics.phi(one)[:, None])
        columns.append((d_eta**2 + d_phi**2 + 1e-6).sqrt())
    return torch.stack(columns, -1)


def solution_tokens(n_legs: int, width: int) -> ObjectTokens:
    """Build the tokens of analytic solutions."""
    return ObjectTokens(width, {"solution": 9 * n_legs + 5})


def solution_objects(event: Tensor, n_legs: int) -> dict[str, Objects]:
    """Return the analytic solutions of an event tensor, with the tops that they make."""
    parts = unpack(event, n_legs)
    solutions = parts.solutions
    neutrinos, present = kinematics.massless(solutions["neutrinos"]), solutions["present"]
    taken = solutions["jets"].long().flatten(1)[..., None].expand(-1, -1, 4)
    bottoms = parts.jets.gather(1, taken).unflatten(1, solutions["jets"].shape[1:])
    tops = neutrinos + parts.leptons[:, None] + bottoms
    pair = tops.sum(2)
    by_leg = [*momentum_features(neutrinos), _log_top_mass(tops), torch.asinh(tops[..., 3] / 100)]
    by_leg = torch.stack([*by_leg, (1 + bottoms[..., 1:3].norm(dim=-1)).log() - 4], -1).flatten(2)
    of_pair = [_log_top_mass(pair), pair[..., 3] / 500, pair[..., 1:3].norm(dim=-1) / 50]
    of_pair = torch.stack([*of_pair, present, (1 + solutions["miss"]).log()], -1)
    return {"solution": Objects(torch.cat([by_leg, of_pair], -1), present > 0)}


def _log_top_mass(p: Tensor) -> Tensor:
    return 0.5 * (p[..., 0] ** 2 - (p[..., 1:] ** 2).sum(-1)).clip(1).log() - 5


def _objects(event: Tensor, *, n_legs: int, solutions: bool) -> dict[str, Objects]:
    measured = measured_objects(event, n_legs)
    return measured | solution_objects(event, n_legs) if solutions else measured


def event_encoder(
    n_legs: int, *, width: int, layers: int, class_layers: int = 2, solutions: bool = False
) -> ObjectEncoder:
    """Build an encoder of event tensors, one that reads the analytic ``solutions`` as well if they are to be told."""
    parts = [object_tokens(n_legs, width)]
    if solutions:
        parts.append(solution_tokens(n_legs, width))
    transformer = SetEncoder(width, layers=layers, class_layers=class_layers)
    return ObjectEncoder(partial(_objects, n_legs=n_legs, solutions=solutions), *parts, transformer=transformer)
