"""Count, don't sort: from blocks of scores to ranks. Pure functions, in NumPy on the CPU and in torch elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.ranking.ranks import Ranks
from condsim.harness.task import Rows

Floats = NDArray[np.floating]
Counts = tuple[Rows, Rows]
"""[B, G] candidates scored strictly higher than each threshold, and [B, G] candidates scored exactly the same."""

_FEW = 4
"""Up to so many thresholds, comparing with each of them is cheaper than sorting the scores."""
_BLOCK = 1 << 18
"""Scores compared at a time on the CPU: they and the outcomes stay in the cache from one comparison to the next."""


@dataclass(frozen=True)
class Groups:
    """The distinct scores of the relevant candidates of B queries, as CSR by query, highest first."""

    offsets: Rows
    """[B + 1]"""
    sizes: Rows
    """[G] relevant candidates with this score"""
    relevant_above: Rows
    """[G] relevant candidates of the query with a higher score"""
    thresholds: Floats
    """[B, most groups] the scores, filled up with +inf, which nothing reaches"""


def group_scores(scores: Floats, offsets: Rows, complete: bool) -> Groups:
    """Group the flat scores of relevant candidates (``offsets`` by query) by equal score.

    Unless ``complete``, only each query's highest score is kept.
    """
    queries = len(offsets) - 1
    owner = np.repeat(np.arange(queries), np.diff(offsets))
    if not complete:
        best = np.full(queries, -np.inf, dtype=scores.dtype)
        np.maximum.at(best, owner, scores)
        kept = scores == best[owner]
        owner, scores = owner[kept], scores[kept]
    order = np.lexsort((-scores, owner))
    owner, scores = owner[order], scores[order]
    new = np.ones(len(scores), dtype=bool)
    new[1:] = (owner[1:] != owner[:-1]) | (scores[1:] != scores[:-1])
    start = np.flatnonzero(new)
    group_owner = owner[start]
    group_offsets = np.searchsorted(group_owner, np.arange(queries + 1))
    thresholds = np.full((queries, int(np.diff(group_offsets).max(initial=0))), np.inf, dtype=scores.dtype)
    thresholds[group_owner, np.arange(len(start)) - group_offsets[group_owner]] = scores[start]
    sizes = np.diff(np.append(start, len(scores)))
    return Groups(group_offsets, sizes, start - np.searchsorted(owner, group_owner), thresholds)


def ranks_of(groups: Groups, higher: Rows, equal: Rows, total: Rows, candidates: Rows, complete: bool) -> Ranks:
    """Ranks from the irrelevant candidates counted [B, most groups] ``higher`` than and ``equal`` to the thresholds."""
    is_group = np.arange(higher.shape[1]) < np.diff(groups.offsets)[:, None]
    above = higher[is_group] + groups.relevant_above
    return Ranks(groups.offsets, above, groups.sizes, equal[is_group], total, candidates, complete)


def count(scores: Tensor | Floats, thresholds: Floats) -> Counts:
    """Compare [B, N] scores with [B, G] thresholds. Scores of -inf and thresholds of +inf count nothing."""
    if isinstance(scores, np.ndarray):
        return _count_numpy(scores, thresholds)
    if scores.device.type == "cpu":
        return _count_numpy(scores.numpy(), thresholds)
    return count_torch(scores, torch.from_numpy(thresholds).to(scores.device))


def _count_numpy(scores: Floats, thresholds: Floats) -> Counts:
    higher = np.zeros(thresholds.shape, dtype=np.int64)
    equal = np.zeros(thresholds.shape, dtype=np.int64)
    if not thresholds.size:
        return higher, equal
    step = max(1, _BLOCK // max(1, scores.shape[1]))
    # NumPy lets go of the interpreter while it sorts; comparing is so quick that threads would wait for one another.
    sorts = thresholds.shape[1] > _FEW
    threads = min(torch.get_num_threads(), -(-len(scores) // step)) if sorts else 1
    share = -(-len(scores) // threads)

    def count_share(first: int) -> None:
        last = min(first + share, len(scores))
        for start in range(first, last, step):
            here = slice(start, min(start + step, last))
            higher[here], equal[here] = _count_block(scores[here], thresholds[here])

    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(count_share, range(0, len(scores), share)))
    else:
        count_share(0)
    return higher, equal


def _count_block(scores: Floats, thresholds: Floats) -> Counts:
    if thresholds.shape[1] > _FEW:
        # NumPy sorts floats several times as fast as torch does on the CPU; torch searches whole batches at once.
        ascending = torch.from_numpy(np.sort(scores, axis=1))
        return _count_sorted(ascending, torch.from_numpy(np.ascontiguousarray(thresholds)))
    higher, equal = np.zeros(thresholds.shape, dtype=np.int64), np.zeros(thresholds.shape, dtype=np.int64)
    for column in range(thresholds.shape[1]):
        limit = thresholds[:, column, None]
        higher[:, column] = _true_in_rows(scores > limit)
        equal[:, column] = _true_in_rows(scores == limit)
    return higher, equal


def count_torch(scores: Tensor, thresholds: Tensor) -> Counts:
    """``count`` on the scores' own device."""
    if thresholds.shape[1] > _FEW:
        return _count_sorted(scores.sort(dim=1).values, thresholds)
    empty = torch.zeros(thresholds.shape, dtype=torch.int64, device=scores.device)
    higher, equal = empty, empty.clone()
    for column in range(thresholds.shape[1]):
        limit = thresholds[:, column, None]
        higher[:, column] = (scores > limit).sum(dim=1)
        equal[:, column] = (scores == limit).sum(dim=1)
    return higher.cpu().numpy(), equal.cpu().numpy()


def _count_sorted(ascending: Tensor, thresholds: Tensor) -> Counts:
    up_to = torch.searchsorted(ascending, thresholds, right=True)
    below = torch.searchsorted(ascending, thresholds, right=False)
    # A search for +inf ends behind the last score: nothing is higher, and nothing equal since scores are finite.
    return (ascending.shape[1] - up_to).cpu().numpy(), (up_to - below).cpu().numpy()


def _true_in_rows(flags: NDArray[np.bool_]) -> Rows:
    if flags.shape[1] < 1024:
        return np.asarray(np.count_nonzero(flags, axis=1))
    # One contiguous row at a time takes NumPy's vectorised path, four times as fast as axis=1.
    return np.fromiter((np.count_nonzero(row) for row in flags), dtype=np.int64, count=len(flags))


def pick(scores: Tensor, owner: Rows, position: Rows) -> Floats:
    """The flat scores [owner[i], position[i]] of a [B, N] block."""
    if scores.device.type == "cpu":
        return np.asarray(scores.numpy()[owner, position])
    device = scores.device
    return np.asarray(scores[torch.from_numpy(owner).to(device), torch.from_numpy(position).to(device)].cpu().numpy())


def pad_lists(owner: Rows, scores: Floats, queries: int) -> Floats:
    """Flat scores of queries ``owner``, in any order, as [queries, longest], filled up with -inf."""
    order = np.argsort(owner, kind="stable")
    owner = owner[order]
    lengths = np.bincount(owner, minlength=queries)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    padded = np.full((queries, int(lengths.max(initial=0))), -np.inf, dtype=scores.dtype)
    padded[owner, column] = scores[order]
    return padded
