"""CIRR test1: the two files for the official server, because the targets are withheld."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, counted
from condsim.harness.files.writing import atomic
from condsim.harness.task import Task

SERVER = "cirr.cecs.anu.edu.au"
VERSION = "rc2"
PAIRS = 4_148
"""Queries of test1."""
LENGTHS = {"recall": 50, "recall_subset": 3}
"""Metric -> number of names per pair."""
FILES = {"recall": "cirr_test1_recall.json", "recall_subset": "cirr_test1_recall_subset.json"}
MAX_BYTES = 5_000_000


def write_submission(
    task: Task, top_rows: NDArray[np.integer[Any]], subset_rows: NDArray[np.integer[Any]], folder: Path
) -> tuple[Path, Path]:
    """Write both files into ``folder``, or none where one would not be valid. Keys are sorted as CLIP4Cir sorts them.

    ``top_rows`` [Q, at least 50] are image rows of the best gallery images of each query of ``task``, best first;
    ``subset_rows`` [Q, at least 3] those of its subset. Returns the paths (recall, recall_subset).
    """
    texts = {
        metric: json.dumps(submission(task, rows, metric), separators=(",", ":"), sort_keys=True)
        for metric, rows in (("recall", top_rows), ("recall_subset", subset_rows))
    }
    for metric, text in texts.items():
        if len(text.encode()) > MAX_BYTES:
            raise CondsimError(
                f"{FILES[metric]} would have {len(text.encode()):,} bytes; the server takes {MAX_BYTES:,}"
            )
    for metric, text in texts.items():
        with atomic(folder / FILES[metric]) as scratch:
            scratch.write_text(text, encoding="utf-8")
    return folder / FILES["recall"], folder / FILES["recall_subset"]


def submission(task: Task, rows: NDArray[np.integer[Any]], metric: str) -> dict[str, str | list[str]]:
    """The flat object of one file: version, metric, and the names (without extension) of each pair's best images.

    Raises CondsimError where a query was left out, where there are too few rows, and for the first of :func:`faults`.
    """
    where = f"the {metric} submission for {task.full_name}"
    length = LENGTHS[metric]
    if task.query_ids is None or task.subset is None:
        raise CondsimError(f"{where}: the task has no pair ids or no image sets, so it is not CIRR's")
    if task.skipped:
        raise CondsimError(f"{where}: the server wants every pair, but some were left out: {task.skipped[0]}")
    if rows.ndim != 2 or len(rows) != len(task) or rows.shape[1] < length:
        raise CondsimError(f"{where}: needs the best {length} of each of {len(task)} pairs, found {rows.shape}")
    names = [*_names(task), "no image"]  # row -1 fills up a ranking that is too short
    best = {pair: [names[row] for row in rows[i, :length]] for i, pair in enumerate(task.query_ids)}
    entries: dict[str, str | list[str]] = {"version": VERSION, "metric": metric, **best}
    for fault in faults(entries, task):
        raise CondsimError(f"{where}: {fault}")
    return entries


def faults(value: object, task: Task | None = None) -> Iterator[str]:
    """What the server would refuse, or score wrongly: one sentence per fault that names the entry.

    The server takes one object with "version", "metric", and for every pair the names of 50 different images (metric
    "recall") or of 3 of its image set ("recall_subset"), never its reference. ``task`` None: pairs and images are not
    looked up, only counted.
    """
    if not isinstance(value, dict):
        yield f"expected one JSON object, found a {type(value).__name__}"
        return
    if value.get("version") != VERSION:
        yield f"version: expected {VERSION!r}, found {value.get('version')!r}"
    metric = value.get("metric")
    if metric not in LENGTHS:
        yield f"metric: expected {' or '.join(map(repr, LENGTHS))}, found {metric!r}"
        return
    pairs = {key: images for key, images in value.items() if key not in ("version", "metric")}
    allowed = None if task is None else _allowed(task, metric)
    if allowed is None and len(pairs) != PAIRS:
        yield f"{counted(len(pairs), 'pair')}, expected the {PAIRS:,} of test1"
    for pair in allowed or ():
        if pair not in pairs:
            yield f"pair {pair} is missing"
    for pair, images in pairs.items():
        fault = _fault_of_list(images, LENGTHS[metric])
        if not re.fullmatch("[0-9]+", pair) or (allowed is not None and pair not in allowed):
            yield f"{pair!a} is no pair of {'CIRR' if task is None else task.full_name}"
        elif fault is not None:
            yield f"pair {pair} {fault}"
        elif allowed is not None:
            reference, among = allowed[pair]
            if reference in images:
                yield f"pair {pair} names its own reference, {reference}"
            elif other := next((image for image in images if image not in among), None):
                place = "gallery" if metric == "recall" else "image set"
                yield f"pair {pair} names an image outside its {place}: {other}"


def _fault_of_list(images: object, length: int) -> str | None:
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        return "has no list of image names"
    if len(images) != length:
        return f"has {counted(len(images), 'image')}, expected {length}"
    if len(set(images)) < length:
        return "has a duplicate image"
    with_suffix = next((image for image in images if PurePosixPath(image).suffix), None)
    return with_suffix and f"has {with_suffix!a}: expected names without folder and extension"


def _allowed(task: Task, metric: str) -> dict[str, tuple[str, Collection[str]]]:
    """Pair -> its reference, and the images that it may name."""
    assert task.query_ids is not None
    assert task.subset is not None
    names = _names(task)
    gallery = {names[row] for row in task.gallery_rows}
    return {
        pair: (names[task.reference[i]], gallery if metric == "recall" else {names[row] for row in task.subset[i]})
        for i, pair in enumerate(task.query_ids)
    }


def _names(task: Task) -> list[str]:
    return [PurePosixPath(name).stem for name in task.images.names]
