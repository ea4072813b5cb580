"""Instance retrieval (QuARI's protocol on ILIAS and INQUIRE): queries with several positives among many distractors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from condsim.datasets.annotations import keep_some, keep_valid
from condsim.datasets.grouping import word_codes
from condsim.datasets.image_files import NamedFiles, folder_of, missing_images, relative_file
from condsim.harness.errors import CondsimError
from condsim.harness.files.gallery_parts import is_parts, read_parts
from condsim.harness.files.name_list import NameList
from condsim.harness.files.tables import cell_text, read_frame
from condsim.harness.names import clean_path, unusable_character
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Rows, Task
from condsim.harness.variants.without_images import without_images

METRICS = ("map@1000", "map@50", "ndcg@50", "mrr")
QUERIES = (
    "a CSV or parquet table with the columns id, positives (a list; in a CSV joined by |) and image, text or both; "
    "conditions (a list likewise) in place of text: several texts at once"
)
GALLERY = (
    "a CSV or parquet table with the column image: every gallery image once, positives and distractors; or a folder "
    "of condsim.write_parts"
)
IMAGES = "the folder that the image paths of both tables start from; leave it out to run from feature files"


@dataclass(frozen=True)
class Query:
    id: str
    image: str
    """Empty: a query of text alone."""
    condition: tuple[str, ...]
    """Empty: a query of an image alone."""
    positives: tuple[str, ...]


def load(
    queries: str | None = None,
    gallery: str | None = None,
    images: str | None = None,
    metrics: Sequence[str] = METRICS,
    task: str = "test",
    tasks: Sequence[str] | None = None,
    on_error: OnError = "raise",
    name: str = "instance",
    clusters: Literal["reference"] | None = None,
) -> Benchmark:
    """One task, called ``task``: ``queries`` against the whole ``gallery`` (tables, see ``cards/instance.md``).

    A query image that is in the gallery too is taken out of its own gallery and positives. With "skip", missing images
    are left out of the gallery, and so are queries that have no other positive. Names of images are compared in the
    spelling of ``names.clean_path``, in both tables. Without ``images`` they are keys into a precomputed backbone's
    feature files.
    """
    for option, value, what in (("queries", queries, QUERIES), ("gallery", gallery, GALLERY)):
        if not value:
            raise CondsimError(f"benchmark.{option} is not set: it should name {what}")
    root = folder_of(images, "benchmark.images", IMAGES) if images else None
    path, gallery_path = Path(str(queries)).expanduser(), Path(str(gallery)).expanduser()
    files = NamedFiles(root) if root else None
    frame = read_frame(path, QUERIES, ["id", "positives"])
    records = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    names: Sequence[str]
    unusable: tuple[str, ...] = ()
    table_row: dict[str, int] = {}
    if is_parts(gallery_path):
        names = in_parts = read_parts(gallery_path).names
        rows = in_parts.places(_mentioned(records, files))
    else:
        names, unusable, table_row = _read_gallery(gallery_path, files, on_error)
        rows = {image: row for row, image in enumerate(names)}
    in_gallery = frozenset(rows)
    if not {"image", "text", "conditions"} & set(frame.columns):
        raise CondsimError(f"{path}: there is neither a column image nor text (expected {QUERIES})")
    first_row: dict[str, int] = {}

    def read(i: int, raw: dict[str, object]) -> Query:
        query = _query(raw, f"{path}: row {i + 1}", files)
        if first_row.setdefault(query.id, i) != i:
            raise CondsimError(
                f"{path}: row {i + 1}: duplicate id {query.id!a} (first in row {first_row[query.id] + 1})"
            )
        for positive in query.positives:
            if positive not in in_gallery:
                raise CondsimError(
                    f"{path}: row {i + 1}: the positive {positive!a} is not in the gallery {gallery_path}"
                )
        if set(query.positives) <= {query.image}:
            raise CondsimError(f"{path}: row {i + 1}: expected a positive other than the query image itself")
        return query

    usable, skipped = keep_some(records, read, on_error, path)
    others = list(dict.fromkeys(query.image for query in usable if query.image and query.image not in in_gallery))
    rows |= {image: len(names) + i for i, image in enumerate(others)}
    texts, text_codes = word_codes("\n".join(query.condition) for query in usable)  # no text holds a line break
    shift = 1 if texts[0] == "" else 0  # the empty text sorts first and is no condition
    reference = np.array([rows[query.image] if query.image else -1 for query in usable], dtype=np.int64)
    every = names + others if isinstance(names, NameList) else (*names, *others)
    table = ImageTable(root or gallery_path.parent, every, files=files.files if files else {})
    missing = missing_images(table, table_row, str(gallery_path)) if root and on_error == "skip" else {}
    whole = Task(
        benchmark=name,
        name=task,
        images=table,
        conditions=tuple(tuple(text.split("\n")) for text in texts[shift:]),
        condition=text_codes - shift,
        reference=reference,
        relevant=Ragged.of([rows[p] for p in query.positives if p != query.image] for query in usable),
        metrics=tuple(metrics),
        gallery=range(len(names)),
        excluded=Ragged.of([row] if 0 <= row < len(names) else [] for row in reference),
        query_ids=tuple(query.id for query in usable),
        clusters=None if clusters is None else _by_image(reference),
        cluster_name=clusters or "query",
        skipped=unusable + skipped,
    )
    read_task = without_images(whole, missing) if missing else whole
    return Benchmark(name, (read_task,), on_error=on_error).select(tasks)


def _by_image(reference: Rows) -> Rows:
    """[Q] one cluster per reference image; a query without one is a cluster of its own."""
    alone = reference.max(initial=-1) + 1 + np.arange(len(reference))
    return np.where(reference < 0, alone, reference)


def _mentioned(records: Sequence[dict[str, object]], files: NamedFiles | None) -> Iterator[str]:
    """The images that the queries name. Faults are reported where the queries are read."""
    for raw in records:
        with suppress(CondsimError):
            query = _query(raw, "", files)
            yield from (*query.positives, query.image)


def _read_gallery(
    path: Path, files: NamedFiles | None, on_error: OnError
) -> tuple[list[str], tuple[str, ...], dict[str, int]]:
    """The images, what was left out, and image -> its row."""
    first_row: dict[str, int] = {}

    def read(i: int, image: object) -> str:
        file = _name(image, files, f"{path}: row {i + 1}: image")
        if first_row.setdefault(file, i) != i:
            raise CondsimError(f"{path}: row {i + 1}: duplicate image {file} (first in row {first_row[file] + 1})")
        if files and on_error == "raise":
            files.require(file, f"{path}: row {i + 1}: image")
        elif files:
            files.find(file)
        return file

    names, skipped = keep_valid(read_frame(path, GALLERY, ["image"])["image"], read, on_error)
    if not names:
        raise CondsimError(f"{path}: the gallery is empty; the first fault: {skipped[0]}")
    return names, skipped, first_row


def _query(raw: dict[str, object], where: str, files: NamedFiles | None) -> Query:
    ident, text = (_line(raw.get(column), f"{where}: {column}") for column in ("id", "text"))
    image = raw.get("image") if cell_text(raw.get("image"), f"{where}: image") else ""
    if not ident:
        raise CondsimError(f"{where}: there is no id")
    condition: tuple[str, ...] = (text,) if text else ()
    if several := _listed(raw.get("conditions")):
        if text:
            raise CondsimError(f"{where}: expected text or conditions, found both")
        condition = tuple(dict.fromkeys(_line(part, f"{where}: conditions") for part in several))
    if not image and not condition:
        raise CondsimError(f"{where}: expected an image, a text or both")
    positives = _listed(raw["positives"])
    if not positives:
        raise CondsimError(
            f"{where}: positives: expected a list of gallery images, at least one (in a CSV joined by |)"
        )
    named = tuple(_name(positive, files, f"{where}: positives") for positive in positives)
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise CondsimError(f"{where}: positives: duplicate image {twice!a}")
    name = _name(image, files, f"{where}: image") if image else ""
    if files and name:
        files.require(name, f"{where}: image")
    return Query(ident, name, condition, named)


def _listed(value: object) -> list[object]:
    """A list of parquet, or one joined by | in a CSV; empty for what is neither."""
    if isinstance(value, str):
        return [part for part in value.split("|") if part.strip()]
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else []


def _line(value: object, where: str) -> str:
    """A cell as text on one line; empty where it is missing."""
    text = cell_text(value, where)
    if fault := unusable_character(text):
        raise CondsimError(f"{where}: expected text on one line without {fault}")
    return text


def _name(value: object, files: NamedFiles | None, where: str) -> str:
    """An image's path in the image folder; without a folder any key of a feature file, in the same spelling."""
    if files is not None:
        return relative_file(value, where, files.root)
    text = value if isinstance(value, str) else cell_text(value, where)
    if not (key := clean_path(text)):
        raise CondsimError(f"{where}: expected an image's path or key, found {ascii(value)[:80]}")
    return key
