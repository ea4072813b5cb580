"""CIRCO: the file that the official server takes, because the ground truth of the test split is withheld."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, counted
from condsim.harness.files.writing import atomic
from condsim.harness.task import Task

SERVER = "circo.micc.unifi.it"
QUERIES = 800
"""Queries of the test split."""
LENGTH = 50
"""How many images each query has in the file."""


def write_submission(
    task: Task, top_rows: NDArray[np.integer[Any]], subset_rows: NDArray[np.integer[Any]], folder: Path
) -> Path:
    """Write ``circo_<split>.json`` into ``folder``, or nothing where it would not be valid. Returns its path.

    ``top_rows`` [Q, at least 50]: image rows of the best gallery images of each query of ``task``, best first.
    """
    value = submission(task, top_rows)
    path = folder / f"circo_{task.name}.json"
    with atomic(path) as scratch:
        scratch.write_text(json.dumps(value), encoding="utf-8")
    return path


def submission(task: Task, top_rows: NDArray[np.integer[Any]]) -> dict[str, list[int]]:
    """Query id -> the 50 best image ids. Raises CondsimError where the server would refuse it or count it wrongly."""
    where = f"the submission for {task.full_name}"
    if task.query_ids is None:
        raise CondsimError(f"{where}: the task has no query ids, so it is not CIRCO's")
    if top_rows.ndim != 2 or len(top_rows) != len(task) or top_rows.shape[1] < LENGTH:
        raise CondsimError(f"{where}: needs the best {LENGTH} of each of {len(task)} queries, found {top_rows.shape}")
    if (top_rows[:, :LENGTH] < 0).any():
        raise CondsimError(f"{where}: the gallery has {len(task.gallery_rows)} images, fewer than the {LENGTH} wanted")
    ids = np.array([int(PurePosixPath(name).stem) for name in task.images.names])
    best = ids[top_rows[:, :LENGTH]].tolist()
    value = dict(sorted(zip(task.query_ids, best, strict=True), key=lambda item: int(item[0])))
    gallery = set(ids[task.gallery_rows].tolist())
    if task.skipped and len(task) < QUERIES:
        raise CondsimError(f"{where}: the server wants every query, but some were left out: {task.skipped[0]}")
    for fault in faults(value, len(task), gallery):
        raise CondsimError(f"{where}: {fault}")
    return value


def faults(value: object, queries: int = QUERIES, gallery: Collection[int] | None = None) -> Iterator[str]:
    """What the server would refuse, or count wrongly: one sentence per fault that names the entry.

    The server takes one object with the keys "0" to ``queries`` - 1, all of them and no other; each a list of 50
    different integers, ids of images of ``gallery`` (None: not looked up).
    """
    if not isinstance(value, dict):
        yield f"expected one JSON object, found a {type(value).__name__}"
        return
    keys = dict.fromkeys(map(str, range(queries)))
    for key in keys:
        if key not in value:
            yield f"there is no query {key} (expected the keys 0 to {queries - 1})"
    known = None if gallery is None else set(gallery)
    for key, images in value.items():
        if key not in keys:
            yield f"there is no query {key!a} in CIRCO (expected the keys 0 to {queries - 1})"
        elif not isinstance(images, list) or not all(type(image) is int for image in images):
            yield f"query {key}: expected a list of integer image ids"
        elif len(images) != LENGTH:
            yield f"query {key} has {counted(len(images), 'image')}, expected {LENGTH}"
        elif len(set(images)) < LENGTH:
            yield f"query {key} names an image twice"
        elif known is not None and (other := next((image for image in images if image not in known), None)) is not None:
            yield f"query {key}: image {other} is not in the gallery"
