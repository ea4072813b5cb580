"""The report's page of queries: which are shown, with what pictures, within a budget of bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.progress import track
from condsim.harness.results.breakdown import informative_order, query_condition, wins
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.report.thumbnails import thumbnail_key, thumbnail_uri
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.task import ImageTable, Task

RELEVANT_SHOWN = 3
PictureEntry = tuple[str, str | None, str]


@dataclass
class Pictures:
    """Every picture of the page once, as (name, data URI or None, ``thumbnail_key``), within ``budget`` bytes."""

    budget: int
    side: int
    made: Mapping[str, str]
    """Key -> data URI of thumbnails that exist already."""
    entries: list[PictureEntry] = field(default_factory=list)
    spent: int = 0
    missing: int = 0
    _index: dict[tuple[str, str, bytes], int] = field(default_factory=dict)

    def add(self, table: ImageTable, rows: Sequence[int]) -> list[int] | None:
        """Indices into ``entries``, new pictures added; None, with nothing added, where they are over the budget."""
        new: dict[tuple[str, str, bytes], PictureEntry] = {}
        keys = [(str(table.root), table.names[row], _box(table, row)) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            if key not in self._index and key not in new:
                digest = thumbnail_key(table, row, self.side)
                new[key] = (table.names[row], self.made.get(digest) or thumbnail_uri(table, row, self.side), digest)
        cost = sum(len(json.dumps(name)) + len(uri or "") + len(key) + 11 for name, uri, key in new.values())
        if self.spent + cost > self.budget:
            return None
        self.spent += cost
        for key, entry in new.items():
            self._index[key] = len(self.entries)
            self.entries.append(entry)
            self.missing += entry[1] is None
        return [self._index[key] for key in keys]


def queries_page(
    groups: Sequence[QuestionSet], pictures: Pictures, queries: int, top: int, notes: list[str]
) -> dict[str, Any]:
    """What the page's script shows, as plain JSON data: tasks with their queries, and the pictures.

    At most ``queries`` of each task, those with the most disagreement between methods first; the tasks take turns until
    the ``pictures`` and texts are over their budget. ``notes`` names runs that cannot be read.
    """
    shelves = [shelf for shelf in (_Shelf.of(group, notes) for group in groups) if shelf is not None]
    waiting = [(place, shelf) for place in range(queries) for shelf in shelves if place < len(shelf.order)]
    full = False
    with track(len(waiting), "pictures of the report") as advance:
        for place, shelf in waiting:
            entry = shelf.entry(int(shelf.order[place]), top, pictures)
            if entry is None:
                full = True
                break
            pictures.spent += len(json.dumps(entry))
            shelf.shown.append(entry)
            advance(1)
    return {
        "tasks": [shelf.payload() for shelf in shelves],
        "pictures": pictures.entries,
        "missing": pictures.missing,
        "full": full,
    }


@dataclass
class _Shelf:
    """A task that can be shown: its task file exists, and runs recorded their best candidates."""

    name: str
    task: Task
    runs: list[StoredRun]
    ranks: list[NDArray[np.float64]]
    """[Q] of every run"""
    order: NDArray[np.int64]
    shown: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, group: QuestionSet, notes: list[str]) -> _Shelf | None:
        task, runs, ranks = group.task, [], []
        if task is None or not task.relevant.lengths.any():
            return None
        for run in group.runs:
            try:
                if run.top is not None:
                    ranks.append(run.ranks.rank)
                    runs.append(run)
            except CondsimError as error:
                notes.append(f"left out: {error}")
        if not runs:
            return None
        return cls(group.full_name, task, runs, ranks, informative_order(task, [rank == 1 for rank in ranks]))

    def entry(self, query: int, top: int, pictures: Pictures) -> dict[str, Any] | None:
        task = self.task
        relevant = task.relevant[query]
        answers = set(relevant.tolist())
        reference = [row for row in (int(task.reference[query]),) if row >= 0]
        shown = relevant[:RELEVANT_SHOWN].tolist()
        best = [[int(row) for row in run.top[query, :top] if row >= 0] for run in self.runs if run.top is not None]
        indices = pictures.add(task.images, [*reference, *shown, *(row for rows in best for row in rows)])
        if indices is None:
            return None
        places = iter(indices)
        return {
            "id": task.query_ids[query] if task.query_ids else str(query),
            "condition": query_condition(task, int(task.condition[query])),
            "reference": [next(places) for _ in reference],
            "relevant": [next(places) for _ in shown],
            "relevantTotal": len(relevant),
            "candidates": int(self.runs[0].ranks.candidates[query]),
            "ranks": [float(rank[query]) for rank in self.ranks],
            "top": [[next(places) for _ in rows] for rows in best],
            "hits": [[int(row in answers) for row in rows] for rows in best],
        }

    def payload(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "total": len(self.task),
            "runs": [run.label for run in self.runs],
            "wins": wins([rank == 1 for rank in self.ranks]),
            "queries": self.shown,
        }


def _box(table: ImageTable, row: int) -> bytes:
    return b"" if table.boxes is None else table.boxes[row].tobytes()
