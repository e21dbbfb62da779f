"""Draws of an autoregressive spline flow at the cost of one evaluation of its density.

A masked network is built so that each hidden unit sees only the first few features. In the order of features a unit can
therefore be computed once, as soon as these are known, where a plain inversion evaluates the whole network
for every feature.

>>> from rewind.nn.flows import draw, spline_flow
>>> flow, context = spline_flow(3, 2, layers=1, hidden=8), torch.zeros(5, 2)
>>> with torch.no_grad():
...     both = [draws(flow, context, torch.Generator().manual_seed(1)) for draws in (sample, draw)]
>>> torch.allclose(*both, atol=1e-5)
True
"""

from __future__ import annotations

from typing import Any

import normflows as nf
import torch
from torch import Tensor
from torch.nn import functional

from rewind.nn.flows import base_noise

__all__ = ["sample"]


def sample(flow: nf.ConditionalNormalizingFlow, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return one draw ``(n, D)`` for each ``context`` ``(n, C)`` of a :func:`rewind.nn.flows.spline_flow`.

    The same draws, up to rounding, as from :func:`rewind.nn.flows.draw` with that ``generator``.
    """
    z = base_noise(flow, len(context), generator)
    for layer in flow.flows:
        if isinstance(layer, nf.flows.AutoregressiveRationalQuadraticSpline):
            z = _Sequential(layer.mprqat)(z, context)
        else:
            z = layer(z, context=context)[0]
    return z


class _Sequential:
    """Hold a masked network with its hidden units sorted by how many features they see."""

    def __init__(self, transform: Any):
        net = transform.autoregressive_net
        self.transform, self.net = transform, net
        degrees = net.initial_layer.degrees
        self.order = degrees.argsort(stable=True)
        self.ends = [int((degrees <= k).sum()) for k in range(int(degrees.max()) + 1)]
        self.first = self._sorted(net.initial_layer, columns=False)
        self.inner = [self._sorted(linear) for block in net.blocks for linear in block.linear_layers]
        self.last = net.final_layer.weight[:, self.order], net.final_layer.bias
        self.rows = transform._output_dim_multiplier()

    def _sorted(self, linear, columns: bool = True) -> tuple[Tensor, Tensor]:
        weight = (linear.weight * linear.mask)[self.order]
        return weight[:, self.order] if columns else weight, linear.bias[self.order]

    def __call__(self, z: Tensor, context: Tensor) -> Tensor:
        """Return the inverse ``(n, D)`` of the transform at ``z``."""
        shift = self.net.context_layer(context)[:, self.order]
        gates = [block.context_layer(context)[:, self.order].sigmoid() for block in self.net.blocks]
        x, hidden = torch.zeros_like(z), [torch.zeros_like(shift) for _ in range(len(self.inner) + 1)]
        for k in range(z.shape[1]):
            if k:
                self._advance(slice(self.ends[k - 1], self.ends[k]), x, hidden, shift, gates)
            x[:, k] = self._feature(k, z[:, k : k + 1], hidden[-1])
        return x

    def _advance(self, new: slice, x: Tensor, hidden: list[Tensor], shift: Tensor, gates: list[Tensor]) -> None:
        """Compute those units that see one feature more; ``hidden`` is updated in place."""
        weight, bias = self.first
        hidden[0][:, new] = functional.linear(x, weight[new], bias[new]) + shift[:, new]
        for i, gate in enumerate(gates):
            begin, middle, end = 2 * i, 2 * i + 1, 2 * i + 2
            hidden[middle][:, new] = self._linear(begin, new, hidden[begin])
            hidden[end][:, new] = hidden[begin][:, new] + self._linear(middle, new, hidden[middle]) * gate[:, new]

    def _linear(self, i: int, new: slice, values: Tensor) -> Tensor:
        weight, bias = self.inner[i]
        seen = self.net.blocks[0].activation(values[:, : new.stop])
        return functional.linear(seen, weight[new, : new.stop], bias[new])

    def _feature(self, k: int, z: Tensor, hidden: Tensor) -> Tensor:
        weight, bias = self.last
        rows, seen = slice(k * self.rows, (k + 1) * self.rows), self.ends[k]
        parameters = functional.linear(hidden[:, :seen], weight[rows, :seen], bias[rows])
        return self.transform._elementwise_inverse(z, parameters)[0][:, 0]
