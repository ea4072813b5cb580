"""Files that a method's settings name (weights, phrases, ...): what is in them identifies a run, not where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from condsim.harness.features.digests import digest_now, stamp_files
from condsim.harness.paths import resolve

CONTENT = "content:"
"""What stands in a run's config in the place of a file's name, before the digest of the file."""


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
