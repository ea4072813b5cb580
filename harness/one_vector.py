"""The simplest form of a method, and that of most: one vector per query, compared by cosine with the gallery."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from condsim.harness.files.memory_map import free_pages, gather, is_mapped
from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided
from condsim.harness.process.tensors import Tensor
from condsim.harness.returned import float_rows, name_of

_LISTED_AT_ONCE = 1 << 18
"""Elements (1 MiB of float32) of gathered lists of candidates, so that they stay in the processor's cache."""
_MAPPED_AT_ONCE = 1 << 22
"""Elements of a mapped file that are in memory at once, in its own type and as float32."""


def unit(x: Tensor) -> Tensor:
    """x / ||x|| along the last axis; zero vectors, and those whose square underflows, become zero.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    return torch.nn.functional.normalize(x, dim=-1, eps=torch.finfo(x.dtype).tiny ** 0.5)


def inner_products(queries: Tensor, items: Tensor, rows: Tensor | None = None) -> Tensor:
    """Inner products of ``queries`` [B, D] with ``items`` [N, D], for ``rows`` as in ``harness.method.Scorer``.

    A row that is in a list twice gets exactly the same score twice. A matrix product may sum its last column in
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
        lists = items.index_select(0, rows[batch].clamp(min=0).flatten()).view(*rows[batch].shape, items.shape[1])
        out[batch] = lists.mul_(queries[batch, None]).sum(dim=-1)
    return out


def taken(items: Tensor, rows: Tensor) -> Tensor:
    """``items[rows]`` for ``rows`` [C]; a view where the rows are consecutive, as in a gallery scored in chunks."""
    if len(rows):
        first = int(rows[0])
        if torch.equal(rows, torch.arange(first, first + len(rows), device=rows.device)):
            return items[first : first + len(rows)]
    return gather(items, rows)


def query_vectors(embed: Callable[[Queries], Tensor], queries: Queries, width: int) -> Tensor:
    """``embed(queries)``. Raises CondsimError unless it is float32 [B, width], on the queries' device."""
    return _vectors(embed(queries), name_of(embed), queries, width)


def _vectors(returned: object, made_by: str, queries: Queries, width: int) -> Tensor:
    meaning = "one vector per query, as wide as the features"
    return float_rows(returned, made_by, (len(queries), width), meaning, queries.reference.device)


@dataclass(frozen=True)
class InnerProduct(TwoSided):
    """Scores unit(``embed``(queries)) . ``items``, with ``items`` [N, D] of unit rows."""

    items: Tensor
    embed: Callable[[Queries], Tensor]
    parts: Callable[[Queries], Mapping[str, Tensor]] | None = None
    """As ``OneVector.parts``; None: no score is explained."""
    concurrent = True

    def query_side(self, queries: Queries) -> Tensor:
        return unit(query_vectors(self.embed, queries, self.items.shape[1]))

    def score(self, side: Tensor, rows: Tensor | None = None) -> Tensor:
        return inner_products(side, self.items, rows)

    def why(self, queries: Queries, rows: Tensor) -> list[list[str]]:
        """The share of each part in the score: the shares add up to it."""
        query = query_vectors(self.embed, queries, self.items.shape[1])
        parts = {} if self.parts is None else dict(self.parts(queries))
        for name, part in parts.items():
            _vectors(part, f"{name_of(self.embed)}, part {name!r},", queries, self.items.shape[1])
        if parts and not torch.allclose(sum(parts.values(), torch.zeros_like(query)), query, rtol=1e-4, atol=1e-5):
            parts = {}  # a subclass has another vector than the class whose parts these are
        lengths = query.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(query.dtype).tiny)
        shares = {name: inner_products(part / lengths, self.items, rows) for name, part in parts.items()}
        return named_numbers(shares, rows)


def named_numbers(numbers: Mapping[str, Tensor], rows: Tensor) -> list[list[str]]:
    """For each entry of ``rows`` [B, C] its ``numbers`` [B, C] by name: "image 0.52, text 0.11"."""
    lists = {name: values.tolist() for name, values in numbers.items()}
    return [
        [", ".join(f"{name} {values[i][j]:.2f}" for name, values in lists.items()) for j in range(rows.shape[1])]
        for i in range(len(rows))
    ]


