"""Ranks from blocks of scores, by counting instead of sorting. NumPy and torch on the CPU, torch on other devices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.ranking.ranks import Ranks
from condsim.harness.task import Rows

Floats = NDArray[np.floating]

_FEW = 4
"""Up to this number of thresholds, comparing with each of them is cheaper than sorting the scores."""
_BLOCK = 1 << 18
"""Scores per comparison on the CPU: they and the outcomes stay in the cache from one comparison to the next."""
_SORTED = 1 << 18
"""Scores per sort on the CPU."""


class Counts(NamedTuple):
    """The number of scores above and at thresholds."""

    higher: Rows
    """[B, G] number of candidates with a score strictly higher than each threshold"""
    equal: Rows
    """[B, G] number of candidates with exactly this score"""
    total: float
    """The sum of a part of the scores that includes every NaN and infinity: if it is finite, all scores are."""


@dataclass(frozen=True)
class Groups:
    """The distinct scores of the relevant candidates of B queries, per query (CSR), highest first."""

    offsets: Rows
    """[B + 1]"""
    sizes: Rows
    """[G] relevant candidates with this score"""
    relevant_above: Rows
    """[G] relevant candidates of the query with a higher score"""
    thresholds: Floats
    """[B, most groups] the scores, padded with +inf, which no score reaches"""

    @property
    def is_group(self) -> NDArray[np.bool_]:
        """[B, most groups] whether a threshold is a score, not padding."""
        return np.arange(self.thresholds.shape[1]) < np.diff(self.offsets)[:, None]


def group_scores(scores: Floats, offsets: Rows, complete: bool) -> Groups:
    """Group the flat scores of relevant candidates (``offsets`` by query) by equal score.

    Unless ``complete``, it keeps only the highest score of each query.
    """
    if not complete:
        return _highest(scores, offsets)
    queries = len(offsets) - 1
    owner = np.repeat(np.arange(queries), np.diff(offsets))
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
    return Groups(group_offsets, sizes, start - offsets[group_owner], thresholds)


def _highest(scores: Floats, offsets: Rows) -> Groups:
    lengths = np.diff(offsets)
    known = lengths > 0
    first = offsets[:-1][known]
    thresholds = np.full((len(lengths), int(known.any())), np.inf, dtype=scores.dtype)
    sizes = first
    if len(first):
        best = np.maximum.reduceat(scores, first)
        thresholds[known, 0] = best
        sizes = np.add.reduceat(scores == np.repeat(best, lengths[known]), first, dtype=np.int64)
    return Groups(np.concatenate([[0], np.cumsum(known)]), sizes, np.zeros_like(sizes), thresholds)


def ranks_of(groups: Groups, higher: Rows, equal: Rows, total: Rows, candidates: Rows, complete: bool) -> Ranks:
    """Ranks from the counts [B, most groups] of all candidates, relevant or not, against the thresholds."""
    above, same = higher[groups.is_group], equal[groups.is_group]
    return Ranks(groups.offsets, above, groups.sizes, same - groups.sizes, total, candidates, complete)


def count(scores: Tensor | Floats, thresholds: Floats) -> Counts:
    """Count [B, N] scores against [B, G] thresholds. Scores of -inf and thresholds of +inf add no counts."""
    if isinstance(scores, np.ndarray):
        scores = torch.from_numpy(scores)
    if not scores.numel() or not thresholds.size:
        none = np.zeros(thresholds.shape, dtype=np.int64)
        return Counts(none, none.copy(), float(scores.sum()))
    limits = torch.from_numpy(np.ascontiguousarray(thresholds)).to(scores.device)
    if limits.dtype != scores.dtype:
        limits, scores = limits.double(), scores.double()
    if scores.device.type != "cpu":
        return count_torch(scores, limits)
    return _compare(scores, limits) if limits.shape[1] <= _FEW else _sort(scores.numpy(), limits)


def count_torch(scores: Tensor, thresholds: Tensor) -> Counts:
    """``count`` on the scores' device, by a few large operations."""
    if thresholds.shape[1] > _FEW:
        return _count_sorted(scores.sort(dim=1).values, thresholds)
    empty = torch.zeros(thresholds.shape, dtype=torch.int64, device=scores.device)
    higher, equal = empty, empty.clone()
    for column in range(thresholds.shape[1]):
        limit = thresholds[:, column, None]
        higher[:, column] = (scores > limit).sum(dim=1)
        equal[:, column] = (scores == limit).sum(dim=1)
    return Counts(higher.cpu().numpy(), equal.cpu().numpy(), float(scores.sum()))


