"""One convention for random numbers: ``generator=``, a torch generator that the caller seeded.

``rng=``, a NumPy generator, stands only where NumPy is all there is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rewind.errors import InputError

__all__ = ["optional_generator", "require_generator", "require_rng"]


def require_generator(generator: Any) -> torch.Generator:
    """Return ``generator``; raise InputError for anything but a torch generator.

    >>> require_generator(torch.Generator().manual_seed(1)).initial_seed()
    1
    >>> require_generator(1)
    Traceback (most recent call last):
        ...
    rewind.errors.InputError: generator: int given; a torch generator is needed, torch.Generator().manual_seed(seed)
    """
    if not isinstance(generator, torch.Generator):
        raise InputError(
            f"generator: {type(generator).__name__} given; "
            "a torch generator is needed, torch.Generator().manual_seed(seed)"
        )
    return generator


def optional_generator(generator: Any) -> torch.Generator | None:
    """Return ``generator``, or None, which stands for torch's global one; raise InputError for anything else."""
    return None if generator is None else require_generator(generator)


def require_rng(rng: Any) -> np.random.Generator:
    """Return ``rng``; raise InputError for anything but a NumPy generator."""
    if not isinstance(rng, np.random.Generator):
        raise InputError(
            f"rng: {type(rng).__name__} given; a NumPy generator is needed, numpy.random.default_rng(seed)"
        )
    return rng
