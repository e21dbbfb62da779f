"""Phase-space maps as channels of one integral: their unit numbers in terms of those of a common reference map."""

from __future__ import annotations

from torch import Tensor

from rewind.errors import InputError
from rewind.physics.phase_space.rambo import RamboOnDiet
from rewind.physics.phase_space.trees import DecayTree

__all__ = ["Channel"]


class Channel:
    """Change variables from the unit numbers of ``source`` to those of ``reference`` at the same momenta.

    Both maps give momenta of the same particles at ``sqrt_s``, a number in GeV. As dΦ = w du on either side,
    ``|dr/du|`` is the ratio of their weights. Raises InputError for maps of different particles.
    """

    def __init__(self, source: DecayTree | RamboOnDiet, reference: RamboOnDiet | DecayTree, sqrt_s: float):
        if source.masses.tolist() != reference.masses.tolist():
            raise InputError(f"channel: masses {source.masses.tolist()} there, {reference.masses.tolist()} here")
        self.source, self.reference, self.sqrt_s = source, reference, sqrt_s

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reference's numbers ``(B, 3n − 4)`` at ``u`` of the source, and ``|dr/du|`` ``(B,)``."""
        return _between(self.source, self.reference, u, self.sqrt_s)

    def inverse(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return the source's numbers at ``r`` of the reference, and the same ``|dr/du|``."""
        u, jacobian = _between(self.reference, self.source, r, self.sqrt_s)
        return u, 1 / jacobian


def _between(start, end, numbers: Tensor, sqrt_s: float) -> tuple[Tensor, Tensor]:
    momenta, weight = start.forward(numbers, sqrt_s)
    found, other = end.inverse(momenta)
    return found, weight / other
