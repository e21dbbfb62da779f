"""One batch of events: what a detector saw of them as tensors with named fields, and the truth beside it.

Legs come in a fixed order. With two leptons it is (ℓ⁺, ℓ⁻), so (t → b ℓ⁺ν, t̄ → b̄ ℓ⁻ν̄); with one it is the top that
decays to the lepton, whichever its charge, and then the other. Momenta (E, px, py, pz) in GeV, float64.

>>> momentum = torch.tensor([[[50.0, 30.0, 40.0, 0.0]]], dtype=torch.float64)
>>> there = torch.ones(1, 1, dtype=torch.bool)
>>> one = torch.ones(1, dtype=torch.float64)
>>> batch = EventBatch(momentum, there, one[:, None], momentum.flip(1), there, there, momentum[:, 0, 1:3], one)
>>> batch.with_jets(4).jets.shape, batch.truth is None, batch.check().n_legs
(torch.Size([1, 4, 4]), True, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor, nn

from rewind import kinematics
from rewind.errors import InputError
from rewind.events.batch.columns import Columns

__all__ = ["ROLES", "EventBatch", "Truth"]

ROLES = ("b of first leg", "b of second leg", "W", "H")
"""What a jet may stem from; both quarks of a W boson are one role, and so are those of the Higgs boson."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Truth(Columns):
    """Hold what a simulation knows of ``B`` events with ``L`` leptons; None where a sample does not tell.

    Where an event does not tell, momenta are NaN and positions −1. ``neutrinos`` ``(B, L, 3)`` and ``leptons``
    ``(B, L, 4)`` are the decay products of the W bosons, the lepton with all photons that it then radiates; ``tops``
    ``(B, 2, 4)``, by leg, and ``higgs`` ``(B, 4)`` the last copies, after all radiation and before decay. ``b_jets``
    ``(B, 2)`` are the positions of the jets that match each leg's b quark, ``jet_roles`` ``(B, J)`` the places in
    ``ROLES`` of the quarks that jets match.
    """

    neutrinos: Tensor | None = None
    leptons: Tensor | None = None
    tops: Tensor | None = None
    higgs: Tensor | None = None
    b_jets: Tensor | None = None
    jet_roles: Tensor | None = None

    def is_known(self, name: str) -> Tensor | None:
        """Say ``(B,)`` in which events the field ``name`` is known; None where the sample does not tell.

        Momenta must all be finite; of positions one is enough, for the other jets may stem from nothing.
        """
        values = getattr(self, name)
        if values is None:
            return None
        return values.isfinite().flatten(1).all(1) if values.is_floating_point() else (values >= 0).any(1)

    def unknown(self, n: int) -> Self:
        """Return the same fields for ``n`` events of which nothing is known."""
        return self.map(
            lambda values: values.new_full((n, *values.shape[1:]), torch.nan if values.is_floating_point() else -1)
        )


