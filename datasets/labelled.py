"""Conditional labels (CLAY's protocol): images with one label per condition; relevant are those of the same label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from condsim.datasets.annotations import keep_valid
from condsim.datasets.grouping import rows_by_code, word_codes
from condsim.datasets.image_files import NamedFiles, folder_of, missing_images, relative_file
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.tables import is_missing, label, read_frame, require_columns
from condsim.harness.names import clean_label, notes_on_alike, unusable_character
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Rows, Task
from condsim.harness.variants.without_images import without_images

METRICS = ("map", "recall@1", "recall@5", "recall@10")
IMAGES = "the folder that the table's image paths start from"
TABLE = "a CSV or parquet table with a column of image paths and one column of labels per condition"


def load(
    table: str | None = None,
    images: str | None = None,
    dataset: Mapping[str, str] | None = None,
    image_column: str = "image",
    conditions: Sequence[str] | Mapping[str, str] | None = None,
    together: Sequence[Sequence[str] | str] = (),
    queries: float = 0.1,
    seed: int = 0,
    leave_one_out: bool = False,
    metrics: Sequence[str] = METRICS,
    tasks: Sequence[str] | None = None,
    on_error: OnError = "raise",
    cache_dir: str | None = None,
    name: str = "labelled",
) -> Benchmark:
    """One task per condition, and one for each list of ``together`` (several conditions at once).

    The text of a condition is the column's name unless ``conditions`` maps it to another. The headline "average" is the
    mean over the single conditions of the first of ``metrics``. Names of columns and labels are compared in the
    spelling of ``names.clean_label``.

    The tasks share one image table, one split and one gallery. The split query : database = ``queries`` : 1 -
    ``queries`` is drawn by ``seed`` over the image names in order, so the order of the table's rows does not matter;
    images that are missing are left out after it (with "skip"), so that the split of the others does not change. A
    query whose label no database image has is left out of that task, and the task's ``skipped`` says how many were.
    ``leave_one_out``: instead, every image is a query and ranks all others (InDiReCT's and DIOR's protocol).
    """
    dataset = {key: value for key, value in (dataset or {}).items() if value is not None} or None
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
    image_column = clean_label(image_column)
    notes: tuple[str, ...] = ()
    require_columns(frame.columns, [image_column], where)
    if conditions is None:
        conditions, notes = label_columns(frame, image_column, where)
    texts = _condition_texts(conditions)
    columns = list(texts)
    require_columns(frame.columns, columns, where)
    if not columns:
        raise CondsimError(f"{where}: there is no column of labels beside {image_column!r}")
    for column in columns:
        if not column or (fault := unusable_character(column)):
            reason = f"holds {fault}" if column else "is empty"
            raise CondsimError(f"{where}: the column name {column!a} {reason}, so it cannot name a task: rename it")
    groups = {column: [column] for column in columns} | _joined(together, columns)
    files = NamedFiles(root)
    rows, skipped, table_row = _read_rows(frame[[image_column, *columns]], files, where, on_error)
    every = np.arange(len(rows), dtype=np.int64)
    query_rows, database = (every, every) if leave_one_out else split_rows(len(rows), queries, seed)
    if not len(query_rows) or not len(database):
        raise CondsimError(f"{where}: {len(rows)} images are too few to split into queries and a database")
    shared = ImageTable(root, tuple(row[0] for row in rows), files=files.files)
    missing = missing_images(shared, table_row, where) if on_error == "skip" else {}
    codes = {column: word_codes(row[1 + j] for row in rows)[1] for j, column in enumerate(columns)}

    def task(label: str, group: Sequence[str]) -> Task:
        _, code = np.unique(np.stack([codes[column] for column in group]), axis=1, return_inverse=True)
        in_database = rows_by_code(code.reshape(-1)[database], int(code.max()) + 1)
        relevant = in_database.take(code.reshape(-1)[query_rows])
        relevant = Ragged(relevant.offsets, database[relevant.values])
        if leave_one_out:
            relevant = relevant.keep(relevant.values != np.repeat(query_rows, relevant.lengths))
        answerable = np.flatnonzero(relevant.lengths)
        lost = len(query_rows) - len(answerable)
        if len(answerable) == 0:
            raise CondsimError(f"{where}: under {label!r} no query shares its label with a database image")
        note = f"{label}: {lost} of {len(query_rows)} queries have no image of their label in the database"
        whole = Task(
            benchmark=name,
            name=label,
            images=shared,
            conditions=(tuple(texts[column] for column in group),),
            condition=np.zeros(len(answerable), dtype=np.int64),
            reference=query_rows[answerable],
            relevant=relevant.take(answerable),
            metrics=tuple(metrics),
            gallery=database,
            excluded=Ragged.of([row] for row in query_rows[answerable]) if leave_one_out else None,
            variant="leave_one_out" if leave_one_out else "",
            query_ids=tuple(shared.names[row] for row in query_rows[answerable]),
            skipped=(*skipped, *([note] if lost else [])),
        )
        return without_images(whole, missing) if missing else whole

    read_tasks = tuple(task(label, group) for label, group in groups.items())
    single = tuple((task.name, metrics[0]) for task in read_tasks if len(task.conditions[0]) == 1)
    headlines = {"average": single} if tasks is None and metrics else {}
    notes += _notes_on_labels(frame, columns, where)
    return Benchmark(name, read_tasks, headlines=headlines, on_error=on_error, notes=notes).select(tasks)


def label_columns(frame: pd.DataFrame, image_column: str, where: str) -> tuple[list[str], tuple[str, ...]]:
    """The columns that can hold labels, and one note per other column beside ``image_column`` that says why it cannot.

    No label columns are: one without a name (the index that pandas' ``to_csv`` writes), an empty one, one of lists or
    other objects, and one whose values are all different, as a note or an id per image is.
    """
    columns, notes = [], []
    for place, column in enumerate(map(str, frame.columns)):
        if column == image_column:
            continue
        if reason := _no_labels(column, frame.iloc[:, place]):
            notes.append(f"{where}: the column {column!r} is left out: {reason}")
        else:
            columns.append(column)
    if notes and not columns:
        raise CondsimError(f"{where}: there is no column of labels beside {image_column!r}; {notes[0]}")
    return columns, tuple(notes)


def _no_labels(column: str, cells: pd.Series[Any]) -> str | None:
    """Why a column holds no labels; None: it may hold some."""
    if not column:
        return "it has no name"
    seen: set[str] = set()
    for cell in cells:
        if is_missing(cell):
            continue
        try:
            text = label(cell, column)
        except CondsimError:
            return "its values are neither texts nor numbers"
        if text in seen:
            return None
        seen.add(text)
    if not seen:
        return "it is empty"
    return f"its {len(seen):,} values are all different, so no image shares a label" if len(seen) > 1 else None


def _notes_on_labels(frame: pd.DataFrame, columns: Sequence[str], where: str) -> tuple[str, ...]:
    """Columns, and labels of one column, that differ only in case."""
    notes = notes_on_alike(columns, f"{where}: columns")
    for column in columns:
        labels = {label(cell, column) for cell in frame[column].unique() if not is_missing(cell)}
        notes += notes_on_alike(labels, f"{where}: labels of {column!r}")
    return notes


def _condition_texts(conditions: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Label column -> the text of its condition."""
    if not isinstance(conditions, Mapping):
        conditions = {name: name for name in ([conditions] if isinstance(conditions, str) else conditions)}
    return {clean_label(str(column)): clean_label(str(text)) for column, text in conditions.items()}


def _read_rows(
    frame: pd.DataFrame, files: NamedFiles, where: str, on_error: OnError
) -> tuple[list[tuple[str, ...]], tuple[str, ...], dict[str, int]]:
    """(image, label, label, ...) of each row, in the order of the images' names; what was left out; image -> its row.

    ``frame``: the images' column first, then one column of labels per condition.
    """
    first_row: dict[str, int] = {}

    def read(i: int, row: tuple[object, ...]) -> tuple[str, ...]:
        here = f"{where}: row {i + 1}"
        image = relative_file(row[0], f"{here}: {frame.columns[0]}", files.root)
        if first_row.setdefault(image, i) != i:
            raise CondsimError(f"{here}: duplicate image {image} (first in row {first_row[image] + 1})")
        if on_error == "raise":
            files.require(image, here)
        else:
            files.find(image)
        return image, *(
            label(value, f"{here}: {column}") for column, value in zip(frame.columns[1:], row[1:], strict=True)
        )

    rows, skipped = keep_valid(frame.itertuples(index=False, name=None), read, on_error)
    return sorted(rows), skipped, first_row


def _joined(together: Sequence[Sequence[str] | str], columns: list[str]) -> dict[str, list[str]]:
    """Task name -> its conditions, for each list of ``together``; the word "all" means all conditions."""
    named = {}
    for group in together:
        members = columns if group == "all" else [clean_label(str(member)) for member in group]
        if (isinstance(group, str) and group != "all") or len(members) < 2 or len(set(members)) < len(members):
            raise CondsimError(f"benchmark.together: {group!r} should be a list of different conditions, or all")
        for member in members:
            if member not in columns:
                raise CondsimError(
                    f"benchmark.together: {member!r} is not a condition. {did_you_mean(str(member), columns)}"
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
