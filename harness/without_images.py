"""`on_error=skip`: a task as it is without the images that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.fewer_queries import keep_images, query_ids, take_queries
from condsim.harness.task import Ragged, Rows, Task

Mask = NDArray[np.bool_]


def without_images(task: Task, faults: Mapping[int, str]) -> Task:
    """``task`` less the images ``faults`` (row -> what is wrong with it) and less the queries that cannot do without.

    An image leaves the shared gallery and the lists of relevant ones. A query goes that loses its reference, all that
    is relevant, or any of its own candidates or subset: the same question among fewer images would be an easier one.
    The other queries keep their ids and order; ``skipped`` gains one message an image and one a lost query. Raises
    CondsimError where no query or no gallery is left.
    """
    bad = np.zeros(len(task.images), dtype=bool)
    bad[list(faults)] = True
    culprit, role = _lost(task, bad)
    kept = np.flatnonzero(culprit < 0)
    ids = query_ids(task)
    names = task.images.names
    messages = [f"{task.images.path(row)}: {fault}" for row, fault in sorted(faults.items())]
    messages += [f"query {ids[i]}: its {role[i]} {names[culprit[i]]} is left out" for i in np.flatnonzero(culprit >= 0)]
    if not len(kept):
        raise CondsimError(
            f"task {task.full_name}: every query needs an image that cannot be used; the first of {len(faults)}: "
            f"{messages[0]}"
        )
    return replace(keep_images(take_queries(task, kept), ~bad), skipped=(*task.skipped, *dict.fromkeys(messages)))


def _lost(task: Task, bad: Mask) -> tuple[Rows, list[str]]:
    """[Q] the image that takes each query with it (-1: the query stays), and what it was to the query."""
    gone = task.relevant.keep(bad[task.relevant.values]).lengths
    all_relevant_gone = (gone > 0) & (gone == task.relevant.lengths)
    culprits = {
        "reference": np.where((task.reference >= 0) & bad[task.reference], task.reference, -1),
        "relevant image": np.where(all_relevant_gone, _first(task.relevant, bad), -1),
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
    """The first bad row of each list, -1 where there is none."""
    hits = np.flatnonzero(bad[lists.values])[::-1]  # backwards: the first of a list is written last
    out = np.full(len(lists), -1, dtype=np.int64)
    out[np.searchsorted(lists.offsets, hits, side="right") - 1] = lists.values[hits]
    return out
