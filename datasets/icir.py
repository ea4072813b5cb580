"""i-CIR (Psomas et al., NeurIPS 2025): composed retrieval of one object, in a database of its own hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from condsim.datasets.annotations import keep_some, read_each_line
from condsim.datasets.grouping import word_codes
from condsim.datasets.image_files import files_below, folder_of, image_folder, inner, moved, relative_file, with_files
from condsim.harness.errors import CondsimError
from condsim.harness.names import unusable_character
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

AVERAGE_PRECISION = "map_trapezoid_eps"
METRICS = (AVERAGE_PRECISION, f"cluster_{AVERAGE_PRECISION}", f"cluster_min_{AVERAGE_PRECISION}")
"""mAP over the queries, mmAP (mean of the instances' means) and minmAP (mean of the instances' worst queries)."""
QUERIES, DATABASE = "query_files.csv", "database_files.csv"
ANNOTATIONS = f"i-CIR's folder, with {QUERIES} and {DATABASE} in it or in its annotations/"
IMAGES = "i-CIR's folder, with query/ and database/ in it, or the folder above"
ROWS = "lines of path,text,instance without a header"


class Line(NamedTuple):
    """One line of either list."""

    image: str
    text: str
    instance: str


def load(
    annotations: str | None = None,
    images: str | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "icir",
) -> Benchmark:
    """One task, "test": the candidates of a query are the database images of its instance.

    Positive is a database image of the query's instance with the query's text, letter by letter. A database image that
    is listed under several instances or texts is one row of the image table, and one candidate per line. With "skip", a
    missing image takes all queries of its instance with it.
    """
    folder = inner(folder_of(annotations, "benchmark.annotations", ANNOTATIONS), "annotations")
    root = image_folder(images, IMAGES, on_error)
    database, skipped = read_lines(folder / DATABASE, on_error)
    queries_path = folder / QUERIES
    entries: dict[str, list[Line]] = {}
    for line in database:
        entries.setdefault(line.instance, []).append(line)
    positives: dict[tuple[str, str], list[str]] = {}
    for line in dict.fromkeys(database):
        positives.setdefault((line.instance, line.text), []).append(line.image)
    lines, unusable = read_lines(queries_path, on_error)

    def read(_: int, query: Line) -> Line:
        if query.instance not in entries:
            raise CondsimError(f"{queries_path}: {query.image}: {folder / DATABASE} has no image of {query.instance!a}")
        if (query.instance, query.text) not in positives:
            raise CondsimError(
                f"{queries_path}: {query.image}: {folder / DATABASE} has no image of {query.instance!a} with the text "
                f"{query.text!a}, so it has no positive"
            )
        return query

    queries, unanswerable = keep_some(lines, read, on_error, queries_path)
    rows: dict[str, int] = {}
    for line in (*database, *queries):
        rows.setdefault(line.image, len(rows))
    candidates = {instance: np.array([rows[line.image] for line in own]) for instance, own in entries.items()}
    texts, condition = word_codes(query.text for query in queries)
    names = tuple(rows)
    index = None if root is None else index_images(root, names)
    task = Task(
        benchmark=name,
        name="test",
        images=ImageTable(root or folder, names, files=moved(names, index)),
        conditions=tuple((text,) for text in texts),
        condition=condition,
        reference=np.array([rows[query.image] for query in queries], dtype=np.int64),
        relevant=Ragged.of([rows[image] for image in positives[query.instance, query.text]] for query in queries),
        metrics=tuple(metrics),
        candidates=Ragged.of(candidates[query.instance] for query in queries),
        clusters=word_codes(query.instance for query in queries)[1],
        cluster_name="instance",
        query_ids=tuple(f"{query.image} {query.text}" for query in queries),
        skipped=(*skipped, *unusable, *unanswerable),
    )
    return Benchmark(name, (with_files(task, index, on_error, IMAGES),), on_error=on_error).select(tasks)


def read_lines(path: Path, on_error: OnError = "raise") -> tuple[list[Line], tuple[str, ...]]:
    """The lines of a list in file order, and one message for each that is left out."""

    def read(where: str, raw: str) -> Line:
        cells = [cell.strip() for cell in raw.split(",")]  # the released code splits so, quotes are letters
        if len(cells) != 3:
            raise CondsimError(f"{where}: expected path,text,instance, found {len(cells)} cells")
        image, text, instance = cells
        if not instance:
            raise CondsimError(f"{where}: there is no instance")
        if (fault := unusable_character(text + instance)) is not None:
            raise CondsimError(f"{where}: a cell contains {fault}")
        return Line(relative_file(image, where), text, instance)

    return read_each_line(path, ROWS, read, on_error)


def index_images(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Those of ``names`` that are below ``root`` -> their places there.

    The lists name images from the folder above i-CIR's, whose own name differs between releases: a path also counts as
    found without its first folder.
    """
    below = files_below(root)
    places = ((name, below.get(name) or below.get(name.partition("/")[2])) for name in names)
    return {name: place for name, place in places if place is not None}
