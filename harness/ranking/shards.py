"""The items of a gallery whose scores one process computes. A whole gallery is one shard, or several of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.engine.engine import Held
from condsim.harness.errors import CondsimError
from condsim.harness.method import Queries, Scorer, TwoSided, query_side, score_side
from condsim.harness.process.cores import one_core_each
from condsim.harness.ranking.counting import Floats, count, pad_lists, pick
from condsim.harness.ranking.top_k import Best
from condsim.harness.task import Rows

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Entries:
    """Pairs of a query within the batch and a position among its candidates."""

    owner: Rows
    position: Rows

    def keep(self, which: NDArray[np.bool_]) -> Entries:
        return Entries(self.owner[which], self.position[which])

    def within(self, start: int, stop: int) -> NDArray[np.bool_]:
        return (self.position >= start) & (self.position < stop)


@dataclass(frozen=True)
class Batch:
    """B queries, and which of their scores are needed one by one. A position is one in the whole gallery, or, where the
    queries have candidates of their own, one in the query's own list."""

    side: Any
    """``harness.method.query_side`` of the queries."""
    size: int
    """B"""
    chunk: int | None
    """Gallery items that are scored at once; None: all of them."""
    listed: Entries
    """Entries whose scores are returned: relevant ones, and those of subsets."""
    not_counted: Entries
    not_best: Entries
    """Entries that are not among the best."""
    top: int
    own: Rows | None = None
    """[B, L] the queries' own candidates as gallery positions, padded with -1; None: they rank the gallery."""
    twins: Rows | None = None
    """[B, L] for each own candidate the first place of the same item in its list; None: no list repeats an item."""


@dataclass(frozen=True)
class Scan:
    """What a shard adds to the ranks of a batch."""

    higher: Rows
    """[B, G] its items that score higher than each threshold."""
    equal: Rows
    """[B, G] its items with exactly this score."""
    best: tuple[Floats, Rows] | None
    """[B, top] the best scores, and their positions, best first, padded with -inf at -1; None: none is needed."""


class Shards(Protocol):
    """One or more shards that hold a whole gallery. A batch has two rounds, because all shards count against the scores
    of the relevant items, and each of these is in one shard alone."""

    def batch(self) -> AbstractContextManager[None]:
        """Encloses the rounds of one batch: what is kept between them is freed at the end."""
        ...

    def listed(self, batch: Batch) -> tuple[Rows, Floats]:
        """Round 1: places in ``batch.listed``, each in one shard alone, and their scores."""
        ...

    def scan(self, thresholds: Floats) -> Scan:
        """Round 2: all items of the same batch against ``thresholds`` [B, G]."""
        ...


class NotFiniteError(Exception):
    """A score is NaN or infinite: (query within the batch, gallery position, score)."""


