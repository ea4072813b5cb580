"""One folder of the feature cache: the features of one kind of input by one backbone, and how damage is handled.

Every encoded batch is written as a segment (``segment.py``) before the next one begins, so a killed process loses one
batch. One process at a time writes to a folder, under a lock that the system frees when its holder dies; readers need
no lock. Workers of the holder write segments without it (``one_of_many``), and never remove any. A row that does not
match its checksum counts as missing: a warning names its file, the intact rows are kept and the others are encoded
again.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.cache.request import Encode, Encoded, Request
from condsim.harness.features.cache.segment import (
    KEYS_DAMAGED,
    ROWS_DAMAGED,
    SUFFIX,
    DamagedSegmentError,
    Features,
    Keys,
    Notes,
    Segment,
    write_segment,
)
from condsim.harness.files.hashing import DIGEST, content_digest, digest
from condsim.harness.files.writing import SCRATCH, atomic, sweep
from condsim.harness.terminal.console import warn

SMALL_BYTES = 64 << 20
"""Segments below this size may be merged."""
MOST_SMALL = 64
"""Small segments that a folder may hold before they are merged into one."""
REMEMBERED_BYTES = 512 << 20
"""Features of recent requests that stay in memory, per folder."""
LOCK = ".lock"
OLD = ".old"
"""The folder of segments that are no longer read. Another machine may have mapped one of them, and on a network file
system it would crash if the file was deleted; they are deleted after a day."""
_OLD_SECONDS = 24 * 3600
IDENTITY = "identity.json"
_ROW = (1 << 40) - 1
"""The bits of a row within its segment, below the number of the segment."""


_one_of_many: ContextVar[bool] = ContextVar("one_of_many", default=False)


@contextmanager
def one_of_many() -> Iterator[None]:
    """Inside: this process is a worker, and another one holds the lock. A request is stored as one segment, which is
    named after its keys: images that are encoded twice are one file."""
    token = _one_of_many.set(True)
    try:
        yield
    finally:
        _one_of_many.reset(token)


def owner_of(identity: Mapping[str, str], kind: str) -> str:
    """What a segment says it belongs to: 32 hexadecimal digits of a backbone's identity and the kind of input."""
    return content_digest(json.dumps([dict(identity), kind], sort_keys=True).encode())


