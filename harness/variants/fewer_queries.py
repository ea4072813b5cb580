"""A task with fewer queries or fewer images: a named list of query ids makes another, smaller question of any task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, nearest_id
from condsim.harness.files.json_files import read_json, read_text
from condsim.harness.task import Benchmark, Kinds, Labels, Ragged, Rows, Task

EXPECTED = 'one query id per line, a JSON list of ids, or a JSON object {"<task>": [ids]}'


def restrict(benchmark: Benchmark, path: str | Path) -> Benchmark:
    """``benchmark`` with only the queries that the file names; see ``EXPECTED`` for its formats.

    The tasks keep their names. Their ``variant`` names the file, and their fingerprints differ from those of the whole
    tasks, so no table mixes the two. A task of which the file names every query stays as it is. Raises CondsimError for
    a file that cannot be read, an unknown task or id, an id that is repeated, and a task that the file does not name.
    """
    path = Path(path).expanduser()
    ids = _read(path)
    tasks = []
    if isinstance(ids, Mapping):
        known = {task.name for task in benchmark.tasks}
        for name in known - ids.keys():
            raise CondsimError(
                f"{path} names no queries of the task {name}: add them, or choose other tasks with tasks=[...]"
            )
    for task in benchmark.tasks:
        wanted = ids[task.name] if isinstance(ids, Mapping) else ids
        tasks.append(_only(task, wanted, path))
    return replace(benchmark, tasks=tuple(tasks))


def _only(task: Task, ids: Sequence[str], path: Path) -> Task:
    where = f"{path}, task {task.full_name}"
    row_of = {ident: row for row, ident in enumerate(query_ids(task))}
    for ident in ids:
        if ident not in row_of:
            raise CondsimError(f"{where}: there is no query {ident!a}. {nearest_id(ident, row_of)}")
    if not ids:
        raise CondsimError(f"{where}: the list of query ids is empty (expected {EXPECTED})")
    if len(set(ids)) < len(ids):
        raise CondsimError(f"{where}: the query id {next(i for i in ids if ids.count(i) > 1)!a} is repeated")
    if len(ids) == len(task):
        return task
    if task.submission is not None:
        raise CondsimError(f"{where}: its ground truth is withheld, and the server takes the whole task only")
    smaller = take_queries(task, np.sort(np.array([row_of[ident] for ident in ids], dtype=np.int64)))
    used = np.zeros(len(task.images), dtype=bool)
    lists = (smaller.relevant, smaller.candidates, smaller.excluded, smaller.subset)
    used[np.concatenate([part.values for part in lists if part is not None])] = True
    used[smaller.reference[smaller.reference >= 0]] = True
    if smaller.gallery is not None:
        used[smaller.gallery_rows] = True
    return replace(keep_images(smaller, used), variant=join_variants(task.variant, f"queries_from={path.name}"))


def join_variants(*parts: str) -> str:
    """The parts that are not empty, as one ``Task.variant``."""
    return " ".join(part for part in parts if part)


def query_ids(task: Task) -> tuple[str, ...]:
    """The benchmark's own ids, or the positions of the queries where it has none."""
    return task.query_ids or tuple(map(str, range(len(task))))


def unique_query_ids(task: Task) -> tuple[str, ...]:
    """``query_ids``; the positions 0, 1, ... where the benchmark gives an id twice."""
    ids = query_ids(task)
    return ids if len(set(ids)) == len(ids) else tuple(map(str, range(len(ids))))


def take_queries(task: Task, which: Rows) -> Task:
    """``task`` with the queries ``which``, in that order, and the conditions that they have; the images stay."""
    used = np.unique(task.condition[which])
    used = used[used >= 0]
    condition = task.condition[which]
    ids = query_ids(task)

    def of_queries(lists: Ragged | None) -> Ragged | None:
        return None if lists is None else lists.take(which)

    kinds, labels = task.kinds, task.labels
    if kinds is not None and task.candidates is not None:
        kinds = Kinds(kinds.names, Ragged(task.candidates.offsets, kinds.codes).take(which).values)
    return replace(
        task,
        conditions=tuple(task.conditions[code] for code in used),
        texts=None if task.texts is None else tuple(task.texts[code] for code in used),
        condition=np.where(condition < 0, -1, np.searchsorted(used, condition)).astype(np.int64),
        reference=task.reference[which],
        relevant=task.relevant.take(which),
        candidates=of_queries(task.candidates),
        excluded=of_queries(task.excluded),
        subset=of_queries(task.subset),
        clusters=None if task.clusters is None else task.clusters[which],
        target=None if task.target is None else task.target[which],
        query_ids=tuple(ids[i] for i in which),
        kinds=kinds,
        labels=None if labels is None else Labels(labels.names, labels.codes.take(which)),
    )


def keep_images(task: Task, keep: NDArray[np.bool_]) -> Task:
    """``task`` with the images that ``keep`` [len(task.images)] marks, which its queries need no other than.

    The others leave the gallery and the lists of relevant, excluded and subset rows.
    """
    new_row = np.append(np.cumsum(keep) - 1, -1).astype(np.int64)  # the last for row -1, which stays -1

    def of_kept(lists: Ragged | None) -> Ragged | None:
        if lists is None:
            return None
        lists = lists.keep(keep[lists.values])
        return Ragged(lists.offsets, new_row[lists.values])

    relevant = of_kept(task.relevant)
    assert relevant is not None
    return replace(
        task,
        images=task.images.take(np.flatnonzero(keep)),
        reference=new_row[task.reference],
        relevant=relevant,
        candidates=of_kept(task.candidates),
        gallery=None if task.gallery is None else new_row[task.gallery_rows[keep[task.gallery_rows]]],
        excluded=of_kept(task.excluded),
        subset=of_kept(task.subset),
        target=None if task.target is None else new_row[task.target],
    )


def _read(path: Path) -> list[str] | dict[str, list[str]]:
    if path.suffix.lower() != ".json":
        return [line.strip() for line in read_text(path, EXPECTED).splitlines() if line.strip()]
    value = read_json(path, EXPECTED)
    if isinstance(value, dict):
        return {str(task): _ids(ids, f"{path}, task {task}") for task, ids in value.items()}
    return _ids(value, str(path))


def _ids(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(i, (str, int)) and not isinstance(i, bool) for i in value):
        raise CondsimError(f"{where}: expected a list of query ids")
    return [str(ident) for ident in value]
