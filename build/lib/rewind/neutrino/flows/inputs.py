"""Events as networks read them: one canonical frame for all events that symmetries relate, tokens, masks.

Rotations about the beam, both reflections, and (two leptons) the exchange of t and t̄ change no density. Each event
is turned so that its leading lepton flies along the first axis, forward, with the missing momentum in the upper
half plane, its leg first; the network then never has to learn a symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import ellipse
from rewind.neutrino.dataset import MAX_JETS, Dataset
from rewind.nn.encoders import ObjectEncoder, Objects, ObjectTokens
from rewind.nn.features import event_summary, log_mass, log_own_mass, log_transverse_mass, momentum_features
from rewind.nn.transformer import SetEncoder
from rewind.physics.constraints import w_mass_roots

__all__ = ["Frame", "event_encoder", "event_tensor", "measured_objects", "solution_objects", "unpack"]

_FRAME, _PER_LEPTON, _PER_JET = 5, 5, 8
_N_SOLUTIONS = {1: 4, 2: 8}


@dataclass(frozen=True)
class Frame:
    """Hold what turns events into the canonical frame: a rotation about the beam, reflections, an exchange of legs."""

    cosine: Tensor
    sine: Tensor
    flip_y: Tensor
    flip_z: Tensor
    exchange: Tensor

    def _like(self, value: Tensor, vectors: Tensor) -> Tensor:
        return value.reshape(-1, *[1] * (vectors.ndim - 2))

    def enter(self, vectors: Tensor) -> Tensor:
        """Return three-momenta ``(B, ..., 3)`` in the canonical frame."""
        c, s, fy, fz = (self._like(v, vectors) for v in (self.cosine, self.sine, self.flip_y, self.flip_z))
        x, y, z = vectors.unbind(-1)
        return torch.stack([c * x + s * y, fy * (c * y - s * x), fz * z], -1)

    def leave(self, vectors: Tensor) -> Tensor:
        """Return three-momenta ``(B, ..., 3)`` in the laboratory's frame."""
        c, s, fy, fz = (self._like(v, vectors) for v in (self.cosine, self.sine, self.flip_y, self.flip_z))
        x, y, z = vectors.unbind(-1)
        y = fy * y
        return torch.stack([c * x - s * y, c * y + s * x, fz * z], -1)

    def by_leg(self, values: Tensor) -> Tensor:
        """Exchange the legs of ``(B, L, ...)`` where the second is to be first; its own inverse."""
        if values.shape[1] == 1:
            return values
        where = self.exchange.reshape(-1, *[1] * (values.ndim - 1)) > 0
        return torch.where(where, values.flip(1), values)


def _frame(data: Dataset) -> Frame:
    pt = kinematics.pt(data.leptons)
    leading = pt.argmax(1)
    lepton = data.leptons[torch.arange(len(data)), leading]
    pt = kinematics.pt(lepton)
    cosine, sine = lepton[:, 1] / pt, lepton[:, 2] / pt
    across = cosine * data.met[:, 1] - sine * data.met[:, 0]
    one = torch.ones_like(pt)
    return Frame(
        cosine,
        sine,
        torch.where(across < 0, -one, one),
        torch.where(lepton[:, 3] < 0, -one, one),
        leading.to(pt),
    )


