"""What a method receives is for reading only: writing into it would change the numbers of other methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass

import torch
from torch import Tensor

from condsim.harness.backbone import Backbone, ForgetsFeatures
from condsim.harness.errors import CondsimError
from condsim.harness.files.memory_map import is_mapped

_ELEMENTS, _COLUMNS = 1 << 20, 16
"""What is compared of each tensor: rows with this number of elements, and the first columns (a cache line) of every
row. torch counts what it writes itself; this is for writes by NumPy and into ``tensor.data``."""

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class _Watched:
    name: str
    tensor: Tensor
    version: int | None
    samples: tuple[tuple[Tensor, Tensor], ...]
    """Views of the tensor, and what they held."""

    def changed(self) -> bool:
        return _version(self.tensor) != self.version or not all(_equal(*sample) for sample in self.samples)


class Watch:
    """Tensors that a method has received, as they were then."""

    def __init__(self) -> None:
        self._watched: list[_Watched] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Watch a tensor [N, D]: every write by torch, and by anything else one that reaches a whole row or column.

        Of a tensor in a mapped file only the writes by torch: each row of it that is compared is a page to read.
        """
        step = -(-tensor.numel() // _ELEMENTS) or 1
        views = () if is_mapped(tensor) else (tensor[::step], tensor[:, :_COLUMNS])
        samples = tuple((view, view.clone()) for view in views)
        self._watched.append(_Watched(name, tensor, _version(tensor), samples))

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
    except FrozenInstanceError as error:
        raise CondsimError(
            f"{method}: {error}: what a method receives is read-only. Compute a new tensor (x = queries.reference + 1) "
            "or a clone of it"
        ) from error
    finally:
        if (name := watch.changed()) is not None:
            if isinstance(backbone, ForgetsFeatures):
                backbone.forget_features()
            raise CondsimError(
                f"{method} wrote into {name}, which other methods read too. Work on a copy: {name}.clone(), or replace "
                "operations in place (x.div_(y), x /= y) by x = x / y"
            )


def _equal(view: Tensor, sample: Tensor) -> bool:
    """``torch.equal`` in contiguous pieces: on a view of columns it takes three times as long."""
    pieces = zip(torch.split(view, _ROWS_AT_ONCE), torch.split(sample, _ROWS_AT_ONCE), strict=True)
    return all(torch.equal(part.contiguous(), other) for part, other in pieces)


def _version(tensor: Tensor) -> int | None:
    """torch's count of writes. None for inference tensors, into which torch does not write anyway."""
    return None if tensor.is_inference() else int(tensor._version)
