"""A transformer for sets: any number of tokens in, one vector out.

>>> tokens, present = torch.randn(5, 3, 8), torch.tensor([True, True, False]).expand(5, -1)
>>> SetEncoder(8, layers=1, heads=2)(tokens, present).shape
torch.Size([5, 8])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ClassAttention", "SetEncoder"]

_MOST_GROUPS, _FEWEST_IN_GROUP = 4, 64


class ClassAttention(nn.Module):
    """Let one class token read a set, the set itself unchanged (2103.17239, sec. 3)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, token: Tensor, tokens: Tensor, absent: Tensor) -> Tensor:
        """Return the class token ``(n, 1, width)`` after it read those ``tokens`` ``(n, N, width)`` not ``absent``."""
        keys = self.norm(torch.cat([token, tokens], 1))
        ignore = torch.cat([torch.zeros_like(absent[:, :1]), absent], 1)
        token = token + self.attention(keys[:, :1], keys, keys, key_padding_mask=ignore, need_weights=False)[0]
        return token + self.feed_forward(self.norm_after(token))


class SetEncoder(nn.Module):
    """Encode a set of tokens: self-attention between them, then class attention into one vector (1706.03762).

    The result does not depend on the tokens' order, nor on what stands in absent ones.
    """

    def __init__(self, width: int, *, layers: int = 3, class_layers: int = 2, heads: int = 4):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False) if layers else None
        self.reading = nn.ModuleList(ClassAttention(width, heads) for _ in range(class_layers))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.norm = nn.LayerNorm(width)

    def tokens(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Return the tokens ``(n, N, width)`` after self-attention."""
        return tokens if self.encoder is None else self.encoder(tokens, src_key_padding_mask=~present)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Return ``(n, width)`` for ``tokens`` ``(n, N, width)`` of which those ``present`` ``(n, N)`` count.

        Sets of like size are encoded together, so that little is spent on absent tokens.
        """
        if len(tokens) == 0:
            return tokens.new_zeros(0, tokens.shape[2])
        by_size = present.sum(1).argsort()
        n_groups = min(_MOST_GROUPS, max(1, len(tokens) // _FEWEST_IN_GROUP))
        encoded = [self._read(*_packed(tokens[group], present[group])) for group in by_size.chunk(n_groups)]
        return torch.cat(encoded)[by_size.argsort()]

    def _read(self, tokens: Tensor, present: Tensor) -> Tensor:
        tokens = self.tokens(tokens, present)
        token = self.token.expand(len(tokens), -1, -1)
        for block in self.reading:
            token = block(token, tokens, ~present)
        return self.norm(token[:, 0])


def _packed(tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Move the tokens that are present to the front, and cut what no set of the group needs."""
    n_most = int(present.sum(1).max())
    front = present.long().argsort(dim=1, descending=True, stable=True)[:, :n_most]
    return tokens.gather(1, front[..., None].expand(-1, -1, tokens.shape[2])), present.gather(1, front)
