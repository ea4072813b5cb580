"""Conditional labels (CLAY's protocol): images with one label a condition; relevant is who shares the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from condsim.datasets.annotations import keep_valid, read_frame, require_columns
from condsim.datasets.grouping import rows_by_code, word_codes
from condsim.datasets.image_files import folder_of, missing_images, relative_file
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Rows, Task
from condsim.harness.without_images import without_images

METRICS = ("map", "recall@1", "recall@5", "recall@10")
IMAGES = "the folder that the table's image paths start from"
TABLE = "a CSV or parquet table with a column of image paths and one column of labels a condition"


def load(
    table: str | None = None,
    images: str | None = None,
    dataset: Mapping[str, str] | None = None,
    image_column: str = "image",
    conditions: Sequence[str] | Mapping[str, str] | None = None,
    together: Sequence[Sequence[str] | str] = (),
    queries: float = 0.1,
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
    tasks: Sequence[str] | None = None,
    on_error: OnError = "raise",
    cache_dir: str | None = None,
    name: str = "labelled",
) -> Benchmark:
    """One task a condition, and one for each list of ``together`` (several conditions at once).

    The images and labels come from ``table`` and ``images``, or from Hugging Face ``datasets``: ``dataset`` holds the
    arguments of ``load_dataset`` (path: a hub name, "imagefolder" or "parquet"; split; data_dir; ...). ``conditions``
    names the label columns (None: every column but the image's) or maps each to its text; a text is else the column's
    name. The headline "average" is the mean over the single conditions of the first of ``metrics``.
    """
    if table is None and dataset is None:
        raise CondsimError(f"benchmark.table is not set: it should name {TABLE}; or set benchmark.dataset.path instead")
    if table is not None and dataset is not None:
        raise CondsimError("benchmark.table and benchmark.dataset are both set: expected exactly one of them")
    if dataset is not None:
        from condsim.datasets.hub import export_images  # Hugging Face `datasets`: seconds to import

        root, frame = export_images(dataset, image_column, cache_dir)
        where = f"dataset {dataset.get('path')}"
    else:
        assert table is not None
        where = table
        frame = read_frame(Path(table).expanduser(), TABLE, [image_column])
        root = folder_of(images, "benchmark.images", IMAGES) if images else Path(table).expanduser().parent
    read = read_tasks(
        frame, root, name, where=where, image_column=image_column, conditions=conditions, together=together,
        queries=queries, seed=seed, metrics=metrics, on_error=on_error,
    )  # fmt: skip
    single = tuple((task.name, metrics[0]) for task in read if len(task.conditions[0]) == 1)
    headlines = {"average": single} if tasks is None and metrics else {}
    return Benchmark(name, read, headlines=headlines, on_error=on_error).select(tasks)


def read_tasks(
    frame: pd.DataFrame,
    root: Path,
    benchmark: str = "labelled",
    *,
    where: str = "table",
    image_column: str = "image",
    conditions: Sequence[str] | Mapping[str, str] | None = None,
    together: Sequence[Sequence[str] | str] = (),
    queries: float = 0.1,
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
) -> tuple[Task, ...]:
    """A table of labels as tasks that share one image table, one split and one gallery.

    The split query : database = ``queries`` : 1 - ``queries`` is drawn by ``seed`` over the image names in order, so
    the order of the table's rows does not matter; images that are missing are left out after it (with "skip"), so that
    the others stay where they are. A query whose label no database image has is left out of that task, and the task's
    ``skipped`` says how many were.
    """
    require_columns(frame, [image_column], where)
    columns = [column for column in frame.columns if column != image_column] if conditions is None else list(conditions)
    texts = {column: conditions[column] if isinstance(conditions, Mapping) else column for column in columns}
    require_columns(frame, columns, where)
    if not columns:
        raise CondsimError(f"{where}: there is no column of labels beside {image_column!r}")
    groups = {column: [column] for column in columns} | _joined(together, columns)
    rows, skipped, table_row = _read_rows(frame[[image_column, *columns]], root, where, on_error)
    query_rows, database = split_rows(len(rows), queries, seed)
    if not len(query_rows) or not len(database):
        raise CondsimError(f"{where}: {len(rows)} images are too few to split into queries and a database")
    images = ImageTable(root, tuple(row[0] for row in rows))
    missing = missing_images(images, table_row, where) if on_error == "skip" else {}
    codes = {column: word_codes(row[1 + j] for row in rows)[1] for j, column in enumerate(columns)}

    def task(name: str, group: Sequence[str]) -> Task:
        _, label = np.unique(np.stack([codes[column] for column in group]), axis=1, return_inverse=True)
        in_database = rows_by_code(label.reshape(-1)[database], int(label.max()) + 1)
        relevant = in_database.take(label.reshape(-1)[query_rows])
        answerable = np.flatnonzero(relevant.lengths)
        lost = len(query_rows) - len(answerable)
        if len(answerable) == 0:
            raise CondsimError(f"{where}: under {name!r} no query shares its label with a database image")
        note = f"{name}: {lost} of {len(query_rows)} queries have no image of their label in the database"
        whole = Task(
            benchmark=benchmark,
            name=name,
            images=images,
            conditions=(tuple(texts[column] for column in group),),
            condition=np.zeros(len(answerable), dtype=np.int64),
            reference=query_rows[answerable],
            relevant=Ragged(relevant.offsets, database[relevant.values]).take(answerable),
            metrics=tuple(metrics),
            gallery=database,
            query_ids=tuple(images.names[row] for row in query_rows[answerable]),
            skipped=(*skipped, *([note] if lost else [])),
        )
        return without_images(whole, missing) if missing else whole

    return tuple(task(name, group) for name, group in groups.items())


def _read_rows(
    frame: pd.DataFrame, root: Path, where: str, on_error: OnError
) -> tuple[list[tuple[str, ...]], tuple[str, ...], dict[str, int]]:
    """(image, label, label, ...) of each row, in the order of the images' names; what was left out; image -> its row.

    ``frame``: the images' column first, then one column of labels a condition.
    """
    first_row: dict[str, int] = {}

    def read(i: int, row: tuple[object, ...]) -> tuple[str, ...]:
        here = f"{where}: row {i}"
        image = relative_file(row[0], f"{here}: {frame.columns[0]}")
        if first_row.setdefault(image, i) != i:
            raise CondsimError(f"{here}: the image {image} already stands in row {first_row[image]}")
        if on_error == "raise" and not (root / image).is_file():
            raise CondsimError(f"{here}: the image {image} is not in {root}")
        return image, *(
            _label(value, f"{here}: {column}") for column, value in zip(frame.columns[1:], row[1:], strict=True)
        )

    rows, skipped = keep_valid(frame.itertuples(index=False, name=None), read, on_error)
    return sorted(rows), skipped, first_row


def _joined(together: Sequence[Sequence[str] | str], columns: list[str]) -> dict[str, list[str]]:
    """Task name -> its conditions, for each list of ``together``; the word "all" stands for all conditions."""
    named = {}
    for group in together:
        members = columns if group == "all" else list(group)
        if (isinstance(group, str) and group != "all") or len(members) < 2 or len(set(members)) < len(members):
            raise CondsimError(f"benchmark.together: {group!r} should be a list of different conditions, or all")
        for member in members:
            if member not in columns:
                raise CondsimError(
                    f"benchmark.together: {member!r} is no condition. {did_you_mean(str(member), columns)}"
                )
        named[group if isinstance(group, str) else "+".join(members)] = members
    return named


def split_rows(count: int, queries: float, seed: int) -> tuple[Rows, Rows]:
    """(query rows, database rows), each in order: a share ``queries`` of ``count`` rows, drawn by ``seed``."""
    if not 0 < queries < 1:
        raise CondsimError(f"benchmark.queries={queries}: the share of queries should be between 0 and 1, such as 0.1")
    shuffled = np.random.default_rng(seed).permutation(count)
    cut = max(1, round(count * queries)) if count else 0
    return np.sort(shuffled[:cut]).astype(np.int64), np.sort(shuffled[cut:]).astype(np.int64)


def _label(value: object, where: str) -> str:
    """A cell as a label; a number that is whole is written without a point, so 3 and 3.0 are one label."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)) or value == "":
        raise CondsimError(f"{where}: there is no label (expected one for every image)")
    if not isinstance(value, (str, int, float, bool, np.generic)):
        raise CondsimError(f"{where}: expected one label, found {ascii(value)[:80]}")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
