"""CIRR test1: the two files for the official server, because the targets are withheld."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.files import atomic
from condsim.harness.task import Task

VERSION = "rc2"
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

    Raises CondsimError where the server would refuse it or score it wrongly: a query left out, too few rows, a
    duplicate row, the reference among them, or a row that is not in the query's subset.
    """
    where = f"the {metric} submission for {task.full_name}"
    length = LENGTHS[metric]
    if task.query_ids is None or task.subset is None:
        raise CondsimError(f"{where}: the task has no pair ids or no image sets, so it is not CIRR's")
    if task.skipped:
        raise CondsimError(f"{where}: the server wants every pair, but some were left out: {task.skipped[0]}")
    if rows.ndim != 2 or len(rows) != len(task) or rows.shape[1] < length:
        raise CondsimError(f"{where}: needs the best {length} of each of {len(task)} pairs, found {rows.shape}")
    best = rows[:, :length]
    allowed = set(task.gallery_rows.tolist())
    names = [PurePosixPath(name).stem for name in task.images.names]
    entries: dict[str, str | list[str]] = {"version": VERSION, "metric": metric}
    for i, pair in enumerate(task.query_ids):
        chosen = best[i].tolist()
        among = allowed if metric == "recall" else set(task.subset[i].tolist())
        if len(set(chosen)) < length:
            raise CondsimError(f"{where}: pair {pair} has a duplicate image")
        if task.reference[i] in chosen:
            raise CondsimError(f"{where}: pair {pair} names its own reference")
        if not among.issuperset(chosen):
            raise CondsimError(
                f"{where}: pair {pair} names an image outside its {'gallery' if metric == 'recall' else 'image set'}"
            )
        entries[pair] = [names[row] for row in chosen]
    return entries
