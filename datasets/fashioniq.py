"""FashionIQ (Wu et al., CVPR 2021): a garment and two captions of how the wanted one differs, in three categories."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import Field

from condsim.datasets.annotations import Entry, ImageName, Line, keep_some, read_list, shown, validate
from condsim.datasets.image_files import folder_of, image_folder, image_index, moved, with_files
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_json, read_text
from condsim.harness.images import IMAGE_SUFFIXES
from condsim.harness.task import Benchmark, Headline, ImageTable, OnError, Ragged, Task, TrainSplit
from condsim.harness.variants.fewer_queries import join_variants

CATEGORIES = ("dress", "shirt", "toptee")
METRICS = ("recall@10", "recall@50")
GALLERIES = ("original", "val")
DEFAULT_TEXT = "searle"
ANNOTATIONS = "FashionIQ's annotation folder, with captions/ and image_splits/"
IMAGES = "the folder of FashionIQ's images (<name>.png or .jpg), in it, in its images/ or in a folder per category"
FILES = (
    "a file of that name in any image format. Many of FashionIQ's links are dead: benchmark.available=FILE names the "
    "images that a group of people have, for comparable numbers"
)
SPLIT = 'a list of image names, ["B005X4PL1G", ...]'
AVAILABLE = "the names of the images that everyone has: one per line, or a JSON list"


def stripped(caption: str) -> str:
    return caption.strip(".?, ")


def both_orders(first: str, second: str, joiner: str) -> tuple[str, ...]:
    return (f"{first}{joiner}{second}", f"{second}{joiner}{first}")


TEXTS: Mapping[str, Callable[[str, str], tuple[str, ...]]] = {
    "searle": lambda a, b: both_orders(stripped(a), stripped(b), " and "),
    "pic2word": lambda a, b: (f"{b} and {a}",),
    "clip4cir": lambda a, b: (f"{stripped(a).capitalize()} and {stripped(b)}",),
    "cirevl": lambda a, b: (f"{stripped(a)} and {stripped(b)}",),
    "magiclens": lambda a, b: (f"{a} and {b}",),
    "e5v": lambda a, b: both_orders(stripped(a), stripped(b), ", "),
    "maaf": lambda a, b: (f"{a} inadditiontothat {b}",),
    "val": lambda a, b: (a, b),
}
"""Form -> (first, second caption) -> the query's texts, whose unit features are averaged; in "val" (VAL) each caption
is a query of its own. Each is named after the released code that joins the captions so."""


class Query(Entry):
    candidate: ImageName
    """The reference: the garment that is shown."""
    target: ImageName
    captions: Annotated[list[Line], Field(min_length=2, max_length=2)]


def load(
    annotations: str | None = None,
    images: str | None = None,
    text: str = DEFAULT_TEXT,
    gallery: str = "original",
    available: str | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "fashioniq",
) -> Benchmark:
    """One task for each category of the validation split, and the means over them."""
    folder = folder_of(annotations, "benchmark.annotations", ANNOTATIONS)
    root = image_folder(images, IMAGES, on_error)
    index = None if root is None else index_images(root)
    chosen = tuple(tasks or CATEGORIES)
    for category in chosen:
        require_one_of("tasks", category, CATEGORIES)
    listed = None if available is None else (Path(available).name, read_available(Path(available).expanduser()))
    read = tuple(
        read_task(
            folder,
            root or folder,
            index,
            category,
            name,
            text=text,
            gallery=gallery,
            available=listed,
            metrics=metrics,
            on_error=on_error,
        )
        for category in chosen
    )
    train = None if index is None else read_train(folder, root or folder, index)
    notes = tuple(note for category in chosen for note in blank_captions(folder, category))
    return Benchmark(name, read, train, headlines(chosen, metrics), on_error, notes)


def headlines(chosen: Collection[str], metrics: Collection[str]) -> dict[str, Headline]:
    """The field's means: of Recall@10 and of Recall@50 over the categories, and of those two."""
    if set(chosen) != set(CATEGORIES) or not set(METRICS) <= set(metrics):
        return {}
    ten, fifty = (tuple((category, metric) for category in CATEGORIES) for metric in METRICS)
    return {"average@10": ten, "average@50": fifty, "average": ten + fifty}


def caption_file(folder: Path, category: str, split: str = "val") -> Path:
    return folder / "captions" / f"cap.{category}.{split}.json"


def split_file(folder: Path, category: str, split: str = "val") -> Path:
    return folder / "image_splits" / f"split.{category}.{split}.json"


def index_images(root: Path) -> dict[str, str]:
    """The name of each image as the tasks have it (``<name>.png``) -> its path below ``root``, whatever its suffix."""
    found: dict[str, str] = {}
    for path in image_index(root, ("images", *CATEGORIES)).values():
        stem = f"{PurePosixPath(path).stem}.png"
        if stem not in found or path.endswith(".png"):
            found[stem] = path
    return found


def read_split(path: Path) -> list[str]:
    """The image names of a split file, in file order."""
    names = read_json(path, SPLIT)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise CondsimError(f"{path}: expected {SPLIT}, found {shown(names)}")
    for name in names:
        if not name.isascii() or not name.isalnum():
            raise CondsimError(f"{path}: {shown(name)} is no image name (expected letters and digits)")
    if len(set(names)) < len(names):
        raise CondsimError(f"{path}: the image {max(names, key=names.count)} is listed twice")
    return names


