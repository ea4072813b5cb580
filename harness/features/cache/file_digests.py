"""What a file holds, by a digest of its bytes that is remembered until the file changes."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.progress import track

log = logging.getLogger(__name__)

DIGEST = 16
"""Bytes of a digest."""
RACY_NS = 100_000_000
"""A file changed this recently may change again without its stamp telling, so its digest is not remembered."""

Stamps = NDArray[np.int64]
"""[n, 4] size, mtime_ns, ctime_ns and inode of each file: what changes when a file does."""


def digest(data: bytes) -> bytes:
    """The 16-byte digest that stands for ``data``."""
    return blake2b(data, digest_size=DIGEST).digest()


def digest_now(path: str) -> bytes:
    """The digest of a file's bytes, read now. Raises OSError where it cannot be read."""
    running = blake2b(digest_size=DIGEST)
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            running.update(block)
    return running.digest()


def stamp_files(paths: Sequence[str]) -> Stamps:
    """The stamp of every file. Raises UnusableRowsError (by position in ``paths``) where one is missing or no file."""
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


class DigestIndex:
    """Digests of files by path, in a small database, so that unchanged files are not read again.

    It is a shortcut and never needed: where it cannot be read or written, files are digested again.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._known: dict[str, tuple[bytes, bytes]] = {}

    def digests(self, paths: Sequence[str], stamps: Stamps) -> list[bytes]:
        """The digest of every file, given their stamps as they are now."""
        seen = [stamp.tobytes() for stamp in stamps]
        unknown = [i for i, path in enumerate(paths) if self._known.get(path, (b"",))[0] != seen[i]]
        if unknown:
            stored = self._read([paths[i] for i in unknown])
            self._known.update(stored)
            unknown = [i for i in unknown if stored.get(paths[i], (b"",))[0] != seen[i]]
        settled = stamps[:, 1:3].max(axis=1) < time.time_ns() - RACY_NS
        fresh = dict(zip(unknown, _digest_files([paths[i] for i in unknown]), strict=True))
        found = [fresh[i] if i in fresh else self._known[path][1] for i, path in enumerate(paths)]
        new = {paths[i]: (seen[i], value) for i, value in fresh.items() if settled[i]}
        for i in fresh:
            self._known.pop(paths[i], None)
        self._known.update(new)
        self._write(new)
        return found

    def digest_file(self, path: Path) -> bytes:
        """The digest of one file, as for a file of weights. Raises CondsimError where it cannot be read."""
        name = os.path.abspath(path)
        try:
            return self.digests([name], stamp_files([name]))[0]
        except UnusableRowsError as error:
            raise CondsimError(f"{path}: {error.faults[0]}") from None

    def forget_missing(self) -> int:
        """Drop the entries of files that are gone; how many there were."""
        if not self.file.exists():
            return 0
        with self._connection("rw") as connection:
            paths = [path for (path,) in connection.execute("SELECT path FROM files")]
            gone = [(path,) for path in paths if not os.path.exists(path)]
            connection.executemany("DELETE FROM files WHERE path = ?", gone)
        return len(gone)

    def _read(self, paths: list[str]) -> dict[str, tuple[bytes, bytes]]:
        if not self.file.exists():
            return {}
        keys = {_key(path): path for path in paths}
        query = "SELECT files.path, stamp, digest FROM files JOIN json_each(?) AS asked ON files.path = asked.value"
        try:
            with self._connection("ro") as connection:
                rows = connection.execute(query, (json.dumps(list(keys)),)).fetchall()
        except sqlite3.Error as error:
            log.debug("%s cannot be read: %s", self.file, error)
            return {}
        return {keys[path]: (stamp, value) for path, stamp, value in rows if len(value) == DIGEST}

    def _write(self, entries: dict[str, tuple[bytes, bytes]]) -> None:
        if not entries:
            return
        rows = [(_key(path), *entry) for path, entry in entries.items()]
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._connection("rwc") as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp BLOB, digest BLOB) WITHOUT ROWID"
                )
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        except sqlite3.OperationalError as error:  # read-only, full or busy: the next run digests again
            log.debug("%s cannot be written: %s", self.file, error)
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged (%s); it is made anew", self.file, error)
            self.file.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s cannot be written: %s", self.file, error)

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        with (
            closing(
                sqlite3.connect(f"{self.file.absolute().as_uri()}?mode={mode}", uri=True, timeout=10)
            ) as connection,
            connection,
        ):
            yield connection


def _key(path: str) -> str:
    """``path`` as text that a database takes, also where the name is not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest_files(paths: list[str]) -> list[bytes]:
    if not paths:
        return []
    chunks = [paths[start : start + 32] for start in range(0, len(paths), 32)]
    found: list[bytes | str] = []
    with track(len(paths), "reading files") as advance, ThreadPoolExecutor(min(8, available_cores())) as pool:
        for results in pool.map(lambda chunk: [_digest_file(path) for path in chunk], chunks):
            found += results
            advance(len(results))
    faults = {i: result for i, result in enumerate(found) if isinstance(result, str)}
    if faults:
        raise UnusableRowsError(len(paths), faults, lambda i: paths[i])
    return [result for result in found if isinstance(result, bytes)]


def _digest_file(path: str) -> bytes | str:
    """The digest, or what is wrong."""
    try:
        return digest_now(path)
    except OSError as error:
        return str(error.strerror or error)
