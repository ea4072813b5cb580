"""Scoring where a condition is one map of image features, applied to query and candidates alike."""

from __future__ import annotations

from collections.abc import Callable

import torch

from condsim.harness.method import Queries, TwoSided
from condsim.harness.one_vector import inner_products, taken
from condsim.harness.process.tensors import Tensor


class ConditionalMap(TwoSided):
    """score(q, d) = f_c(q) . f_c(d) for the query's condition c.

    ``embed(condition, features [n, D])`` gives unit vectors [n, k]; ``features`` [N, D] are the gallery's.
    """

    def __init__(self, features: Tensor, embed: Callable[[int, Tensor], Tensor]) -> None:
        self.features = features
        self.embed = embed
        self._whole: tuple[int, Tensor] | None = None

    def query_side(self, queries: Queries) -> list[tuple[int, Tensor, Tensor]]:
        """(condition, places [b] of its queries in the batch, their vectors [b, k]) of each condition of the batch."""
        side = []
        for condition in torch.unique(queries.condition).tolist():
            mine = (queries.condition == condition).nonzero()[:, 0]
            side.append((condition, mine, self.embed(condition, queries.reference[mine])))
        return side

    def score(self, side: list[tuple[int, Tensor, Tensor]], rows: Tensor | None = None) -> Tensor:
        count = sum(len(mine) for _, mine, _ in side)
        scores = self.features.new_empty(count, len(self.features) if rows is None else rows.shape[-1])
        for condition, mine, query in side:
            if rows is None:
                scores[mine] = query @ self.whole(condition).T
            elif rows.ndim == 1:
                scores[mine] = query @ self.embed(condition, taken(self.features, rows)).T
            else:
                used, places = torch.unique(rows[mine].clamp(min=0), return_inverse=True)
                scores[mine] = inner_products(query, self.embed(condition, self.features[used]), places)
        return scores

    def whole(self, condition: int) -> Tensor:
        """[N, k] the gallery under one condition; kept for the next batch, since batches come in runs of conditions."""
        if self._whole is None or self._whole[0] != condition:
            self._whole = (condition, self.embed(condition, self.features))
        return self._whole[1]
