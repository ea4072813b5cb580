"""CIRCO (Baldrati et al., ICCV 2023): composed retrieval with several positives in all of COCO's unlabeled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import Field

from condsim.datasets.annotations import Entry, Line, Text, keep_some, read_list, shown, validate
from condsim.datasets.circo_submission import LENGTH, write_submission
from condsim.datasets.grouping import composed, label_lists
from condsim.datasets.image_files import folder_of, image_index, inner, relative_file, required_images, with_files
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_json
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Submission, Task

SPLITS = ("val", "test")
CUTS = (5, 10, 25, 50)
METRICS = (*(f"map@{k}" for k in CUTS), *(f"target_recall@{k}" for k in CUTS))
DEFAULT_TEXT = "caption"
TEXTS: Mapping[str, Callable[[str, str], str]] = {
    "caption": lambda caption, concept: caption,
    "magiclens": lambda caption, concept: f"find {concept} but {caption}",
    "megapairs": lambda caption, concept: f"Find a picture that also {concept}, but {caption}.",
}
"""Form -> (relative caption, shared concept) -> the query's text. All but "caption" read the shared concept too."""
ANNOTATIONS = "CIRCO's folder, with annotations/val.json and annotations/test.json"
IMAGES = "the folder COCO2017_unlabeled, with unlabeled2017/ and annotations/image_info_unlabeled2017.json in it"
IMAGE_INFO = "image_info_unlabeled2017.json"
INFO = 'COCO\'s image_info_unlabeled2017.json: {"images": [{"id": 8, "file_name": "000000000008.jpg"}, ...]}'

Id = Annotated[int, Field(ge=0, lt=10**12)]


class Image(Entry):
    id: Id
    file_name: Text


class Query(Entry):
    id: Id
    reference_img_id: Id
    relative_caption: Line
    shared_concept: Line


class QueryWithTarget(Query):
    target_img_id: Id
    gt_img_ids: Annotated[list[Id], Field(min_length=1)]
    semantic_aspects: list[Text]


def load(
    annotations: str | None = None,
    images: str | None = None,
    image_info: str | None = None,
    split: str = "val",
    text: str = DEFAULT_TEXT,
    metrics: Sequence[str] | None = None,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "circo",
) -> Benchmark:
    """One task, named after the split: the gallery is every image of COCO's list, the query's reference among them.

    On test the ground truth is withheld, so it has no metrics: ``datasets.circo_submission`` writes the file for the
    official server instead.
    """
    require_one_of("benchmark.split", split, SPLITS)
    require_one_of("benchmark.text", text, TEXTS)
    withheld = split == "test"
    if withheld and metrics:
        raise CondsimError(
            f"CIRCO's test split has no public ground truth, so {', '.join(metrics)} cannot be computed here: leave "
            "benchmark.metrics out and the file for the official server is written, or use split=val"
        )
    folder = inner(folder_of(annotations, "benchmark.annotations", ANNOTATIONS), "annotations")
    # COCO's list is the gallery: without it there is nothing to survey.
    above = required_images(images, IMAGES, on_error if images or image_info else "raise")
    root, info = inner(above, "unlabeled2017"), image_info_file(image_info, above)
    files = read_gallery(info)
    rows = {image: row for row, image in enumerate(files)}
    path = folder / f"{split}.json"
    first: dict[int, int] = {}

    def read(i: int, raw: object) -> Query:
        where = f"{path}: entry {i}"
        query = validate(Query if withheld else QueryWithTarget, raw, where)
        _consistent(query, rows, where, info)
        if first.setdefault(query.id, i) != i:
            raise CondsimError(f"{where}: id {query.id} is already the id of entry {first[query.id]}")
        return query

    queries, skipped = keep_some(read_list(path, "a list of CIRCO queries"), read, on_error, path)
    texts = (TEXTS[text](query.relative_caption, query.shared_concept) for query in queries)
    known = [query for query in queries if isinstance(query, QueryWithTarget)]
    task = Task(
        benchmark=name,
        name=split,
        images=ImageTable(root, tuple(files.values())),
        **composed(texts, (rows[query.reference_img_id] for query in queries)),
        relevant=Ragged.of([[rows[image] for image in query.gt_img_ids] for query in known] or [[] for _ in queries]),
        metrics=() if withheld else METRICS if metrics is None else tuple(metrics),
        gallery=np.arange(len(rows), dtype=np.int64),
        query_ids=tuple(str(query.id) for query in queries),
        labels=label_lists([query.semantic_aspects for query in known]) if known else None,
        target=np.array([rows[query.target_img_id] for query in known], dtype=np.int64) if known else None,
        variant="" if text == DEFAULT_TEXT else f"text={text}",
        submission=Submission(LENGTH, write_submission) if withheld else None,
        skipped=skipped,
    )
    task = with_files(task, image_index(root), on_error, IMAGES)
    return Benchmark(name, (task,), on_error=on_error).select(tasks)


def image_info_file(value: str | None, root: Path) -> Path:
    """COCO's list of images: the file that the user names, else the one in or beside the image folder."""
    if value:
        return Path(value).expanduser()
    places = [folder / "annotations" / IMAGE_INFO for folder in (root, root.parent)]
    return next((place for place in places if place.is_file()), places[0])


def read_gallery(path: Path) -> dict[int, str]:
    """Image id -> file name of every image that COCO's list has, in file order."""
    value = read_json(path, INFO)
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not images:
        raise CondsimError(f"{path}: expected {INFO}, found {shown(value)}")
    files: dict[int, str] = {}
    for i, raw in enumerate(images):
        where = f"{path}: images[{i}]"
        image = validate(Image, raw, where)
        file = relative_file(image.file_name, where)
        if PurePosixPath(file).stem != f"{image.id:012d}":
            raise CondsimError(f"{where}: the file of image {image.id} should be {image.id:012d}.jpg, found {file!a}")
        if files.setdefault(image.id, file) != file or len(files) <= i:
            raise CondsimError(f"{where}: image {image.id} is listed twice")
    return files


def _consistent(query: Query, rows: Mapping[int, int], where: str, info: Path) -> None:
    """What a query says of images agrees with COCO's list and with itself."""
    named = [("reference_img_id", query.reference_img_id)]
    if isinstance(query, QueryWithTarget):
        named += [("target_img_id", query.target_img_id), *(("gt_img_ids", image) for image in query.gt_img_ids)]
        if len(set(query.gt_img_ids)) < len(query.gt_img_ids):
            raise CondsimError(f"{where}: gt_img_ids names an image twice")
        if query.target_img_id not in query.gt_img_ids:
            raise CondsimError(f"{where}: target_img_id {query.target_img_id} is not among gt_img_ids")
    for label, image in named:
        if image not in rows:
            raise CondsimError(f"{where}: {label}: image {image} is not in {info}")
