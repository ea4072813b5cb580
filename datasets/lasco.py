"""LaSCo (Levy et al., AAAI 2024): composed retrieval in COCO's validation images, the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from condsim.datasets.annotations import Entry, Line, Text, keep_some, read_list, validate
from condsim.datasets.grouping import composed
from condsim.datasets.image_files import folder_of, image_folder, image_index, inner, moved, relative_file, with_files
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

METRICS = tuple(f"recall@{k}" for k in (1, 5, 10, 50, 100))
QUERIES, CORPUS = "lasco_val.json", "lasco_val_corpus.json"
ANNOTATIONS = f"the folder of {QUERIES} and {CORPUS}, or LaSCo's repository (downloads/)"
IMAGES = "COCO's folder val2014/, or the folder above"


class Image(Entry):
    id: Annotated[int, Field(ge=0, lt=10**12)]
    path: Text


def _pair(value: object) -> object:
    """An image is written as [id, path] in the queries."""
    return {"id": value[0], "path": value[1]} if isinstance(value, list) and len(value) == 2 else value


class Query(Entry):
    qid: int
    reference: Annotated[Image, BeforeValidator(_pair)] = Field(alias="query-image")
    text: Line = Field(alias="query-text")
    target: Annotated[Image, BeforeValidator(_pair)] = Field(alias="target-image")


def load(
    annotations: str | None = None,
    images: str | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "lasco",
) -> Benchmark:
    """One task, "val": the queries against every image of the corpus. The reference stays in the gallery."""
    folder = inner(folder_of(annotations, "benchmark.annotations", ANNOTATIONS), "downloads")
    root = image_folder(images, IMAGES, on_error)
    path, corpus = folder / QUERIES, folder / CORPUS
    rows: dict[str, int] = {}
    for i, raw in enumerate(read_list(corpus, 'a list of images, {"id": 42, "path": "val2014/..."}')):
        file = _file(validate(Image, raw, f"{corpus}: entry {i}"), f"{corpus}: entry {i}")
        if rows.setdefault(file, i) != i:
            raise CondsimError(f"{corpus}: entry {i}: {file} is in entry {rows[file]} already")
    size = len(rows)

    def read(i: int, raw: object) -> tuple[Query, str, str]:
        where = f"{path}: entry {i}"
        query = validate(Query, raw, where)
        reference, target = (_file(image, where) for image in (query.reference, query.target))
        if rows.get(target, size) >= size:
            raise CondsimError(f"{where}: target-image: {target} is not in {corpus}")
        rows.setdefault(reference, len(rows))
        return query, reference, target

    queries, skipped = keep_some(read_list(path, "a list of LaSCo's queries"), read, on_error, path)
    idents = [str(query.qid) for query, *_ in queries]
    names = tuple(rows)
    index = None if root is None else image_index(root, ("val2014", "val/val2014"))
    task = Task(
        benchmark=name,
        name="val",
        images=ImageTable(root or folder, names, files=moved(names, index)),
        **composed((query.text for query, *_ in queries), (rows[file] for _, file, _ in queries)),
        relevant=Ragged.of([rows[file]] for *_, file in queries),
        metrics=tuple(metrics),
        gallery=np.arange(size, dtype=np.int64),
        query_ids=tuple(idents) if len(set(idents)) == len(idents) else None,
        skipped=skipped,
    )
    return Benchmark(name, (with_files(task, index, on_error, IMAGES),), on_error=on_error).select(tasks)


def _file(image: Image, where: str) -> str:
    """COCO's file name. The folders before it differ between the two files."""
    file = PurePosixPath(relative_file(image.path, where)).name
    if not PurePosixPath(file).stem.endswith(f"{image.id:012d}"):
        raise CondsimError(f"{where}: the file of image {image.id} should end in {image.id:012d}.jpg, found {file!a}")
    return file