@dataclass(frozen=True)
class MappedInnerProduct(TwoSided):
    """``InnerProduct`` of raw ``features`` [N, D] in a mapped file, of any float type, normalised as they are read."""

    features: Tensor
    embed: Callable[[Queries], Tensor]
    concurrent = True

    def query_side(self, queries: Queries) -> Tensor:
        return unit(query_vectors(self.embed, queries, self.features.shape[1]))

    def score(self, side: Tensor, rows: Tensor | None = None) -> Tensor:
        if rows is not None and rows.ndim == 2:
            used, places = torch.unique(rows.clamp(min=0), return_inverse=True)
            return inner_products(side, self._read(used), places)
        items, width = len(self.features) if rows is None else len(rows), self.features.shape[1]
        size = min(items, max(1, _MAPPED_AT_ONCE // width))
        scores = side.new_empty(len(side), items)
        for begin in range(0, items, size):
            start = min(begin, items - size)  # all pieces have one size, so that equal items score equally
            piece = slice(start, start + size)
            torch.mm(side, self._read(piece if rows is None else rows[piece]).T, out=scores[:, piece])
        return scores

    def _read(self, which: slice | Tensor) -> Tensor:
        piece = self.features[which] if isinstance(which, slice) else taken(self.features, which)
        items = unit(piece.float())
        free_pages(self.features)
        return items


class OneVector(Method):
    """A method that computes one vector per query; candidates are ranked by their cosine with it.

    Four lines make a method. All of ``Queries`` may be used; features are raw, so normalise them where lengths should
    not count:

    >>> class ImageMinusText(OneVector):
    ...     def embed(self, queries: Queries) -> Tensor:
    ...         return unit(queries.reference) - unit(queries.text)

    The engine calls it with batches of queries. By hand, for one query and a gallery of two items:

    >>> query = Queries(
    ...     reference=torch.tensor([[2.0, 0.0]]),
    ...     text=torch.tensor([[0.0, 5.0]]),
    ...     condition=torch.tensor([0]),
    ...     reference_row=torch.tensor([0]),
    ... )
    >>> ImageMinusText().embed(query)
    tensor([[ 1., -1.]])
    >>> InnerProduct(unit(torch.tensor([[3.0, 0.0], [0.0, 3.0]])), ImageMinusText().embed)(query)
    tensor([[ 0.7071, -0.7071]])

    Set ``needs_reference`` or ``needs_condition`` to False where ``embed`` does not read that part: the method then
    also runs on tasks whose queries have none.
    """

    reads_mapped = True

    @property
    def sharded(self) -> bool:
        return type(self).prepare is OneVector.prepare  # a subclass may read the whole gallery in its own

    @abstractmethod
    def embed(self, queries: Queries) -> Tensor:
        """The query vectors: float32 [B, D], D as in the features. Only their directions count."""

    def parts(self, queries: Queries) -> Mapping[str, Tensor]:
        """Vectors [B, D] by name ("image", "text") whose sum is ``embed(queries)``, to explain scores; {}: none."""
        return {}

    def prepare(self, gallery: Gallery) -> Scorer:
        return cosine_scorer(gallery.features, self.embed, self.parts)

    def with_conditions(self, scorer: Scorer, gallery: Gallery) -> Scorer | None:
        return scorer if type(self).prepare is OneVector.prepare else None  # a subclass may read them in its own


def cosine_scorer(
    features: Tensor,
    embed: Callable[[Queries], Tensor],
    parts: Callable[[Queries], Mapping[str, Tensor]] | None = None,
) -> Scorer:
    """Cosine of ``embed``(queries) [B, D] with raw ``features`` [N, D], which may be in a mapped file.

    ``parts``: as ``OneVector.parts``; None: no score is explained.
    """
    if is_mapped(features):
        return MappedInnerProduct(features, embed)
    return InnerProduct(unit(features), embed, parts)
