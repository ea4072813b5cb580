"""ROxford5k and RParis6k (Radenovic et al., CVPR 2018): landmarks at three difficulties, with +R1M as a setting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from condsim.datasets.annotations import Entry, ImageName, keep_some, shown, validate
from condsim.datasets.image_files import files_below, folder_of, image_index, moved, relative_file, with_files
from condsim.datasets.number_pickle import read_number_pickle
from condsim.datasets.survey import Options, Part, Survey, images_part, located
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files import atomic
from condsim.harness.json_files import read_json, read_text
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

DATASETS = {"roxford5k": 4_993, "rparis6k": 6_322}
"""Dataset -> published number of images in its gallery."""
QUERIES, DISTRACTORS = 70, 1_001_001
METRICS = ("map_trapezoid", "mp@1", "mp@5", "mp@10")
RELEVANT: Mapping[str, tuple[str, ...]] = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
"""Task -> the lists that are relevant in it. What else a query lists, and its junk, is taken out of its gallery."""
LISTS = ("easy", "hard", "junk")
MILLION = "revisitop1m"
IMAGES = (
    "the folder datasets/ of revisitop, with <dataset>/jpg/ in it (for the distractors revisitop1m/ too, with jpg/ and "
    "revisitop1m.txt), or the folder of the dataset"
)
ANNOTATIONS = "the folder of gnd_<dataset>.pkl (or .json), itself or in its <dataset>/"
TRUTH = "revisitop's ground truth: imlist, qimlist, and gnd with bbx, easy, hard and junk for each query"

Rows = list[Annotated[int, Field(ge=0)]]


class Query(Entry):
    bbx: Annotated[list[float], Field(min_length=4, max_length=4)]
    """The part of the query picture that is searched for: left, top, right, bottom."""
    easy: Rows
    hard: Rows
    junk: Rows


class Truth(Entry):
    imlist: Annotated[list[ImageName], Field(min_length=1)]
    """Names of the gallery's images, without suffix."""
    qimlist: Annotated[list[ImageName], Field(min_length=1)]
    gnd: list[Any]


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
    """Three tasks: easy, medium and hard. The benchmark is named after ``dataset``, with ``_1m`` where ``distractors``.

    ``annotations`` None: the ground truth is in ``images``. ``images`` None: no image is looked up, to run from
    precomputed features (of cropped query pictures).
    """
    dataset = dataset_of(dataset)
    root = folder_of(images, "benchmark.images", IMAGES) if images or not annotations else None
    folder = root if not annotations and root else folder_of(annotations, "benchmark.annotations", ANNOTATIONS)
    name = name or dataset
    benchmark = f"{name}_1m" if distractors else name
    read = read_tasks(folder, root, dataset, benchmark, distractors=distractors, metrics=metrics, on_error=on_error)
    return Benchmark(benchmark, read, on_error=on_error).select(tasks)


def dataset_of(name: str | None) -> str:
    if not name:
        raise CondsimError(f"benchmark.dataset is not set: it should be one of {', '.join(DATASETS)}")
    if name not in DATASETS:
        raise CondsimError(f"benchmark.dataset={name!r} is not one of revisitop's. {did_you_mean(name, DATASETS)}")
    return name


def truth_file(folder: Path, dataset: str) -> Path:
    """The ground truth in ``folder`` or in its folder of the dataset's name: the pickle, else the JSON file."""
    names = [place / f"gnd_{dataset}.{suffix}" for suffix in ("pkl", "json") for place in (folder, folder / dataset)]
    return next((path for path in names if path.is_file()), names[0])


def read_truth(path: Path) -> tuple[Truth, list[Any]]:
    """A ground truth and its queries as they are in the file.

    A pickle is read without running any code in it, and written beside itself as JSON, which is then what is read as
    long as the pickle does not change. Where the folder cannot be written to, the pickle is read every time.
    """
    if path.suffix == ".json":
        value = read_json(path, TRUTH)
    else:
        copy = path.with_suffix(".json")
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        value = _read_copy(copy)
        if not isinstance(value, dict) or value.get("sha256 of the pickle") != digest:
            value = read_number_pickle(path, TRUTH)
            if isinstance(value, dict):
                _write(copy, {**value, "sha256 of the pickle": digest})
    if not isinstance(value, dict):
        raise CondsimError(f"{path}: expected {TRUTH}, found {shown(value)}")
    truth = validate(Truth, value, str(path))
    if len(truth.gnd) != len(truth.qimlist):
        raise CondsimError(f"{path}: gnd has {len(truth.gnd)} entries for {len(truth.qimlist)} query images")
    if len(set(truth.imlist)) < len(truth.imlist):
        raise CondsimError(f"{path}: imlist names {max(truth.imlist, key=truth.imlist.count)} twice")
    return truth, truth.gnd


def _read_copy(path: Path) -> Any:
    """None where there is no copy, or none that can be read."""
    try:
        return read_json(path, TRUTH) if path.is_file() else None
    except CondsimError:
        return None


