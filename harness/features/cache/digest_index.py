"""An index of file digests, so that unchanged files are not read again."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.cache.file_digests import Stamps, digest_files, stamp_files
from condsim.harness.files.hashing import DIGEST, RACY_NS
from condsim.harness.terminal.console import warn

LOCK_SECONDS = 3
"""How long to wait for another process that has locked the database."""
PAUSE_SECONDS = 60
"""How long the database is left alone after it was found locked."""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NOT_ACCESSIBLE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}
_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, stamp BLOB, digest BLOB, checksum BLOB) WITHOUT ROWID"
)
_TABLE_NAME = "table "
"""Start of what is in place of a path for the digest of a whole image table."""
_READ = "SELECT path, stamp, digest, checksum FROM digests WHERE path IN (SELECT value FROM json_each(?))"

Result = TypeVar("Result")
Entry = tuple[bytes, bytes]
"""The stamp that a file had, and its digest."""


class _DamagedIndexError(Exception):
    """A row does not match its checksum."""


class DigestIndex:
    """Digests of files by path, in a small SQLite database.

    The index only saves time. Files are read again where it cannot be read or written, and a damaged one is deleted
    and written again. Every row has a checksum over path, stamp and digest, so no damage yields another digest.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._known: dict[str, Entry] = {}
        self._locked_until = 0.0

    def digests(self, paths: Sequence[str], stamps: Stamps) -> list[bytes]:
        """The digest of every file, given their present stamps."""
        seen = [stamp.tobytes() for stamp in stamps]
        unknown = [i for i, path in enumerate(paths) if self._known.get(path, (b"",))[0] != seen[i]]
        if unknown:
            stored = self._read([paths[i] for i in unknown])
            self._known.update(stored)
            unknown = [i for i in unknown if stored.get(paths[i], (b"",))[0] != seen[i]]
        settled = _settled(stamps)
        fresh = dict(zip(unknown, digest_files([paths[i] for i in unknown]), strict=True))
        digests = [fresh[i] if i in fresh else self._known[path][1] for i, path in enumerate(paths)]
        new = {paths[i]: (seen[i], value) for i, value in fresh.items() if settled[i]}
        for i in fresh:
            self._known.pop(paths[i], None)
        self._known.update(new)
        self._write(new)
        return digests

    def of_table(self, fingerprint: bytes) -> bytes | None:
        """The digest that ``keep_table`` got for an image table with this fingerprint; None: unknown."""
        name = _TABLE_NAME + fingerprint.hex()
        if name not in self._known:
            self._known.update(self._read([name]))
        return self._known[name][1] if name in self._known else None

    def keep_table(self, fingerprint: bytes, digest: bytes, stamps: Stamps) -> None:
        """Keep the digest of a whole table, unless one of its files has just changed."""
        if len(stamps) and _settled(stamps).all():
            entry = {_TABLE_NAME + fingerprint.hex(): (b"", digest)}
            self._known.update(entry)
            self._write(entry)

    def digest_file(self, path: Path) -> bytes:
        """The digest of one file, such as a file of weights. Raises CondsimError if it cannot be read."""
        name = os.path.abspath(path)
        try:
            return self.digests([name], stamp_files([name]))[0]
        except UnusableRowsError as error:
            raise CondsimError(f"{path}: {error.faults[0]}") from None

    def forget_missing(self) -> int:
        """Delete the entries of files that no longer exist, and of all tables; returns how many files there were."""

        def forget() -> int:
            with self._connection("rw") as connection:
                connection.execute(_TABLE)
                paths = [path for (path,) in connection.execute("SELECT path FROM digests")]
                gone = [(path,) for path in paths if not isinstance(path, str) or not os.path.exists(path)]
                connection.executemany("DELETE FROM digests WHERE path = ?", gone)
            return sum(not str(path).startswith(_TABLE_NAME) for (path,) in gone)

        return self._attempt(forget, 0) if self.file.exists() else 0

    def _read(self, paths: Sequence[str]) -> dict[str, Entry]:
        keys = {_key(path): path for path in paths}

        def read() -> dict[str, Entry]:
            with self._connection("ro") as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'digests'").fetchone():
                    return {}
                rows = connection.execute(_READ, (json.dumps(list(keys)),)).fetchall()
            return {keys[path]: entry for path, entry in map(_checked, rows)}

        return self._attempt(read, {}) if self.file.exists() else {}

    def _write(self, entries: Mapping[str, Entry]) -> None:
        rows = [(_key(path), *entry, _checksum(_key(path), *entry)) for path, entry in entries.items()]

        def write() -> None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._connection("rwc") as connection:
                connection.execute(_TABLE)
                connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", rows)

        if rows:
            self._attempt(write, None)

    def _attempt(self, work: Callable[[], Result], otherwise: Result) -> Result:
        """``work()``, which uses the database; ``otherwise`` where the database cannot be used."""
        if time.monotonic() < self._locked_until:
            return otherwise
        try:
            return work()
        except OSError:
            pass  # the files are read instead
        except (sqlite3.Error, sqlite3.Warning, _DamagedIndexError, KeyError, ValueError, TypeError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code in _BUSY:
                warn(f"{self.file} is locked by another process; files are read instead")
                self._locked_until = time.monotonic() + PAUSE_SECONDS
            elif code not in _NOT_ACCESSIBLE:
                warn(f"{self.file} is damaged ({error}); it is deleted and written again")
                self._delete()
        return otherwise

    def _delete(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):  # an old journal would be applied to the new database
            with suppress(OSError):
                Path(f"{self.file}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"{self.file.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS)) as connection, connection:
            yield connection


def _settled(stamps: Stamps) -> NDArray[np.bool_]:
    """[n] whether a file that changes from now on gets another stamp."""
    return np.asarray(stamps[:, 1:3].max(axis=1) < time.time_ns() - RACY_NS)


def _checked(row: tuple[object, ...]) -> tuple[str, Entry]:
    """A row of the database. Raises _DamagedIndexError if it does not match its checksum."""
    path, stamp, digest, checksum = row
    if not (isinstance(path, str) and isinstance(stamp, bytes) and isinstance(digest, bytes) and len(digest) == DIGEST):
        raise _DamagedIndexError("a row has values of other types")
    if _checksum(path, stamp, digest) != checksum:
        raise _DamagedIndexError("a row does not match its checksum")
    return path, (stamp, digest)


def _checksum(path: str, stamp: bytes, digest: bytes) -> bytes:
    sizes = f"{len(path)} {len(stamp)} ".encode()
    return blake2b(sizes + path.encode("utf-8", "surrogatepass") + stamp + digest, digest_size=8).digest()


def _key(path: str) -> str:
    """``path`` as text that a database accepts, even if the name is not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
