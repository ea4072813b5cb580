"""A method on top of a base, on a gallery in parts: the workers rank by the base, the second step is done here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from condsim.harness.backbone import ImageParts
from condsim.harness.method import Expands, Gallery, Queries, Reranks, prepared_scorer
from condsim.harness.ranking.counting import Floats, count
from condsim.harness.ranking.shards import Batch, Entries, NotFiniteError, Scan, Shard, Shards
from condsim.harness.task import Rows, Task

_NONE = Entries(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def expanded(
    method: Expands, queries: Queries, images: ImageParts, shards: Shards, side: Any, chunk: int | None
) -> Queries:
    """The queries of a batch, changed. ``side``: the base's, of the unchanged ones; ``chunk`` as in ``Batch``."""
    if not method.neighbors:
        return queries
    row = queries.reference_row.numpy()
    inside = np.flatnonzero((row >= 0) & (row < len(images.parts)))
    batch = Batch(side, len(queries), chunk, _NONE, _NONE, _NONE, 0)
    scores, positions = _best(shards, batch, method.neighbors, Entries(inside, row[inside]))
    items = images.gather(torch.from_numpy(positions.ravel())).reshape(*positions.shape, -1)
    return method.expanded(queries, items, torch.from_numpy(scores))


class Reranked:
    """``Shards`` of a base, whose best items ``method`` scores again."""

    def __init__(self, base: Shards, method: Reranks, images: ImageParts, gallery: Gallery, task: Task) -> None:
        """``gallery``: without items, and with the base's statistics of the whole gallery."""
        self._base, self._method, self._images, self._gallery, self._task = base, method, images, gallery, task
        self.queries: Queries | None = None
        """Those of the next batch."""

    def batch(self) -> AbstractContextManager[None]:
        return self._base.batch()

    def listed(self, batch: Batch) -> tuple[Rows, Floats]:
        self._batch = batch
        self._before, self._positions = _best(self._base, batch, self._method.shortlist + 1, _NONE)
        self._after = self._scored_again()
        places, scores = self._base.listed(batch)
        owner, position = batch.listed.owner[places], batch.listed.position[places]
        same = self._positions[owner] == position[:, None]
        again = self._after[owner, same.argmax(axis=1)]
        return places, np.where(same.any(axis=1), again, scores)

    def scan(self, thresholds: Floats) -> Scan:
        scan, batch = self._base.scan(thresholds), self._batch
        counted = ~self._among(batch.not_counted)
        before, after = (
            count(np.where(counted, scores, -np.inf), thresholds) for scores in (self._before, self._after)
        )
        higher = scan.higher - before.higher + after.higher
        equal = scan.equal - before.equal + after.equal
        if scan.best is None:
            return Scan(higher, equal, None)
        others, places = scan.best
        again = (places[:, :, None] == self._positions[:, None, :]).any(axis=2)
        ranked = np.where(self._among(batch.not_best), -np.inf, self._after)
        scores = np.concatenate([ranked, np.where(again, -np.inf, others)], axis=1).astype(self._after.dtype)
        positions = np.concatenate([self._positions, places], axis=1)
        order = np.lexsort((positions, -scores), axis=1)[:, : batch.top]
        best = np.take_along_axis(scores, order, axis=1)
        return Scan(higher, equal, (best, np.where(np.isinf(best), -1, np.take_along_axis(positions, order, axis=1))))

    def _among(self, entries: Entries) -> NDArray[np.bool_]:
        """[B, shortlist + 1] which of the best items are among ``entries``."""
        items = len(self._images.parts)
        keys = np.arange(len(self._positions))[:, None] * items + self._positions
        return np.isin(keys, entries.owner * items + entries.position) & (self._positions >= 0)

    def _scored_again(self) -> Floats:
        """[B, shortlist + 1] the method's scores of the base's best items; the lowest keeps the base's score."""
        assert self.queries is not None
        items, rows = np.unique(self._positions, return_inverse=True)
        rows = rows.reshape(self._positions.shape)
        if items[0] < 0:  # a gallery of fewer items
            items, rows = items[1:], rows - 1
        gallery = replace(
            self._gallery,
            features=self._images.gather(torch.from_numpy(items)),
            table=self._task.images.take(items),
            rows=np.arange(len(items)),
        )
        scorer = prepared_scorer(self._method, gallery)
        shard = Shard(scorer, 0, len(items), gallery.features.device, self._task.full_name)
        entries, side = Entries(*np.nonzero(rows >= 0)), shard.query_side(self.queries)
        try:
            _, scores = shard.listed(Batch(side, len(rows), None, entries, _NONE, _NONE, 0, own=rows))
        except NotFiniteError as error:
            row, item, score = error.args
            raise NotFiniteError(row, int(items[item]), score) from None
        after = np.full(rows.shape, -np.inf, dtype=scores.dtype)
        after[rows >= 0] = scores
        beyond = np.flatnonzero((rows >= 0).all(axis=1))
        lowest = after[beyond].argmin(axis=1)
        after[beyond, lowest] = self._before[beyond, lowest]
        return after


def _best(shards: Shards, batch: Batch, top: int, not_best: Entries) -> tuple[Floats, Rows]:
    """[B, top] the best scores of the gallery and their positions, padded with -inf at -1."""
    shards.listed(replace(batch, listed=_NONE, not_counted=_NONE, not_best=not_best, top=top))
    best = shards.scan(np.zeros((batch.size, 0), dtype=np.float32)).best
    assert best is not None
    return best
