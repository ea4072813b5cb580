"""Files that a method's settings name (weights, phrases, ...): what is in them identifies a run, not where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from condsim.harness.backbone import Backbone
from condsim.harness.features.cache.file_digests import digest_now, stamp_files
from condsim.harness.hashing import settings_hash
from condsim.harness.paths import resolve
from condsim.harness.run.record import CONTENT, record_folder
from condsim.harness.task import Task


def with_contents(config: Any, images: Path) -> Any:
    """``config`` with a digest of its content in the place of every file that it names.

    ``images``: the folder of the task's images, where ``images://FILE`` is. Names of no file stay as they are.
    """
    if isinstance(config, Mapping):
        return {key: with_contents(value, images) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [with_contents(value, images) for value in config]
    if not isinstance(config, str):
        return config
    try:
        path = resolve(config, images)
        named = path.is_file()
    except (OSError, ValueError, ModuleNotFoundError):  # a name too long for a file, or of no package
        named = False
    return CONTENT + _digest(str(path), stamp_files([str(path)]).tobytes()) if named else config


@lru_cache(maxsize=1024)
def _digest(path: str, stamp: bytes) -> str:
    return digest_now(path).hex()


@dataclass(frozen=True)
class RunSettings:
    """What identifies a run besides its task: all of it is hashed into the run's name."""

    method: str
    method_config: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Those of ``method_config`` that differ from the method's defaults, for display."""
    resamples: int = 10_000
    seed: int = 0
    top: int = 10

    def config(self, task: Task, backbone: Backbone) -> dict[str, Any]:
        return {
            "condsim": version("condsim"),
            "task": task.full_name,
            "fingerprint": task.fingerprint,
            "method": self.method,
            "method_config": with_contents(self.method_config, task.images.root),
            "backbone": backbone.identity,
            "statistics": {"resamples": self.resamples, "seed": self.seed},
            "top": self.top,
        }


def folder_of_run(results: Path, task: Task, backbone: Backbone, settings: RunSettings) -> Path:
    """Where the record of this run is, or will be."""
    run = settings_hash(settings.config(task, backbone))
    return record_folder(results, task.benchmark, task.name, settings.method, run)
