"""The classical methods on an ``EventBatch``, called alike.

>>> from rewind import events, paths
>>> data = events.load_batch(paths.locate("data/samples/ttbar_dilepton_test.root"), 2)[:20]
>>> neutrinos, is_exact = by_ellipse(data, data.truth.b_jets)
>>> tuple(neutrinos.shape), tuple(is_exact.shape)
((20, 2, 3), (20,))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rewind.errors import InputError
from rewind.events import EventBatch
from rewind.neutrino.classical import ellipse, weighting
from rewind.neutrino.classical.jet_scale import leg_jets
from rewind.random_numbers import require_generator

__all__ = ["by_ellipse", "by_weighting", "smeared_copies"]


def by_ellipse(data: EventBatch, pairing: Tensor) -> tuple[Tensor, Tensor]:
    """Return one solution ``(B, 2, 3)`` and whether it is exact ``(B,)``: that of lowest m_tt, else closest approach.

    ``pairing`` ``(B, 2)`` names the jets. NaN where it is −1 and where a leg has no real ellipse.
    """
    data.require_legs(2).check().require_tags(2)
    known = (pairing >= 0).all(1)
    bottoms = leg_jets(data, pairing)[known]
    solutions = ellipse.solve(*data.leptons[known].unbind(1), *bottoms.unbind(1), data.met[known])
    neutrinos = data.met.new_full((len(data), 2, 3), torch.nan)
    neutrinos[known] = torch.stack([solutions.closest_neutrino, solutions.closest_antineutrino], 1)
    solved = torch.zeros_like(known)
    solved[known] = solutions.is_solved
    return neutrinos, solved


def by_weighting(data: EventBatch, pairing: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hypothesis of highest weight ``(B, 2, 3)``, whether there is one ``(B,)``, and its pairing ``(B, 2)``.

    All pairings of tagged jets are tried unless ``pairing`` ``(B, 2)`` names one. ``options`` go to
    :func:`rewind.neutrino.classical.weighting.solve`. NaN and −1 where no hypothesis fits or the pairing is −1.
    """
    data.require_legs(2).check().require_tags(2)
    mask = data.btag & data.jet_mask
    if pairing is not None:
        known = (pairing >= 0).all(1)
        mask = mask & known[:, None]
        options["pairings"] = torch.where(known[:, None], pairing, torch.tensor([0, 1]))[:, None]
    best = weighting.solve(*data.leptons.unbind(1), data.jets, mask, data.met, **options)
    return torch.stack([best.neutrino, best.antineutrino], 1), best.valid, best.pairing


def smeared_copies(
    data: EventBatch, n: int, generator: torch.Generator, *, sigma: float = 10.0
) -> Iterator[EventBatch]:
    """Yield ``n`` copies of events as they might have been measured: other jets, other missing momentum.

    Jets are smeared by their resolution (:func:`~rewind.neutrino.classical.weighting.smear_jets`), the missing momentum
    takes up the difference and is smeared by ``sigma`` (GeV) in each component. Raises InputError for fewer than one
    copy and a negative ``sigma``.
    """
    require_generator(generator)
    if n < 1 or not sigma >= 0:
        raise InputError(
            f"n = {n}, sigma = {sigma}: at least one copy and a resolution that is not negative are needed"
        )
    for jets in weighting.smear_jets(data.jets, n, generator).unbind(1):
        moved = ((jets - data.jets)[..., 1:3] * data.jet_mask[..., None]).sum(1)
        noise = torch.randn(data.met.shape, generator=generator, dtype=data.met.dtype)
        yield replace(data, jets=jets, met=data.met - moved + sigma * noise)