class Shard:
    """Consecutive items of a gallery, and the scorer that was prepared for them.

    If a gallery is scored in chunks, a shard has whole chunks of it (the last one of the gallery may be shorter), so
    that every product has the same shape and the same numbers in it as without other shards.
    """

    def __init__(self, scorer: Scorer, start: int, stop: int, device: torch.device, task: str) -> None:
        """``start`` and ``stop``: the shard's positions in the whole gallery. ``task``: its name, for messages."""
        self._scorer = scorer
        self._start, self._stop = start, stop
        self._device = device
        self._where = f"task {task}: the method"
        self._batch: Batch | None = None
        self._whole: Tensor | None = None

    def query_side(self, queries: Queries) -> Any:
        """``Batch.side`` of these queries. Raises CondsimError where the method writes into them."""
        with self._watch(queries, None), torch.no_grad():
            return query_side(self._scorer, queries)

    @contextmanager
    def batch(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._batch = self._whole = None

    def listed(self, batch: Batch) -> tuple[Rows, Floats]:
        """As ``Shards``. Raises NotFiniteError, and CondsimError for scores of another shape or type."""
        self._batch, self._whole = batch, None
        if batch.chunk is None:
            self._whole = self._all(batch)
            return np.arange(len(batch.listed.owner)), pick(self._whole, batch.listed.owner, batch.listed.position)
        places = np.flatnonzero(batch.listed.within(self._start, self._stop))
        owner, position = batch.listed.owner[places], batch.listed.position[places]
        items = np.unique(position)
        place = np.searchsorted(items, position)
        out, size = np.zeros(len(position), dtype=np.float64), batch.chunk

        def score(start: int) -> torch.dtype:
            here = items[start : start + size]
            scores = self._items(batch, torch.from_numpy(here - self._start).to(self._device), size)
            self._require_finite(scores, float(scores.sum()), here)
            inside = (place >= start) & (place < start + size)
            out[inside] = pick(scores, owner[inside], place[inside] - start)
            return scores.dtype

        types = self._at_once(batch, score, range(0, len(items), size))
        return places, out if torch.float64 in types else out.astype(np.float32)

    def scan(self, thresholds: Floats) -> Scan:
        """As ``Shards``. Raises NotFiniteError, and CondsimError for scores of another shape or type."""
        batch = self._batch
        assert batch is not None
        if self._whole is not None:
            return self._scan(batch, thresholds, [(0, self._whole)])
        assert batch.chunk is not None
        starts = range(0, self._stop - self._start, batch.chunk)
        runs = -(-len(starts) // self._threads)

        def scan(chunks: range) -> Scan:
            return self._scan(batch, thresholds, self._blocks(batch, chunks))

        parts = [starts[first : first + runs] for first in range(0, len(starts), runs)] if starts else [starts]
        return merged(self._at_once(batch, scan, parts))

    def _scan(self, batch: Batch, thresholds: Floats, blocks: Iterable[tuple[int, Tensor]]) -> Scan:
        """``scan`` of (first position, [B, n] unchecked scores) of consecutive ``blocks``."""
        best = Best(batch.top, batch.not_best.owner, batch.not_best.position)
        higher, equal = np.zeros((2, *thresholds.shape), dtype=np.int64)
        empty = True
        for start, scores in blocks:
            counted = count(scores, thresholds)
            if batch.own is None and not math.isfinite(counted.total):
                self._require_finite(scores, counted.total, np.arange(start, start + scores.shape[1]))
            if thresholds.size:
                out = batch.not_counted.keep(batch.not_counted.within(start, start + scores.shape[1]))
                listed = pad_lists(out.owner, pick(scores, out.owner, out.position - start), batch.size)
                not_counted = count(listed, thresholds)
                higher += counted.higher - not_counted.higher
                equal += counted.equal - not_counted.equal
            if batch.top:
                best.add(scores, start)
            empty = False
            del scores  # the next chunk takes its memory, which is still in the cache
        if not batch.top or empty:
            return Scan(higher, equal, None)
        top = best.top()
        return Scan(higher, equal, (top.scores.cpu().numpy(), top.positions.cpu().numpy()))

    def _blocks(self, batch: Batch, chunks: range) -> Iterator[tuple[int, Tensor]]:
        """(first position, [B, n] scores, unchecked) of the chunks that begin at the shard's items ``chunks``."""
        items = self._stop - self._start
        for first in chunks:
            if self._batch is not batch:  # another thread has failed, or the user has interrupted
                return
            rows = torch.arange(first, min(first + chunks.step, items), device=self._device)
            yield self._start + first, self._items(batch, rows, chunks.step)

    @property
    def _threads(self) -> int:
        """Number of chunks that are scored at once: one per core where the scorer allows it."""
        concurrent = isinstance(self._scorer, TwoSided) and self._scorer.concurrent
        return torch.get_num_threads() if concurrent and self._device.type == "cpu" else 1

    def _at_once(self, batch: Batch, job: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
        """``job`` of each part, in order. Where several cores score chunks, every product is on one core, also in a
        round that has one part: then equal items score equally in both rounds, for any number of cores. A narrow
        product, and sums over its scores, gain little from a second core."""
        if self._threads == 1 or self._start == self._stop:
            return [job(part) for part in parts]
        self._score(batch, torch.zeros(1, dtype=torch.int64), 1)  # what the scorer keeps of a batch, on all cores
        with one_core_each(max(1, min(self._threads, len(parts)))) as pool:
            try:
                return list(pool.map(job, parts))
            except BaseException:
                self._batch = None  # the other threads stop at their next chunk
                raise

    def _all(self, batch: Batch) -> Tensor:
        """[B, N] scores of the whole gallery, unchecked, or [B, L] of the queries' own lists, padded with -inf."""
        if batch.own is None:
            return self._score(batch, None, self._stop - self._start)
        scores = self._score(batch, torch.from_numpy(batch.own).to(self._device), batch.own.shape[1])
        self._require_finite(scores, float(scores.sum()), batch.own)
        if batch.twins is not None:
            # A batched product may give one image two scores that differ in the last bit; use one of them.
            scores = scores.gather(1, torch.from_numpy(batch.twins).to(self._device))
        return scores.masked_fill(torch.from_numpy(batch.own < 0).to(self._device), -torch.inf)

    def _items(self, batch: Batch, rows: Tensor, size: int) -> Tensor:
        """[B, len(rows)] scores of the shard's ``rows``. Every call scores ``size`` items: with the same kernel, equal
        items score equally."""
        short = size - len(rows)
        padded = torch.cat((rows, rows[-1:].expand(short))) if short else rows
        return self._score(batch, padded, size)[:, : len(rows)]

    def _score(self, batch: Batch, rows: Tensor | None, width: int) -> Tensor:
        with self._watch(batch.side, rows), torch.no_grad():
            scores = score_side(self._scorer, batch.side, rows)
        expected = (batch.size, width)
        if not isinstance(scores, Tensor):
            raise CondsimError(
                f"{self._where} returned {type(scores).__name__}, expected a float32 tensor of shape {expected}"
            )
        if tuple(scores.shape) != expected or not scores.is_floating_point():
            raise CondsimError(
                f"{self._where} returned {scores.dtype} scores of shape {tuple(scores.shape)}, expected float32 of "
                f"shape {expected}"
            )
        scores = scores.detach()
        # Scores that differ only in float64 are not tied, so float64 scores are not rounded.
        return scores if scores.dtype == torch.float64 else scores.float()

    @contextmanager
    def _watch(self, side: Any, rows: Tensor | None) -> Iterator[None]:
        """Raises CondsimError where the method writes into the queries or rows inside the ``with`` statement."""
        received = {"rows": rows}
        if isinstance(side, Queries):
            received |= {"queries": side.reference, "the queries' texts": side.text}
        before = [_writes(tensor) for tensor in received.values()]
        yield
        for (name, tensor), count_before in zip(received.items(), before, strict=True):
            if _writes(tensor) != count_before:
                raise CondsimError(f"{self._where} wrote into {name}; clone them first")

    @staticmethod
    def _require_finite(scores: Tensor, total: float, positions: Rows) -> None:
        """Raises NotFiniteError for the first of the ``scores`` [B, n] that is not finite, if ``total`` is not finite.

        ``positions``: gallery positions, [n] or [B, n].
        """
        if math.isfinite(total):
            return
        for row, column in (~torch.isfinite(scores)).nonzero()[:1].tolist():
            position = positions[column] if positions.ndim == 1 else positions[row, column]
            raise NotFiniteError(row, int(position), float(scores[row, column]))


@dataclass(frozen=True)
class HeldShards:
    """The shards that an engine's workers keep, together."""

    held: Held
    """Parts with ``Shards.listed`` and ``Shards.scan``."""

    def batch(self) -> AbstractContextManager[None]:
        return self.held.batch()

    def listed(self, batch: Batch) -> tuple[Rows, Floats]:
        return joined(self.held.all("listed", batch))

    def scan(self, thresholds: Floats) -> Scan:
        return merged(self.held.all("scan", thresholds))


def joined(listed: Sequence[tuple[Rows, Floats]]) -> tuple[Rows, Floats]:
    """``Shards.listed`` of several shards together."""
    places, scores = zip(*listed, strict=True)
    return np.concatenate(places), np.concatenate(scores)


def merged(scans: Sequence[Scan]) -> Scan:
    """The scan of all shards together, from theirs in the order of the gallery: counts add up, ties keep the order."""
    higher, equal = (np.sum([getattr(scan, name) for scan in scans], axis=0) for name in ("higher", "equal"))
    tops = [scan.best for scan in scans if scan.best is not None]
    if len(tops) < 2:
        return Scan(higher, equal, tops[0] if tops else None)
    scores, positions = (np.concatenate(parts, axis=1) for parts in zip(*tops, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, : tops[0][0].shape[1]]
    best = np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)
    return Scan(higher, equal, best)


def _writes(tensor: Tensor | None) -> int | None:
    """torch's number of in-place writes into a tensor."""
    return None if tensor is None or tensor.is_inference() else int(tensor._version)
