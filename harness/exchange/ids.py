"""The ids of a task's queries in files with one line or entry per query. Items have ``ImageTable.keys``."""

from __future__ import annotations

from condsim.harness.fewer_queries import query_ids
from condsim.harness.task import Task


def unique_query_ids(task: Task) -> tuple[str, ...]:
    """[Q] the ids of ``query_ids``; the positions 0, 1, ... where the benchmark gives an id twice."""
    ids = query_ids(task)
    return ids if len(set(ids)) == len(ids) else tuple(map(str, range(len(ids))))
