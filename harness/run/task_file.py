"""A task as one file beside its records, so that reports need neither the benchmark's annotations nor torch."""

from __future__ import annotations

import json
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError
from condsim.harness.files.hashing import Stamp, stamp_of
from condsim.harness.files.name_list import NameList
from condsim.harness.files.writing import atomic
from condsim.harness.run.record import task_folder
from condsim.harness.task import ImageTable, Kinds, Labels, Ragged, Task

TASK_FILE_SCHEMA = 1
_RAGGED = ("relevant", "candidates", "excluded", "subset")
_ROWS = ("condition", "reference", "gallery", "clusters", "target")
_PLAIN = ("benchmark", "name", "conditions", "metrics", "cluster_name", "query_ids", "skipped", "texts", "variant",
    "counts_unanswerable",)  # fmt: skip
_ADDED = {"texts": None, "variant": "", "labels": None, "counts_unanswerable": False, "crop": "genecis"}
"""Entries that files of earlier versions lack, and their values there."""


def task_path(results: Path, benchmark: str, task: str, fingerprint: str) -> Path:
    """Where the file of the task with this fingerprint is, or will be: beside the folders of its records."""
    return task_folder(results, benchmark, task) / f"task-{fingerprint}.npz"


def save_task(path: Path, task: Task) -> None:
    """Write ``task`` to ``path`` (npz: arrays, and the rest as JSON), whole or not at all.

    An intact file that says the same is left alone. The folder of the images is stored as an absolute path.
    """
    meta = json.dumps(_meta(task), ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogateescape")
    if _is_stored(path, meta):
        return
    with atomic(path) as scratch:
        np.savez_compressed(scratch, allow_pickle=False, **_arrays(task), meta=np.frombuffer(meta, dtype=np.uint8))


def load_task(path: Path, fingerprint: str) -> Task:
    """The task with this fingerprint that :func:`save_task` wrote to ``path``.

    Raises CondsimError where the file is missing, damaged, or of another task.
    """
    advice = "run the same `condsim bench` again to write it again"
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        meta = json.loads(arrays.pop("meta").tobytes().decode("utf-8", "surrogateescape"))
        if meta["schema"] != TASK_FILE_SCHEMA:
            raise CondsimError(f"its schema is {ascii(meta['schema'])[:40]}, expected {TASK_FILE_SCHEMA}")
        task = _task(meta, arrays)
    except FileNotFoundError:
        raise CondsimError(f"{path}: the task file does not exist; {advice}") from None
    except Exception as error:  # damage can raise nearly anything in zip, zlib, numpy and json
        raise CondsimError(f"{path}: not a task file ({type(error).__name__}: {error}); {advice}") from None
    if task.fingerprint != meta["fingerprint"]:
        raise CondsimError(f"{path}: damaged, its content does not match its fingerprint; {advice}")
    if task.fingerprint != fingerprint:
        raise CondsimError(f"{path}: the file of another task, with fingerprint {task.fingerprint}; {advice}")
    return task


def _meta(task: Task) -> dict[str, Any]:
    return {
        "schema": TASK_FILE_SCHEMA,
        "fingerprint": task.fingerprint,
        "root": os.path.abspath(task.images.root),
        "names": None if isinstance(task.images.names, NameList) else task.images.names,
        "files": dict(task.images.files),
        "dilation": task.images.dilation,
        "crop": task.images.crop,
        "kinds": None if task.kinds is None else task.kinds.names,
        "labels": None if task.labels is None else task.labels.names,
        **{name: getattr(task, name) for name in _PLAIN},
    }


def _arrays(task: Task) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name in _ROWS:
        rows = getattr(task, name)
        if isinstance(rows, range) and rows.step == 1:
            arrays[f"{name}.range"] = np.array([rows.start, rows.stop])
        elif rows is not None:
            arrays[name] = np.asarray(rows)
    if isinstance(names := task.images.names, NameList):
        arrays["names"] = np.frombuffer(names.joined(), dtype=np.uint8)
    for name in _RAGGED:
        lists: Ragged | None = getattr(task, name)
        if lists is not None:
            arrays[f"{name}.offsets"], arrays[f"{name}.values"] = lists.offsets, lists.values
    if task.images.boxes is not None:
        arrays["boxes"] = task.images.boxes
    if task.kinds is not None:
        arrays["kinds"] = task.kinds.codes
    if task.labels is not None:
        arrays["labels.offsets"], arrays["labels.values"] = task.labels.codes.offsets, task.labels.codes.values
    return arrays


def _task(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Task:
    meta = _ADDED | meta
    given: dict[str, Any] = {name: meta[name] for name in _PLAIN}
    for name in ("conditions", "texts"):
        given[name] = None if given[name] is None else tuple(tuple(texts) for texts in given[name])
    for name in ("metrics", "query_ids", "skipped"):
        given[name] = None if given[name] is None else tuple(given[name])
    given |= {name: arrays.get(name) for name in _ROWS}
    if "gallery.range" in arrays:
        given["gallery"] = range(*arrays["gallery.range"].tolist())
    for name in _RAGGED:
        offsets = arrays.get(f"{name}.offsets")
        given[name] = None if offsets is None else Ragged(offsets, arrays[f"{name}.values"])
    given["images"] = ImageTable(
        Path(meta["root"]),
        NameList.split(arrays["names"].tobytes()) if meta["names"] is None else tuple(meta["names"]),
        arrays.get("boxes"),
        meta["dilation"],
        dict(meta.get("files", {})),
        meta["crop"],
    )
    if meta["labels"] is not None:
        codes = Ragged(arrays["labels.offsets"], arrays["labels.values"])
        given["labels"] = Labels(tuple(meta["labels"]), codes)
    given["kinds"] = None if meta["kinds"] is None else Kinds(tuple(meta["kinds"]), arrays["kinds"])
    return Task(**given)


def _is_stored(path: Path, meta: bytes) -> bool:
    """Whether the file holds ``meta`` and is undamaged."""
    try:
        return _sound_meta(path, stamp_of(str(path))) == meta
    except Exception:  # as in load_task
        return False


@lru_cache(maxsize=64)
def _sound_meta(path: Path, stamp: Stamp) -> bytes:
    """The meta of a file whose every part has its checksum."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile(path)
    with np.load(path, allow_pickle=False) as stored:
        return bytes(stored["meta"].tobytes())
