"""Weights on disk: our own checkpoints as safetensors with their settings inside, and others' in their wrappings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.paths import resolve

METADATA = "condsim"
"""The one metadata entry that we write. One, because safetensors writes several in no fixed order, and the same
training should end in the same bytes."""
PARALLEL = "module."
"""What torch's DataParallel puts before every name."""


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and the settings that they were trained with where the file has them."""

    path: Path
    state: dict[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(name: str | Path, wrappings: tuple[str, ...] = ()) -> Checkpoint:
    """The weights in a file, on the CPU; ``name`` as ``harness.paths.resolve`` takes it. Nothing in it is executed.

    A .safetensors file, or what ``torch.save`` wrote: the names and tensors themselves, or these under one of the keys
    ``wrappings``, with or without a leading "module.". Raises CondsimError for anything else.
    """
    path = resolve(name)
    if not path.is_file():
        raise CondsimError(f"checkpoint {path} does not exist: `condsim train` makes one, and says where it is")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many unrelated types; the file cannot be read whatever it was
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CondsimError(
            f"checkpoint {path} cannot be read as plain weights, and nothing else is unpickled: {reason}. Save its "
            "state_dict() with torch.save or safetensors"
        ) from None
    return Checkpoint(path, _unwrapped(content, wrappings, path))


def write_checkpoint(path: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Write the file as a whole or not at all. Equal arguments give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(settings, sort_keys=True, allow_nan=False, default=str)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, partial, {METADATA: text})
    os.replace(partial, path)


def fit_names(checkpoint: Checkpoint, expected: Mapping[str, int], what: str) -> None:
    """Raise CondsimError unless the tensors are exactly those ``expected``: name -> number of dimensions."""
    state = checkpoint.state
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unknown:
        told = [f"it lacks {_first(missing)}"] if missing else []
        told += [f"it holds {_first(unknown)} besides"] if unknown else []
        raise CondsimError(f"checkpoint {checkpoint.path} is no {what}: {' and '.join(told)}")
    for name, dimensions in expected.items():
        if state[name].ndim != dimensions:
            raise CondsimError(
                f"checkpoint {checkpoint.path} is no {what}: {name} has shape {tuple(state[name].shape)}, expected "
                f"{dimensions} dimensions"
            )


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
        settings = json.loads(metadata.get(METADATA, "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CondsimError(f"checkpoint {path} is damaged or no safetensors file: {error}") from None
    return Checkpoint(path, _without_prefix(state), settings)


def _unwrapped(content: Any, wrappings: tuple[str, ...], path: Path) -> dict[str, Tensor]:
    for wrapping in wrappings:
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
            break
    if not isinstance(content, Mapping) or not content:
        raise CondsimError(f"checkpoint {path} holds a {type(content).__name__}, expected names and tensors")
    strange = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strange:
        raise CondsimError(
            f"checkpoint {path}: {strange[0]!r} is a {type(content[strange[0]]).__name__}, expected a tensor: the "
            f"weights may lie at the top or under {' or '.join(map(repr, wrappings))}"
        )
    return _without_prefix(dict(content))


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}


def _first(names: set[str], shown: int = 3) -> str:
    some = sorted(names)[:shown]
    return ", ".join(some) + (f" and {len(names) - shown} more" if len(names) > shown else "")
