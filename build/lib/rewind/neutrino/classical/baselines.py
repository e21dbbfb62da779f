"""The classical methods on a :class:`~rewind.neutrino.dataset.Dataset`, called alike."""

from __future__ import annotations

import torch
from torch import Tensor

from rewind.neutrino.classical import ellipse, weighting
from rewind.neutrino.classical.jet_scale import leg_jets
from rewind.neutrino.dataset import Dataset

__all__ = ["by_ellipse", "by_weighting"]


def by_ellipse(data: Dataset, pairing: Tensor) -> tuple[Tensor, Tensor]:
    """Return one solution ``(B, 2, 3)`` and whether it is exact ``(B,)``: that of lowest m_tt, else closest approach.

    ``pairing`` ``(B, 2)`` names the jets. NaN where it is −1 and where a leg has no real ellipse.
    """
    data.require_legs(2).check()
    known = (pairing >= 0).all(1)
    bottoms = leg_jets(data, pairing)[known]
    found = ellipse.solve(*data.leptons[known].unbind(1), *bottoms.unbind(1), data.met[known])
    neutrinos = data.met.new_full((len(data), 2, 3), torch.nan)
    neutrinos[known] = torch.stack([found.closest_neutrino, found.closest_antineutrino], 1)
    solved = torch.zeros_like(known)
    solved[known] = found.is_solved
    return neutrinos, solved


def by_weighting(data: Dataset, pairing: Tensor | None = None, **options) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hypothesis of highest weight ``(B, 2, 3)``, whether there is one ``(B,)``, and its pairing ``(B, 2)``.

    All pairings of tagged jets are tried unless ``pairing`` ``(B, 2)`` names one. ``options`` go to
    :func:`rewind.neutrino.classical.weighting.solve`. NaN and −1 where no hypothesis fits or the pairing is −1.
    """
    data.require_legs(2).check()
    mask = data.btag & data.jet_mask
    if pairing is not None:
        known = (pairing >= 0).all(1)
        mask = mask & known[:, None]
        options["pairings"] = torch.where(known[:, None], pairing, torch.tensor([0, 1]))[:, None]
    found = weighting.solve(*data.leptons.unbind(1), data.jets, mask, data.met, **options)
    return torch.stack([found.neutrino, found.antineutrino], 1), found.valid, found.pairing
