"""Momenta as amplitudes need them: of the right shape and type, finite, balanced and on their mass shells.

>>> rough = torch.tensor([[[250.0, 0, 0, 250.0], [250.0, 0, 0, -250.0], [250.0, 100.0, 0, 0], [250.0, -100.0, 0, 0]]])
>>> kinematics.mass(on_shell('gg_tt', rough.double())[0, 2:]).round(decimals=3).tolist() == [DEFAULT.m_t] * 2
True
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.amplitudes.parameters import DEFAULT, Parameters
from rewind.physics.amplitudes.processes import PROCESSES
from rewind.physics.constraints import refuse

__all__ = ["check_momenta", "check_numbers", "on_shell", "per_event", "typed"]

BALANCE = 1e-5  # of the total energy
SHELL = 1e-4  # of ŝ
AT_REST = 1e-9  # of √ŝ
NEWTON_STEPS = 40


def on_shell(process: str, momenta: Tensor, parameters: Parameters = DEFAULT) -> Tensor:
    """Return ``momenta`` ``(B, n, 4)`` with every particle on its nominal mass shell and exact balance.

    The sum of the outgoing momenta stays. In its rest frame the outgoing directions stay and all three-momenta are
    scaled by the one factor that conserves √ŝ; the incoming partons take ± the direction of the first. Raises
    InputError as `squared` does for shapes and numbers that are not finite, and where √ŝ is below the threshold.
    """
    momenta, parameters = typed(process, momenta, parameters)
    masses = _masses(process, momenta, parameters)[:, 2:]
    total = momenta[:, 2:].sum(1)
    energy = kinematics.mass(total)
    refuse(~momenta.isfinite(), "momenta", "is not finite")
    refuse(energy < masses.sum(1), "momenta", "has √ŝ below the threshold: the masses do not fit")
    p = kinematics.to_rest(momenta, total[:, None])[..., 1:]
    sizes = torch.stack([p[:, 0].norm(dim=-1), p[:, 2:].norm(dim=-1).amax(1)], 1)
    refuse(
        sizes < AT_REST * energy[:, None], "momenta", "has incoming or outgoing particles at rest: no direction to keep"
    )
    p2, scale = p[:, 2:].square().sum(-1), torch.ones_like(energy)

    def newton(scale):
        energies = (masses**2 + scale[:, None] ** 2 * p2).sqrt()
        return scale - (energies.sum(1) - energy) / (scale * (p2 / energies).sum(1))

    with torch.no_grad():
        for _ in range(NEWTON_STEPS):  # convex: from above after the first step
            scale = newton(scale)
    outgoing = newton(scale)[:, None, None] * p[:, 2:]
    direction = energy[:, None] / 2 * p[:, 0] / p[:, 0].norm(dim=-1, keepdim=True)
    p = torch.cat([direction[:, None], -direction[:, None], outgoing], 1)
    p = kinematics.with_mass(p, _masses(process, momenta, parameters))
    return kinematics.from_rest(p, total[:, None])


def typed(process: str, momenta: Tensor, parameters: Parameters) -> tuple[Tensor, Parameters]:
    """Return momenta and parameters as tensors of one type; raises InputError for what does not fit the process."""
    if process not in PROCESSES:
        raise InputError(f"process {process!r} is unknown: choose one of {', '.join(PROCESSES)}")
    momenta = torch.as_tensor(momenta)
    particles = PROCESSES[process].particles
    if momenta.ndim != 3 or momenta.shape[1:] != (len(particles), 4):
        wanted = f"(events, {len(particles)}, 4) is needed: {' '.join(particles)}"
        raise InputError(f"momenta: shape {tuple(momenta.shape)}; for {process} {wanted}")
    if momenta.dtype not in (torch.float32, torch.float64):
        raise InputError(f"momenta: {momenta.dtype}; torch.float32 or torch.float64 is needed")
    return momenta, parameters.map(lambda name, x: per_event(name, x, momenta))


def per_event(name: str, x: float | Tensor, momenta: Tensor) -> float | Tensor:
    """Return an array as a tensor in the type of ``momenta``, a number as it is; raises InputError for other shapes."""
    if not isinstance(x, int | float):
        x = torch.as_tensor(x).to(momenta)
        if x.shape not in ((), momenta.shape[:1]):
            raise InputError(f"{name}: shape {tuple(x.shape)}; () or ({len(momenta)},) is needed")
    return x


def _masses(process: str, momenta: Tensor, parameters: Parameters) -> Tensor:
    """Return the nominal masses ``(B, n)``."""
    named = {"t": parameters.m_t, "b": parameters.m_b, "h": parameters.m_h}
    masses = (named.get(name.rstrip("~"), 0.0) for name in PROCESSES[process].particles)
    return torch.stack([momenta.new_ones(len(momenta)) * m for m in masses], 1)


def check_numbers(numbers: Mapping[str, float | Tensor], least: float) -> None:
    """Raise InputError unless all ``numbers``, by name, are finite and not below ``least``."""
    for name, x in numbers.items():
        x = torch.as_tensor(x)
        if not (x.isfinite() & (x >= least)).all():
            raise InputError(f"{name}: a finite number{' that is not negative' if least == 0 else ''} is needed")


@torch.no_grad()
def check_momenta(process: str, momenta: Tensor, parameters: Parameters) -> None:
    """Raise InputError unless momenta are finite, balanced and on shell."""
    refuse(~momenta.isfinite(), "momenta", "is not finite")
    refuse(momenta[..., 0] <= 0, "momenta", "has an energy that is not positive")
    total, energy = momenta[:, :2].sum(1), momenta[..., 0].sum(1) / 2
    rest = (momenta[:, 2:].sum(1) - total).abs().amax(1)
    refuse(rest > BALANCE * energy, "momenta", f"does not balance: in − out exceeds {BALANCE:g} of the energy")
    shift = kinematics.mass_squared(momenta) - _masses(process, momenta, parameters) ** 2
    off = (shift.abs() > SHELL * kinematics.mass_squared(total)[:, None]).nonzero()
    if len(off):
        event, particle = off[0].tolist()
        name = f"particle {particle} ({PROCESSES[process].particles[particle]})"
        advice = "change the parameters or project with on_shell"
        raise InputError(f"momenta: event {event} has {name} off its mass shell by over {SHELL:g} ŝ: {advice}")
