"""The report's page of queries: which are shown, with what pictures, within a budget of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.process.cores import available_cores
from condsim.harness.results.breakdown import informative_order, query_condition, wins
from condsim.harness.results.kept import Remember
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.report.thumbnails import thumbnail_key, thumbnail_uri
from condsim.harness.task import ImageTable, Rows, Task
from condsim.harness.terminal.progress import track

RELEVANT_SHOWN = 3
SHELF = "queries 1"
"""Part of what kept queries are valid for: change it whenever their choice or form changes."""
AT_ONCE = 64
"""Queries of which the thumbnails are made at once, on all cores."""
PER_JOB = 16
"""Thumbnails that a thread makes at once."""
PictureEntry = tuple[str, str | None, str]
PictureKey = tuple[str, str, bytes]
"""(root of the table, name, bytes of the box)"""


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
    _ready: dict[PictureKey, PictureEntry] = field(default_factory=dict)
    _index: dict[PictureKey, int] = field(default_factory=dict)

    def make(self, wanted: Iterable[tuple[ImageTable, Sequence[int]]]) -> None:
        """Make the thumbnails of these rows of tables, on all cores. None is added yet."""
        new = {
            key: (table, row)
            for table, rows in wanted
            for key, row in zip(_keys(table, rows), rows, strict=True)
            if key not in self._ready
        }
        jobs = [[*new.values()][start : start + PER_JOB] for start in range(0, len(new), PER_JOB)]
        with ThreadPoolExecutor(min(4, available_cores())) as pool:  # the decoder and the encoder release Python's lock
            made = pool.map(lambda job: [self._entry(*each) for each in job], jobs)
            self._ready.update(zip(new, chain.from_iterable(made), strict=True))

    def add(self, table: ImageTable, rows: Sequence[int]) -> list[int] | None:
        """Indices into ``entries`` of pictures that ``make`` has made, new ones added; None, with nothing added, where
        they are over the budget."""
        keys = _keys(table, rows)
        new = {key: self._ready[key] for key in keys if key not in self._index}
        cost = sum(len(json.dumps(name)) + len(uri or "") + len(key) + 11 for name, uri, key in new.values())
        if self.spent + cost > self.budget:
            return None
        self.spent += cost
        for key, entry in new.items():
            self._index[key] = len(self.entries)
            self.entries.append(entry)
            self.missing += entry[1] is None
        return [self._index[key] for key in keys]

    def _entry(self, table: ImageTable, row: int) -> PictureEntry:
        name = table.names[row]
        try:
            content = table.path(row).read_bytes()
        except (OSError, ValueError):  # a name that no file can have
            return name, None, ""
        key = thumbnail_key(table, row, self.side, content)
        return name, self.made.get(key) or thumbnail_uri(table, row, self.side, content), key


def _keys(table: ImageTable, rows: Sequence[int]) -> list[PictureKey]:
    root = str(table.root)
    return [(root, table.names[row], b"" if table.boxes is None else table.boxes[row].tobytes()) for row in rows]


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
        for place, (images, shelf, entry) in enumerate(waiting):
            if place % AT_ONCE == 0:
                pictures.make((table, [*chain(*_rows(own))]) for table, _, own in waiting[place : place + AT_ONCE])
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


def _rows(entry: dict[str, Any]) -> list[list[int]]:
    """Rows of the image table: of the reference, of the relevant candidates, and of each run's best candidates."""
    return [entry["reference"], entry["relevant"], *entry["top"]]


def _with_pictures(entry: dict[str, Any], images: ImageTable, pictures: Pictures) -> dict[str, Any] | None:
    """``entry`` with places in ``pictures`` instead of rows of ``images``; None where they are over the budget."""
    rows = _rows(entry)
    indices = pictures.add(images, [*chain(*rows)])
    if indices is None:
        return None
    places = iter(indices)
    reference, relevant, *top = ([next(places) for _ in own] for own in rows)
    return {**entry, "reference": reference, "relevant": relevant, "top": top}
