"""`on_error=skip`: a task as it is without the images that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.task import Kinds, Ragged, Rows, Task

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
    ids = task.query_ids or tuple(map(str, range(len(task))))
    names = task.images.names
    messages = [f"{task.images.path(row)}: {fault}" for row, fault in sorted(faults.items())]
    messages += [f"query {ids[i]}: its {role[i]} {names[culprit[i]]} is left out" for i in np.flatnonzero(culprit >= 0)]
    if not len(kept):
        raise CondsimError(
            f"task {task.full_name}: every query needs an image that cannot be used; the first of {len(faults)}: "
            f"{messages[0]}"
        )
    new_row = np.append(np.cumsum(~bad) - 1, -1).astype(np.int64)  # the last for row -1, which stays -1

    def of_kept(lists: Ragged | None) -> Ragged | None:
        if lists is None:
            return None
        lists = lists.take(kept)
        lists = lists.keep(~bad[lists.values])
        return Ragged(lists.offsets, new_row[lists.values])

    relevant = of_kept(task.relevant)
    assert relevant is not None
    used = np.unique(task.condition[kept])
    used = used[used >= 0]
    condition = task.condition[kept]
    return replace(
        task,
        images=task.images.take(np.flatnonzero(~bad)),
        conditions=tuple(task.conditions[code] for code in used),
        condition=np.where(condition < 0, -1, np.searchsorted(used, condition)).astype(np.int64),
        reference=new_row[task.reference[kept]],
        relevant=relevant,
        candidates=of_kept(task.candidates),
        gallery=None if task.gallery is None else new_row[task.gallery[~bad[task.gallery]]],
        excluded=of_kept(task.excluded),
        subset=of_kept(task.subset),
        clusters=None if task.clusters is None else task.clusters[kept],
        query_ids=tuple(ids[i] for i in kept),
        kinds=_kinds(task, kept),
        skipped=(*task.skipped, *dict.fromkeys(messages)),
    )


def _lost(task: Task, bad: Mask) -> tuple[Rows, list[str]]:
    """[Q] the image that takes each query with it (-1: the query stays), and what it was to the query."""
    gone = task.relevant.keep(bad[task.relevant.values]).lengths
    all_relevant_gone = (gone > 0) & (gone == task.relevant.lengths)
    culprits = {
        "reference": np.where((task.reference >= 0) & bad[task.reference], task.reference, -1),
        "relevant image": np.where(all_relevant_gone, _first(task.relevant, bad), -1),
    }
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


def _kinds(task: Task, kept: Rows) -> Kinds | None:
    """Those of the kept queries' candidates, none of which are left out."""
    if task.kinds is None or task.candidates is None:
        return task.kinds
    return Kinds(task.kinds.names, Ragged(task.candidates.offsets, task.kinds.codes).take(kept).values)