def read_available(path: Path) -> frozenset[str]:
    """Image names without suffix, from a text file or a JSON list."""
    if path.suffix.lower() == ".json":
        names = read_list(path, AVAILABLE)
        if not all(isinstance(name, str) for name in names):
            raise CondsimError(f"{path}: expected {AVAILABLE}")
    else:
        names = [line.strip() for line in read_text(path, AVAILABLE).splitlines() if line.strip()]
    suffixes = tuple(IMAGE_SUFFIXES)
    return frozenset(PurePosixPath(name).stem if name.lower().endswith(suffixes) else name for name in names)


def read_task(
    folder: Path,
    root: Path,
    index: Mapping[str, str] | None,
    category: str,
    benchmark: str = "fashioniq",
    *,
    text: str = DEFAULT_TEXT,
    gallery: str = "original",
    available: tuple[str, Collection[str]] | None = None,
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
) -> Task:
    """The validation queries of one category; the reference stays in the gallery.

    ``index``: image name -> path under ``root`` (``index_images``); None looks no image up. ``available``: the name of
    a list and the image names in it. With ``on_error="skip"`` an image without a file leaves the gallery, and so do the
    queries that need it.
    """
    require_one_of("benchmark.text", text, TEXTS)
    require_one_of("benchmark.gallery", gallery, GALLERIES)
    names = read_split(split_file(folder, category))
    path = caption_file(folder, category)
    known = set(names)

    def read(i: int, raw: object) -> tuple[int, Query]:
        query = validate(Query, raw, f"{path}: entry {i}")
        for label, image in (("candidate", query.candidate), ("target", query.target)):
            if image not in known:
                raise CondsimError(f"{path}: entry {i}: {label}: {image} is not in {split_file(folder, category)}")
        return i, query

    queries, skipped = keep_some(read_list(path, "a list of FashionIQ queries"), read, on_error, path)
    if gallery == "val":
        used = {image for _, query in queries for image in (query.candidate, query.target)}
        names = [name for name in names if name in used]
    variants = ["" if text == DEFAULT_TEXT else f"text={text}", "" if gallery == "original" else f"gallery={gallery}"]
    if available is not None:
        label, have = available
        names, queries, message = _only_available(names, queries, have, f"{category}: benchmark.available={label}")
        variants.append(f"available={label}")
        skipped = (*skipped, message)
    rows = {name: row for row, name in enumerate(names)}
    entries: list[tuple[str, int, int, tuple[str, ...]]] = []
    for i, query in queries:
        texts = TEXTS[text](*query.captions)
        ends = rows[query.candidate], rows[query.target]
        if text == "val":
            entries += [(f"{i}.{j}", *ends, (one,)) for j, one in enumerate(texts)]
        else:
            entries.append((str(i), *ends, texts))
    distinct = sorted({texts for *_, texts in entries})
    code = {texts: i for i, texts in enumerate(distinct)}
    ids, reference, target, _ = zip(*entries, strict=True)
    files = tuple(f"{name}.png" for name in names)
    task = Task(
        benchmark=benchmark,
        name=category,
        images=ImageTable(root, files, files=moved(files, None if index is None else dict(index))),
        conditions=tuple((texts[0],) for texts in distinct),
        texts=tuple(distinct) if any(len(texts) > 1 for texts in distinct) else None,
        condition=np.array([code[texts] for *_, texts in entries], dtype=np.int64),
        reference=np.array(reference, dtype=np.int64),
        relevant=Ragged.of([row] for row in target),
        metrics=tuple(metrics),
        gallery=np.arange(len(names), dtype=np.int64),
        clusters=np.array(reference, dtype=np.int64),
        cluster_name="reference",
        query_ids=ids,
        variant=join_variants(*variants),
        skipped=skipped,
    )
    return with_files(task, index, on_error, FILES)


def _only_available(
    names: Sequence[str], queries: Sequence[tuple[int, Query]], have: Collection[str], where: str
) -> tuple[list[str], list[tuple[int, Query]], str]:
    kept = [name for name in names if name in have]
    there = set(kept)
    answerable = [(i, query) for i, query in queries if {query.candidate, query.target} <= there]
    if not answerable:
        raise CondsimError(f"{where}: no query has both of its images in the list (expected {AVAILABLE})")
    message = (
        f"{where}: {len(names) - len(kept)} of {len(names)} images and {len(queries) - len(answerable)} of "
        f"{len(queries)} queries are left out"
    )
    return kept, answerable, message


def blank_captions(folder: Path, category: str) -> list[str]:
    """One note for each blank caption. The queries are kept, and joined as any other, as the released codes do."""
    path = caption_file(folder, category)
    entries = read_list(path, "a list of FashionIQ queries")
    return [
        f"{path}: entry {i}: caption {j} is blank; the query is kept, and its text is joined as that of the others"
        for i, entry in enumerate(entries)
        if isinstance(entry, dict) and isinstance(entry.get("captions"), list)
        for j, caption in enumerate(entry["captions"])
        if isinstance(caption, str) and not caption.strip()
    ]


def read_train(folder: Path, root: Path, index: Mapping[str, str]) -> TrainSplit | None:
    """Those of the training split's images that are there, and their captions; None where there are none."""
    splits = [path for path in (split_file(folder, category, "train") for category in CATEGORIES) if path.is_file()]
    names = dict.fromkeys(f"{name}.png" for path in splits for name in read_split(path))
    files = tuple(name for name in names if name in index)
    if not files:
        return None
    captions: set[str] = set()
    for path in (caption_file(folder, category, "train") for category in CATEGORIES):
        if path.is_file():
            entries = read_list(path, "a list of FashionIQ queries")
            queries = (validate(Query, raw, f"{path}: entry {i}") for i, raw in enumerate(entries))
            captions |= {caption for query in queries for caption in query.captions if caption.strip()}
    return TrainSplit(ImageTable(root, files, files=moved(files, dict(index))), tuple(sorted(captions)))
