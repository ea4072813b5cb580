"""Retrieval by the crop of a picture: ROxford5k, RParis6k (+R1M), the older Oxford5k and Paris6k (+100k), INSTRE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condsim.datasets.annotations import keep_some
from condsim.datasets.ground_truth import Query, TruthOfPaths, read_query, read_truth
from condsim.datasets.image_files import (
    folder_of,
    image_folder,
    image_index,
    index_below,
    moved,
    relative_file,
    with_files,
)
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_text
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task


@dataclass(frozen=True)
class Distractors:
    folder: str
    suffix: str
    """Follows the name of a benchmark with these distractors."""
    count: int


@dataclass(frozen=True)
class Dataset:
    relevant: Mapping[str, tuple[str, ...]]
    """Task -> the lists that are relevant in it. The other lists of a query are taken out of its gallery."""
    lists: tuple[str, ...]
    """What the ground truth lists for each query."""
    distractors: Distractors | None = None
    images: tuple[str, ...] = ("{}/jpg", "jpg", "{}")
    """Where the images may be below the image folder; {} is the dataset."""


_LEVELS: Mapping[str, tuple[str, ...]] = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
_LEVEL_LISTS = ("easy", "hard", "junk")
_MILLION = Distractors("revisitop1m", "_1m", 1_001_001)
_FLICKR = Distractors("flickr100k", "_100k", 100_071)
DATASETS: Mapping[str, Dataset] = {
    "roxford5k": Dataset(_LEVELS, _LEVEL_LISTS, _MILLION),
    "rparis6k": Dataset(_LEVELS, _LEVEL_LISTS, _MILLION),
    "oxford5k": Dataset({"test": ("ok",)}, ("ok", "junk"), _FLICKR),
    "paris6k": Dataset({"test": ("ok",)}, ("ok", "junk"), _FLICKR),
    "instre": Dataset({"test": ("ok",)}, ("ok",), images=("{}", "INSTRE_release")),
}
METRICS = ("map_trapezoid", "mp@1", "mp@5", "mp@10")
IMAGES = (
    "the folder datasets/ of revisitop, with <dataset>/jpg/ in it (for distractors also their folder), or the folder "
    "of the dataset; for INSTRE the folder of INSTRE-S1/, INSTRE-S2/ and INSTRE-M/"
)
ANNOTATIONS = "the folder of gnd_<dataset>.pkl (or .json; for INSTRE .mat), itself or in its <dataset>/"


def load(
    dataset: str | None = None,
    annotations: str | None = None,
    images: str | None = None,
    distractors: bool = False,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str | None = None,
) -> Benchmark:
    """The tasks easy, medium and hard of ROxford and RParis, or the one task "test" of the other datasets.

    The same queries and gallery in every task; a query that has nothing relevant in a task is left out of it. Query
    pictures are cropped by their boxes.

    The benchmark is named after ``dataset``, with ``_1m`` or ``_100k`` if it has ``distractors``. Precomputed features
    are those of cropped query pictures.
    """
    if not dataset:
        raise CondsimError(f"benchmark.dataset is not set: it should be one of {', '.join(DATASETS)}")
    require_one_of("benchmark.dataset", dataset, DATASETS)
    more = DATASETS[dataset].distractors if distractors else None
    if distractors and more is None:
        raise CondsimError(f"benchmark.distractors=true: {dataset} has no distractors; set it to false")
    root = image_folder(images, IMAGES, on_error)
    option, what = ("annotations", ANNOTATIONS) if annotations else ("images", IMAGES)
    folder = folder_of(annotations or images, f"benchmark.{option}", what)
    benchmark = (name or dataset) + (more.suffix if more else "")
    path = truth_file(folder, dataset)
    truth = read_truth(path)
    lists = DATASETS[dataset].lists

    def read(i: int, raw: Any) -> tuple[str, Query]:
        return truth.qimlist[i], read_query(raw, lists, len(truth.imlist), f"{path}: gnd[{i}]")

    def file(name: str) -> str:
        return relative_file(name, str(path)) if isinstance(truth, TruthOfPaths) else f"{name}.jpg"

    queries, skipped = keep_some(truth.gnd, read, on_error, path)
    gallery = (*map(file, truth.imlist), *(read_distractors(root or folder, more) if more else ()))
    names = (*gallery, *(file(name) for name, _ in queries))
    boxes = np.full((len(names), 4), np.nan)
    boxes[len(gallery) :] = [query.bbx for _, query in queries]
    index = None if root is None else index_images(root, dataset, more)
    table = ImageTable(root or folder, names, boxes, files=moved(names, index), crop="plain")

    def task(level: str, relevant_lists: tuple[str, ...]) -> Task:
        relevant = [[row for kind in relevant_lists for row in getattr(query, kind)] for _, query in queries]
        others = [kind for kind in lists if kind not in relevant_lists]
        excluded = [[row for kind in others for row in getattr(query, kind)] for _, query in queries]
        kept = np.flatnonzero([len(rows) for rows in relevant])
        if not len(kept):
            raise CondsimError(f"{path}: no query has anything relevant in the task {level}")
        lost = len(queries) - len(kept)
        note = f"{level}: {lost} of {len(queries)} queries have nothing relevant in this task"
        whole = Task(
            benchmark=benchmark,
            name=level,
            images=table,
            conditions=(),
            condition=np.full(len(kept), -1, dtype=np.int64),
            reference=len(gallery) + kept,
            relevant=Ragged.of(relevant).take(kept),
            metrics=tuple(metrics),
            gallery=np.arange(len(gallery), dtype=np.int64),
            excluded=Ragged.of(excluded).take(kept),
            query_ids=tuple(queries[i][0] for i in kept),
            skipped=(*skipped, *([note] if lost else [])),
        )
        return with_files(whole, index, on_error, IMAGES)

    read_tasks = tuple(task(level, relevant) for level, relevant in DATASETS[dataset].relevant.items())
    return Benchmark(benchmark, read_tasks, on_error=on_error).select(tasks)


def truth_file(folder: Path, dataset: str) -> Path:
    """The ground truth in ``folder`` or in its folder of the dataset's name."""
    suffixes = ("mat",) if dataset == "instre" else ("pkl", "json")
    names = [place / f"gnd_{dataset}.{suffix}" for suffix in suffixes for place in (folder, folder / dataset)]
    return next((path for path in names if path.is_file()), names[0])


