"""Digests of files: what a file contains, and the stamp that shows whether it has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import UnusableRowsError
from condsim.harness.progress import track

DIGEST = 16
"""Bytes of a digest."""
RACY_NS = 100_000_000
"""A file that changed this recently may change again without a new stamp, so its digest is not remembered."""

Stamps = NDArray[np.int64]
"""[n, 4] size, mtime_ns, ctime_ns and inode of each file: they change when the file changes."""


def digest(data: bytes) -> bytes:
    """The 16-byte digest of ``data``."""
    return blake2b(data, digest_size=DIGEST).digest()


def digest_now(path: str) -> bytes:
    """The digest of a file's bytes, read now. Raises OSError where it cannot be read."""
    running = blake2b(digest_size=DIGEST)
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            running.update(block)
    return running.digest()


def stamp_files(paths: Sequence[str]) -> Stamps:
    """The stamp of every file. Raises UnusableRowsError (by position in ``paths``) for missing files."""
    stamps = np.empty((len(paths), 4), dtype=np.int64)
    faults = {}
    for i, path in enumerate(paths):
        try:
            stat = os.stat(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            faults[i] = "there is no such file" if isinstance(error, FileNotFoundError) else str(reason)
            continue
        stamps[i] = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    if faults:
        raise UnusableRowsError(len(paths), faults, lambda i: paths[i])
    return stamps


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest_files(paths: list[str]) -> list[bytes]:
    """The digest of every file. Raises UnusableRowsError (by position in ``paths``) for files that cannot be read."""
    if not paths:
        return []
    chunks = [paths[start : start + 32] for start in range(0, len(paths), 32)]
    outcomes: list[bytes | str] = []
    with track(len(paths), "reading files") as advance, ThreadPoolExecutor(min(8, available_cores())) as pool:
        for results in pool.map(lambda chunk: [_digest_file(path) for path in chunk], chunks):
            outcomes += results
            advance(len(results))
    faults = {i: result for i, result in enumerate(outcomes) if isinstance(result, str)}
    if faults:
        raise UnusableRowsError(len(paths), faults, lambda i: paths[i])
    return [result for result in outcomes if isinstance(result, bytes)]


def _digest_file(path: str) -> bytes | str:
    """The digest, or an error message."""
    try:
        return digest_now(path)
    except OSError as error:
        return str(error.strerror or error)
