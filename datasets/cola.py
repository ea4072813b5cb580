"""COLA, multi-object setting (Ray et al., NeurIPS 2023): which of two images shows which of two captions?

An entry of the file is [image, caption, image, caption, ...]. COLA's entries have two images with their captions, and
the captions exchange the attributes of their objects. Longer entries are ours, and so is ``null`` for an image without
a caption, which is only a distractor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from condsim.datasets.annotations import Entry, ImageName, Text, keep_some, read_list, shown, validate
from condsim.datasets.grouping import label_lists, word_codes
from condsim.datasets.image_files import folder_of, image_index, moved, require_image
from condsim.datasets.survey import Options, Part, Survey, images_part, located
from condsim.harness.errors import CondsimError
from condsim.harness.json_files import read_json
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

METRICS = ("grouped_recall@1", "recall@1")
PAIRS = 210
SUBFOLDERS = ("VG_100K", "VG_100K_2")
IMAGE_FOLDER = "a folder with the images that the entries name, or Visual Genome's with VG_100K/ and VG_100K_2/ in it"
FORM = "a list of entries [image, caption, image, caption], as in COLA_multiobjects_matching_benchmark.json"
SUFFIX = ".labels.json"


class Shown(Entry):
    """An image of an entry, by the last part of its link, and what it shows."""

    image: ImageName
    caption: Text | None


def load(
    annotations: str | None = None,
    images: str | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "cola",
) -> Benchmark:
    """One task, ``multi_object``. ``annotations``: COLA's file of pairs.

    With ``on_error="skip"`` an entry that cannot be used is left out whole: with fewer candidates it would be easier.
    """
    root = folder_of(images, "benchmark.images", IMAGE_FOLDER)
    path = annotation_file(annotations)
    task = read_task(path, root, image_index(root, SUBFOLDERS), name, metrics=metrics, on_error=on_error)
    return Benchmark(name, (task,), on_error=on_error).select(tasks)


def annotation_file(value: str | None) -> Path:
    if not value:
        raise CondsimError(f"benchmark.annotations is not set: it should name a JSON file with {FORM}")
    return Path(value).expanduser()


def read_task(
    path: Path,
    root: Path,
    index: Mapping[str, str] | None,
    benchmark: str = "cola",
    *,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
) -> Task:
    """The entries of ``path`` as a task: one query per caption, whose candidates are the images of its entry.

    ``index`` maps the file names of the images to their paths under ``root`` (``image_files.image_index``); None skips
    the look-up. Clusters are the entries, over which ``grouped_recall@1`` counts. A file ``<stem>.labels.json`` beside
    the annotations, one list of names per entry, labels the queries of each entry.
    """
    entries = read_list(path, FORM)
    beside = path.with_suffix(SUFFIX)
    entry_labels = read_labels(beside, len(entries)) if beside.exists() else None

    def read(i: int, raw: object) -> tuple[int, list[Shown]]:
        entry = read_entry(raw, f"{path}: entry {i}")
        for item in entry:
            require_image(item.image, index, root, f"{path}: entry {i}")
        return i, entry

    kept, skipped = keep_some(entries, read, on_error, path, "entry")
    rows: dict[str, int] = {}
    lists = [[rows.setdefault(item.image, len(rows)) for item in entry] for _, entry in kept]
    queries = [(e, place) for e, (_, entry) in enumerate(kept) for place, item in enumerate(entry) if item.caption]
    texts, condition = word_codes(str(kept[e][1][place].caption) for e, place in queries)
    return Task(
        benchmark=benchmark,
        name="multi_object",
        images=ImageTable(root, tuple(rows), files=moved(rows, index)),
        conditions=tuple((text,) for text in texts),
        condition=condition,
        reference=np.full(len(queries), -1, dtype=np.int64),
        relevant=Ragged.of([lists[e][place]] for e, place in queries),
        metrics=tuple(metrics),
        candidates=Ragged.of(lists[e] for e, _ in queries),
        clusters=np.array([kept[e][0] for e, _ in queries], dtype=np.int64),
        cluster_name="entry",
        query_ids=tuple(f"{kept[e][0]}.{place}" for e, place in queries),
        labels=None if entry_labels is None else label_lists([entry_labels[kept[e][0]] for e, _ in queries]),
        skipped=skipped,
    )


def read_entry(raw: object, where: str) -> list[Shown]:
    """The images of an entry and their captions. Raises CondsimError naming the place of a fault."""
    if not isinstance(raw, list) or len(raw) < 4 or len(raw) % 2:
        raise CondsimError(f"{where}: expected [image, caption, image, caption], found {shown(raw)}")
    pairs = zip(raw[::2], raw[1::2], strict=True)
    entry = [
        validate(Shown, {"image": _file_name(image), "caption": caption}, f"{where}, image {number}")
        for number, (image, caption) in enumerate(pairs)
    ]
    names = [item.image for item in entry]
    if len(set(names)) < len(names):
        raise CondsimError(f"{where}: expected different images, found {', '.join(names)}")
    if not any(item.caption for item in entry):
        raise CondsimError(f"{where}: expected a caption for at least one image, found none")
    return entry


def _file_name(image: object) -> object:
    """The last part of a link or path; what is no text is left to the schema."""
    return image.rsplit("/", 1)[-1] if isinstance(image, str) else image


def read_labels(path: Path, count: int) -> list[list[str]]:
    """One list of names per entry."""
    value = read_json(path, "a list of lists of labels, one list per entry")
    if not isinstance(value, list) or len(value) != count:
        raise CondsimError(f"{path}: expected {count} lists of labels, one per entry, found {shown(value)}")
    for i, names in enumerate(value):
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise CondsimError(f"{path}: entry {i}: expected a list of labels, found {shown(names)}")
    return value


def survey(options: Options) -> Survey:
    """What ``condsim check`` reports."""
    value = options.get("images")
    root = Path(value).expanduser() if value else None
    index = image_index(root, SUBFOLDERS) if root is not None and root.is_dir() else None
    if not options.get("annotations"):
        pairs = Part("entries", "benchmark.annotations is not set", None, PAIRS)
        return Survey((pairs, images_part("images", (), root, index)), ())
    path = annotation_file(options["annotations"])
    try:
        task = read_task(path, root or Path(), None, on_error="skip")
    except CondsimError as error:
        pairs = Part("entries", str(path), None, PAIRS)
        return Survey((pairs, images_part("images", (), root, index)), (), (str(error),))
    names = task.images.names
    assert task.clusters is not None
    entries = Part("entries", str(path), len(np.unique(task.clusters)), PAIRS, f"{len(task):,} queries")
    tables = () if root is None or index is None else (located(names, root, index),)
    return Survey((entries, images_part("images", names, root, index)), tables, task.skipped)