def _pairings(data: Dataset, pairing: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two pairings ``(B, 2, 2)`` whose solutions are told, and which count ``(B, 2)``.

    Where a pairing is known it is the only one; elsewhere both orders of the two hardest tagged jets.
    """
    position = torch.arange(data.jets.shape[1])
    hardest = (data.btag.long() * 100 - position).topk(2, dim=1).indices
    known = (pairing >= 0).all(1)
    first = torch.where(known[:, None], pairing, hardest)
    return torch.stack([first, first.flip(1)], 1), torch.stack([torch.ones_like(known), ~known], 1)


def _double_solutions(data: Dataset, pairing: Tensor, counts: Tensor):
    bottoms = data.jets.gather(1, pairing[..., None].expand(-1, -1, 4))
    found = ellipse.solve(*data.leptons.unbind(1), *bottoms.unbind(1), data.met)
    neutrinos = torch.stack([found.neutrino, found.antineutrino], 2)
    closest = torch.stack([found.closest_neutrino, found.closest_antineutrino], 1)
    missed = ~found.is_solved & found.has_ellipse.all(1)
    first = torch.arange(4) == 0
    present = (found.valid | missed[:, None] & first) & counts[:, None]
    neutrinos = torch.where((missed[:, None] & first)[..., None, None], closest[:, None], neutrinos)
    return neutrinos, present, found.distance[:, None].nan_to_num().expand(-1, 4)


def _single_solutions(data: Dataset, pairing: Tensor, counts: Tensor):
    roots = w_mass_roots(data.leptons[:, 0], data.met)
    transverse = data.met[:, None].expand(-1, 2, -1)
    neutrinos = torch.cat([transverse, roots.pz[..., None]], -1)[:, :, None]
    different = torch.stack([torch.ones_like(roots.is_real), roots.is_real], 1)
    excess = (-roots.discriminant).clip(0).sqrt() / data.leptons[:, 0, 0]
    return neutrinos, different & counts[:, None], excess[:, None].expand(-1, 2)


def _unsolved(data: Dataset, pairing: Tensor, counts: Tensor):
    n = _N_SOLUTIONS[data.n_legs] // 2
    none = data.met.new_zeros(len(data), n)
    return data.met.new_zeros(len(data), n, data.n_legs, 3), none > 0, none


def _solutions(data: Dataset, pairing: Tensor, frame: Frame, told: bool) -> Tensor:
    """Return analytic solutions ``(B, S, 4 L + 2)``: momenta by leg, presence, miss, b jets."""
    solve = (_double_solutions if data.n_legs == 2 else _single_solutions) if told else _unsolved
    choices, counts = _pairings(data, pairing)
    twice = torch.arange(len(data)).repeat_interleave(2)
    neutrinos, present, distance = solve(data[twice], choices.flatten(0, 1), counts.flatten())
    neutrinos = torch.where(present[..., None, None], neutrinos, 0.0).unflatten(0, (len(data), 2))
    inside = frame.by_leg(frame.enter(neutrinos).movedim(3, 1)).movedim(1, 3)
    jets = frame.by_leg(choices[..., : data.n_legs].mT).mT[:, :, None].expand(-1, -1, inside.shape[2], -1)
    extra = torch.stack([present.to(inside), distance], -1).unflatten(0, (len(data), 2))
    return torch.cat([inside.flatten(3), extra, jets.to(inside)], -1).flatten(1, 2)


def event_tensor(data: Dataset, pairing: Tensor | None = None, *, solutions: bool = True) -> Tensor:
    """Return events ``(B, F)`` in the canonical frame, float32, with the frame itself in the first columns.

    ``pairing`` ``(B, 2)``, the jets taken for the b of each leg by position, is told to the network; −1 where
    nothing is known, as it is everywhere if it is None. Without ``solutions`` the analytic ones are not worked out,
    and none is present. Raises InputError for events that
    :meth:`~rewind.neutrino.dataset.Dataset.check` refuses and for a pairing with jets that are not there.
    """
    data.check()
    frame = _frame(data)
    if pairing is None:
        pairing = torch.full((len(data), 2), -1)
    if pairing.shape != (len(data), 2):
        raise InputError(f"pairing of shape {tuple(pairing.shape)}: two jets an event, ({len(data)}, 2), are expected")
    absent = (pairing >= 0) & ~data.jet_mask.gather(1, pairing.clip(0, MAX_JETS - 1)) | (pairing >= MAX_JETS)
    if absent.any():
        raise InputError(f"pairing: event {int(absent.any(1).nonzero()[0])} has no such jet")
    same = (pairing >= 0).all(1) & (pairing[:, 0] == pairing[:, 1])
    if same.any():
        raise InputError(f"pairing: event {int(same.nonzero()[0])} takes one jet twice")
    rows_of_solutions = _solutions(data, pairing, frame, solutions)
    if data.n_legs == 2:
        pairing = frame.by_leg(pairing)
    flags = (torch.arange(MAX_JETS)[:, None] == pairing[:, None]).to(data.met)

    def rows(p4, *extra):
        columns = [p4[..., :1], frame.enter(p4[..., 1:]), *(value[..., None].to(p4) for value in extra)]
        return torch.cat(columns, -1)

    leptons = rows(frame.by_leg(data.leptons), frame.by_leg(data.is_muon))
    jets = torch.cat([rows(data.jets, data.btag, data.jet_mask), flags], -1)
    met = frame.enter(torch.cat([data.met, torch.zeros_like(data.met[:, :1])], 1))[:, :2]
    columns = (frame.cosine, frame.sine, frame.flip_y, frame.flip_z, frame.exchange)
    event = [torch.stack(columns, 1), met, leptons.flatten(1), jets.flatten(1), rows_of_solutions.flatten(1)]
    return torch.cat(event, 1).float()


@dataclass(frozen=True)
class Unpacked:
    """Hold the parts of an event tensor: four-momenta (E, px, py, pz) first in each row."""

    frame: Frame
    met: Tensor
    leptons: Tensor
    jets: Tensor
    solutions: Tensor

    @property
    def present(self) -> Tensor:
        """Return which jets are there, ``(B, J)``."""
        return self.jets[..., 5] > 0


def unpack(event: Tensor, n_legs: int) -> Unpacked:
    """Return the parts of an event tensor of :func:`event_tensor`; raise InputError where it has another width."""
    per_solution = 4 * n_legs + 2
    sizes = (_FRAME, 2, n_legs * _PER_LEPTON, MAX_JETS * _PER_JET, _N_SOLUTIONS[n_legs] * per_solution)
    if event.shape[-1] != sum(sizes):
        raise InputError(f"events of {event.shape[-1]} columns: {sum(sizes)} are expected for {n_legs} leptons")
    frame, met, leptons, jets, solutions = event.split(sizes, -1)
    return Unpacked(
        Frame(*frame.unbind(-1)),
        met,
        leptons.reshape(-1, n_legs, _PER_LEPTON),
        jets.reshape(-1, MAX_JETS, _PER_JET),
        solutions.reshape(-1, _N_SOLUTIONS[n_legs], per_solution),
    )


def object_tokens(n_legs: int, width: int) -> ObjectTokens:
    """Build the tokens of what was measured: leptons, told apart by leg, jets, and the event as a whole."""
    kinds = {"lepton": 8 + n_legs, "jet": 10 + 2 * n_legs, "whole": 9}
    return ObjectTokens(width, kinds, slots={"lepton": n_legs})


def measured_objects(event: Tensor, n_legs: int) -> dict[str, Objects]:
    """Return the objects of an event tensor in the tokens' order: leptons, the whole event, jets."""
    parts = unpack(event, n_legs)
    present = parts.present
    n_jets = int(present.sum(1).max()) if len(event) else 0
    jets, present = parts.jets[:, :n_jets], present[:, :n_jets]
    leptons, p = parts.leptons[..., :4], jets[..., :4]
    whole = event_summary(parts.met, leptons, p, jets[..., 4], present, typical=(4.0, 2.0))
    return {
        "lepton": Objects.all_present(_lepton_features(parts)),
        "whole": Objects.all_present(whole[:, None]),
        "jet": Objects(_jet_features(jets, leptons), present),
    }


def _lepton_features(parts: Unpacked) -> Tensor:
    p = parts.leptons[..., :4]
    is_muon = parts.leptons[..., 4]
    columns = [*momentum_features(p), is_muon, log_transverse_mass(p, parts.met), torch.ones_like(is_muon)]
    if p.shape[1] == 2:
        columns.append(log_mass(p.sum(1, keepdim=True)).expand(-1, 2))
    return torch.stack(columns, -1)


def _jet_features(jets: Tensor, leptons: Tensor) -> Tensor:
    p = jets[..., :4]
    columns = [*momentum_features(p), log_own_mass(p), jets[..., 4], jets[..., 6], jets[..., 7]]
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
    momenta, present, distance, positions = parts.solutions.split((3 * n_legs, 1, 1, n_legs), -1)
    momenta = momenta.unflatten(-1, (n_legs, 3))
    neutrinos = torch.cat([momenta.norm(dim=-1, keepdim=True), momenta], -1)
    taken = positions.long().flatten(1)[..., None].expand(-1, -1, _PER_JET)
    bottoms = parts.jets.gather(1, taken).unflatten(1, positions.shape[1:])[..., :4]
    tops = neutrinos + parts.leptons[:, None, :, :4] + bottoms
    pair = tops.sum(2)
    by_leg = [*momentum_features(neutrinos), _log_top_mass(tops), torch.asinh(tops[..., 3] / 100)]
    by_leg = torch.stack([*by_leg, (1 + bottoms[..., 1:3].norm(dim=-1)).log() - 4], -1).flatten(2)
    of_pair = torch.stack([_log_top_mass(pair), pair[..., 3] / 500, pair[..., 1:3].norm(dim=-1) / 50], -1)
    features = torch.cat([by_leg, of_pair, present, (1 + distance).log()], -1)
    return {"solution": Objects(features, present[..., 0] > 0)}


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
