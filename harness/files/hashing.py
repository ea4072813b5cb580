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

DIGEST = 16
"""Bytes of a digest."""
RACY_NS = 100_000_000
"""A file that changed this recently may change again without a new stamp, so its digest is not remembered."""

Stamp = tuple[int, int, int, int]
"""Size, mtime_ns, ctime_ns and inode of a file: they change when the file changes."""


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, ASCII. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def settings_hash(config: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of the canonical JSON of ``config``. Raises CondsimError for NaN, infinity and objects."""
    try:
        return hashlib.blake2b(canonical_json(config).encode(), digest_size=6).hexdigest()
    except (TypeError, ValueError, RecursionError) as error:
        raise CondsimError(f"a setting is not a finite number, a text, a list or a mapping: {error}") from None


def digest(data: bytes) -> bytes:
    """The 16-byte digest of ``data``."""
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def content_digest(data: bytes) -> str:
    """``digest`` as 32 hexadecimal digits."""
    return digest(data).hex()


def json_digest(value: Any) -> str:
    """``content_digest`` of the canonical JSON of ``value``."""
    return content_digest(canonical_json(value).encode())


def digest_now(path: str) -> bytes:
    """The digest of a file's bytes, read now. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST)).digest()


def stamp_of(path: str) -> Stamp:
    """Raises OSError, and ValueError for a name that no file can have."""
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def file_digest(path: Path) -> str:
    """``content_digest`` of a file, remembered while the file does not change. Raises OSError if it cannot be read."""
    stamp = stamp_of(str(path))
    if max(stamp[1:3]) > time.time_ns() - RACY_NS:
        return digest_now(str(path)).hex()
    return _remembered_digest(str(path), stamp)


@lru_cache(maxsize=65536)
def _remembered_digest(path: str, stamp: Stamp) -> str:
    return digest_now(path).hex()
