"""Ranks: the only input of the metrics. Does not import torch, so that the leaderboard and comparisons load fast."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.task import Ragged, Rows

_ARRAYS = ("offsets", "above", "relevant", "irrelevant", "total", "candidates")


@dataclass(frozen=True)
class FirstHit:
    """[Q] the first group of each query: the one with its first relevant candidate."""

    above: Rows
    relevant: Rows
    irrelevant: Rows


@dataclass(frozen=True)
class Ranks:
    """The places of the relevant candidates of Q queries, as groups of equal score, best first.

    Query ``i`` has the groups ``offsets[i]:offsets[i + 1]``. Only groups with at least one relevant candidate are kept.
    Unless ``complete``, only the first of them is kept, because recall and MRR need only the first relevant candidate.
    """

    offsets: Rows
    """[Q + 1]"""
    above: Rows
    """[G] candidates of the query, relevant or not, that score strictly higher than the group"""
    relevant: Rows
    """[G] relevant candidates in the group, at least 1"""
    irrelevant: Rows
    """[G] the other candidates of the same score"""
    total: Rows
    """[Q] relevant candidates of the query; 0 where it has none, of all queries where the ground truth is withheld"""
    candidates: Rows
    """[Q] candidates that were ranked"""
    complete: bool
    """Whether every group is kept, which metrics over the whole ranking (mAP, nDCG) need."""
    target: Rows | None = None
    """[Q] which of the query's groups, counted from 0, holds its single target; None: the task names no targets."""

    def __len__(self) -> int:
        return len(self.total)

    @cached_property
    def owner(self) -> Rows:
        """[G] the query each group belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def first(self) -> FirstHit:
        """Of a query with nothing relevant an empty group behind every candidate.

        Raises CondsimError if no query has anything relevant, for then there are no ranks.
        """
        known = self.total > 0
        if not known.any():
            raise CondsimError("no query has a known relevant candidate, so there is no rank: ground truth withheld?")
        start = self.offsets[:-1][known]
        first = FirstHit(self.candidates.copy(), np.zeros_like(self.total), np.zeros_like(self.total))
        for column, values in (
            (first.above, self.above),
            (first.relevant, self.relevant),
            (first.irrelevant, self.irrelevant),
        ):
            column[known] = values[start]
        return first

    @property
    def rank(self) -> NDArray[np.float64]:
        """[Q] 1 + candidates scored strictly higher than the first relevant one + its expected place in its group.

        With m relevant candidates among n others of the same score, that place is n / (m + 1); with one, n / 2.
        """
        first = self.first
        return 1.0 + first.above + first.irrelevant / (first.relevant + 1)

    def of_target(self) -> Ranks:
        """The ranks with each query's target as its only relevant candidate; all others are irrelevant."""
        assert self.target is not None
        group = self.offsets[:-1] + self.target
        ones = np.ones(len(self), dtype=np.int64)
        tied = self.relevant[group] + self.irrelevant[group] - 1
        return Ranks(np.arange(len(self) + 1), self.above[group], ones, tied, ones, self.candidates, complete=True)

    @classmethod
    def uninformed(cls, total: Rows, candidates: Rows) -> Ranks:
        """The ranks of a constant scorer: all candidates of a query in one group. Its metrics are the chance level."""
        known = total > 0
        offsets = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
        relevant = total[known]
        nothing_above = np.zeros(len(relevant), dtype=np.int64)
        return cls(offsets, nothing_above, relevant, candidates[known] - relevant, total, candidates, complete=True)

    def take(self, which: Rows) -> Ranks:
        """The queries ``which``, in that order."""
        groups = Ragged(self.offsets, np.arange(len(self.above))).take(which)
        above, relevant, irrelevant = (array[groups.values] for array in (self.above, self.relevant, self.irrelevant))
        total, candidates = self.total[which], self.candidates[which]
        target = None if self.target is None else self.target[which]
        return Ranks(groups.offsets, above, relevant, irrelevant, total, candidates, self.complete, target)

    @classmethod
    def join(cls, parts: Sequence[Ranks]) -> Ranks:
        """The queries of all ``parts``, one after another."""
        sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(part.offsets) for part in parts)])
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS[1:]}
        targets = [part.target for part in parts if part.target is not None]
        joined["target"] = np.concatenate(targets) if targets else None
        return cls(np.cumsum(sizes), **joined, complete=all(part.complete for part in parts))

    def save(self, path: Path) -> None:
        """Write one .npz file; the same ranks give the same bytes."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        if self.target is not None:
            arrays["target"] = self.target
        np.savez_compressed(path, **arrays, complete=np.array(self.complete))

    @classmethod
    def load(cls, path: Path) -> Ranks:
        """Raises CondsimError, naming the file, if it is missing, corrupt or not a file of ranks."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in _ARRAYS}
                target = stored["target"] if "target" in stored.files else None
                ranks = cls(**arrays, complete=bool(stored["complete"]), target=target)
            ranks._check()
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise CondsimError(
                f"{path} cannot be read as ranks ({error}). Delete its folder and run the same command again."
            ) from None
        return ranks

    def _check(self) -> None:
        arrays = [getattr(self, name) for name in _ARRAYS]
        if any(array.dtype != np.int64 or array.ndim != 1 for array in arrays):
            raise ValueError("expected flat arrays of int64")
        groups = np.diff(self.offsets)
        if len({len(self.total), len(self.candidates), len(groups)}) != 1 or (groups < 0).any() or self.offsets[0] != 0:
            raise ValueError("its arrays do not belong together")
        if {len(self.above), len(self.relevant), len(self.irrelevant)} != {int(self.offsets[-1])}:
            raise ValueError("its arrays do not belong together")
        if ((groups > 0) != (self.total > 0)).any() or (self.relevant < 1).any():
            raise ValueError("its arrays do not belong together")
        if self.target is not None and (
            self.target.dtype != np.int64
            or self.target.shape != groups.shape
            or ((self.target < 0) | (self.target >= groups)).any()
        ):
            raise ValueError("its targets do not belong to its groups")
        if any((array < 0).any() for array in arrays):
            raise ValueError("a count is negative")
