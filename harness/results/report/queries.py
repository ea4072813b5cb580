"""The report's page of queries: which are shown, with what pictures, within a budget of bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.progress import track
from condsim.harness.results.breakdown import informative_order, query_condition, wins
from condsim.harness.results.kept import Remember
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.report.thumbnails import thumbnail_key, thumbnail_uri
from condsim.harness.task import ImageTable, Rows, Task

RELEVANT_SHOWN = 3
SHELF = "queries 1"
"""Part of what kept queries are valid for: change it whenever their choice or form changes."""
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
        boxes = [b"" if table.boxes is None else table.boxes[row].tobytes() for row in rows]
        keys = [(str(table.root), table.names[row], box) for row, box in zip(rows, boxes, strict=True)]
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
    groups: Sequence[QuestionSet], pictures: Pictures, queries: int, top: int, notes: list[str], remember: Remember
) -> dict[str, Any]:
    """What the page's script shows, as plain JSON data: tasks with their queries, and the pictures.

    At most ``queries`` of each task, those with the most disagreement between methods first; the tasks take turns until
    the ``pictures`` and texts are over their budget. ``notes`` names runs that cannot be read.
    """
    shelves = []
    for group in groups:
        if group.task is not None and group.task.relevant.lengths.any():
            depends_on = [SHELF, queries, top, *group.shown_state]
            shelf = remember(depends_on, partial(_shelf, group, group.task, queries, top, notes))
            if shelf is not None:
                shelves.append((group.task.images, {"name": group.full_name, **shelf, "queries": []}, shelf["queries"]))
    waiting = [
        (images, shelf, entries[place])
        for place in range(queries)
        for images, shelf, entries in shelves
        if place < len(entries)
    ]
    full = False
    with track(len(waiting), "pictures of the report") as advance:
        for images, shelf, entry in waiting:
            shown = _with_pictures(entry, images, pictures)
            if shown is None:
                full = True
                break
            pictures.spent += len(json.dumps(shown))
            shelf["queries"].append(shown)
            advance(1)
    return {
        "tasks": [shelf for _, shelf, _ in shelves],
        "pictures": pictures.entries,
        "missing": pictures.missing,
        "full": full,
    }


def _shelf(group: QuestionSet, task: Task, queries: int, top: int, notes: list[str]) -> dict[str, Any] | None:
    """What the page shows of a task, with rows of its image table instead of pictures; None where no run recorded its
    best candidates."""
    runs, ranks, best = [], [], []
    for run in group.runs:
        try:
            if run.top is not None:
                ranks.append(run.ranks.rank)
                best.append(run.top[:, :top])
                runs.append(run)
        except CondsimError as error:
            notes.append(f"left out: {error}")
    if not runs:
        return None
    right = [rank == 1 for rank in ranks]
    order = informative_order(task, right)[:queries].tolist()
    return {
        "total": len(task),
        "runs": [run.label for run in runs],
        "wins": wins(right),
        "queries": [_entry(task, query, ranks, best, int(runs[0].ranks.candidates[query])) for query in order],
    }


def _entry(
    task: Task, query: int, ranks: Sequence[NDArray[np.float64]], best: Sequence[Rows], candidates: int
) -> dict[str, Any]:
    """A query with, of each run, its [Q] ``ranks`` and [Q, top] ``best`` candidates."""
    relevant = task.relevant[query].tolist()
    answers = set(relevant)
    rows = [[row for row in own[query].tolist() if row >= 0] for own in best]
    return {
        "id": task.query_ids[query] if task.query_ids else str(query),
        "condition": query_condition(task, int(task.condition[query])),
        "reference": [row for row in (int(task.reference[query]),) if row >= 0],
        "relevant": relevant[:RELEVANT_SHOWN],
        "relevantTotal": len(relevant),
        "candidates": candidates,
        "ranks": [float(rank[query]) for rank in ranks],
        "top": rows,
        "hits": [[int(row in answers) for row in own] for own in rows],
    }


def _with_pictures(entry: dict[str, Any], images: ImageTable, pictures: Pictures) -> dict[str, Any] | None:
    """``entry`` with places in ``pictures`` instead of rows of ``images``; None where they are over the budget."""
    rows = [entry["reference"], entry["relevant"], *entry["top"]]
    indices = pictures.add(images, [row for own in rows for row in own])
    if indices is None:
        return None
    places = iter(indices)
    reference, relevant, *top = ([next(places) for _ in own] for own in rows)
    return {**entry, "reference": reference, "relevant": relevant, "top": top}
