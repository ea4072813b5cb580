"""Hashes: of settings, which identify a run or a training, and of the content of files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from condsim.harness.errors import CondsimError

_SETTLED_SECONDS = 0.1
"""A file changed more recently than this may change again without a new time stamp: its digest is not remembered."""


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, ASCII. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def settings_hash(config: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of the canonical JSON of ``config``. Raises CondsimError for NaN, infinity and objects."""
    try:
        return hashlib.blake2b(canonical_json(config).encode(), digest_size=6).hexdigest()
    except (TypeError, ValueError, RecursionError) as error:
        raise CondsimError(f"a setting is not a finite number, a text, a list or a mapping: {error}") from None


def content_digest(data: bytes) -> str:
    """32 hexadecimal digits of ``data``."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """``content_digest`` of a file, remembered while the file does not change. Raises OSError if it cannot be read."""
    stat = os.stat(path)
    stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
    if max(stat.st_mtime, stat.st_ctime) > time.time() - _SETTLED_SECONDS:
        return _digest_now(str(path))
    return _remembered_digest(str(path), stamp)


@lru_cache(maxsize=65536)
def _remembered_digest(path: str, stamp: tuple[int, ...]) -> str:
    return _digest_now(path)


def _digest_now(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
