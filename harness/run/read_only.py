"""What a method receives is for reading only: writing into it would change the numbers of other methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from condsim.harness.backbone import Backbone, ForgetsFeatures
from condsim.harness.errors import CondsimError
from condsim.harness.memory_map import is_mapped

_SAMPLED = 1 << 20
"""Elements of each tensor that are compared: torch counts what it writes itself, and this is for writes by NumPy."""


@dataclass(frozen=True)
class _Watched:
    name: str
    tensor: Tensor
    version: int | None
    rows: slice
    sample: Tensor

    def changed(self) -> bool:
        return _version(self.tensor) != self.version or not torch.equal(self.tensor[self.rows], self.sample)


class Watch:
    """Tensors that a method has received, as they were then."""

    def __init__(self) -> None:
        self._watched: list[_Watched] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Watch a tensor [N, D]: every write by torch, and by anything else one that reaches evenly spaced rows."""
        room = 0 if is_mapped(tensor) else _SAMPLED // max(1, tensor.shape[1])  # of a file, each row costs a page
        rows = slice(0, len(tensor) if room else 0, max(1, -(-len(tensor) // max(1, room))))
        self._watched.append(_Watched(name, tensor, _version(tensor), rows, tensor[rows].clone()))

    def changed(self) -> str | None:
        """The name of a tensor that was written into."""
        return next((watched.name for watched in self._watched if watched.changed()), None)


@contextmanager
def read_only(method: str, backbone: Backbone) -> Iterator[Watch]:
    """Raises CondsimError at the end if ``method`` has written into a tensor of the watch; the backbone then reads its
    features again, so that no later run sees what was written."""
    watch = Watch()
    try:
        yield watch
    finally:
        if (name := watch.changed()) is not None:
            if isinstance(backbone, ForgetsFeatures):
                backbone.forget_features()
            raise CondsimError(
                f"{method} wrote into {name}, which other methods read too. Work on a copy: {name}.clone(), or replace "
                "operations in place (x.div_(y), x /= y) by x = x / y"
            )


def _version(tensor: Tensor) -> int | None:
    """torch's count of writes. None for inference tensors, into which torch does not write anyway."""
    return None if tensor.is_inference() else int(tensor._version)
