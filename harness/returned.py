"""Check what a class of the user returns. A tensor of a wrong shape may be broadcast and then give a wrong number."""

from __future__ import annotations

from collections.abc import Callable

import torch

from condsim.harness.errors import CondsimError
from condsim.harness.process.tensors import Tensor


def float_rows(
    returned: object, made_by: str, shape: tuple[int, int], meaning: str, device: torch.device | None = None
) -> Tensor:
    """``returned``, if it is a float32 tensor of ``shape``, on ``device`` (None: on any).

    Raises CondsimError that names ``made_by`` ("Mine.embed"), what was returned, what was expected and its ``meaning``.
    """
    expected, text = f"a float32 tensor of shape {shape}", kind_of(returned)
    if isinstance(returned, torch.Tensor):
        if device is not None and returned.device != device:
            expected, text = f"{expected} on {device}", f"{text} on {returned.device}"
        if text == expected:
            return returned
    raise CondsimError(f"{made_by} returned {text}, expected {expected}: {meaning}")


def kind_of(value: object) -> str:
    """ "a float32 tensor of shape (3, 8)"; of anything else its class: "numpy.ndarray"."""
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{'an' if kind.startswith('i') else 'a'} {kind} tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def name_of(function: Callable[..., object]) -> str:
    """ "Mine.embed"; the class of an object that is called."""
    return str(getattr(function, "__qualname__", type(function).__qualname__)).rpartition("<locals>.")[2]
