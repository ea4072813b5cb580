"""One folder of the feature store: the features of one kind by one backbone, and how they survive what can go wrong.

Every encoded batch is a segment (``harness.segments``) before the next one is begun, so a killed process loses one
batch. One process at a time writes to a folder, by a lock that the system frees when its holder dies; reading takes no
lock. What does not fit its checksum counts as missing: its file is named in a warning, what is whole of it is kept, and
the rest is encoded again. Small segments are merged now and then.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from threading import RLock

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.cache.file_digests import DIGEST
from condsim.harness.features.cache.segment import (
    SUFFIX,
    TEMPORARY,
    DamagedSegmentError,
    Features,
    Keys,
    Segment,
    write_segment,
)

log = logging.getLogger(__name__)

SMALL_BYTES = 64 << 20
"""Segments below this size may be merged."""
MOST_SMALL = 64
"""Small segments that a folder may hold while it is written to; afterwards, an eighth of it."""
REMEMBERED_BYTES = 512 << 20
"""Features of recent requests that stay in memory, a folder."""
LOCK = ".lock"
IDENTITY = "identity.json"
_ROWS_DAMAGED = "{} of its {} rows do not fit their checksums"


@dataclass(frozen=True)
class Encoded:
    """One batch out of an encoder: the rows that went well with their features [n, D], and what ails the others."""

    rows: NDArray[np.int64]
    features: Features
    faults: Mapping[int, str] = field(default_factory=dict)


Encode = Callable[[NDArray[np.int64]], Generator[Encoded]]
"""Rows -> their batches, each stored as soon as it is there."""


class FeatureTable:
    """The features of one kind by one backbone."""

    def __init__(self, path: Path, width: int, identity: Mapping[str, str] | None = None) -> None:
        self.path, self.width, self.identity = path, width, identity
        self._segments: dict[str, Segment] = {}
        self._order: list[Segment] = []
        self._index: dict[bytes, int] = {}
        self._damaged: dict[str, str] = {}
        self._recent: OrderedDict[bytes, Features] = OrderedDict()
        self._guard = RLock()

    def fetch(self, keys: Sequence[bytes], encode: Encode, describe: Callable[[int], str]) -> Features:
        """float32 [len(keys), width]: from the store where it has them, else encoded now and kept.

        ``encode`` gets the positions in ``keys`` that are missing, each distinct key once. ``describe`` names a
        position in messages. The result is shared between callers: do not write into it. Raises UnusableRowsError once
        all other rows are encoded and kept; CondsimError if the store cannot be written to.
        """
        with self._guard:
            request = blake2b(b"".join(keys), digest_size=DIGEST).digest()
            if request in self._recent:
                self._recent.move_to_end(request)
                return self._recent[request]
            first: dict[bytes, int] = {}
            for row, key in enumerate(keys):
                first.setdefault(key, row)
            wanted = _Wanted(list(first), np.fromiter(first.values(), np.int64, len(first)), self.width)
            self._read(wanted)
            if wanted.missing.any():
                self._encode(wanted, encode, describe, keys)
            self._touch()
            features = wanted.features
            if len(first) < len(keys):
                place = {key: i for i, key in enumerate(first)}
                features = features[[place[key] for key in keys]]
            self._remember(request, features)
            return features

    def __len__(self) -> int:
        """How many distinct features are stored."""
        self._refresh()
        return len(self._index)

    def segments(self) -> Iterator[tuple[Path, Segment | DamagedSegmentError]]:
        """Every feature file, opened; those that cannot be, with the reason."""
        self._refresh()
        for name in sorted(self._segments.keys() | self._damaged.keys()):
            if name in self._segments:
                yield self.path / name, self._segments[name]
            else:
                yield self.path / name, DamagedSegmentError(self._damaged[name])

    def discard_damaged(self) -> dict[str, str]:
        """Rewrite every damaged file with those rows that are whole; file name -> what was wrong."""
        with self._guard, self._locked("repair"):
            for path, segment in list(self.segments()):
                if isinstance(segment, Segment):
                    bad = int((~segment.read(np.arange(len(segment)))[1]).sum())
                    if bad:
                        self._damaged[path.name] = _ROWS_DAMAGED.format(bad, len(segment))
            found = dict(self._damaged)
            self._repair()
        return found

    @contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        """Nobody else writes here meanwhile. Waits for who does; a holder that dies lets go."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=1)
            except Timeout:
                log.warning("waiting for another process that is encoding into %s", self.path)
                lock.acquire()
        except OSError as error:
            damage = "".join(f" {self.path / name} is damaged: {fault}." for name, fault in self._damaged.items())
            raise CondsimError(
                f"{purpose} needs to write to {self.path}, which is not possible ({error.strerror or error}).{damage} "
                "Give a cache folder that can be written to: cache_dir=FOLDER, or CONDSIM_CACHE in the environment"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _encode(self, wanted: _Wanted, encode: Encode, describe: Callable[[int], str], keys: Sequence[bytes]) -> None:
        with self._locked(f"encoding {int(wanted.missing.sum())} features that the cache does not hold"):
            self._describe_folder()
            self._repair()
            self._read(wanted)
            if not wanted.missing.any():
                return
            faults: dict[int, str] = {}
            infinite: dict[int, str] = {}
            to_do, done = int(wanted.missing.sum()), 0
            with closing(encode(wanted.rows[wanted.missing])) as batches:
                for batch in batches:
                    faults |= batch.faults
                    rows, features = self._finite(batch, infinite)
                    if not len(rows):
                        continue
                    where = wanted.places_of(rows)
                    try:
                        write_segment(self.path, wanted.keys_of(where), features)
                    except OSError as error:
                        raise _cannot_write(self.path, error, done, to_do) from error
                    wanted.put(where, features)
                    done += len(rows)
                    self._merge(MOST_SMALL)
            self._merge(MOST_SMALL // 8)
            if faults or infinite:
                kept = f"the other {done} are encoded and kept." if done else ""
                by_key = {keys[row]: fault for row, fault in (faults | infinite).items()}
                every = {row: by_key[key] for row, key in enumerate(keys) if key in by_key}
                raise UnusableRowsError(len(keys), every, describe, kept, skippable=not infinite)
            if wanted.missing.any():
                raise RuntimeError(f"the encoder left out {int(wanted.missing.sum())} rows")

    def _finite(self, batch: Encoded, faults: dict[int, str]) -> tuple[NDArray[np.int64], Features]:
        """The rows of a batch that may be stored; the others are noted in ``faults``."""
        features = np.ascontiguousarray(batch.features, dtype=np.float32)
        if len(batch.rows) and features.shape != (len(batch.rows), self.width):
            raise CondsimError(
                f"the backbone gave features of shape {features.shape} for {len(batch.rows)} rows of width {self.width}"
            )
        finite = np.isfinite(features).all(axis=1)
        faults |= {int(row): "its features hold NaN or infinity" for row in batch.rows[~finite]}
        return batch.rows[finite], features[finite]

    def _read(self, wanted: _Wanted) -> None:
        """Fill in what the store has; note rows whose checksum does not fit as missing and their file as damaged."""
        self._refresh()
        places = np.array([self._index.get(wanted.keys[i], -1) for i in np.flatnonzero(wanted.missing)], dtype=np.int64)
        found = np.flatnonzero(wanted.missing)[places >= 0]
        places = places[places >= 0]
        for number in np.unique(places >> 40):
            segment, here = self._order[number], places >> 40 == number
            features, whole = segment.read(places[here] & ((1 << 40) - 1))
            if whole.all():
                wanted.put(found[here], features)
            else:
                wanted.put(found[here][whole], features[whole])
                self._damaged[segment.path.name] = _ROWS_DAMAGED.format((~whole).sum(), len(segment))

    def _refresh(self) -> None:
        """Take note of segments that have come and gone."""
        try:
            names = {entry.name for entry in os.scandir(self.path) if entry.name.endswith(SUFFIX)}
        except FileNotFoundError:
            names = set()
        except OSError as error:
            raise CondsimError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if gone := self._segments.keys() - names:
            for name in gone:
                del self._segments[name]
            self._order, self._index = [], {}
        self._damaged = {name: fault for name, fault in self._damaged.items() if name in names}
        for name in sorted(names - self._segments.keys() - self._damaged.keys()):
            try:
                self._segments[name] = Segment(self.path / name, self.width)
                if not self._segments[name].keys_whole:
                    self._damaged[name] = "its keys or its header are not as they were written"
            except FileNotFoundError:
                continue  # merged by another process since the listing; looked at again under the lock
            except DamagedSegmentError as error:
                self._damaged[name] = str(error)
            except OSError as error:
                raise CondsimError(f"{self.path / name} cannot be read: {error.strerror or error}") from error
        for segment in [*self._segments.values()][len(self._order) :]:
            base, keys = len(self._order) << 40, segment.keys.tobytes()
            self._index.update((keys[i * DIGEST : (i + 1) * DIGEST], base | i) for i in range(len(segment)))
            self._order.append(segment)

    def _repair(self) -> None:
        """Under the lock: leave no half-written and no damaged file behind."""
        for name in os.listdir(self.path):
            if name.endswith(TEMPORARY):
                (self.path / name).unlink(missing_ok=True)
        self._refresh()
        for name, fault in self._damaged.items():
            log.warning("%s is damaged: %s; what is lost is encoded again when it is needed", self.path / name, fault)
            if name in self._segments:
                segment = self._segments[name]
                _, whole = segment.read(np.arange(len(segment)))
                if whole.any():
                    try:
                        write_segment(self.path, segment.keys[whole], segment.features[whole], sync=True)
                    except OSError as error:
                        raise _cannot_write(self.path, error) from error
            (self.path / name).unlink(missing_ok=True)
        self._refresh()

    def _merge(self, most: int) -> None:
        """Under the lock: turn small segments into one if there are more than ``most``. A merge that fails is left."""
        self._refresh()
        small = [segment for segment in self._order if segment.size < SMALL_BYTES]
        if len(small) <= most:
            return
        arrays = [(segment.keys, segment.features, segment.checksums) for segment in small]
        keys, features, checksums = (np.concatenate(parts) for parts in zip(*arrays, strict=True))
        once = np.sort(np.unique(keys, axis=0, return_index=True)[1])  # a killed merge leaves its rows twice
        with suppress(OSError):
            write_segment(self.path, keys[once], features[once], checksums[once], sync=True)
            for segment in small:
                segment.path.unlink(missing_ok=True)
        self._refresh()

    def _describe_folder(self) -> None:
        """Say beside the features which backbone they are of."""
        file = self.path.parent / IDENTITY
        if self.identity is None or file.exists():
            return
        temporary = file.with_name(f"{uuid.uuid4().hex}{TEMPORARY}")
        try:
            temporary.write_text(json.dumps({"identity": dict(self.identity), "width": self.width}, indent=1))
            os.replace(temporary, file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
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


class _Wanted:
    """Distinct keys, the row that stands for each, and their features as far as they are known."""

    def __init__(self, keys: list[bytes], rows: NDArray[np.int64], width: int) -> None:
        self.keys, self.rows = keys, rows
        self.features: Features = np.empty((len(keys), width), dtype=np.float32)
        self.missing = np.ones(len(keys), dtype=bool)

    @cached_property
    def _place(self) -> dict[int, int]:
        return {int(row): place for place, row in enumerate(self.rows)}

    def places_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self._place[int(row)] for row in rows], dtype=np.int64)

    def put(self, where: NDArray[np.int64], features: Features) -> None:
        self.features[where] = features
        self.missing[where] = False

    def keys_of(self, where: NDArray[np.int64]) -> Keys:
        return np.frombuffer(b"".join(self.keys[i] for i in where), np.uint8).reshape(len(where), DIGEST)


def _cannot_write(path: Path, error: OSError, done: int = 0, total: int = 0) -> CondsimError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "there is no space left on the disk" if full else str(error.strerror or error)
    kept = f" {done} of {total} features are encoded and kept; the next run goes on from there." if total else ""
    advice = "Free some space (`condsim cache ls` shows what is stored) or give another cache_dir" if full else ""
    return CondsimError(f"cannot write to {path}: {reason}.{kept} {advice}".rstrip())
