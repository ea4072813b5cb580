"""The candidates of each query, as positions among the scores of a batch instead of rows of the image table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.task import Ragged, Rows, Task


@dataclass(frozen=True)
class CandidateLists:
    """The lists of a task's Q queries. A position is an index into the query's own candidates, or into the gallery."""

    size: Rows
    """[Q] candidates that are ranked."""
    relevant: Ragged
    """Positions of the relevant candidates."""
    excluded: Ragged
    """Positions that are not ranked."""
    local: Ragged | None
    """The query's own candidates as indices into ``task.gallery_rows``; None: it ranks the whole gallery."""
    twins: Ragged | None
    """For each own candidate, the first position of the same row in its list; None if no list repeats a row."""
    subset: Ragged | None
    """Positions of ``task.subset``, each once, without the excluded ones."""
    subset_relevant: Ragged | None
    """For each position of ``subset``, 1 if it is relevant, else 0."""
    target: Rows | None = None
    """[Q] the index of the query's target in its list of ``relevant``."""

    @classmethod
    def of(cls, task: Task) -> CandidateLists:
        """Raises CondsimError, naming the query, if the lists contradict each other."""
        lists = _own_lists(task) if task.candidates is not None else _shared_gallery(task)
        return lists if task.target is None else replace(lists, target=_places_of_targets(lists, task, task.target))

    def take(self, which: Rows) -> CandidateLists:
        """The queries ``which``, in that order."""
        return self._with(lambda rows: rows[which], lambda lists: lists.take(which))

    def part(self, start: int, stop: int) -> CandidateLists:
        """The queries from ``start`` to ``stop``, without copying their lists."""
        return self._with(lambda rows: rows[start:stop], lambda lists: lists.part(start, stop))

    def _with(self, of_rows: Callable[[Rows], Rows], of: Callable[[Ragged], Ragged]) -> CandidateLists:
        optional = ("local", "twins", "subset", "subset_relevant")
        return replace(
            self,
            size=of_rows(self.size),
            relevant=of(self.relevant),
            excluded=of(self.excluded),
            target=None if self.target is None else of_rows(self.target),
            **{name: of(lists) for name in optional if (lists := getattr(self, name)) is not None},
        )


def _own_lists(task: Task) -> CandidateLists:
    assert task.candidates is not None
    where = f"task {task.full_name}"
    if task.excluded is not None or task.subset is not None:
        raise CondsimError(f"{where}: excluded and subset need a shared gallery; the queries have their own candidates")
    lists = task.candidates
    owner = lists.owner
    width = len(task.images)
    key = owner * width + lists.values
    # Copies of one row in one list are numbered from 0. If ``relevant`` has the row n times, its first n copies count.
    twin, copy = np.zeros((2, len(owner)), dtype=np.int64)
    order = np.argsort(key, kind="stable")
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.diff(key[order]) != 0
    first = np.flatnonzero(new)
    repeats = np.diff(np.append(first, len(order)))
    copy[order] = np.arange(len(order)) - np.repeat(first, repeats)
    twin[order] = np.repeat(order[first], repeats)

    keys, wanted = np.unique(task.relevant.owner * width + task.relevant.values, return_counts=True)
    found = np.minimum(np.searchsorted(keys, key), max(0, len(keys) - 1))
    is_relevant = (keys[found] == key) & (copy < wanted[found]) if len(keys) else np.zeros(len(key), dtype=bool)
    count = np.bincount(owner[is_relevant], minlength=len(lists))
    wrong = np.flatnonzero(count != task.relevant.lengths)
    if len(wrong):
        raise CondsimError(f"{where}: query {wrong[0]} lists a relevant row more often than its candidates contain it")

    position = np.arange(len(owner)) - lists.offsets[owner]
    local = Ragged(lists.offsets, task.positions_of(lists.values))
    twins = Ragged(lists.offsets, position[twin]) if len(first) < len(order) else None
    relevant = Ragged(task.relevant.offsets, position[is_relevant])
    nothing = Ragged(np.zeros(len(lists) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    return CandidateLists(lists.lengths, relevant, nothing, local, twins, None, None)


def _shared_gallery(task: Task) -> CandidateLists:
    assert task.gallery is not None
    where = f"task {task.full_name}"
    width = task.gallery_size

    def keys_of(lists: Ragged | None) -> Rows:
        """The entries that are in the gallery, as query * width + position, sorted, each once."""
        if lists is None:
            return np.zeros(0, dtype=np.int64)
        places = task.positions_of(lists.values)
        keys = np.sort((lists.owner * width + places)[places >= 0])
        return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys

    relevant, excluded = keys_of(task.relevant), keys_of(task.excluded)
    if len(relevant) < len(task.relevant.values):
        query = _first_repeat(task.relevant)
        raise CondsimError(f"{where}: query {query} lists a relevant row twice, but the gallery has it once")
    both = excluded[_among(excluded, relevant)]
    if len(both):
        raise CondsimError(f"{where}: a row of query {both[0] // width} is both relevant and excluded")
    not_ranked = _lists(excluded, width, len(task))
    ranked = width - not_ranked.lengths
    lists = CandidateLists(ranked, _lists(relevant, width, len(task)), not_ranked, None, None, None, None)
    if task.subset is None:
        return lists
    members = keys_of(task.subset)
    members = members[~_among(members, excluded)]
    is_relevant = _among(members, relevant)
    subset = _lists(members, width, len(task))
    hits = np.bincount(members[is_relevant] // width, minlength=len(task))
    if task.metrics and not hits.all():
        query = int(np.flatnonzero(hits == 0)[0])
        raise CondsimError(f"{where}: query {query} has nothing relevant in its subset")
    flags = Ragged(subset.offsets, is_relevant.astype(np.int64))
    return replace(lists, subset=subset, subset_relevant=flags)


def _places_of_targets(lists: CandidateLists, task: Task, target: Rows) -> Rows:
    owner = lists.relevant.owner
    positions = lists.relevant.values
    if lists.local is not None:
        positions = lists.local.values[lists.local.offsets[owner] + positions]
    flat = np.flatnonzero(task.gallery_rows[positions] == target[owner])
    _, first = np.unique(owner[flat], return_index=True)
    return np.asarray(flat[first] - lists.relevant.offsets[:-1])


def _among(keys: Rows, others: Rows) -> NDArray[np.bool_]:
    """Which of ``keys`` are among the sorted ``others``."""
    if not len(others):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return np.asarray(others[place] == keys)


def _lists(keys: Rows, width: int, queries: int) -> Ragged:
    return Ragged(np.searchsorted(keys, np.arange(queries + 1) * width), keys % width)


def _first_repeat(lists: Ragged) -> int:
    return next(i for i in range(len(lists)) if len(np.unique(lists[i])) < len(lists[i]))
