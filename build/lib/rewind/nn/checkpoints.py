"""Trained models on disk: safetensors that say what they are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import rewind
from rewind.errors import InputError

__all__ = ["complete", "describe", "fingerprint", "load", "resolving", "save"]


def fingerprint(*data: Tensor) -> str:
    """Return a short digest of the data a model was trained or validated on."""
    return _digest(data)[:16]


def _digest(data: Iterable[Tensor]) -> str:
    digest = sha256()
    for values in data:
        digest.update(repr((tuple(values.shape), str(values.dtype))).encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


Build = Callable[..., nn.Module]
Resolve = Callable[[dict[str, Any]], dict[str, Any]]


def resolving(resolve: Resolve) -> Callable[[Build], Build]:
    """Decorate a builder whose options depend on others: ``resolve`` says what those mean that are None or nested."""

    def decorate(build: Build) -> Build:
        build.resolve = resolve
        return build

    return decorate


def complete(build: Build, configuration: dict[str, Any]) -> dict[str, Any]:
    """Return ``configuration`` with every option of ``build`` and its value, as JSON has it.

    Raises TypeError for options that ``build`` does not have.

    >>> def build(width, *, layers=2): ...
    >>> complete(build, {"width": 8})
    {'width': 8, 'layers': 2}
    """
    bound = signature(build).bind(**configuration)
    bound.apply_defaults()
    options = getattr(build, "resolve", dict)(bound.arguments)
    return json.loads(json.dumps(options))


def save(
    path: str | Path,
    model: nn.Module,
    build: Build,
    *,
    configuration: dict[str, Any],
    data: str,
    training: dict[str, Any],
) -> None:
    """Write ``model``, which is ``build(**configuration)``, with the ``data`` fingerprint and the ``training`` record.

    What is written of the configuration is complete: a default that changes later changes no model. Normalisation
    constants are buffers of the model, so they are inside. The file takes its name when whole. Raises InputError
    where it cannot be written.
    """
    configuration = complete(build, configuration)
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")
    weights = {name: values.detach().cpu().contiguous() for name, values in sorted(model.state_dict().items())}
    about = {
        "configuration": configuration,
        "data": data,
        "training": training,
        "versions": {"rewind": rewind.__version__, "torch": torch.__version__.split("+")[0]},
        "sha256": _digest(weights.values()),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    metadata = {"rewind": json.dumps(about)}
    try:
        save_file(weights, temporary, metadata=metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be written ({error}); check the path, rights and free space") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _read(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; train one or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["rewind"])
            weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
            intact = _digest(weights.values()) == about["sha256"]
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({error}); fetch or train it again") from error
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: a safetensors file, but not a checkpoint of this book") from error
    if not intact:
        raise InputError(f"{path}: damaged, its weights are not those that were saved; fetch or train it again")
    return about, weights


def describe(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself: configuration, data, training, versions, digest."""
    return _read(path)[0]


_RENAMED = (
    (r"^encoder\.features\.legs$", "encoder.parts.0.slots.lepton"),
    (r"^encoder\.features\.(lepton|jet|whole)\.", r"encoder.parts.0.linear.\1."),
    (r"^encoder\.solutions\.linear\.", "encoder.parts.1.linear.solution."),
    (r"^encoder\.events\.(lepton|jet|whole)\.", r"encoder.events.parts.0.linear.\1."),
    (r"^encoder\.events\.encoder\.", "encoder.events.transformer."),
    (r"^features\.legs$", "encoder.parts.0.slots.lepton"),
    (r"^features\.(lepton|jet|whole)\.", r"encoder.parts.0.linear.\1."),
)
_OF_ENCODERS = (
    (r"^(lepton|jet|whole)\.", r"encoder.parts.0.linear.\1."),
    (r"^encoder\.(encoder|reading|token|norm)\b", r"encoder.transformer.\1"),
)
_OF_FLOWS = ((r"^encoder\.encoder\.", "encoder.transformer."),)


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by the names that the encoder of objects has for those of the encoders before it."""

    def new(name: str) -> str:
        prefix = next((p for p in ("conditioner.roles.", "conditioner.", "roles.") if name.startswith(p)), "")
        inner = name.removeprefix(prefix)
        rules = _RENAMED
        if f"{prefix}whole.weight" in weights:
            rules = _OF_ENCODERS
        elif f"{prefix}features.whole.weight" in weights:
            rules = _RENAMED + _OF_ENCODERS[1:]
        elif f"{prefix}encoder.features.whole.weight" in weights:
            rules = _RENAMED + _OF_FLOWS
        for pattern, to in rules:
            changed = re.sub(pattern, to, inner)
            if changed != inner:
                return prefix + changed
        return name

    return {new(name): values for name, values in weights.items()}


def load(path: str | Path, build: Build, **expected: Any) -> nn.Module:
    """Return the model ``build(**configuration)`` with the weights of a checkpoint.

    Raises InputError for a file that is missing or damaged, and says what differs where the stored
    configuration is not the ``expected`` one or the weights do not fit the model.
    """
    about, weights = _read(path)
    weights = _renamed(weights)
    stored = about["configuration"]
    differing = [
        f"{name} is {stored.get(name, 'absent')} there, {value} here"
        for name, value in expected.items()
        if stored.get(name) != value
    ]
    if differing:
        raise InputError(f"{path}: made with another configuration: {'; '.join(differing)}")
    try:
        model = build(**complete(build, stored))
    except TypeError as error:
        raise InputError(f"{path}: its configuration {stored} does not fit {build.__name__} ({error})") from error
    wanted = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    there = {name: tuple(values.shape) for name, values in weights.items()}
    if wanted != there:
        odd = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        name = odd[0]
        raise InputError(
            f"{path}: {len(odd)} tensors do not fit the model, first '{name}': "
            f"{there.get(name, 'absent')} there, {wanted.get(name, 'absent')} here"
        )
    model.load_state_dict(weights)
    return model.eval()
