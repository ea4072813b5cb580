"""Alpha query expansion (Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018)."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from condsim.harness.errors import CondsimError
from condsim.harness.method import Expands, Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.methods.inner_product import ImageOnly
from condsim.methods.shared.base_method import ChangedQueries, Wrapper
from condsim.methods.shared.checks import at_least

_ELEMENTS_AT_ONCE = 1 << 23
"""Scores of the whole gallery at a time: 32 MiB."""


class AlphaQueryExpansion(Wrapper, Expands):
    """ref' = unit(unit(ref) + sum over the base's best n items of max(ref . d, 0)^alpha d), then the base again.

    With the base ``image_only`` this is the published method. With any other base the neighbours are the base's best
    and only the reference moves; its length and the text stay. [ours]
    """

    def __init__(self, base: Method | None = None, neighbors: int = 10, alpha: float = 3.0) -> None:
        at_least(0, neighbors=neighbors, alpha=alpha)
        super().__init__(ImageOnly() if base is None else base)
        if not self.base.needs_reference:
            name = type(self.base).__name__
            raise CondsimError(f"query expansion moves the reference, and its base {name} does not need one")
        self.neighbors = neighbors
        self.alpha = alpha

    def prepare(self, gallery: Gallery) -> Scorer:
        base = self.base.prepare(gallery)
        return base if self.neighbors == 0 else ChangedQueries(base, _Expansion(self, base, gallery).expanded)

    def expanded(self, queries: Queries, items: Tensor, scores: Tensor) -> Queries:
        reference, items = unit(queries.reference), unit(items)
        moved = reference.clone()
        for place in range(items.shape[1]):
            neighbour = items[:, place]
            weight = (reference * neighbour).sum(dim=1).clamp(min=0).pow(self.alpha)
            moved += weight.masked_fill(scores[:, place].isinf(), 0.0)[:, None] * neighbour
        lengths: Tensor = queries.reference.norm(dim=1, keepdim=True)
        return dataclasses.replace(queries, reference=unit(moved) * lengths)


class _Expansion:
    """Expands queries by the best of the base's items in a gallery."""

    def __init__(self, method: AlphaQueryExpansion, base: Scorer, gallery: Gallery) -> None:
        self.method = method
        self.base = base
        self.items = gallery.features
        place = np.full(len(gallery.table), -1, dtype=np.int64)
        place[gallery.rows] = np.arange(len(gallery.rows))
        self.place = torch.from_numpy(place).to(self.items.device)
        """int64 [images of the table]: each image's place in the gallery, -1 where it is not in it."""

    def expanded(self, queries: Queries) -> Queries:
        """The queries with their expanded references."""
        step = max(1, _ELEMENTS_AT_ONCE // len(self.items))
        parts = [self._moved(queries.part(slice(start, start + step))) for start in range(0, len(queries), step)]
        return dataclasses.replace(queries, reference=torch.cat(parts))

    def _moved(self, queries: Queries) -> Tensor:
        """[b, D] the expanded references. An image is never its own neighbour."""
        scores = self.base(queries, None).clone()
        own = torch.where(queries.reference_row >= 0, self.place[queries.reference_row], -1)
        inside = (own >= 0).nonzero()[:, 0]
        scores[inside, own[inside]] = -torch.inf
        best, rows = scores.topk(min(self.method.neighbors, scores.shape[1]), dim=1)
        step = max(1, _ELEMENTS_AT_ONCE // max(1, rows.shape[1] * self.items.shape[1]))
        some = [slice(start, start + step) for start in range(0, len(queries), step)]
        return torch.cat([self.method.expanded(queries.part(s), self.items[rows[s]], best[s]).reference for s in some])
