"""`on_error=skip`: a task without the images that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.task import Ragged, Rows, Task
from condsim.harness.variants.fewer_queries import keep_images, query_ids, take_queries

Mask = NDArray[np.bool_]


def without_images(task: Task, faults: Mapping[int, str]) -> Task:
    """``task`` without the images ``faults`` (row -> error message) and without the queries that need them.

    The images are removed from the shared gallery and from the lists of relevant images. A query is removed if it loses
    its reference, all its relevant images, or any of its own candidates or of its subset: fewer images would make it
    easier. The other queries keep their ids and order. ``skipped`` gains one message per image and one per removed
    query. Raises CondsimError if no query or no gallery is left.
    """
    bad = np.zeros(len(task.images), dtype=bool)
    bad[list(faults)] = True
    culprit, role = _removed(task, bad)
    remaining = np.flatnonzero(culprit < 0)
    ids = query_ids(task)
    names = task.images.names
    messages = [f"{task.images.path(row)}: {fault}" for row, fault in sorted(faults.items())]
    messages += [f"query {ids[i]}: its {role[i]} {names[culprit[i]]} is left out" for i in np.flatnonzero(culprit >= 0)]
    if not len(remaining):
        raise CondsimError(
            f"task {task.full_name}: every query needs an image that cannot be used; the first of {len(faults)}: "
            f"{messages[0]}"
        )
    return replace(keep_images(take_queries(task, remaining), ~bad), skipped=(*task.skipped, *dict.fromkeys(messages)))


def _removed(task: Task, bad: Mask) -> tuple[Rows, list[str]]:
    """[Q] the bad image that removes each query (-1: the query stays), and its role in the query."""
    bad_relevant = task.relevant.keep(bad[task.relevant.values]).lengths
    all_relevant_bad = (bad_relevant > 0) & (bad_relevant == task.relevant.lengths)
    culprits = {
        "reference": np.where((task.reference >= 0) & bad[task.reference], task.reference, -1),
        "relevant image": np.where(all_relevant_bad, _first(task.relevant, bad), -1),
    }
    if task.target is not None:
        culprits["target"] = np.where(bad[task.target], task.target, -1)
    for label, lists in (("candidate", task.candidates), ("subset's", task.subset)):
        if lists is not None:
            culprits[label] = _first(lists, bad)
    culprit, role = np.full(len(task), -1, dtype=np.int64), [""] * len(task)
    for label, rows in culprits.items():
        for i in np.flatnonzero((culprit < 0) & (rows >= 0)):
            culprit[i], role[i] = rows[i], label
    return culprit, role


def _first(lists: Ragged, bad: Mask) -> Rows:
    """The first bad row of each list; -1: none."""
    hits = np.flatnonzero(bad[lists.values])[::-1]  # backwards: the first of a list is written last
    out = np.full(len(lists), -1, dtype=np.int64)
    out[lists.owner[hits]] = lists.values[hits]
    return out
