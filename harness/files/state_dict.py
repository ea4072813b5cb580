"""Weights files: named tensors, read from whatever a training framework wrote around them, written with a digest.

Only tensors are loaded: no other object of a pickle is ever built.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from condsim.harness.errors import CondsimError, first_line
from condsim.harness.files.writing import atomic
from condsim.harness.process.tensors import Tensor

METADATA = "condsim"
"""The one metadata entry that we write. One, because safetensors writes several entries in no fixed order, and the same
training must end in the same bytes."""
DIGEST = "digest"
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "weights")
"""Keys under which trainers store the weights, beside an optimizer state, an epoch and the like."""
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "clip_model.", "clip.")
"""What trainers put before every name: DataParallel, torch.compile, Lightning modules and others; in any nesting."""


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors on the CPU, and the settings that `condsim` wrote beside them (none in other files)."""

    path: Path
    state: dict[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_state_dict(path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Write a safetensors file as a whole or not at all. Equal arguments give equal bytes.

    The metadata hold ``settings`` and a digest of everything, which ``read_state_dict`` verifies.
    """
    from safetensors.torch import save_file  # imports torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    settings = json.loads(json.dumps(settings, allow_nan=False, default=str))
    text = json.dumps({**settings, DIGEST: digest_of(plain, settings)}, sort_keys=True)
    with atomic(path) as scratch:
        save_file(plain, scratch, {METADATA: text})


def digest_of(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """A digest of names, types, shapes and values of ``tensors`` (on the CPU) and of the JSON ``settings``."""
    digest = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return digest.hexdigest()


def read_state_dict(path: Path, wrappers: Sequence[str] = ()) -> Checkpoint:
    """The tensors of a safetensors file or of what ``torch.save`` wrote, recognised by its first bytes.

    A file of ``torch.save`` may hold the tensors themselves or, at any depth, under one of ``wrappers`` or of the usual
    keys; other entries are ignored. Raises CondsimError that names the file and says what is in it instead.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise CondsimError(f"{path}: there is no such weights file") from None
    except OSError as error:
        raise CondsimError(f"{path}: cannot be read: {error.strerror or error}") from None
    if head[8:9] == b"{" and head[:4] != b"PK\3\4":
        return _read_safetensors(path)
    if head.startswith(b"PK\3\4"):
        check_archive(path)
    elif not head.startswith(b"\x80"):  # what pickles start with, as torch.save wrote them before 1.6
        raise CondsimError(f"{path}: {_other_content(head)}")
    return Checkpoint(path, _unwrapped(path, _unpickled(path), (*wrappers, *WRAPPERS)))


def without_prefix(tensors: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """``tensors`` without what a trainer put before the names, so that some are in ``expected``.

    Names outside the prefix, such as those of a loss beside ``model.``, are left out. Unchanged where no prefix helps.
    """
    prefix = ""
    while not any(name.removeprefix(prefix) in expected for name in tensors if name.startswith(prefix)):
        longer = [prefix + p for p in PREFIXES if any(name.startswith(prefix + p) for name in tensors)]
        if not longer:
            return dict(tensors)
        prefix = longer[0]
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            text = (file.metadata() or {}).get(METADATA)
        settings = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CondsimError(f"{path}: damaged, or not a safetensors file: {first_line(error)}") from None
    if not tensors:
        raise CondsimError(f"{path}: holds no weights at all")
    if settings is None:  # not written by us
        return Checkpoint(path, tensors)
    digest = settings.pop(DIGEST, None) if isinstance(settings, dict) else None
    if digest is None:
        raise CondsimError(f"{path}: has no digest of its weights, so it cannot be verified: train it again")
    if digest != digest_of(tensors, settings):
        raise CondsimError(f"{path}: damaged: its weights or settings are not those that were written")
    return Checkpoint(path, tensors, settings)


def check_archive(path: Path) -> None:
    """Raise CondsimError where the zip archive of ``torch.save`` is damaged: torch.load checks no checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise CondsimError(f"{path}: a TorchScript archive, not weights: save the model's state_dict() instead")
            # torch compresses nothing and sets no attributes: its reader would return other content for such a part.
            marked = (part.filename for part in archive.infolist() if part.compress_type or part.external_attr)
            damaged = archive.testzip() or next(marked, None)
    except CondsimError:
        raise
    except Exception as error:  # zipfile raises its own errors and those of every decompressor
        raise CondsimError(f"{path}: damaged or cut off: {first_line(error)}") from None
    if damaged is not None:
        raise CondsimError(f"{path}: damaged: {damaged!r} in it fails its checksum")


def _unpickled(path: Path) -> object:
    try:
        with path.open("rb") as file:  # by its content: torch goes by the suffix of a path
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many unrelated types; the file cannot be read whatever it was
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds a Python object ({found[1]})" if found else first_line(error)
        raise CondsimError(
            f"{path}: cannot be read as plain weights: {reason}. Only tensors are loaded: save the model's "
            "state_dict() with torch.save or safetensors"
        ) from None


def _unwrapped(path: Path, content: object, wrappers: Sequence[str]) -> dict[str, Tensor]:
    visited: set[int] = set()
    while isinstance(content, Mapping):
        if id(content) in visited:
            raise CondsimError(f"{path}: damaged: it holds itself, and no weights")
        visited.add(id(content))
        inner = next((content[key] for key in wrappers if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
            if tensors:
                return tensors
            entries = ", ".join(sorted(map(repr, content))[:5]) or "nothing"
            raise CondsimError(f"{path}: holds no weights at all, only {entries}")
        content = inner
    raise CondsimError(f"{path}: holds a {type(content).__name__}, expected names and tensors")


def _other_content(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights themselves: fetch them with git lfs pull"
    if head.lstrip()[:1] == b"<":
        return "a web page, not weights: download the file itself"
    return "neither a safetensors file nor one that torch.save wrote"
