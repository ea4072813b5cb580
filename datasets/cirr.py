"""CIRR (Liu et al., ICCV 2021): composed retrieval over photographs, with image sets of six for subset recall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import Field

from condsim.datasets.annotations import Entry, Line, Text, keep_some, read_list, shown, validate
from condsim.datasets.cirr_submission import LENGTHS, VERSION, write_submission
from condsim.datasets.grouping import composed
from condsim.datasets.image_files import NamedFiles, folder_of, inner, relative_file, required_images, with_files
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_json
from condsim.harness.names import clean_path
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Submission, Task, TrainSplit

SPLITS = ("val", "test1", "train")
METRICS = ("recall@1", "recall@5", "recall@10", "recall@50", "subset_recall@1", "subset_recall@2", "subset_recall@3")
ANNOTATIONS = "CIRR's annotation folder, with captions/cap.rc2.<split>.json and image_splits/split.rc2.<split>.json"
IMAGES = "the folder of CIRR's images, with train/<n>/, dev/ and test1/ in it or in its img_raw/"


class ImageSet(Entry):
    id: int
    members: Annotated[list[Text], Field(min_length=6, max_length=6)]


class Query(Entry):
    pairid: int
    reference: Text
    caption: Line
    img_set: ImageSet


class QueryWithTarget(Query):
    target_hard: Text


def load(
    annotations: str | None = None,
    images: str | None = None,
    split: str = "val",
    metrics: Sequence[str] | None = None,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "cirr",
) -> Benchmark:
    """One task, named after the split: the gallery is every name of the split file except the query's own reference.

    ``subset`` of the task is the five other members of the query's image set, in file order. On test1 the targets are
    withheld, so it has no metrics: ``datasets.cirr_submission`` writes the files for the official server instead.
    """
    require_one_of("benchmark.split", split, SPLITS)
    withheld = split == "test1"
    if withheld and metrics:
        raise CondsimError(
            f"CIRR's test1 has no public targets, so {', '.join(metrics)} cannot be computed here: leave "
            "benchmark.metrics out and two submission files for the official server are written, or use split=val"
        )
    folder = annotation_root(folder_of(annotations, "benchmark.annotations", ANNOTATIONS))
    root = inner(required_images(images, IMAGES, on_error), "img_raw")
    files = read_split(folder, split)
    on_disk = NamedFiles(root)
    existing = {file: on_disk.files.get(file, file) for file in files.values() if on_disk.find(file)}
    rows = {image: row for row, image in enumerate(files)}
    path = caption_file(folder, split)
    seen: dict[int, int] = {}

    def read(i: int, raw: object) -> Query:
        where = f"{path}: entry {i}"
        query = validate(Query if withheld else QueryWithTarget, raw, where)
        _consistent(query, files, where)
        if seen.setdefault(query.pairid, i) != i:
            raise CondsimError(f"{where}: pairid {query.pairid} is already the id of entry {seen[query.pairid]}")
        return query

    queries, skipped = keep_some(read_list(path, "a list of CIRR queries"), read, on_error, path)
    reference = np.array([rows[query.reference] for query in queries], dtype=np.int64)
    task = Task(
        benchmark=name,
        name=split,
        images=ImageTable(root, tuple(files.values()), files=on_disk.files),
        **composed((query.caption for query in queries), reference),
        relevant=Ragged.of(
            [rows[query.target_hard]] if isinstance(query, QueryWithTarget) else [] for query in queries
        ),
        metrics=() if withheld else METRICS if metrics is None else tuple(metrics),
        gallery=np.arange(len(rows), dtype=np.int64),
        excluded=Ragged.of(reference[:, None]),
        subset=Ragged.of(
            [rows[member] for member in query.img_set.members if member != query.reference] for query in queries
        ),
        query_ids=tuple(str(query.pairid) for query in queries),
        submission=Submission(max(LENGTHS.values()), write_submission) if withheld else None,
        skipped=skipped,
    )
    task = with_files(task, existing, on_error, IMAGES)
    headline = {"average": ((split, "recall@5"), (split, "subset_recall@1"))}
    headlines = headline if {"recall@5", "subset_recall@1"} <= set(task.metrics) else {}
    return Benchmark(name, (task,), read_train(folder, root), headlines, on_error).select(tasks)


def annotation_root(folder: Path) -> Path:
    """``folder`` or its ``cirr/``, whichever holds captions/."""
    return folder / "cirr" if not (folder / "captions").is_dir() and (folder / "cirr").is_dir() else folder


def caption_file(folder: Path, split: str) -> Path:
    return folder / "captions" / f"cap.{VERSION}.{split}.json"


def split_file(folder: Path, split: str) -> Path:
    return folder / "image_splits" / f"split.{VERSION}.{split}.json"


def read_split(folder: Path, split: str) -> dict[str, str]:
    """A split file: image name -> path under the image folder, in file order."""
    path = split_file(folder, split)
    value = read_json(path, 'an object {"<image name>": "./<folder>/<image name>.png"}')
    if not isinstance(value, dict) or not value:
        raise CondsimError(f"{path}: expected an object of image names and paths, not empty, found {shown(value)}")
    files = {name: relative_file(file, f"{path}: image {shown(name)}") for name, file in value.items()}
    for name, file in files.items():
        if PurePosixPath(file).stem != clean_path(name):
            raise CondsimError(f"{path}: image {shown(name)}: expected a file of that name, found {shown(file)}")
    return files


def _consistent(query: Query, files: dict[str, str], where: str) -> None:
    """Raises CondsimError unless a query's images are in the split file and in its own image set."""
    named = [
        ("reference", query.reference),
        *((f"img_set.members[{j}]", m) for j, m in enumerate(query.img_set.members)),
    ]
    if isinstance(query, QueryWithTarget):
        named.append(("target_hard", query.target_hard))
        if query.target_hard == query.reference:
            raise CondsimError(f"{where}: target_hard is the reference itself, which is never in its own gallery")
    for label, image in named:
        if image not in files:
            raise CondsimError(f"{where}: {label}: {shown(image)} is not in the split file")
    members = query.img_set.members
    if len(set(members)) < len(members):
        raise CondsimError(f"{where}: img_set.members: duplicate image (expected six different ones)")
    for label, image in named:
        if image not in members:
            raise CondsimError(f"{where}: {label}: {shown(image)} is not among img_set.members")


def read_train(folder: Path, root: Path) -> TrainSplit | None:
    """The training split's images and captions; None where its files or its images are missing."""
    if not (split_file(folder, "train").is_file() and (root / "train").is_dir()):
        return None
    images = ImageTable(root, tuple(read_split(folder, "train").values()))
    path = caption_file(folder, "train")
    captions: set[str] = set()
    if path.is_file():
        entries = read_list(path, "a list of CIRR queries")
        captions = {validate(QueryWithTarget, raw, f"{path}: entry {i}").caption for i, raw in enumerate(entries)}
    return TrainSplit(images, tuple(sorted(captions)))
