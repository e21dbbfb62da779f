"""A flow over the unknowns of an event as proposal: learnt from simulation, it draws where the integrand is large."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rewind.integrate import SplineFlow
from rewind.mem.response import Response
from rewind.nn import checkpoints
from rewind.nn.preprocessing import Standardize
from rewind.nn.training import Optimization, Trainable, fit_and_save

__all__ = ["Proposal", "load_proposal", "train_proposal"]


class Proposal(Trainable):
    """Model p(u | event) of unit numbers ``(B, dims)`` given an event's features ``(B, n_features)``.

    ``response`` is what it learns from, as :meth:`Response.to_dict` writes it; ``size`` holds options of
    :class:`~rewind.integrate.flows.SplineFlow`. The share ``uniform`` of the draws is uniform, so that weights are
    bounded where the flow is wrong.
    """

    def __init__(self, dims: int, n_features: int, response: dict, *, uniform: float = 0.02, **size: int):
        super().__init__()
        self.dims, self.uniform, self.response = dims, uniform, Response.from_dict(response)
        self.scale = Standardize(n_features)
        self.flow = SplineFlow(dims, n_features, **size)

    def loss(self, batch) -> Tensor:
        """Return the negative mean log-likelihood of (unit numbers, features)."""
        points, features = batch
        return -self.flow.log_prob(points.double(), self.scale(features)).mean()

    def log_prob(self, points: Tensor, features: Tensor) -> Tensor:
        """Return the logarithm of the density ``(B,)`` of what :meth:`sample` draws."""
        inner = self.flow.log_prob(points, self.scale(features.float()))
        return ((1 - self.uniform) * inner.exp() + self.uniform).log()

    @torch.no_grad()
    def sample(self, features: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return unit numbers ``(B, n, dims)`` and the logarithm of their density ``(B, n)``."""
        many = self.scale(features.float()).repeat_interleave(n, 0)
        points, log_density = self.flow.sample(len(many), generator, many)
        even = torch.rand(len(many), self.dims + 1, generator=generator, dtype=torch.float64)
        (chosen,) = (even[:, -1] < self.uniform).nonzero(as_tuple=True)
        points[chosen] = even[chosen, :-1]
        log_density[chosen] = self.flow.log_prob(points[chosen], many[chosen])
        log_density = ((1 - self.uniform) * log_density.double().exp() + self.uniform).log()
        return points.unflatten(0, (-1, n)), log_density.unflatten(0, (-1, n))


def train_proposal(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    response: Response,
    path: str | Path | None = None,
    *,
    size: dict | None = None,
    epochs: int,
    batch_size: int = 1024,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    ema_decay: float | None = 0.999,
    seed: int = 0,
    device: str = "cpu",
    run_dir: str | Path | None = None,
) -> tuple[Proposal, dict]:
    """Return a proposal trained on unit numbers ``(B, dims)`` and features ``(B, F)``, and its record.

    ``size`` holds options of :class:`Proposal`. With ``path`` the checkpoint is written there. Raises InputError as
    :func:`rewind.nn.training.fit` does.
    """
    (points, features), rest = train, validation
    configuration = {"dims": points.shape[1], "n_features": features.shape[1], "response": response.to_dict()}
    configuration |= size or {}
    torch.manual_seed(seed)
    model = Proposal(**configuration)
    model.scale.fit(features)
    record = fit_and_save(
        model,
        (points.float(), features),
        (rest[0].float(), rest[1]),
        path,
        configuration=configuration,
        n_events=len(points),
        optimization=Optimization(learning_rate=learning_rate, weight_decay=weight_decay),
        epochs=epochs,
        batch_size=batch_size,
        ema_decay=ema_decay,
        seed=seed,
        device=device,
        run_dir=run_dir,
    )
    return model, record


def load_proposal(path: str | Path) -> Proposal:
    """Return a trained proposal; raises InputError as :func:`rewind.nn.checkpoints.load` does."""
    return checkpoints.load(path, Proposal)
