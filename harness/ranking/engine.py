"""From a prepared method to ranks: scores are computed and counted in batches of bounded size, then freed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.memory import all_freed_memory_kept
from condsim.harness.memory_map import gather
from condsim.harness.method import Queries, Scorer
from condsim.harness.ranking.candidates import CandidateLists
from condsim.harness.ranking.counting import (
    Floats,
    count,
    group_scores,
    pad_lists,
    pick,
    ranks_of,
)
from condsim.harness.ranking.metrics import needs_complete
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.ranking.top_k import Best, top_positions
from condsim.harness.task import Ragged, Rows, Task

_FEW_QUERIES = 256
"""With fewer queries per batch, reading the gallery costs more than computing: the gallery is scored in chunks."""
_CHUNK_QUERIES = 512
_CPU_BLOCK = 96 << 20
"""Bytes of scores per batch on the CPU: larger products are faster, but above this size they gain little."""
_CPU_PIECE = 10 << 20
"""Bytes of scores per chunk of the gallery on the CPU: narrow products are faster in smaller chunks."""


@dataclass(frozen=True)
class Ranking:
    """The ranking of a task of Q queries by one method, in the order of the task's queries."""

    ranks: Ranks
    subset_ranks: Ranks | None
    """Ranks within ``task.subset``, from the same scores."""
    top: Rows | None
    """[Q, top] the best candidates as rows of the image table; ties keep the gallery's order; -1: no candidate left."""
    subset_top: Rows | None
    """[Q, top] the best candidates of ``task.subset``, in the same form."""
    top_scores: Floats | None = None
    """[Q, top] the scores of ``top``; -inf: no candidate left."""


@all_freed_memory_kept()
def rank_task(
    task: Task,
    scorer: Scorer,
    image_features: Tensor,
    condition_features: Tensor,
    *,
    references: Tensor | None = None,
    pointwise: bool = True,
    top: int = 0,
    budget_bytes: int = 256 << 20,
    progress: Callable[[int], None] | None = None,
) -> Ranking:
    """Rank every query of ``task`` by ``scorer``, which was prepared for a gallery of ``task.gallery_rows``.

    ``image_features`` [len(task.images), D] and ``condition_features`` [len(task.conditions), D] are raw. Queries are
    scored in batches, sorted by condition. Scores and gathered features stay within ``budget_bytes`` each. If a few
    queries against the whole gallery exceed it, a ``pointwise`` method gets the gallery in chunks of equal size, with
    the same ``Queries`` object for all chunks of a batch (so it may cache what it computes from them). Any other method
    gets the whole gallery and fewer queries per batch.

    ``references`` [Q, D]: raw features of the references, where some of them are not images of the task; a row of zeros
    is a query without a reference. None: the rows ``task.reference`` of ``image_features``.

    A list of candidates may contain a row several times. If ``task.relevant`` lists the row n times, its first n copies
    are relevant, and the others are in an exact tie with them. ``progress`` gets the number of queries of each finished
    batch.

    Raises CondsimError, naming the query, if a score is NaN or infinite or if the lists contradict each other.
    """
    lists = CandidateLists.of(task)
    complete = needs_complete(task.metrics)
    batch, chunk = _sizes(task, lists, image_features, pointwise, budget_bytes)
    order = np.argsort(task.condition, kind="stable")
    lists = lists.take(order)
    parts: list[Ranking] = []
    for start in range(0, len(order), batch):
        which = order[start : start + batch]
        queries = _queries(task, which, image_features, condition_features, references)
        scoring = _Scoring(task, lists.part(start, start + len(which)), scorer, which, queries)
        parts.append(_rank_batch(scoring, chunk, complete, top))
        if progress is not None:
            progress(len(which))
    back = np.argsort(order)
    subset_ranks = [part.subset_ranks for part in parts if part.subset_ranks is not None]
    tops = [part.top for part in parts if part.top is not None]
    subset_tops = [part.subset_top for part in parts if part.subset_top is not None]
    top_scores = [part.top_scores for part in parts if part.top_scores is not None]
    return Ranking(
        Ranks.join([part.ranks for part in parts]).take(back),
        Ranks.join(subset_ranks).take(back) if subset_ranks else None,
        np.concatenate(tops)[back] if tops else None,
        np.concatenate(subset_tops)[back] if subset_tops else None,
        np.concatenate(top_scores)[back] if top_scores else None,
    )


