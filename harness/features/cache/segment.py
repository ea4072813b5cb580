"""Feature files: a segment is one immutable safetensors file of keys, features, notes and one checksum per row."""

from __future__ import annotations

import json
import mmap
import os
import uuid
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from condsim.harness.files.hashing import DIGEST
from condsim.harness.files.writing import atomic

SUFFIX = ".safetensors"
FORMAT = "condsim features 2"
ROWS_DAMAGED = "{} of its {} rows do not match their checksums"
KEYS_DAMAGED = "its keys or its header have changed since they were written"
_DTYPES: dict[str, np.dtype[Any]] = {
    "keys": np.dtype("u1"),
    "features": np.dtype("<f4"),
    "notes": np.dtype("u1"),
    "checksums": np.dtype("<u4"),
}

Keys = NDArray[np.uint8]
"""[n, 16]"""
Features = NDArray[np.float32]
"""[n, D]"""
Notes = NDArray[np.uint8]
"""[n] What a reader of results should know about each row, as bits; the encoder gives them their meaning."""
Checksums = NDArray[np.uint32]
"""[n]"""


class DamagedSegmentError(Exception):
    """The file is not a complete segment of the expected features; the message says why."""


class Segment:
    """A segment on the disk, memory-mapped: nothing is read before it is used.

    ``owner`` says which backbone and which kind of input the features belong to. It is in the file's metadata and
    seeds the checksum of every row, so a file that was moved to another backbone's folder is not taken for its own.
    """

    def __init__(self, path: Path, width: int, owner: str) -> None:
        """Raises DamagedSegmentError if the file is not a complete segment of ``owner`` with this width."""
        self.path, self.owner = path, owner
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise DamagedSegmentError("the file is empty")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            start = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:start])
            metadata = dict(header["__metadata__"])
            _check_owner(metadata, owner)
            end = start + max(header[name]["data_offsets"][1] for name in _DTYPES)
            self.keys: Keys = _view(data, start, header, "keys")
            self.features: Features = _view(data, start, header, "features")
            self.notes: Notes = _view(data, start, header, "notes")
            self.checksums: Checksums = _view(data, start, header, "checksums")
            rows = len(self.keys)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
            raise DamagedSegmentError(f"its header cannot be read ({error})") from error
        if end != self.size:
            raise DamagedSegmentError(f"it has {self.size} bytes, but its header says {end}")
        shapes = {"keys": (rows, DIGEST), "features": (rows, width), "notes": (rows,), "checksums": (rows,)}
        if any(getattr(self, name).shape != shape for name, shape in shapes.items()):
            raise DamagedSegmentError(f"the shapes of its arrays do not fit each other or the width {width}")
        self.keys_intact = metadata == _metadata(owner, self.keys, self.checksums)
        """Whether its keys and checksums are as they were written; single rows may still match their checksums."""

    def __len__(self) -> int:
        return len(self.keys)

    def fault(self) -> str | None:
        """What is wrong with the file, every row read; None where nothing is."""
        bad = int((~self.intact(np.arange(len(self)))).sum())
        if bad:
            return ROWS_DAMAGED.format(bad, len(self))
        return None if self.keys_intact else KEYS_DAMAGED

    def read(self, rows: NDArray[np.int64]) -> tuple[Features, NDArray[np.bool_]]:
        """The features of ``rows``, and which of them match their checksums."""
        features = self.features[rows]
        return features, self.intact(rows, features)

    def intact(self, rows: NDArray[np.int64], features: Features | None = None) -> NDArray[np.bool_]:
        """Which of ``rows`` match their checksums."""
        features = self.features[rows] if features is None else features
        present = checksums_of(self.owner, self.keys[rows], features, self.notes[rows])
        return np.equal(present, self.checksums[rows])


def checksums_of(owner: str, keys: Keys, features: Features, notes: Notes) -> Checksums:
    """[n] CRC-32 of the owner and of each row's key, note and features."""
    crc32, seed = zlib.crc32, zlib.crc32(owner.encode())
    labels = np.concatenate([keys, notes[:, None]], axis=1)
    features = np.ascontiguousarray(features)
    pairs = zip(labels, features, strict=True)
    return np.fromiter((crc32(row, crc32(label, seed)) for label, row in pairs), np.uint32, len(keys))


def write_segment(
    folder: Path,
    owner: str,
    keys: Keys,
    features: Features,
    notes: Notes,
    checksums: Checksums | None = None,
    sync: bool = False,
    name: str | None = None,
) -> Path:
    """Write a new segment into ``folder``, complete or not at all. ``name``: None is a new one.

    ``checksums``: those of the rows where they are copied (None: computed). ``sync``: flush to the disk before this
    returns; without it a power cut may tear the file, which its checksums then show. Raises OSError.
    """
    checksums = checksums_of(owner, keys, features, notes) if checksums is None else checksums
    arrays = {"keys": keys, "features": features, "notes": notes, "checksums": checksums}
    content = {name: np.ascontiguousarray(array, dtype=_DTYPES[name]) for name, array in arrays.items()}
    path = folder / (name or f"{uuid.uuid4().hex}{SUFFIX}")
    with atomic(path) as scratch, open(scratch, "wb") as file:
        file.write(save(content, _metadata(owner, content["keys"], content["checksums"])))
        if sync:
            file.flush()
            os.fsync(file.fileno())
    if sync:
        sync_folder(folder)
    return path


def sync_folder(folder: Path) -> None:
    """Flush the names in ``folder`` to the disk, so that they survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _metadata(owner: str, keys: Keys, checksums: Checksums) -> dict[str, str]:
    crc = zlib.crc32(checksums.tobytes(), zlib.crc32(keys.tobytes(), zlib.crc32(owner.encode())))
    return {"format": FORMAT, "owner": owner, "keys": f"{crc:08x}"}


def _check_owner(metadata: dict[str, Any], owner: str) -> None:
    found = metadata.get("owner")
    if found != owner and isinstance(found, str) and metadata.get("format") == FORMAT:
        raise DamagedSegmentError("its features belong to another backbone or another kind of input")


def _view(data: mmap.mmap, start: int, header: dict[str, Any], name: str) -> NDArray[Any]:
    dtype = _DTYPES[name]
    first, last = header[name]["data_offsets"]
    values: NDArray[Any] = np.frombuffer(data, dtype, (last - first) // dtype.itemsize, start + first)
    return values.reshape(header[name]["shape"])
