"""Feature files: a segment is one immutable safetensors file of keys, features and a checksum a row."""

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

from condsim.harness.features.cache.file_digests import DIGEST

SUFFIX = ".safetensors"
TEMPORARY = ".tmp"
FORMAT = "condsim features 1"
_DTYPES: dict[str, np.dtype[Any]] = {"keys": np.dtype("u1"), "features": np.dtype("<f4"), "checksums": np.dtype("<u4")}

Keys = NDArray[np.uint8]
"""[n, 16]"""
Features = NDArray[np.float32]
"""[n, D]"""


class DamagedSegmentError(Exception):
    """The file is not a whole segment; the message says how that shows."""


class Segment:
    """A segment as it lies on the disk, memory-mapped: nothing of it is read until it is asked for."""

    def __init__(self, path: Path, width: int) -> None:
        """Raises DamagedSegmentError where the file is not a whole segment of features of this width."""
        self.path = path
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise DamagedSegmentError("it is empty")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            start = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:start])
            end = start + max(header[name]["data_offsets"][1] for name in _DTYPES)
            self.keys: Keys = _view(data, start, header, "keys")
            self.features: Features = _view(data, start, header, "features")
            self.checksums: NDArray[np.uint32] = _view(data, start, header, "checksums")
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
            raise DamagedSegmentError(f"its header makes no sense ({error})") from error
        rows = len(self.keys)
        if end != self.size:
            raise DamagedSegmentError(f"it has {self.size} bytes where its header says {end}")
        if self.keys.shape != (rows, DIGEST) or self.features.shape != (rows, width) or self.checksums.shape != (rows,):
            raise DamagedSegmentError(f"its arrays do not belong together, or are not of width {width}")
        self.keys_whole = header.get("__metadata__") == _metadata(self.keys, self.checksums)
        """Whether its keys and checksums are as they were written; rows that are still fit their own checksums."""

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, rows: NDArray[np.int64]) -> tuple[Features, NDArray[np.bool_]]:
        """The features of ``rows``, and which of them are as they were written."""
        features = self.features[rows]
        return features, checksums_of(self.keys[rows], features) == self.checksums[rows]


def checksums_of(keys: Keys, features: Features) -> NDArray[np.uint32]:
    """[n] CRC-32 of each row's key and features."""
    crc32 = zlib.crc32
    keys, features = np.ascontiguousarray(keys), np.ascontiguousarray(features)
    return np.fromiter((crc32(row, crc32(key)) for key, row in zip(keys, features, strict=True)), np.uint32, len(keys))


def write_segment(
    folder: Path, keys: Keys, features: Features, checksums: NDArray[np.uint32] | None = None, sync: bool = False
) -> Path:
    """A new segment in ``folder``, whole or not at all: written beside its place, then renamed into it.

    ``checksums``: those the rows had, where they are copied (None: computed). ``sync``: on the disk for good before
    this returns; without, a power cut may tear the file, which its checksums then tell. Raises OSError.
    """
    checksums = checksums_of(keys, features) if checksums is None else checksums
    arrays = {"keys": keys, "features": features, "checksums": checksums}
    name = uuid.uuid4().hex
    temporary, final = folder / f"{name}{TEMPORARY}", folder / f"{name}{SUFFIX}"
    try:
        with open(temporary, "wb") as file:
            content = {label: np.ascontiguousarray(array) for label, array in arrays.items()}
            file.write(save(content, _metadata(content["keys"], content["checksums"])))
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(folder)
    return final


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _metadata(keys: Keys, checksums: NDArray[np.uint32]) -> dict[str, str]:
    return {"format": FORMAT, "keys": f"{zlib.crc32(checksums.tobytes(), zlib.crc32(keys.tobytes())):08x}"}


def _view(data: mmap.mmap, start: int, header: dict[str, Any], name: str) -> NDArray[Any]:
    dtype = _DTYPES[name]
    first, last = header[name]["data_offsets"]
    values: NDArray[Any] = np.frombuffer(data, dtype, (last - first) // dtype.itemsize, start + first)
    return values.reshape(header[name]["shape"])
