"""Unit numbers in which neutrinos' angles are nearly even: p_T^miss and recoil say where on its circle a neutrino is.

Once energies and masses are chosen, an angle's density is known up to the amplitude: it follows how well the neutrinos
fit p_T^miss, how rare the recoil is, and how the cross-section falls with the mass. The guide is the cumulative
distribution of that density, tabulated for every point; a flow learns what it leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rewind import kinematics
from rewind.mem.detector_model import split
from rewind.mem.integrand import Unknowns
from rewind.mem.neutrino_density import log_guess, log_guess_of_first
from rewind.nn.piecewise import PiecewiseDensity
from rewind.physics.circles import Circles, direction, equal_directions

__all__ = ["Guide", "Guided"]

_TABLE, _LINE, _FLOOR = 32, 48, 0.01  # angles in a table of two, along one; share that is even
_ROWS_AT_ONCE, _TABLES_AT_ONCE = 2048, 256  # tables that stay in a processor's cache


class Guide:
    """Change the unit numbers of ``unknowns``: those of angles become shares of their guessed density."""

    def __init__(self, unknowns: Unknowns):
        self.unknowns = unknowns

    def to_units(self, v: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unknowns' unit numbers at guided ones ``(B, dims)``, and ln ``|du/dv|`` ``(B,)``."""
        return self._change(v, row, _turned)

    def from_units(self, u: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Undo :meth:`to_units`, with the same ln ``|du/dv|``."""
        return self._change(u, row, _guided)

    def _change(self, x: Tensor, row: Tensor, move) -> tuple[Tensor, Tensor]:
        parts = [self._some(*part, move) for part in zip(x.split(_ROWS_AT_ONCE), row.split(_ROWS_AT_ONCE), strict=True)]
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    def _some(self, x: Tensor, row: Tensor, move) -> tuple[Tensor, Tensor]:
        curves, visible, met = self._curves(x, row)
        out, log_slope, chosen = x.clone(), torch.zeros_like(x[:, 0]), None
        for leg, place in enumerate(self.unknowns.turns):
            density = PiecewiseDensity.on_circle(self._log_values(curves, visible, met, chosen), _FLOOR)
            turn, out[:, place] = move(density, x[:, place])
            slope = density.to_uniform(turn)[1]
            log_slope = log_slope - slope.log()
            chosen = (curves[:, leg] @ direction(2 * torch.pi * turn.to(curves))[..., None]).mT
        return out, log_slope

    def _curves(self, x: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return curves of neutrinos ``(B, L, 3, 3)``, zero where there is none, the visible sum, and p_T^miss."""
        start, topology = x.clone(), self.unknowns.topology
        start[:, self.unknowns.turns] = 0.0
        partons = self.unknowns.points(start, row).partons
        lepton, neutrino = partons[:, topology.leptons], partons[:, topology.neutrinos]
        bottom = partons[:, topology.bottoms[: len(topology.leptons)]]
        circles = Circles.of(lepton, bottom)
        w = kinematics.mass_squared(lepton + neutrino)
        excess = kinematics.mass_squared(lepton + neutrino + bottom) - circles.least_m_top_squared(w)
        curves = circles.curve(w, excess.clip(0.0)).nan_to_num(0.0)
        visible = (partons.sum(1) - neutrino.sum(1)).nan_to_num(0.0)
        return curves.float(), visible.float(), split(row, topology).met.float()

    def _log_values(self, curves: Tensor, visible: Tensor, met: Tensor, first: Tensor | None) -> Tensor:
        """Return the guessed log-density of an angle ``(B, n)``: the first one's, or with ``first`` the other's."""
        response = self.unknowns.response
        if first is not None:
            second = curves[:, 1] @ equal_directions(_LINE, curves)
            return log_guess(response, visible, met, first.mT, second)[:, 0]
        if curves.shape[1] == 1:
            return log_guess(response, visible, met, curves[:, 0] @ equal_directions(_LINE, curves))[..., 0]
        one, two = (curves[:, leg] @ equal_directions(_TABLE, curves) for leg in range(2))
        parts = zip(*(values.split(_TABLES_AT_ONCE) for values in (visible, met, one, two)), strict=True)
        return torch.cat([log_guess_of_first(response, *part) for part in parts])


def _turned(density: PiecewiseDensity, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angle in turns at a share of its density, twice: it is also what comes out."""
    turn = density.from_uniform(share)
    return turn, turn


def _guided(density: PiecewiseDensity, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Return an angle in turns, and its share of the density, which comes out."""
    return turn, density.to_uniform(turn)[0]


class Guided:
    """The integrand of guided unit numbers: another one to integrate, of the same integral."""

    def __init__(self, unknowns: Unknowns):
        self.unknowns, self.guide, self.dims = unknowns, Guide(unknowns), unknowns.dims

    def polynomial(self, v: Tensor, row: Tensor) -> Tensor:
        """Return the integrand's coefficients ``(B, K)`` at guided numbers ``(B, dims)`` for rows ``(B, R)``."""
        u, log_slope = self.guide.to_units(v, row)
        return self.unknowns.polynomial(u, row) * log_slope.exp()[:, None]
