"""Weights files: what is read from them, and how the embedded backbone's is kept small.

The open_clip vocabulary has 49,408 rows, the embedded benchmark's captions use some two hundred: a compact file holds
only those, and beside them ``token_rows`` says which they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from condsim.harness.errors import CondsimError

TOKEN_TABLE = "token_embedding.weight"
TOKEN_ROWS = "token_rows"
_WRAPPERS = ("state_dict", "model", "CLIP", "clip")
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def load_weights(path: Path, model: nn.Module) -> None:
    """Load ``path`` (safetensors, or a PyTorch file of plain tensors) into ``model``, every weight of it.

    Accepts a bare state dict, one under a key such as ``state_dict``, names with a leading ``module.``, and the compact
    form. Raises CondsimError where the file cannot be read or is of another model.
    """
    from open_clip.convert import convert_state_dict

    state = read_state_dict(path)
    if TOKEN_ROWS in state:
        state = expand_state_dict(state, model)
    try:
        model.load_state_dict(convert_state_dict(model, state))
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:400]
        raise CondsimError(f"{path}: these weights are not of the model asked for: {reason}") from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name. Never unpickles anything else."""
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise CondsimError(f"{path}: there is no such weights file") from None
    except (SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "it ends too early")[:200]
        raise CondsimError(
            f"{path}: cannot be read as weights ({reason}). It should be a safetensors file, "
            "or a state dict saved by torch.save; a TorchScript archive has to be saved again as one of these"
        ) from error
    while isinstance(content, dict) and (wrapper := next((key for key in _WRAPPERS if key in content), None)):
        content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise CondsimError(f"{path}: holds no state dict")
    state = {str(name).removeprefix("module."): value for name, value in content.items() if name not in _NOT_WEIGHTS}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


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