@dataclass(frozen=True)
class EventBatch(Columns):
    """Hold ``B`` events with ``L`` leptons (1 or 2) and at most ``J`` jets.

    ``leptons`` ``(B, L, 4)`` by leg, ``is_muon`` and ``charge`` ``(B, L)``; ``jets`` ``(B, J, 4)`` in falling pT, zero
    where ``jet_mask`` ``(B, J)`` is false, ``btag`` ``(B, J)``; ``met`` ``(B, 2)``; ``weight`` ``(B,)``, which may be
    negative; ``truth`` where there is any.
    """

    leptons: Tensor
    is_muon: Tensor
    charge: Tensor
    jets: Tensor
    jet_mask: Tensor
    btag: Tensor
    met: Tensor
    weight: Tensor
    truth: Truth | None = None

    @property
    def n_legs(self) -> int:
        """Return the number of leptons, and of neutrinos."""
        return self.leptons.shape[1]

    @property
    def n_jets(self) -> Tensor:
        """Return the number of jets ``(B,)``."""
        return self.jet_mask.sum(1)

    @property
    def matched(self) -> Tensor:
        """Say ``(B,)`` in which events b-tagged jets match the b quarks of both legs; no event without such truth."""
        if self.truth is None or self.truth.b_jets is None:
            return torch.zeros_like(self.jet_mask[:, 0])
        known = (self.truth.b_jets >= 0).all(1)
        return known & self.btag.gather(1, self.truth.b_jets.clip(0)).all(1)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the events of all ``parts``, with places for the most jets of any.

        Truth that only some of them tell is unknown in the others.
        """
        numbers = sorted({part.n_legs for part in parts})
        if len(numbers) != 1:
            raise InputError(
                f"{len(parts)} parts with {numbers} leptons: one part at least, and one number, are needed"
            )
        most = max(part.jets.shape[1] for part in parts)
        parts = [part.padded(most) for part in parts]
        told = [part.truth for part in parts if part.truth is not None]
        example = {name: values for truth in reversed(told) for name, values in truth.known().items()}
        if not told:
            return super().concatenate(parts)
        filled = []
        for part in parts:
            blank = Truth(**example).unknown(len(part))
            known = {} if part.truth is None else part.truth.known()
            filled.append(replace(part, truth=replace(blank, **known)))
        return super().concatenate(filled)

    def padded(self, n_jets: int) -> Self:
        """Return the events with places for ``n_jets`` jets; raise InputError where an event has more."""
        return self.require_at_most(n_jets).with_jets(n_jets)

    def with_jets(self, n_jets: int) -> Self:
        """Return the events with places for ``n_jets`` jets.

        Of more, the b-tagged ones are kept, and of the others those of the highest pT. A jet that is gone matches
        nothing.
        """
        more = n_jets - self.jets.shape[1]
        if more == 0:
            return self
        if more > 0:
            return self._with_more_places(more)
        first = (2 * self.jet_mask.long() + (self.btag & self.jet_mask).long()).argsort(
            dim=1, descending=True, stable=True
        )
        kept = first[:, :n_jets].sort(1).values
        kept = kept.gather(1, (~self.jet_mask.gather(1, kept)).long().argsort(dim=1, stable=True))
        values = {name: getattr(self, name).gather(1, kept) for name in ("jet_mask", "btag")}
        jets = self.jets.gather(1, kept[..., None].expand(-1, -1, 4))
        return replace(self, jets=jets, **values, truth=None if self.truth is None else self._truth_of(kept))

    def _with_more_places(self, more: int) -> Self:
        truth = self.truth
        if truth is not None and truth.jet_roles is not None:
            truth = replace(truth, jet_roles=nn.functional.pad(truth.jet_roles, (0, more), value=-1))
        flags = {name: nn.functional.pad(getattr(self, name), (0, more)) for name in ("jet_mask", "btag")}
        return replace(self, jets=nn.functional.pad(self.jets, (0, 0, 0, more)), **flags, truth=truth)

    def _truth_of(self, kept: Tensor) -> Truth:
        """Return the truth where only the jets at positions ``kept`` ``(B, n)`` are left."""
        changed = {}
        if self.truth.jet_roles is not None:
            changed["jet_roles"] = self.truth.jet_roles.gather(1, kept)
        if self.truth.b_jets is not None:
            same = kept[:, None] == self.truth.b_jets[..., None]
            changed["b_jets"] = torch.where(same.any(2), same.long().argmax(2), -1)
        return replace(self.truth, **changed)

    def check(self) -> Self:
        """Return self; raise InputError for shapes that do not fit, and for the first event that no method can use."""
        self._check_shapes()
        jet_p, lepton_p = self.jets[..., 1:].norm(dim=-1), self.leptons[..., 1:].norm(dim=-1)
        absent = ~self.jet_mask
        faults = {
            "a momentum or the missing momentum is not finite": ~(
                self.leptons.isfinite().flatten(1).all(1)
                & self.jets.isfinite().flatten(1).all(1)
                & self.met.isfinite().all(1)
            ),
            "the weight is not finite": ~self.weight.isfinite(),
            "a lepton has no momentum": (lepton_p == 0).any(1),
            "a jet has no momentum": ((jet_p == 0) & self.jet_mask).any(1),
            "a lepton has E < |p|": _unphysical(self.leptons[..., 0], lepton_p).any(1),
            "a jet has E < |p|": (_unphysical(self.jets[..., 0], jet_p) & self.jet_mask).any(1),
            "a lepton or jet is along the beam": (kinematics.pt(self.leptons) == 0).any(1)
            | ((kinematics.pt(self.jets) == 0) & self.jet_mask).any(1),
            "an absent jet stands before a present one": (self.jet_mask[:, 1:] & absent[:, :-1]).any(1),
            "both leptons are identical": (self.leptons[:, :1] == self.leptons[:, 1:]).all(2).any(1),
        }
        return self.refuse(faults)

    def _check_shapes(self) -> None:
        n, n_legs, n_jets = len(self), self.n_legs, self.jets.shape[1]
        if n_legs not in (1, 2):
            raise InputError(f"{n_legs} leptons: 1 or 2 are needed")
        shapes = {name: (n, n_legs) for name in ("is_muon", "charge")} | {"leptons": (n, n_legs, 4)}
        shapes |= {name: (n, n_jets) for name in ("jet_mask", "btag")} | {"jets": (n, n_jets, 4)}
        shapes |= {"met": (n, 2), "weight": (n,)}
        self._require_shapes(self, shapes)
        if self.truth is not None:
            shapes = {"neutrinos": (n, n_legs, 3), "leptons": (n, n_legs, 4), "tops": (n, 2, 4), "higgs": (n, 4)}
            self._require_shapes(self.truth, shapes | {"b_jets": (n, 2), "jet_roles": (n, n_jets)}, "true ")

    @staticmethod
    def _require_shapes(columns: Columns, shapes: dict[str, tuple[int, ...]], what: str = "") -> None:
        for name, values in columns.known().items():
            if name in shapes and tuple(values.shape) != shapes[name]:
                raise InputError(f"{what}{name}: shape {tuple(values.shape)}; {shapes[name]} is needed")

    def require_legs(self, n: int) -> Self:
        """Return self; raise InputError where events do not have ``n`` leptons."""
        if self.n_legs != n:
            raise InputError(f"events with {self.n_legs} leptons: {n} are needed here")
        return self

    def require_jets(self, n: int) -> Self:
        """Return self; raise InputError where an event has fewer than ``n`` jets."""
        what = "there is no jet" if n == 1 else f"fewer than {n} jets"
        return self.refuse({what: self.n_jets < n})

    def require_tags(self, n: int) -> Self:
        """Return self; raise InputError where an event has fewer than ``n`` b-tagged jets."""
        return self.refuse({f"fewer than {n} jets are b-tagged": (self.btag & self.jet_mask).sum(1) < n})

    def require_at_most(self, n_jets: int) -> Self:
        """Return self; raise InputError where an event has more than ``n_jets`` jets."""
        counts = self.n_jets
        if (counts > n_jets).any():
            event = int((counts > n_jets).nonzero()[0])
            raise InputError(
                f"event {event}: {int(counts[event])} jets, more than the {n_jets} that were seen in training; "
                "drop the event or train with more"
            )
        return self

    def require_truth(self, *names: str) -> Truth:
        """Return the truth; raise InputError where one of its fields ``names`` is unknown.

        Momenta must be known in every event, positions in one at least: no jet need match.
        """
        every = [field.name for field in fields(Truth)]
        if unknown := [name for name in names if name not in every]:
            raise InputError(f"truth has no field {', '.join(unknown)}: it has {', '.join(every)}")
        truth = Truth() if self.truth is None else self.truth
        for name in names if len(self) else ():
            known = truth.is_known(name)
            n_unknown = len(self) if known is None else int((~known).sum())
            if n_unknown == len(self) or (n_unknown and getattr(truth, name).is_floating_point()):
                raise InputError(
                    f"{n_unknown} of {len(self)} events have no true {name.replace('_', ' ')}: training and scores "
                    "need them, sampling does not"
                )
        return truth


def _unphysical(energy: Tensor, momentum: Tensor) -> Tensor:
    return energy < momentum * (1 - _ROUNDING)
