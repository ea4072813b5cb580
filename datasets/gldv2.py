"""Google Landmarks v2, retrieval (Weyand et al., CVPR 2020): landmark photographs against 761,757 others."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from condsim.datasets.annotations import keep_some, shown
from condsim.datasets.image_files import files_below, folder_of, image_folder, with_files
from condsim.harness.errors import CondsimError
from condsim.harness.files.tables import read_frame
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

METRICS = ("map@100",)
USAGES = ("Private", "Public")
INDEX, SOLUTION = "index.csv", "retrieval_solution_v2.1.csv"
ANNOTATIONS = f"the folder of {INDEX} and {SOLUTION}"
IMAGES = "the folder of index/ and test/, with an image abc... in a/b/c/abc....jpg of either"


def load(
    annotations: str | None = None,
    images: str | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "gldv2",
) -> Benchmark:
    """Two tasks, "private" and "public": the two parts of the test images, against every index image.

    Test images whose Usage is Ignored, or whose images are None, are no queries.
    """
    folder = folder_of(annotations, "benchmark.annotations", ANNOTATIONS)
    root = image_folder(images, IMAGES, on_error)
    path = folder / SOLUTION
    listed = read_frame(folder / INDEX, "a table with the column id", ["id"])["id"]
    gallery = {_image(ident, f"{folder / INDEX}: row {i + 1}"): i for i, ident in enumerate(listed)}
    if len(gallery) < len(listed):
        raise CondsimError(f"{folder / INDEX}: {listed[listed.duplicated()].iloc[0]} is in it twice")
    frame = read_frame(path, "a table with the columns id, images and Usage", ["id", "images", "Usage"])
    rows = zip(frame["id"], frame["images"], frame["Usage"], strict=True)
    scored = [(i, row) for i, row in enumerate(rows) if row[2] != "Ignored" and str(row[1]).strip() not in ("", "None")]

    def read(_: int, entry: tuple[int, tuple[str, str, str]]) -> tuple[str, str, list[int]]:
        i, (ident, positives, usage) = entry
        where = f"{path}: row {i + 1}"
        if usage not in USAGES:
            raise CondsimError(f"{where}: Usage: expected Private, Public or Ignored, found {shown(usage)}")
        _image(ident, where)
        named = positives.split()
        for positive in named:
            if positive not in gallery:
                raise CondsimError(f"{where}: the image {shown(positive)} is not in {folder / INDEX}")
        if len(set(named)) < len(named):
            raise CondsimError(f"{where}: an image is listed twice")
        return usage, ident, [gallery[positive] for positive in named]

    queries, skipped = keep_some(scored, read, on_error, path)
    names = (*(_place("index", ident) for ident in gallery), *(_place("test", ident) for _, ident, _ in queries))
    table = ImageTable(root or folder, names)
    index = None if root is None else files_below(root)

    def task(usage: str) -> Task:
        which = [i for i, (part, *_) in enumerate(queries) if part == usage]
        whole = Task(
            benchmark=name,
            name=usage.lower(),
            images=table,
            conditions=(),
            condition=np.full(len(which), -1, dtype=np.int64),
            reference=len(gallery) + np.array(which, dtype=np.int64),
            relevant=Ragged.of(queries[i][2] for i in which),
            metrics=tuple(metrics),
            gallery=np.arange(len(gallery), dtype=np.int64),
            query_ids=tuple(queries[i][1] for i in which),
            skipped=skipped,
        )
        return with_files(whole, index, on_error, IMAGES)

    there = {usage for usage, *_ in queries}
    read_tasks = tuple(task(usage) for usage in USAGES if usage in there)
    return Benchmark(name, read_tasks, on_error=on_error).select(tasks)


def _image(ident: object, where: str) -> str:
    if not isinstance(ident, str) or not re.fullmatch("[0-9a-f]{16}", ident):
        raise CondsimError(f"{where}: id: expected 16 digits and letters a to f, found {shown(ident)}")
    return ident


def _place(folder: str, ident: str) -> str:
    return f"{folder}/{'/'.join(ident[:3])}/{ident}.jpg"