def _sizes(task: Task, lists: CandidateLists, features: Tensor, pointwise: bool, budget: int) -> tuple[int, int | None]:
    """Queries per batch, and gallery items per chunk (None: the whole gallery)."""
    item = 4 * max(1, features.shape[1])
    most_relevant = int(lists.relevant.lengths.max(initial=1))
    on_cpu = features.device.type == "cpu"
    block, piece = (min(budget, _CPU_BLOCK), min(budget, _CPU_PIECE)) if on_cpu else (budget, budget)
    if lists.local is not None:
        longest = int(lists.local.lengths.max(initial=1))
        return max(1, min(block // (longest * item), budget // (4 * most_relevant))), None
    row = 4 * len(task.gallery_rows)
    if pointwise and min(_FEW_QUERIES, len(task)) * row > budget:
        batch = max(1, min(len(task), _CHUNK_QUERIES, budget // (4 * most_relevant)))
        return batch, max(1, min(piece // (4 * batch), budget // item))
    return max(1, min(budget // row, max(_FEW_QUERIES, block // row))), None


def _queries(
    task: Task, which: Rows, image_features: Tensor, condition_features: Tensor, references: Tensor | None
) -> Queries:
    device = image_features.device

    def features_of(features: Tensor, index: Rows) -> Tensor:
        known = index >= 0
        if not known.any():
            return torch.zeros(len(index), image_features.shape[1], device=device)
        rows = torch.from_numpy(np.where(known, index, 0)).to(features.device)
        gathered = gather(features, rows).float().to(device)
        return gathered if known.all() else gathered * torch.from_numpy(known).to(device).unsqueeze(1)

    reference, condition = task.reference[which], task.condition[which]
    return Queries(
        reference=features_of(image_features, reference) if references is None else references[which],
        text=features_of(condition_features, condition),
        condition=torch.from_numpy(condition).to(device),
        reference_row=torch.from_numpy(reference).to(device),
        row=torch.from_numpy(which).to(device),
    )


@dataclass(frozen=True)
class _Scoring:
    """One batch of queries with its scorer."""

    task: Task
    lists: CandidateLists
    scorer: Scorer
    which: Rows
    queries: Queries

    def all(self) -> Tensor:
        """[B, N] scores of the whole gallery, unchecked, or [B, L] of the queries' own lists, padded with -inf."""
        if self.lists.local is None:
            return self._score(None, len(self.task.gallery_rows))
        device = self.queries.condition.device
        rows = self.lists.local.padded()
        scores = self._score(torch.from_numpy(rows).to(device), rows.shape[1])
        self.require_finite(scores, float(scores.sum()), items=rows)
        if self.lists.twins is not None:
            # A batched product may give one image two scores that differ in the last bit; use one of them.
            scores = scores.gather(1, torch.from_numpy(self.lists.twins.padded(0)).to(device))
        return scores.masked_fill(torch.from_numpy(rows < 0).to(device), -torch.inf)

    def chunks(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """Yield (first position, [B, <= size] scores, unchecked) for each chunk of the gallery."""
        items = len(self.task.gallery_rows)
        for start in range(0, items, size):
            yield start, self._items(np.arange(start, min(start + size, items)), size)

    def listed(self, owner: Rows, position: Rows, size: int) -> Floats:
        """The scores of query ``owner[i]`` (within the batch) for the gallery's item ``position[i]``."""
        items = np.unique(position)
        place = np.searchsorted(items, position)
        out, types = np.zeros(len(position), dtype=np.float64), set()
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            scores = self._items(chunk, size)
            self.require_finite(scores, float(scores.sum()), items=np.broadcast_to(chunk, tuple(scores.shape)))
            inside = (place >= start) & (place < start + size)
            out[inside] = pick(scores, owner[inside], place[inside] - start)
            types.add(scores.dtype)
        return out if torch.float64 in types else out.astype(np.float32)

    def require_finite(self, scores: Tensor, total: float, *, start: int = 0, items: Rows | None = None) -> None:
        """Raises CondsimError, naming the first of the ``scores`` that is not finite, if ``total`` is not finite.

        The scores are for the gallery's items from ``start`` on, or for ``items`` [B, N].
        """
        if math.isfinite(total):
            return
        for row, column in (~torch.isfinite(scores)).nonzero()[:1].tolist():
            query = int(self.which[row])
            ident = f" (id {self.task.query_ids[query]})" if self.task.query_ids else ""
            item = start + column if items is None else items[row, column]
            image = self.task.images.names[self.task.gallery_rows[item]]
            what = f"scored {image} with {float(scores[row, column])} for query {query}{ident}"
            raise CondsimError(f"task {self.task.full_name}: the method {what}")

    def _items(self, items: Rows, size: int) -> Tensor:
        """[B, len(items)] scores. Every call scores ``size`` items: with the same kernel, equal items score equally."""
        padded = items if len(items) == size else np.pad(items, (0, size - len(items)), mode="edge")
        return self._score(torch.from_numpy(padded).to(self.queries.condition.device), size)[:, : len(items)]

    def _score(self, rows: Tensor | None, width: int) -> Tensor:
        received = {"queries": self.queries.reference, "the queries' texts": self.queries.text, "rows": rows}
        before = [_writes(tensor) for tensor in received.values()]
        with torch.no_grad():
            scores = self.scorer(self.queries, rows)
        for (name, tensor), count_before in zip(received.items(), before, strict=True):
            if _writes(tensor) != count_before:
                raise CondsimError(f"task {self.task.full_name}: the method wrote into {name}; clone them first")
        expected = (len(self.which), width)
        if not isinstance(scores, Tensor):
            raise CondsimError(
                f"task {self.task.full_name}: the method returned {type(scores).__name__}, expected a float32 tensor "
                f"of shape {expected}"
            )
        if tuple(scores.shape) != expected or not scores.is_floating_point():
            raise CondsimError(
                f"task {self.task.full_name}: the method returned {scores.dtype} scores of shape "
                f"{tuple(scores.shape)}, expected float32 of shape {expected}"
            )
        scores = scores.detach()
        # Scores that differ only in float64 are not tied, so float64 scores are not rounded.
        return scores if scores.dtype == torch.float64 else scores.float()


def _writes(tensor: Tensor | None) -> int | None:
    """torch's number of in-place writes into a tensor."""
    return None if tensor is None or tensor.is_inference() else int(tensor._version)


def _rank_batch(scoring: _Scoring, chunk: int | None, complete: bool, top: int) -> Ranking:
    lists, queries = scoring.lists, len(scoring.which)
    relevant, excluded, subset = lists.relevant, lists.excluded, lists.subset
    listed = _entries(relevant, subset)
    out = _entries(excluded)
    best = Best(top, *out)
    if chunk is None:
        whole = scoring.all()
        listed_scores = pick(whole, *listed)
        blocks: Iterable[tuple[int, Tensor]] = [(0, whole)]
    else:
        listed_scores = scoring.listed(*listed, chunk)
        blocks = scoring.chunks(chunk)
    groups = group_scores(listed_scores[: len(relevant.values)], relevant.offsets, complete)
    higher, equal = np.zeros((2, *groups.thresholds.shape), dtype=np.int64)
    if chunk is not None:
        # The relevant candidates were scored in an earlier pass, which may differ in the last bit. They are compared
        # with each other by the scores of that pass alone, so that none is above itself, and are not counted below.
        higher[groups.is_group], equal[groups.is_group] = groups.relevant_above, groups.sizes
        out = _entries(excluded, relevant)
    out_owner, out_position = out
    for start, scores in blocks:
        counted = count(scores, groups.thresholds)
        if lists.local is None:
            scoring.require_finite(scores, counted.total, start=start)
        if groups.thresholds.size:
            inside = (out_position >= start) & (out_position < start + scores.shape[1])
            owner, position = out_owner[inside], out_position[inside] - start
            not_counted = count(pad_lists(owner, pick(scores, owner, position), queries), groups.thresholds)
            higher += counted.higher - not_counted.higher
            equal += counted.equal - not_counted.equal
        if top:
            best.add(scores, start)
    ranks = ranks_of(groups, higher, equal, relevant.lengths, lists.size, complete)
    if lists.target is not None and complete:
        of_target = listed_scores[relevant.offsets[:-1] + lists.target]
        ranks = replace(ranks, target=((groups.thresholds > of_target[:, None]) & groups.is_group).sum(axis=1))
    top_rows = _image_rows(scoring, best.top().positions) if top else None
    top_scores = best.top().scores.cpu().numpy() if top else None
    if subset is None or lists.subset_relevant is None:
        return Ranking(ranks, None, top_rows, None, top_scores)

    scores_in_subset = listed_scores[len(relevant.values) :]
    subset_ranks = _rank_lists(subset, scores_in_subset, lists.subset_relevant.values == 1, complete)
    if not top:
        return Ranking(ranks, subset_ranks, top_rows, None)
    padded = pad_lists(_entries(subset)[0], scores_in_subset, queries)
    places = top_positions(torch.from_numpy(padded), top).positions.numpy()
    positions = np.take_along_axis(subset.padded(), np.maximum(places, 0), axis=1)
    subset_top = np.where(places < 0, -1, scoring.task.gallery_rows[positions])
    return Ranking(ranks, subset_ranks, top_rows, subset_top, top_scores)


def _rank_lists(lists: Ragged, scores: Floats, is_relevant: NDArray[np.bool_], complete: bool) -> Ranks:
    """Ranks within ``lists``, from the flat scores of all their entries."""
    owner = _entries(lists)[0]
    total = np.bincount(owner[is_relevant], minlength=len(lists))
    groups = group_scores(scores[is_relevant], np.concatenate([[0], np.cumsum(total)]), complete)
    higher, equal, _ = count(pad_lists(owner, scores, len(lists)), groups.thresholds)
    return ranks_of(groups, higher, equal, total, lists.lengths, complete)


def _entries(*lists: Ragged | None) -> tuple[Rows, Rows]:
    """(query within the batch, position) of every entry of ``lists``, in order."""
    present = [part for part in lists if part is not None]
    return np.concatenate([part.owner for part in present]), np.concatenate([part.values for part in present])


def _image_rows(scoring: _Scoring, positions: Tensor) -> Rows:
    """Rows of the image table for positions [B, k] among the scores; -1 stays -1."""
    places = positions.cpu().numpy()
    items = np.maximum(places, 0)
    if scoring.lists.local is not None:
        items = np.take_along_axis(scoring.lists.local.padded(), items, axis=1)
    return np.where(places < 0, -1, scoring.task.gallery_rows[items])
