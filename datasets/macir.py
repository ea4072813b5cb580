"""MA-CIR (Byun et al., ICCV 2025): composed retrieval by type of composition, with hard negatives of the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from condsim.datasets.annotations import Entry, Line, Text, keep_some, read_list, validate
from condsim.datasets.grouping import composed, word_codes
from condsim.datasets.image_files import folder_of, image_folder, index_below, inner, moved, relative_file, with_files
from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.task import Benchmark, ImageTable, Labels, OnError, Ragged, Task

METRICS = ("recall@1",)
COMPOSITIONS = (
    "left_right", "top_bottom", "spatial_reasoning", "size", "action", "color", "object_reasoning", "naive_object",
)  # fmt: skip
CHANGES = ("remove", "replace", "add")
CANDIDATES = ("full", "restricted")
ANNOTATIONS = "MA-CIR's folder with meta_data/, or that folder"
IMAGES = "MA-CIR's folder with images/, or that folder"


class Query(Entry):
    reference_image: Text
    target_image: Text
    relative_caption: Line
    composition_type: Text
    condition_type: Text


class Lists(NamedTuple):
    """The queries of one metadata file and the images that they rank."""

    queries: list[Query]
    gallery: list[str]
    skipped: tuple[str, ...]


def load(
    annotations: str | None = None,
    images: str | None = None,
    candidates: str = "full",
    metrics: Sequence[str] = METRICS,
    on_error: OnError = "raise",
    tasks: Sequence[str] | None = None,
    name: str = "macir",
) -> Benchmark:
    """One task per type of composition, with the mean over them.

    ``candidates``: "full" (every image), or "restricted" (the images made from the reference's own image); then there
    is one task per type of composition and of change, such as "color_remove". The reference is removed from the
    ranking. Labels of the queries are their types of change.
    """
    require_one_of("benchmark.candidates", candidates, CANDIDATES)
    folder = inner(folder_of(annotations, "benchmark.annotations", ANNOTATIONS), "meta_data")
    root = image_folder(images, IMAGES, on_error)
    index = None if root is None else index_below(root, "images")
    place = root or folder, index
    made: list[Task] = []
    if candidates == "full":
        made = _tasks(read_lists(folder, "full", "image_ids.json", on_error), *place, name, metrics)
    else:
        for change in CHANGES:
            lists = read_lists(folder, change, f"image_ids_{change}.json", on_error)
            made += _tasks(lists, *place, name, metrics, f"_{change}", restricted=True)
        if not made:
            raise CondsimError(f"{folder}: no query has two candidates, so restricted candidates rank nothing")
    read = tuple(with_files(task, index, on_error, IMAGES) for task in made)
    headlines = {"average": tuple((task.name, metrics[0]) for task in read)} if tasks is None and metrics else {}
    return Benchmark(name, read, headlines=headlines, on_error=on_error).select(tasks)


def read_lists(folder: Path, suffix: str, gallery: str, on_error: OnError) -> Lists:
    path, names = folder / f"macir_meta_{suffix}.json", folder / gallery
    images = [relative_file(name, str(names)) for name in read_list(names, "a list of image names")]
    if len(set(images)) < len(images):
        raise CondsimError(f"{names}: {max(images, key=images.count)} is listed twice")
    known = set(images)

    def read(i: int, raw: object) -> Query:
        query = validate(Query, raw, f"{path}: entry {i}")
        for label, name in (("reference_image", query.reference_image), ("target_image", query.target_image)):
            relative_file(name, f"{path}: entry {i}: {label}")
        if query.target_image not in known or query.target_image == query.reference_image:
            reason = "is the reference" if query.target_image in known else f"is not in {names}"
            raise CondsimError(f"{path}: entry {i}: target_image: {query.target_image} {reason}")
        return query

    queries, skipped = keep_some(read_list(path, "a list of MA-CIR's queries"), read, on_error, path)
    return Lists(queries, images, skipped)


def _tasks(
    lists: Lists,
    root: Path,
    index: Mapping[str, str] | None,
    benchmark: str,
    metrics: Sequence[str],
    suffix: str = "",
    restricted: bool = False,
) -> list[Task]:
    rows = {name: row for row, name in enumerate(lists.gallery)}
    for query in lists.queries:
        rows.setdefault(query.reference_image, len(rows))
    images = ImageTable(root, tuple(rows), files=moved(rows, index))
    queries = lists.queries
    own = [_own_candidates(query, lists.gallery) if restricted else [] for query in queries]
    types = sorted({query.composition_type for query in queries}, key=_place)
    tasks = []
    for kind in types:
        which = [i for i, query in enumerate(queries) if query.composition_type == kind]
        ranked = [i for i in which if not restricted or len(own[i]) > 1]
        lost = len(which) - len(ranked)
        note = f"{kind}{suffix}: {lost} of {len(which)} queries have fewer than two candidates"
        if not ranked:
            continue
        chosen = [queries[i] for i in ranked]
        changes, change = word_codes(query.condition_type for query in chosen)
        reference = np.array([rows[query.reference_image] for query in chosen], dtype=np.int64)
        target = [rows[query.target_image] for query in chosen]
        candidates = [[rows[name] for name in own[i]] for i in ranked]
        if restricted:  # a target of another image is never found, and the released code counts 0
            target_lists = [[row] if row in mine else [] for row, mine in zip(target, candidates, strict=True)]
        else:
            target_lists = [[row] for row in target]
        tasks.append(
            Task(
                benchmark=benchmark,
                name=kind + suffix,
                images=images,
                **composed((query.relative_caption for query in chosen), reference),
                relevant=Ragged.of(target_lists),
                metrics=tuple(metrics),
                candidates=Ragged.of(candidates) if restricted else None,
                gallery=None if restricted else np.arange(len(lists.gallery), dtype=np.int64),
                excluded=None if restricted else Ragged.of(reference[:, None]),
                query_ids=tuple(map(str, ranked)),
                labels=Labels(changes, Ragged.of(change[:, None])),
                counts_unanswerable=restricted,
                skipped=(*lists.skipped, *([note] if lost else [])),
            )
        )
    return tasks


def _own_candidates(query: Query, gallery: Sequence[str]) -> list[str]:
    """The images whose names begin as the reference's does, without the reference: released ``reference_prefixes``."""
    name = query.reference_image
    prefix = name.split("_edit_")[0] if "_edit_" in name else name.split(".")[0]
    return [image for image in gallery if image != name and image.startswith(prefix)]


def _place(kind: str) -> tuple[int, str]:
    return (COMPOSITIONS.index(kind) if kind in COMPOSITIONS else len(COMPOSITIONS), kind)
