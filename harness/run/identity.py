"""What identifies a run: everything that its numbers depend on, and nothing else."""

from __future__ import annotations

import inspect
import pydoc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from condsim.harness.backbone import Backbone, DigestsImages
from condsim.harness.errors import UnusableRowsError
from condsim.harness.features.cache.store import open_store
from condsim.harness.files.hashing import canonical_json, content_digest, file_digest, settings_hash
from condsim.harness.files.paths import cache_folder, resolve
from condsim.harness.method import Method
from condsim.harness.run.choice import Choice
from condsim.harness.run.record import CONTENT, record_folder
from condsim.harness.task import Benchmark, ImageTable, Task, TrainSplit

PROTOCOL = 1
"""The harness's own part of a run's identity. Increase it when the ranking, the metrics, the intervals or the way in
which texts of a condition are joined change so that numbers may differ. A release alone never changes it."""
OURS = "condsim"
_NOT_A_USERS = sys.stdlib_module_names | {OURS, "torch"}


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run."""

    method: str
    method_config: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Those of ``method_config`` that differ from the method's defaults, for display."""
    resamples: int = 10_000
    seed: int = 0
    top: int = 10
    """Best candidates to keep per query. No number depends on it, so it is not part of the identity."""
    choice: Choice | None = None
    """How settings are chosen that have no value in ``method_config`` (there they are "val")."""


@dataclass(frozen=True)
class Identity:
    """What identifies a run: its ``config``, and ``run``, the hash of it."""

    config: dict[str, Any]
    run: str

    def folder(self, results: Path, task: Task) -> Path:
        """Where the record of this run is, or will be."""
        return record_folder(results, task.benchmark, task.name, self.config["method"], self.run)


def identify(benchmark: Benchmark, task: Task, method: Method, backbone: Backbone, settings: RunSettings) -> Identity:
    """The identity of a run. Reads only files that changed since they were last seen.

    It covers the questions (``task.fingerprint``) and the content of their pictures; the method's settings with the
    content of files that they name, the ``protocol`` of its class, and the source of classes from outside condsim; the
    backbone's identity and class; the training split, for a method that reads it; the statistics; and for settings that
    are chosen, the candidates and the validation data, but not the values that are chosen. The package's version and
    places of files do not count, nor does hardware, which may change the last bits of a score.

    Raises UnusableRowsError for pictures that are missing, and CondsimError for settings that JSON cannot hold.
    """
    train = benchmark.train if method.reads_train else None
    config = {
        "protocol": {"harness": PROTOCOL, "benchmark": benchmark.protocol},
        "task": task.full_name,
        "fingerprint": task.fingerprint,
        "images": images_digest(backbone, task.images),
        "train": train and _train_digest(train, images_digest(backbone, train.images)),
        "method": settings.method,
        "method_config": with_contents(settings.method_config, task.images.root),
        "backbone": {**backbone.identity, **_code_of_backbone(type(backbone))},
        "statistics": {"resamples": settings.resamples, "seed": settings.seed},
    }
    if settings.choice is not None:
        config["choice"] = settings.choice.identity(task, lambda other: images_digest(backbone, other.images))
    return Identity(config, settings_hash(config))


def images_digest(backbone: Backbone, table: ImageTable) -> str:
    """A digest of the pictures' content, in the order of the table; "" where the features do not depend on files."""
    if isinstance(backbone, DigestsImages):
        return backbone.images_digest(table)
    store = open_store(cache_folder())
    try:
        return store.images_digest(table).hex() if len(table) else ""  # what open_clip's backbones say
    except UnusableRowsError:
        present = [row for row in range(len(table)) if table.path(row).is_file()]
    if not present:
        return ""
    keys = store.image_keys(table.take(np.array(present))).keys
    missing = b"" if len(present) == len(table) else repr(present).encode()
    return content_digest(b"".join(keys) + missing)


def with_contents(config: Any, images: Path) -> Any:
    """``config`` with the digest of its content in place of the name of every file.

    A mapping with a ``_target_`` also gets what identifies the code: the ``protocol`` of a class, and for one from
    outside condsim ``source``, a digest of the file that defines it and of those of its base classes. What these files
    import is not followed: increase ``protocol`` when that changes.

    ``images``: the folder of the task's images, where ``images://FILE`` is. Names of no file stay as they are.
    """
    if isinstance(config, Mapping):
        described = {str(key): with_contents(value, images) for key, value in config.items()}
        target = config.get("_target_")
        return described | (_code_of_target(target) if isinstance(target, str) else {})
    if isinstance(config, (list, tuple)):
        return [with_contents(value, images) for value in config]
    if not isinstance(config, str):
        return config
    try:
        path = resolve(config, images)
        return CONTENT + file_digest(path) if path.is_file() else config
    except (OSError, ValueError, ModuleNotFoundError):  # a name too long for a file, or of no package
        return config


def _train_digest(train: TrainSplit, images: str) -> str:
    table = train.images
    boxes = None if table.boxes is None else table.boxes.tobytes().hex()
    rule = table.dilation if table.crop == "genecis" else table.crop
    named = canonical_json([table.names, rule, boxes, train.phrases])
    return content_digest(f"{named}{images}".encode())


def _code_of_backbone(made_by: type) -> dict[str, Any]:
    """``_code``, and the name of a class from outside condsim: its file may have several backbones."""
    return _code(made_by) | ({"class": f"{made_by.__module__}.{made_by.__qualname__}"} if _is_a_users(made_by) else {})


@cache
def _code_of_target(target: str) -> dict[str, Any]:
    try:
        return _code(pydoc.locate(target))
    except (pydoc.ErrorDuringImport, AttributeError):
        return {}


def _code(made_by: Any) -> dict[str, Any]:
    protocol = getattr(made_by, "protocol", None)
    classes = made_by.__mro__ if isinstance(made_by, type) else (made_by,)
    sources = sorted(filter(None, map(_source, classes)))
    return ({"protocol": protocol} if isinstance(protocol, int) else {}) | ({"source": sources} if sources else {})


def _source(code: Any) -> str | None:
    """A digest of the file that defines a class or function, if it is neither ours, torch's nor Python's own."""
    if not _is_a_users(code):
        return None
    try:
        return file_digest(Path(inspect.getsourcefile(code) or ""))
    except (TypeError, OSError):  # built in, or typed into a notebook
        return None


def _is_a_users(code: Any) -> bool:
    return str(getattr(code, "__module__", OURS)).partition(".")[0] not in _NOT_A_USERS