def read_distractors(root: Path, distractors: Distractors) -> tuple[str, ...]:
    """The images of ``<folder>.txt``, one path per line, as ``<folder>/<path>``. Flickr100k has no list: every file."""
    folder = distractors.folder
    path = root / folder / f"{folder}.txt"
    if distractors is _FLICKR and not path.is_file():
        names = sorted(index_below(root, f"{folder}/jpg", folder)) if (root / folder).is_dir() else []
        if not names:
            raise CondsimError(f"{root / folder}: there is no image (expected {distractors.count:,} of Flickr100k)")
    else:
        lines = enumerate(read_text(path, "a list of distractors, one image per line").splitlines())
        names = [relative_file(line, f"{path}, line {i + 1}") for i, line in lines if line.strip()]
    if len(set(names)) < len(names):
        raise CondsimError(f"{path}: an image is listed twice")
    return tuple(f"{folder}/{name}" for name in names)


def index_images(root: Path, dataset: str, distractors: Distractors | None = None) -> dict[str, str]:
    """Name of an image as the tasks have it -> its path below ``root``."""
    folders = [folder.format(dataset) for folder in DATASETS[dataset].images]
    if dataset == "instre":
        return index_below(root, *folders)
    index = dict(image_index(root, folders))
    if distractors and (root / distractors.folder).is_dir():
        below = index_below(root, f"{distractors.folder}/jpg", distractors.folder)
        index |= {f"{distractors.folder}/{name}": path for name, path in below.items()}
    return index
