"""Stamps and digests of many files at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import UnusableRowsError
from condsim.harness.files.hashing import Stamp, digest_now, stamp_of
from condsim.harness.process.cores import available_cores
from condsim.harness.terminal.progress import track

Stamps = NDArray[np.int64]
"""[n, 4] the stamp of each file."""


def stamp_files(paths: Sequence[str]) -> Stamps:
    """The stamp of every file. Raises UnusableRowsError (by position in ``paths``) for missing files."""
    stamps: list[Stamp] = []
    faults = {}
    for i, path in enumerate(paths):
        try:
            stamps.append(stamp_of(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            faults[i] = "there is no such file" if isinstance(error, FileNotFoundError) else str(reason)
    if faults:
        raise UnusableRowsError(len(paths), faults, lambda i: paths[i])
    return np.array(stamps, dtype=np.int64).reshape(-1, 4)


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
