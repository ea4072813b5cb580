"""Weights files: how they are read, and how the embedded backbone's is kept small.

The open_clip vocabulary has 49,408 rows, the embedded benchmark's captions use some two hundred: a compact file holds
only those, and ``token_rows`` says which they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from condsim.harness.errors import BackboneError, CondsimError
from condsim.harness.files.state_dict import read_state_dict, without_prefix
from condsim.harness.process.tensors import Tensor, nn

TOKEN_TABLE = "token_embedding.weight"
TOKEN_ROWS = "token_rows"
_WRAPPERS = ("CLIP", "clip")
"""Keys that hold the weights in some papers' files, beside the usual ones of ``read_state_dict``."""
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's own files that are settings."""


def load_weights(path: Path, model: nn.Module) -> None:
    """Load ``path`` (safetensors, or a PyTorch file of plain tensors) into ``model``, every weight of it.

    Accepts all that ``harness/files/state_dict.py`` reads, and the compact form. Raises BackboneError if the file
    cannot be read or is of another model.
    """
    from open_clip.convert import convert_state_dict

    own = model.state_dict()
    try:
        state = without_prefix(read_state_dict(path, _WRAPPERS).state, own.keys())
    except CondsimError as error:
        raise BackboneError(str(error)) from None
    state = {name: tensor for name, tensor in state.items() if name not in _NOT_WEIGHTS}
    if TOKEN_ROWS in state:
        state = expand_state_dict(state, model)
    try:
        model.load_state_dict(convert_state_dict(model, state))
    except (RuntimeError, KeyError) as error:
        raise BackboneError(f"{path}: {_mismatch(state, own, error)}") from error


def _mismatch(state: Mapping[str, Tensor], own: Mapping[str, Tensor], error: Exception) -> str:
    """How the names and shapes in the file differ from the model's."""
    shared = state.keys() & own.keys()
    shapes = [name for name in sorted(shared) if state[name].shape != own[name].shape]
    if not shared:
        return (
            "these weights are not of the chosen model: the names in the file begin with "
            f"{min(state)!r}, expected names such as {min(own)!r}"
        )
    if shapes:
        name = shapes[0]
        return (
            f"these weights are not of the chosen model: {name!r} has the shape {tuple(state[name].shape)}, "
            f"expected {tuple(own[name].shape)}"
        )
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    parts = [
        f"{len(names)} {label}, such as {names[0]!r}"
        for names, label in ((missing, "weights of the model are missing"), (unexpected, "names are unknown to it"))
        if names
    ]
    return f"these weights are not of the chosen model: {'; '.join(parts) or ' '.join(str(error).split())[:200]}"


def compact_state_dict(state: Mapping[str, Tensor], token_rows: Tensor) -> dict[str, Tensor]:
    """``state`` in half floats, its token table only the rows ``token_rows`` (int64 [r]), kept beside it as such.

    Integer tensors stay as they are. The result is what goes into the safetensors file.
    """
    rows = token_rows.to("cpu", torch.int64)
    compact = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    compact = {name: value.detach().cpu().contiguous().clone() for name, value in compact.items()}
    return compact | {TOKEN_TABLE: compact[TOKEN_TABLE][rows].contiguous(), TOKEN_ROWS: rows}


def expand_state_dict(compact: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The whole state dict for ``model`` (an open_clip CLIP), in its own types; token rows not stored are zero."""
    own = model.state_dict()
    state = {name: value.to(own[name].dtype) if name in own else value for name, value in compact.items()}
    table = torch.zeros_like(own[TOKEN_TABLE])
    table[state.pop(TOKEN_ROWS)] = state[TOKEN_TABLE]
    return state | {TOKEN_TABLE: table}