class FeatureTable:
    """Features by key, of one kind of input by one backbone. Threads of one process may share it."""

    def __init__(self, path: Path, width: int, identity: Mapping[str, str]) -> None:
        """``path``: its folder, which is named after the kind of input ("image", "text")."""
        self.path, self.width, self.identity = path, width, identity
        self.owner = owner_of(identity, path.name)
        self._segments: dict[str, Segment] = {}
        self._order: list[Segment] = []
        self._index: dict[bytes, int] = {}
        self._damaged: dict[str, str] = {}
        self._recent: OrderedDict[bytes, Features] = OrderedDict()
        self._announced: set[str] = set()
        self._guard = RLock()

    def fetch(self, keys: Sequence[bytes], encode: Encode, describe: Callable[[int], str]) -> Features:
        """float32 [len(keys), width], for reading only: from the folder where it has them, else encoded and stored.

        ``encode`` gets the positions in ``keys`` that are missing, each distinct key once. ``describe`` names a
        position in messages. Raises UnusableRowsError after all other rows are encoded and stored; CondsimError if the
        folder cannot be written to.
        """
        with self._guard:
            request = digest(b"".join(keys))
            if request in self._recent:
                self._recent.move_to_end(request)
                return self._recent[request]
            first: dict[bytes, int] = {}
            for row, key in enumerate(keys):
                first.setdefault(key, row)
            wanted = Request(list(first), np.fromiter(first.values(), np.int64, len(first)), self.width)
            if _one_of_many.get():
                self._encode_segment(wanted, encode, describe, keys)
                return wanted.features
            self._read(wanted)
            if wanted.missing.any():
                self._encode(wanted, encode, describe, keys)
            self._touch()
            features = wanted.features
            if len(first) < len(keys):
                place = {key: i for i, key in enumerate(first)}
                features = features[[place[key] for key in keys]]
            if features.nbytes <= REMEMBERED_BYTES:
                self._remember(request, features)
            return features

    @contextmanager
    def encoded_elsewhere(self, keys: Sequence[bytes]) -> Iterator[NDArray[np.int64]]:
        """Inside, the lock is held, and workers encode the rows that the ``with`` statement gives: positions in
        ``keys`` that are missing, each distinct key once. Report their segments with ``announce``."""
        with self._guard:
            first: dict[bytes, int] = {}
            for row, key in enumerate(keys):
                first.setdefault(key, row)
            self._refresh()
            if first.keys() <= self._index.keys():
                yield np.zeros(0, np.int64)
                return
            with self._locked(
                f"encoding {len(first.keys() - self._index.keys())} features that the cache does not hold"
            ):
                self._describe_folder()
                self._repair()
                yield np.array([row for key, row in first.items() if key not in self._index], dtype=np.int64)
                self._refresh()
            self._touch()

    def announce(self, name: str) -> None:
        """A worker has written the segment ``name``. Its name is remembered: a network file system may list it late."""
        self._announced.add(name)
        if len(self._announced) > MOST_SMALL:
            self._merge()

    def notes(self, keys: Sequence[bytes]) -> Notes:
        """[len(keys)] the bits that the encoder stored with each row; 0 where a key is not stored."""
        with self._guard:
            self._refresh()
            places = [self._index.get(key, -1) for key in keys]
            pairs = ((self._order[place >> 40], place & _ROW) if place >= 0 else None for place in places)
            return np.fromiter((0 if pair is None else pair[0].notes[pair[1]] for pair in pairs), np.uint8, len(keys))

    @property
    def is_empty(self) -> bool:
        """Whether the folder has no segment; quicker than ``len``, which reads the keys of all of them."""
        try:
            return not any(_is_segment(entry.name) for entry in os.scandir(self.path))
        except OSError:
            return True

    def __len__(self) -> int:
        """How many distinct features are stored."""
        self._refresh()
        return len(self._index)

    def segments(self) -> Iterator[tuple[Path, Segment | DamagedSegmentError]]:
        """Every feature file, opened; for a damaged one, what is wrong with it."""
        self._refresh()
        for name in sorted(self._segments.keys() | self._damaged.keys()):
            if name in self._segments:
                yield self.path / name, self._segments[name]
            else:
                yield self.path / name, DamagedSegmentError(self._damaged[name])

    def discard_damaged(self) -> dict[str, str]:
        """Rewrite every damaged file with its intact rows; file name -> what was wrong."""
        with self._guard, self._locked("repair"):
            for path, segment in list(self.segments()):
                if isinstance(segment, Segment) and (fault := segment.fault()) is not None:
                    self._damaged[path.name] = fault
            damaged = dict(self._damaged)
            self._repair()
        return damaged

    @contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        """Hold the exclusive write lock of the folder, waiting for it; the system frees it if its holder dies."""
        from filelock import FileLock, Timeout  # imports asyncio, which a run on stored features does not need

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=1)
            except Timeout:
                warn(f"waiting for another process that is encoding into {self.path}")
                lock.acquire()
        except OSError as error:
            damage = "".join(f" {self.path / name} is damaged: {fault}." for name, fault in self._damaged.items())
            raise CondsimError(
                f"{purpose} must write to {self.path}, which is not possible ({error.strerror or error}).{damage} "
                "Choose a cache folder that can be written to: cache_dir=FOLDER, or CONDSIM_CACHE in the environment"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _encode(self, wanted: Request, encode: Encode, describe: Callable[[int], str], keys: Sequence[bytes]) -> None:
        with self._locked(f"encoding {int(wanted.missing.sum())} features that the cache does not hold"):
            self._describe_folder()
            self._repair()
            self._read(wanted)
            if not wanted.missing.any():
                return

            def store(rows: Keys, features: Features, notes: Notes) -> None:
                write_segment(self.path, self.owner, rows, features, notes)
                self._merge()

            self._encode_missing(wanted, encode, describe, keys, store)

    def _encode_segment(
        self, wanted: Request, encode: Encode, describe: Callable[[int], str], keys: Sequence[bytes]
    ) -> None:
        """``_encode`` of a worker: no lock, and one segment. What an earlier worker stored of it is taken over."""
        name = segment_name(keys)
        parts: list[tuple[Keys, Features, Notes]] = []
        with suppress(OSError, DamagedSegmentError):
            earlier = Segment(self.path / name, self.width, self.owner)
            place = {key.tobytes(): row for row, key in enumerate(earlier.keys)}
            where = np.array([i for i, key in enumerate(wanted.keys) if key in place], dtype=np.int64)
            rows = np.array([place[wanted.keys[i]] for i in where], dtype=np.int64)
            features, intact = earlier.read(rows)
            wanted.put(where[intact], features[intact])
            parts.append((earlier.keys[rows[intact]], features[intact], earlier.notes[rows[intact]]))
        if not wanted.missing.any():
            return
        try:
            self._encode_missing(wanted, encode, describe, keys, lambda *part: parts.append(part))
        finally:  # also if some rows cannot be encoded
            if parts:
                whole = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
                try:
                    write_segment(self.path, self.owner, whole[0], whole[1], whole[2], name=name)
                except OSError as error:
                    raise _cannot_write(self.path, error) from error

    def _encode_missing(
        self,
        wanted: Request,
        encode: Encode,
        describe: Callable[[int], str],
        keys: Sequence[bytes],
        store: Callable[[Keys, Features, Notes], None],
    ) -> None:
        faults: dict[int, str] = {}
        infinite: dict[int, str] = {}
        to_do, done = int(wanted.missing.sum()), 0
        with closing(encode(wanted.rows[wanted.missing])) as batches:
            for batch in batches:
                faults |= batch.faults
                rows, features, notes = self._finite(batch, infinite)
                if not len(rows):
                    continue
                where = wanted.places_of(rows)
                try:
                    store(wanted.keys_of(where), features, notes)
                except OSError as error:
                    raise _cannot_write(self.path, error, done, to_do) from error
                wanted.put(where, features)
                done += len(rows)
        if faults or infinite:
            kept = f"the other {done} are encoded and stored." if done else ""
            by_key = {keys[row]: fault for row, fault in (faults | infinite).items()}
            every = {row: by_key[key] for row, key in enumerate(keys) if key in by_key}
            raise UnusableRowsError(len(keys), every, describe, kept, skippable=not infinite)
        if wanted.missing.any():
            raise RuntimeError(f"the encoder left out {int(wanted.missing.sum())} rows")

    def _finite(self, batch: Encoded, faults: dict[int, str]) -> tuple[NDArray[np.int64], Features, Notes]:
        """The rows of a batch that may be stored; the others are added to ``faults``."""
        features = np.ascontiguousarray(batch.features, dtype=np.float32)
        if len(batch.rows) and features.shape != (len(batch.rows), self.width):
            raise CondsimError(
                f"the backbone gave features of shape {features.shape} for {len(batch.rows)} rows of width {self.width}"
            )
        finite = np.isfinite(features).all(axis=1)
        faults |= {int(row): "its features contain NaN or infinity" for row in batch.rows[~finite]}
        notes = np.zeros(len(batch.rows), np.uint8) if batch.notes is None else batch.notes
        return batch.rows[finite], features[finite], notes[finite]

    def _read(self, wanted: Request) -> None:
        """Fill in the stored rows. A row that does not match its checksum stays missing, and its file is damaged."""
        self._refresh()
        places = np.array([self._index.get(wanted.keys[i], -1) for i in np.flatnonzero(wanted.missing)], dtype=np.int64)
        stored = np.flatnonzero(wanted.missing)[places >= 0]
        places = places[places >= 0]
        for number in np.unique(places >> 40):
            segment, here = self._order[number], places >> 40 == number
            features, intact = segment.read(places[here] & _ROW)
            if intact.all():
                wanted.put(stored[here], features)
            else:
                wanted.put(stored[here][intact], features[intact])
                self._damaged[segment.path.name] = ROWS_DAMAGED.format((~intact).sum(), len(segment))

    def _refresh(self) -> None:
        """Open segments that are new and forget those that are gone."""
        try:
            names = {entry.name for entry in os.scandir(self.path) if _is_segment(entry.name)}
        except FileNotFoundError:
            names = set()
        except OSError as error:
            raise CondsimError(f"{self.path} cannot be read: {error.strerror or error}") from error
        names |= {name for name in self._announced - names if (self.path / name).exists()}
        self._announced.clear()
        if gone := self._segments.keys() - names:
            for name in gone:
                del self._segments[name]
            self._order, self._index = [], {}
        self._damaged = {name: fault for name, fault in self._damaged.items() if name in names}
        for name in sorted(names - self._segments.keys() - self._damaged.keys()):
            try:
                self._segments[name] = Segment(self.path / name, self.width, self.owner)
                if not self._segments[name].keys_intact:
                    self._damaged[name] = KEYS_DAMAGED
            except FileNotFoundError:
                continue  # merged by another process since the listing; listed again under the lock
            except DamagedSegmentError as error:
                self._damaged[name] = str(error)
            except OSError as error:
                raise CondsimError(f"{self.path / name} cannot be read: {error.strerror or error}") from error
        for segment in [*self._segments.values()][len(self._order) :]:
            base, keys = len(self._order) << 40, segment.keys.tobytes()
            self._index.update((keys[i * DIGEST : (i + 1) * DIGEST], base | i) for i in range(len(segment)))
            self._order.append(segment)

    def _repair(self) -> None:
        """Under the lock: remove unfinished and damaged files; the intact rows of a damaged one are written again."""
        sweep(self.path)
        delete_old(self.path)
        self._refresh()
        for name, fault in self._damaged.items():
            warn(f"{self.path / name} is not used: {fault}. Its features are encoded again when they are needed")
            if name in self._segments:
                segment = self._segments[name]
                intact = segment.intact(np.arange(len(segment)))
                if intact.any():
                    rows = (segment.keys[intact], segment.features[intact], segment.notes[intact])
                    try:
                        write_segment(self.path, self.owner, *rows, sync=True)
                    except OSError as error:
                        raise _cannot_write(self.path, error) from error
            _retire(self.path / name)
        self._refresh()

    def _merge(self) -> None:
        """Under the lock: merge the small segments into one if there are too many. A merge that fails is left out."""
        self._refresh()
        small = [segment for segment in self._order if segment.size < SMALL_BYTES]
        if len(small) <= MOST_SMALL:
            return
        arrays = [(segment.keys, segment.features, segment.notes, segment.checksums) for segment in small]
        keys, features, notes, checksums = (np.concatenate(parts) for parts in zip(*arrays, strict=True))
        once = np.sort(np.unique(keys, axis=0, return_index=True)[1])  # a killed merge leaves its rows twice
        with suppress(OSError):
            write_segment(self.path, self.owner, keys[once], features[once], notes[once], checksums[once], sync=True)
            for segment in small:
                _retire(segment.path)
        self._refresh()

    def _describe_folder(self) -> None:
        """Write beside the features which backbone they belong to."""
        file = self.path.parent / IDENTITY
        if file.exists():
            return
        try:
            with atomic(file) as scratch:
                scratch.write_text(json.dumps({"identity": dict(self.identity), "width": self.width}, indent=1))
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _touch(self) -> None:
        with suppress(OSError):
            os.utime(self.path.parent / IDENTITY)

    def forget_recent(self) -> None:
        """Drop what is kept in memory; the next ``fetch`` reads and checks the files again."""
        with self._guard:
            self._recent.clear()

    def _remember(self, request: bytes, features: Features) -> None:
        self._recent[request] = features
        while sum(array.nbytes for array in self._recent.values()) > REMEMBERED_BYTES:
            self._recent.popitem(last=False)


def segment_name(keys: Sequence[bytes]) -> str:
    """The file name of the segment in which a worker stores these keys."""
    return f"{digest(b''.join(keys)).hex()}{SUFFIX}"


def delete_old(folder: Path) -> None:
    """Delete the segments that have not been read for a day."""
    with suppress(OSError):
        for path in (folder / OLD).iterdir():
            if path.stat().st_mtime < time.time() - _OLD_SECONDS:
                path.unlink(missing_ok=True)


def _retire(path: Path) -> None:
    """Move a segment to ``OLD``."""
    with suppress(FileNotFoundError):
        os.utime(path)  # a day from now on
        (path.parent / OLD).mkdir(exist_ok=True)
        os.replace(path, path.parent / OLD / path.stem)


def _is_segment(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(SCRATCH)


def _cannot_write(path: Path, error: OSError, done: int = 0, total: int = 0) -> CondsimError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "there is no space left on the disk" if full else str(error.strerror or error)
    kept = f" {done} of {total} features are encoded and stored; the next run encodes the others." if total else ""
    advice = "Free some space (`condsim cache ls` lists what is stored) or set another cache_dir" if full else ""
    return CondsimError(f"cannot write to {path}: {reason}.{kept} {advice}".rstrip())