def _write(path: Path, value: Mapping[str, Any]) -> None:
    try:
        with atomic(path) as scratch:
            scratch.write_text(json.dumps(value), encoding="utf-8")
    except OSError:  # a folder that is read only: nothing is lost
        return


def read_tasks(
    folder: Path,
    root: Path | None,
    dataset: str,
    benchmark: str,
    *,
    distractors: bool = False,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
) -> tuple[Task, ...]:
    """The same queries and gallery at three difficulties. A query that has nothing relevant at one is left out there.

    Query pictures are cropped by their boxes and are not in the gallery.
    """
    path = truth_file(folder, dataset)
    truth, entries = read_truth(path)

    def read(i: int, raw: Any) -> tuple[str, Query]:
        where = f"{path}: gnd[{i}]"
        query = validate(Query, raw, where)
        listed = [row for name in LISTS for row in getattr(query, name)]
        if listed and max(listed) >= len(truth.imlist):
            raise CondsimError(f"{where}: it names image {max(listed)}, but imlist has {len(truth.imlist)}")
        if len(set(listed)) < len(listed):
            raise CondsimError(f"{where}: image {max(listed, key=listed.count)} is in it twice (easy, hard and junk)")
        return truth.qimlist[i], query

    queries, skipped = keep_some(entries, read, on_error, path)
    more = read_distractors((root or folder) / MILLION / f"{MILLION}.txt") if distractors else ()
    gallery = (*(f"{name}.jpg" for name in truth.imlist), *more)
    names = (*gallery, *(f"{name}.jpg" for name, _ in queries))
    boxes = np.full((len(names), 4), np.nan)
    boxes[len(gallery) :] = [query.bbx for _, query in queries]
    index = None if root is None else index_images(root, dataset, distractors)
    images = ImageTable(root or folder, names, boxes, files=moved(names, index), crop="plain")

    def task(name: str) -> Task:
        relevant = [[row for kind in RELEVANT[name] for row in getattr(query, kind)] for _, query in queries]
        excluded = [
            [row for kind in LISTS if kind not in RELEVANT[name] for row in getattr(query, kind)]
            for _, query in queries
        ]
        kept = np.flatnonzero([len(rows) for rows in relevant])
        if not len(kept):
            raise CondsimError(f"{path}: no query has anything relevant that is {name}")
        lost = len(queries) - len(kept)
        note = f"{name}: {lost} of {len(queries)} queries have nothing relevant at this difficulty"
        whole = Task(
            benchmark=benchmark,
            name=name,
            images=images,
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
        return whole if index is None else with_files(whole, index, on_error, IMAGES)

    return tuple(task(name) for name in RELEVANT)


def read_distractors(path: Path) -> tuple[str, ...]:
    """The images of revisitop1m.txt, one path per line, as ``revisitop1m/<path>``."""
    lines = read_text(path, "revisitop's list of distractors, one image per line").splitlines()
    names = [
        f"{MILLION}/{relative_file(line, f'{path}: line {i + 1}')}" for i, line in enumerate(lines) if line.strip()
    ]
    if len(set(names)) < len(names):
        raise CondsimError(f"{path}: an image is listed twice")
    return tuple(names)


def index_images(root: Path, dataset: str, distractors: bool = False) -> dict[str, str]:
    """Name of an image as the tasks have it -> its path below ``root``."""
    index = dict(image_index(root, (f"{dataset}/jpg", "jpg", dataset)))
    if distractors:
        for path in files_below(root / MILLION / "jpg"):
            index[f"{MILLION}/{path}"] = f"{MILLION}/jpg/{path}"
    return index


def survey(options: Options) -> Survey:
    """What ``condsim check`` reports."""
    dataset = dataset_of(options.get("dataset"))
    value, distractors = options.get("images"), bool(options.get("distractors"))
    root = Path(value).expanduser() if value else None
    folder = options.get("annotations") or value
    expected = {"queries": QUERIES, "gallery": DATASETS[dataset] + (DISTRACTORS if distractors else 0)}
    problems: tuple[str, ...] = ()
    task: Task | None = None
    place = truth_file(Path(folder).expanduser(), dataset) if folder else None
    if place is not None:
        try:
            tasks = read_tasks(
                Path(str(folder)).expanduser(), None, dataset, dataset, distractors=distractors, on_error="skip"
            )
            task = max(tasks, key=len)
        except CondsimError as error:
            problems = (str(error),)
    found = {"queries": len(task), "gallery": len(task.gallery_rows)} if task else {}
    where = str(place) if place else "benchmark.annotations is not set"
    parts = tuple(Part(what, where, found.get(what), count) for what, count in expected.items())
    names = task.images.names if task else ()
    index = index_images(root, dataset, distractors) if root is not None and root.is_dir() else None
    tables: tuple[ImageTable, ...] = ()
    if task is not None and root is not None and index is not None:
        whole = located(names, root, index)
        tables = (ImageTable(root, names, task.images.boxes, files=whole.files, crop="plain"),)
    return Survey((*parts, images_part("images", names, root, index)), tables, problems)
