"""Backbone weights on disk: half precision, and of the token table only the rows that captions use.

The open_clip vocabulary has 49,408 rows, the captions use some two hundred: 12 MB become 50 kB.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

TOKEN_TABLE = "token_embedding.weight"
TOKEN_ROWS = "token_rows"


def compact_state_dict(state: Mapping[str, torch.Tensor], token_rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """A state dict of half floats whose token table holds only `token_rows` [r] (int64, sorted), kept beside it.

    Integer tensors stay as they are. The result is what goes into the safetensors file.
    """
    compact = {
        k: (v.half() if v.is_floating_point() else v).detach().cpu().contiguous().clone() for k, v in state.items()
    }
    compact[TOKEN_TABLE] = compact[TOKEN_TABLE][token_rows.cpu()].contiguous()
    compact[TOKEN_ROWS] = token_rows.cpu().to(torch.int64)
    return compact


def expand_state_dict(compact: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """The full state dict for `model` (an open_clip CLIP), in the model's own types; token rows not stored are zero."""
    shapes = model.state_dict()
    full = {k: v.to(shapes[k].dtype) for k, v in compact.items() if k not in (TOKEN_ROWS, TOKEN_TABLE)}
    table = torch.zeros(shapes[TOKEN_TABLE].shape, dtype=shapes[TOKEN_TABLE].dtype)
    table[compact[TOKEN_ROWS]] = compact[TOKEN_TABLE].to(table.dtype)
    full[TOKEN_TABLE] = table
    return full