def _compare(scores: Tensor, thresholds: Tensor) -> Counts:
    """``count`` on the CPU, block by block: a block stays in the cache for all its comparisons."""
    width = min(scores.shape[1], _BLOCK)
    height = max(1, min(len(scores), _BLOCK // width))
    queries, groups = thresholds.shape
    counts, sums = torch.empty(2, groups, queries, dtype=scores.dtype), torch.empty(queries, dtype=scores.dtype)
    of_groups = [
        [torch.split(part, height) for part in (thresholds[:, group, None], counts[0, group], counts[1, group])]
        for group in range(groups)
    ]
    totals, total = torch.zeros(counts.shape, dtype=torch.int64), 0.0
    # Outcomes are 0.0 and 1.0 in the scores' type: torch vectorises only this comparison and its sum.
    outcome = torch.empty(height, width, dtype=scores.dtype)
    for columns in torch.split(scores, width, dim=1):
        into = outcome[:, : columns.shape[1]]
        for i, (block, of_rows) in enumerate(zip(torch.split(columns, height), torch.split(sums, height), strict=True)):
            if len(block) < height:
                into = into[: len(block)]
            torch.sum(block, dim=1, out=of_rows)
            for limits, higher, equal in of_groups:
                torch.sum(torch.gt(block, limits[i], out=into), dim=1, out=higher[i])
                torch.sum(torch.eq(block, limits[i], out=into), dim=1, out=equal[i])
        totals += counts.long()
        total += float(sums.sum())
    return Counts(totals[0].T.numpy(), totals[1].T.numpy(), total)


def _sort(scores: Floats, thresholds: Tensor) -> Counts:
    """``count`` on the CPU for many thresholds: sorting the scores is cheaper."""
    step = max(1, _SORTED // scores.shape[1])

    def block(start: int) -> Counts:
        # NumPy sorts floats several times as fast as torch does on the CPU; torch searches whole batches at once.
        ascending = torch.from_numpy(np.sort(scores[start : start + step], axis=1))
        return _count_sorted(ascending, thresholds[start : start + step])

    starts = range(0, len(scores), step)
    if len(starts) == 1:
        return block(0)
    with ThreadPoolExecutor(min(torch.get_num_threads(), len(starts))) as pool:  # NumPy's sort releases the GIL
        higher, equal, totals = zip(*pool.map(block, starts), strict=True)
    return Counts(np.concatenate(higher), np.concatenate(equal), sum(totals))


def _count_sorted(ascending: Tensor, thresholds: Tensor) -> Counts:
    up_to = torch.searchsorted(ascending, thresholds, right=True)
    below = torch.searchsorted(ascending, thresholds, right=False)
    # A search for +inf ends after the last score: no score is higher, and none is equal because scores are finite.
    higher, equal = (ascending.shape[1] - up_to).cpu().numpy(), (up_to - below).cpu().numpy()
    return Counts(higher, equal, float(ascending[:, [0, -1]].sum()))  # NaN and infinities are at the ends


def pick(scores: Tensor, owner: Rows, position: Rows) -> Floats:
    """The scores [owner[i], position[i]] of a [B, N] block, flat."""
    device = scores.device
    if device.type == "cpu":
        return np.asarray(scores.numpy()[owner, position])
    return np.asarray(scores[torch.from_numpy(owner).to(device), torch.from_numpy(position).to(device)].cpu().numpy())


def pad_lists(owner: Rows, scores: Floats, queries: int) -> Floats:
    """Flat scores of the queries ``owner``, in any order, as [queries, longest], padded with -inf."""
    order = np.argsort(owner, kind="stable")
    owner = owner[order]
    lengths = np.bincount(owner, minlength=queries)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    padded = np.full((queries, int(lengths.max(initial=0))), -np.inf, dtype=scores.dtype)
    padded[owner, column] = scores[order]
    return padded
