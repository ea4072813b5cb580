"""Zappos triplets of Conditional Similarity Networks (Veit et al., CVPR 2017): which of two shoes is more similar?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from condsim.datasets.annotations import read_each_line, shown
from condsim.datasets.image_files import folder_of, image_folder, index_below, moved, relative_file, with_files
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_text
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

METRICS = ("recall@1",)
CONDITIONS: Mapping[str, str] = {
    "class": "type of shoe",
    "closure": "closing mechanism",
    "gender": "suggested gender",
    "heel": "height of the heel",
}
"""Name of a triplet list -> the text of its condition. CSN has no texts: these are ours, after its paper's words."""
SPLITS = ("test", "val")
ANNOTATIONS = "CSN's folder data/, with filenames.json and tripletlists/"
IMAGES = "UT-Zap50K's folder ut-zap50k-images/, or the folder above"


def load(
    annotations: str | None = None,
    images: str | None = None,
    split: str = "test",
    conditions: Mapping[str, str] | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "zappos",
) -> Benchmark:
    """One task per condition, and the mean over them. Recall@1 over the two candidates is the triplet accuracy.

    A line "anchor far close" of a triplet list is a query: the anchor ranks close and far, and close is relevant.
    """
    folder = folder_of(annotations, "benchmark.annotations", ANNOTATIONS)
    root = image_folder(images, IMAGES, on_error)
    texts = {**CONDITIONS, **(conditions or {})}
    for condition in texts:
        require_one_of("benchmark.conditions", condition, CONDITIONS)
    require_one_of("benchmark.split", split, SPLITS)
    listing = folder / "filenames.json"
    lines = read_text(listing, "the paths of UT-Zap50K's images, one per line").splitlines()
    files = [relative_file(line, f"{listing}, line {i + 1}") for i, line in enumerate(lines)]
    if len(set(files)) < len(files):
        raise CondsimError(f"{listing}: {max(files, key=files.count)} is listed twice")
    index = None if root is None else index_below(root, "ut-zap50k-images")

    def task(condition: str) -> Task:
        path = folder / "tripletlists" / f"{condition}_tripletlist_{split}.txt"

        def read(where: str, raw: str) -> tuple[int, int, int]:
            cells = raw.split()
            rows = [int(cell) for cell in cells if cell.isascii() and cell.isdigit() and len(cell) < 12]
            if len(cells) != 3 or len(rows) != 3:
                raise CondsimError(f"{where}: expected three numbers, anchor far close, found {shown(raw)}")
            if max(rows) >= len(files):
                raise CondsimError(f"{where}: it names image {max(rows)}, but {listing} has {len(files)}")
            if rows[1] == rows[2]:
                raise CondsimError(f"{where}: both candidates are image {rows[1]}")
            return rows[0], rows[1], rows[2]

        triplets, skipped = read_each_line(path, "lines of three numbers, anchor far close", read, on_error)
        used, rows = np.unique(np.array(triplets, dtype=np.int64), return_inverse=True)
        anchor, far, close = rows.reshape(-1, 3).astype(np.int64).T
        names = tuple(files[row] for row in used)
        whole = Task(
            benchmark=name,
            name=condition,
            images=ImageTable(root or folder, names, files=moved(names, index)),
            conditions=((texts[condition],),),
            condition=np.zeros(len(triplets), dtype=np.int64),
            reference=anchor,
            relevant=Ragged.of(close[:, None]),
            metrics=tuple(metrics),
            candidates=Ragged.of(np.stack([far, close], axis=1)),
            clusters=anchor,
            cluster_name="anchor",
            variant="" if split == "test" else f"split={split}",
            skipped=skipped,
        )
        return with_files(whole, index, on_error, IMAGES)

    read_tasks = tuple(map(task, CONDITIONS))
    headlines = {"average": tuple((task.name, metrics[0]) for task in read_tasks)} if tasks is None and metrics else {}
    return Benchmark(name, read_tasks, headlines=headlines, on_error=on_error).select(tasks)
