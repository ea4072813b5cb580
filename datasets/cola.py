"""COLA, multi-object setting (Ray et al., NeurIPS 2023): which of two images shows which of two captions?

An entry of the file is [image, caption, image, caption, ...]. COLA's entries have two images with their captions, and
the captions exchange the attributes of their objects. Longer entries are ours, and so is ``null`` for an image without
a caption, which is only a distractor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from condsim.datasets.annotations import Entry, ImageName, Text, keep_some, read_list, read_name_lists, shown, validate
from condsim.datasets.grouping import label_lists, word_codes
from condsim.datasets.image_files import image_index, moved, require_image, required_images
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, ImageTable, OnError, Ragged, Task

METRICS = ("grouped_recall@1", "recall@1")
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
    """One task, ``multi_object``: one query per caption, whose candidates are the images of its entry.

    ``annotations``: COLA's file of pairs. Clusters are the entries, over which ``grouped_recall@1`` counts. A file
    ``<stem>.labels.json`` beside the annotations, one list of names per entry, labels the queries of each entry.
    With ``on_error="skip"`` an entry that cannot be used is left out whole: with fewer candidates it would be easier.
    """
    root = required_images(images, IMAGE_FOLDER, on_error)
    if not annotations:
        raise CondsimError(f"benchmark.annotations is not set: it should name a JSON file with {FORM}")
    path, index = Path(annotations).expanduser(), image_index(root, SUBFOLDERS)
    entries = read_list(path, FORM)
    beside = path.with_suffix(SUFFIX)
    entry_labels = read_name_lists(beside, len(entries), "labels", "entry") if beside.exists() else None

    def read(i: int, raw: object) -> tuple[int, list[Shown]]:
        entry = read_entry(raw, f"{path}: entry {i}")
        for item in entry:
            require_image(item.image, index, root, f"{path}: entry {i}", on_error)
        return i, entry

    kept, skipped = keep_some(entries, read, on_error, path, "entry")
    rows: dict[str, int] = {}
    lists = [[rows.setdefault(item.image, len(rows)) for item in entry] for _, entry in kept]
    queries = [(e, place) for e, (_, entry) in enumerate(kept) for place, item in enumerate(entry) if item.caption]
    texts, condition = word_codes(str(kept[e][1][place].caption) for e, place in queries)
    task = Task(
        benchmark=name,
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
    return Benchmark(name, (task,), on_error=on_error).select(tasks)


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
