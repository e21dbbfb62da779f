"""One encoder of events: tokens of named kinds of objects, and a transformer over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rewind.nn.transformer import SetEncoder

__all__ = ["ObjectEncoder", "ObjectTokens", "Objects"]


class Objects(NamedTuple):
    """Hold the ``features`` ``(B, N, F)`` of objects of one kind, and which are ``present`` ``(B, N)``."""

    features: Tensor
    present: Tensor

    @classmethod
    def all_present(cls, features: Tensor) -> Objects:
        """Return objects of which none is missing."""
        return cls(features, torch.ones_like(features[..., 0], dtype=torch.bool))


class ObjectTokens(nn.Module):
    """Turn objects into tokens of a common ``width``: for each of several ``kinds`` a linear map of its features.

    ``kinds`` gives numbers of features. A kind in ``slots`` has so many places that are told apart: each adds a learnt
    vector of its own.

    >>> tokens = ObjectTokens(8, {"lepton": 6, "jet": 7}, slots={"lepton": 2})
    >>> leptons, jets = Objects.all_present(torch.zeros(5, 2, 6)), Objects(torch.zeros(5, 3, 7), torch.ones(5, 3) > 0)
    >>> [tuple(x.shape) for x in tokens({"lepton": leptons, "jet": jets})]
    [(5, 5, 8), (5, 5)]
    """

    def __init__(self, width: int, kinds: Mapping[str, int], *, slots: Mapping[str, int] | None = None):
        super().__init__()
        self.linear = nn.ModuleDict({kind: nn.Linear(n, width) for kind, n in kinds.items()})
        self.slots = nn.ParameterDict(
            {kind: nn.Parameter(0.1 * torch.randn(n, width)) for kind, n in (slots or {}).items()}
        )

    def forward(self, objects: Mapping[str, Objects]) -> tuple[Tensor, Tensor]:
        """Return tokens ``(B, ΣN, width)`` of those ``objects`` whose kinds are known, and which are present."""
        known = {kind: some for kind, some in objects.items() if kind in self.linear}
        tokens = [self._of(kind, *some) for kind, some in known.items()]
        return torch.cat(tokens, 1), torch.cat([some.present for some in known.values()], 1)

    def _of(self, kind: str, features: Tensor, present: Tensor) -> Tensor:
        tokens = self.linear[kind](features)
        if kind in self.slots:
            tokens = tokens + self.slots[kind]
        return tokens * present[..., None]


class ObjectEncoder(nn.Module):
    """Encode event tensors: ``read`` them into named :class:`Objects`, make tokens by ``parts``, let them exchange.

    The objects' order is that of what ``read`` returns, part by part; the encoded vector does not depend on it.
    """

    def __init__(self, read: Callable[[Tensor], Mapping[str, Objects]], *parts: ObjectTokens, transformer: SetEncoder):
        super().__init__()
        self.read, self.parts, self.transformer = read, nn.ModuleList(parts), transformer

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the names of the kinds of objects that are read."""
        return tuple(kind for part in self.parts for kind in part.linear)

    def tokens(self, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens ``(B, N, width)`` of events ``(B, F)``, and which are present ``(B, N)``."""
        objects = self.read(event)
        tokens, present = zip(*(part(objects) for part in self.parts), strict=True)
        return torch.cat(tokens, 1), torch.cat(present, 1)

    def exchanged(self, event: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens after self-attention, normalised, and which are present."""
        tokens, present = self.tokens(event)
        return self.transformer.norm(self.transformer.tokens(tokens, present)), present

    def forward(self, event: Tensor) -> Tensor:
        """Return ``(B, width)`` for events ``(B, F)``."""
        return self.transformer(*self.tokens(event))
