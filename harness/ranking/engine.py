"""From a prepared method to ranks: scores are computed and counted in batches of bounded size, then freed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.files.gallery_parts import GRAIN
from condsim.harness.files.memory_map import gather
from condsim.harness.method import Queries, Scorer
from condsim.harness.process.memory import all_freed_memory_kept
from condsim.harness.ranking.candidates import CandidateLists
from condsim.harness.ranking.counting import (
    Floats,
    count,
    group_scores,
    pad_lists,
    ranks_of,
)
from condsim.harness.ranking.metrics import needs_complete
from condsim.harness.ranking.ranks import Ranks
from condsim.harness.ranking.shards import Batch, Entries, NotFiniteError, Shard, Shards
from condsim.harness.ranking.top_k import top_positions
from condsim.harness.task import Ragged, Rows, Task

BUDGET = 256 << 20
"""Bytes of scores, and of gathered features, at a time; on a GPU at least this number (``budget_on``)."""
_FEW_QUERIES = 256
"""With fewer queries per batch, reading the gallery costs more than computing: the gallery is scored in chunks."""
_CHUNK_QUERIES = 512
_LARGE = 1 << 22
"""A gallery of more items is scored in chunks for any number of queries, except on a GPU."""
_CPU_BLOCK = 96 << 20
"""Bytes of scores per batch on the CPU: larger products are faster, but above this size they gain little."""
_CPU_PIECE = 4 << 20
"""Bytes of scores per chunk of the gallery on the CPU: they are still in the cache when they are counted. Rows of
32 KiB, a power of two, use few sets of the cache: a narrow product takes almost twice as long as with shorter rows.
With half the size the product is quicker (for CLAY by 7 % with 256 queries), but twice as many chunks cost as much."""


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
    budget_bytes: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ranking:
    """Rank every query of ``task`` by ``scorer``, which was prepared for a gallery of ``task.gallery_rows``.

    ``image_features`` [len(task.images), D] and ``condition_features`` [len(task.conditions), D] are raw. Queries are
    scored in batches, sorted by condition. Scores and gathered features stay within ``budget_bytes`` each (None:
    ``budget_on`` the features' device). If a few queries against the whole gallery exceed it, a ``pointwise`` method
    gets the gallery in chunks of equal size, with the same ``Queries`` object for all chunks of a batch (so it may
    cache what it computes from them). Any other method gets the whole gallery and fewer queries per batch.

    ``references`` [Q, D]: raw features of the references, where some of them are not images of the task; a row of zeros
    is a query without a reference. None: the rows ``task.reference`` of ``image_features``.

    A list of candidates may contain a row several times. If ``task.relevant`` lists the row n times, its first n copies
    are relevant, and the others are in an exact tie with them. ``progress`` gets the number of queries of each finished
    batch.

    Raises CondsimError, naming the query, if a score is NaN or infinite or if the lists contradict each other.
    """
    lists = CandidateLists.of(task)
    width, device = image_features.shape[1], image_features.device
    budget = budget_on(device) if budget_bytes is None else budget_bytes
    grid = Grid.of(task, lists, width, device.type == "cpu", budget, whole=not pointwise)
    shard = Shard(scorer, 0, task.gallery_size, device, task.full_name)

    def side(which: Rows) -> Any:
        if references is None:
            reference = rows_or_zeros(image_features, task.reference[which], device)
        else:
            reference = references[which]
        return shard.query_side(queries_of(task, which, reference, condition_features))

    return rank_shards(task, lists, grid, shard, side, top=top, progress=progress)


def rank_shards(
    task: Task,
    lists: CandidateLists,
    grid: Grid,
    shards: Shards,
    side: Callable[[Rows], Any],
    *,
    top: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Ranking:
    """``rank_task`` with the scores of ``shards``. ``side``: queries of the task -> ``Batch.side`` of them."""
    complete = needs_complete(task.metrics)
    order = np.argsort(task.condition, kind="stable")
    lists = lists.take(order)
    parts: list[Ranking] = []
    for start in range(0, len(order), grid.batch):
        which = order[start : start + grid.batch]
        batch_lists = lists.part(start, start + len(which))
        parts.append(_rank_batch(task, shards, side(which), batch_lists, which, grid.chunk, complete, top))
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


def budget_on(device: torch.device) -> int:
    """Bytes of scores at a time on ``device``. On a GPU, a 32nd of its memory: every batch starts some eighty small
    operations, which take longer than the product of a small batch."""
    if device.type != "cuda":
        return BUDGET
    return max(BUDGET, torch.cuda.get_device_properties(device).total_memory // 32)


@dataclass(frozen=True)
class Grid:
    """How a task is cut: decided from the task, the features' width and the kind of device alone (on a GPU, also its
    memory), so that all processes that rank parts of one gallery compute products of the same shapes."""

    batch: int
    """Queries per batch."""
    chunk: int | None
    """Gallery items per chunk, a power of two, at most ``GRAIN`` on a CPU; None: the whole gallery at once."""

    @classmethod
    def of(
        cls,
        task: Task,
        lists: CandidateLists,
        width: int,
        on_cpu: bool,
        budget: int,
        *,
        whole: bool,
        parts: bool = False,
    ) -> Grid:
        """``whole``: the gallery must not be cut, because a score may depend on the other candidates. ``parts``: it has
        to be, because it is in parts."""
        item = 4 * max(1, width)
        most_relevant = int(lists.relevant.lengths.max(initial=1))
        block, piece = (min(budget, _CPU_BLOCK), min(budget, _CPU_PIECE)) if on_cpu else (budget, budget)
        if lists.local is not None:
            longest = int(lists.local.lengths.max(initial=1))
            return cls(max(1, min(block // (longest * item), budget // (4 * most_relevant))), None)
        items = task.gallery_size
        row = 4 * items
        if not whole and (parts or (on_cpu and items > _LARGE) or min(_FEW_QUERIES, len(task)) * row > budget):
            batch = max(1, min(len(task), _CHUNK_QUERIES, budget // (4 * most_relevant)))
            # A GPU ranks no gallery in parts, and its chunks cost more to start than to compute.
            chunk = max(1, min(piece // (4 * batch), budget // item, GRAIN if on_cpu else items))
            return cls(batch, 1 << chunk.bit_length() - 1)
        return cls(max(1, min(budget // row, max(_FEW_QUERIES, block // row))), None)


def queries_of(task: Task, which: Rows, reference: Tensor, condition_features: Tensor) -> Queries:
    """The queries ``which`` of a task, with the raw features ``reference`` [B, D] of their references."""
    device, condition = reference.device, task.condition[which]
    return Queries(
        reference=reference,
        text=rows_or_zeros(condition_features, condition, device),
        condition=torch.from_numpy(condition).to(device),
        reference_row=torch.from_numpy(task.reference[which]).to(device),
        row=torch.from_numpy(which).to(device),
    )


def rows_or_zeros(features: Tensor, rows: Rows, device: torch.device) -> Tensor:
    """float32 [len(rows), D] ``features`` of ``rows`` on ``device``; zeros for row -1."""
    known = rows >= 0
    if not known.any():
        return torch.zeros(len(rows), features.shape[1], device=device)
    gathered = gather(features, torch.from_numpy(np.where(known, rows, 0)).to(features.device)).float().to(device)
    return gathered if known.all() else gathered * torch.from_numpy(known).to(device).unsqueeze(1)


def _rank_batch(
    task: Task,
    shards: Shards,
    side: Any,
    lists: CandidateLists,
    which: Rows,
    chunk: int | None,
    complete: bool,
    top: int,
) -> Ranking:
    relevant, subset = lists.relevant, lists.subset
    excluded = _entries(lists.excluded)
    batch = Batch(
        side,
        len(which),
        chunk,
        listed=_entries(relevant, subset),
        # In chunks the relevant candidates are scored in a pass of their own, which may differ in the last bit. They
        # are compared with each other by the scores of that pass alone, so that none is above itself.
        not_counted=excluded if chunk is None else _entries(lists.excluded, relevant),
        not_best=excluded,
        top=top,
        own=None if lists.local is None else lists.local.padded(),
        twins=None if lists.twins is None else lists.twins.padded(0),
    )
    with shards.batch(), _naming(task, which):
        places, scores = shards.listed(batch)
        listed_scores = np.zeros(len(batch.listed.owner), dtype=scores.dtype)
        listed_scores[places] = scores
        groups = group_scores(listed_scores[: len(relevant.values)], relevant.offsets, complete)
        scan = shards.scan(groups.thresholds)
    if chunk is not None:
        scan.higher[groups.is_group] += groups.relevant_above
        scan.equal[groups.is_group] += groups.sizes
    ranks = ranks_of(groups, scan.higher, scan.equal, relevant.lengths, lists.size, complete)
    if lists.target is not None and complete:
        of_target = listed_scores[relevant.offsets[:-1] + lists.target]
        ranks = replace(ranks, target=((groups.thresholds > of_target[:, None]) & groups.is_group).sum(axis=1))
    top_scores, best_places = scan.best if scan.best is not None else (None, None)
    top_rows = None if best_places is None else _image_rows(task, lists, best_places)
    if subset is None or lists.subset_relevant is None:
        return Ranking(ranks, None, top_rows, None, top_scores)

    scores_in_subset = listed_scores[len(relevant.values) :]
    subset_ranks = _rank_lists(subset, scores_in_subset, lists.subset_relevant.values == 1, complete)
    if not top:
        return Ranking(ranks, subset_ranks, top_rows, None)
    padded = pad_lists(subset.owner, scores_in_subset, len(which))
    best = top_positions(torch.from_numpy(padded), top).positions.numpy()
    positions = np.take_along_axis(subset.padded(), np.maximum(best, 0), axis=1)
    subset_top = np.where(best < 0, -1, task.rows_at(positions))
    return Ranking(ranks, subset_ranks, top_rows, subset_top, top_scores)


@contextmanager
def _naming(task: Task, which: Rows) -> Iterator[None]:
    """Raises CondsimError, naming the query and the image, for a score that is not finite."""
    try:
        yield
    except NotFiniteError as error:
        row, position, score = error.args
        image = task.images.names[int(task.rows_at(np.array(position)))]
        raise CondsimError(
            f"task {task.full_name}: the method scored {image} with {score} for {task.described(int(which[row]))}"
        ) from None


def _rank_lists(lists: Ragged, scores: Floats, is_relevant: NDArray[np.bool_], complete: bool) -> Ranks:
    """Ranks within ``lists``, from the flat scores of all their entries."""
    owner = lists.owner
    total = np.bincount(owner[is_relevant], minlength=len(lists))
    groups = group_scores(scores[is_relevant], np.concatenate([[0], np.cumsum(total)]), complete)
    higher, equal, _ = count(pad_lists(owner, scores, len(lists)), groups.thresholds)
    return ranks_of(groups, higher, equal, total, lists.lengths, complete)


def _entries(*lists: Ragged | None) -> Entries:
    """Every entry of ``lists``, in order."""
    present = [part for part in lists if part is not None]
    return Entries(np.concatenate([part.owner for part in present]), np.concatenate([part.values for part in present]))


def _image_rows(task: Task, lists: CandidateLists, places: Rows) -> Rows:
    """Rows of the image table for positions [B, k] among the scores; -1 stays -1."""
    items = np.maximum(places, 0)
    if lists.local is not None:
        items = np.take_along_axis(lists.local.padded(), items, axis=1)
    return np.where(places < 0, -1, task.rows_at(items))
