"""The simplest form of a method: one query vector, scored by inner product with the unit gallery features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from condsim.harness.memory_map import gather, is_mapped, let_go
from condsim.harness.method import Gallery, Method, Queries, Scorer

_LISTED_AT_ONCE = 1 << 20
"""Elements (4 MiB of float32) of gathered lists of candidates: more of them would not stay in the processor's cache."""
_MAPPED_AT_ONCE = 1 << 22
"""Elements of a mapped file that are in memory at a time, in its own type and as float32."""


def unit(x: Tensor) -> Tensor:
    """x / ||x|| along the last axis; a zero vector stays zero, and so does one too short to be squared."""
    return torch.nn.functional.normalize(x, dim=-1, eps=torch.finfo(x.dtype).tiny ** 0.5)


def inner_products(queries: Tensor, items: Tensor, rows: Tensor | None = None) -> Tensor:
    """Inner products of ``queries`` [B, D] with ``items`` [N, D], for ``rows`` as in ``harness.method.Scorer``.

    The same row standing twice in a list gets exactly the same score: a matrix product may sum its last column in
    another order than the others, which would break that tie, so lists are multiplied and summed row by row.
    """
    if rows is None:
        return queries @ items.T
    if rows.ndim == 1:
        return queries @ taken(items, rows).T
    out = queries.new_empty(rows.shape)
    step = max(1, _LISTED_AT_ONCE // max(1, rows.shape[1] * items.shape[1]))
    for start in range(0, len(rows), step):
        batch = slice(start, start + step)
        out[batch] = (items[rows[batch].clamp(min=0)] * queries[batch, None]).sum(dim=-1)
    return out


def taken(items: Tensor, rows: Tensor) -> Tensor:
    """``items[rows]`` for ``rows`` [C]; a view where they follow one another, as those of a gallery in chunks do."""
    if items.device.type == "cpu" and len(rows):
        first = int(rows[0])
        if torch.equal(rows, torch.arange(first, first + len(rows))):
            return items[first : first + len(rows)]
    return gather(items, rows)


@dataclass(frozen=True)
class InnerProduct:
    """Scores unit(``embed``(queries)) . ``items``, with ``items`` [N, D] of unit rows."""

    items: Tensor
    embed: Callable[[Queries], Tensor]

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        return inner_products(unit(self.embed(queries)), self.items, rows)


@dataclass(frozen=True)
class MappedInnerProduct:
    """``InnerProduct`` with ``features`` [N, D] in a mapped file: raw, of any float type, normalised as they are read.

    Never more than a piece of them is in memory.
    """

    features: Tensor
    embed: Callable[[Queries], Tensor]

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        asked = unit(self.embed(queries))
        if rows is not None and rows.ndim == 2:
            used, places = torch.unique(rows.clamp(min=0), return_inverse=True)
            return inner_products(asked, self._read(used), places)
        items, width = len(self.features) if rows is None else len(rows), self.features.shape[1]
        size = min(items, max(1, _MAPPED_AT_ONCE // width))
        scores = asked.new_empty(len(asked), items)
        for begin in range(0, items, size):
            start = min(begin, items - size)  # all pieces of one size, so that equal items score equally
            here = slice(start, start + size)
            torch.mm(asked, self._read(here if rows is None else rows[here]).T, out=scores[:, here])
        return scores

    def _read(self, which: slice | Tensor) -> Tensor:
        piece = self.features[which] if isinstance(which, slice) else taken(self.features, which)
        items = unit(piece.float())
        let_go(self.features)
        return items


class OneVector(Method):
    """A method whose query is one vector in the space of the gallery."""

    reads_mapped = True

    @abstractmethod
    def embed(self, queries: Queries) -> Tensor:
        """[B, D] query vectors of any length."""

    def prepare(self, gallery: Gallery) -> Scorer:
        if is_mapped(gallery.features):
            return MappedInnerProduct(gallery.features, self.embed)
        return InnerProduct(unit(gallery.features), self.embed)
