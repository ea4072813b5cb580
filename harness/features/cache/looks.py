"""A look at the files of an image table: what tells whether one of them has changed, without reading them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from condsim.harness.features.cache.file_digests import Stamps, stamp_files
from condsim.harness.files.hashing import digest
from condsim.harness.task import ImageTable

KEPT_SECONDS = 60
CROP_RULE, PLAIN_RULE = b"genecis crop 1", b"plain crop 1"
"""Part of a crop's key: change it whenever ``harness/images.py`` crops or pads differently."""


@dataclass(frozen=True)
class Look:
    """What the files of a table were like."""

    stamps: Stamps
    """Of ``distinct_files``."""
    fingerprint: bytes
    """A digest of the stamps, and of all else that the keys of the table depend on."""


class KeptLooks:
    """Looks that are used again for ``KEPT_SECONDS``: the runs of one command look at the same files, which takes long
    on a network file system.

    A picture that changes in this time gets no wrong features: its key is that of the content that was digested, and
    who encodes it checks the digest (``harness.images.read_picture``).
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ImageTable, Look, float]] = {}
        """With the table, so that no other has its ``id``, and the end of the time."""

    def at(self, table: ImageTable) -> Look:
        now = time.monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if now < kept[2]}
        if id(table) not in self._kept:
            self._kept[id(table)] = table, _look_now(table), now + KEPT_SECONDS
        return self._kept[id(table)][1]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, ``look_at`` uses them."""
        token = _in_use.set(self)
        try:
            yield
        finally:
            _in_use.reset(token)


_in_use: ContextVar[KeptLooks | None] = ContextVar("kept_looks", default=None)


def look_at(table: ImageTable) -> Look:
    """The files of ``table`` as they are now, or were when ``KeptLooks`` looked.

    Raises UnusableRowsError, by position in ``distinct_files``, for files that are missing.
    """
    kept = _in_use.get()
    return _look_now(table) if kept is None else kept.at(table)


def distinct_files(table: ImageTable) -> tuple[list[str], list[str]]:
    """The names of a table, each once, and the paths of their files."""
    names = list(dict.fromkeys(table.names))
    folder = os.path.join(table.root, "")
    return names, [folder + file for file in _files(table, names)]


def crop_rule(table: ImageTable) -> bytes:
    """How the boxes of ``table`` are cropped."""
    return PLAIN_RULE if table.crop == "plain" else CROP_RULE + np.float64(table.dilation).tobytes()


def _look_now(table: ImageTable) -> Look:
    stamps = stamp_files(distinct_files(table)[1])
    return Look(stamps, _fingerprint(table, stamps))


def _files(table: ImageTable, names: Sequence[str]) -> Sequence[str]:
    return [table.file(name) for name in names] if table.files else names


def _fingerprint(table: ImageTable, stamps: Stamps) -> bytes:
    names = "\0".join((str(table.root), *_files(table, table.names))).encode("utf-8", "surrogatepass")
    boxes = b"" if table.boxes is None else table.boxes.tobytes()
    parts = (names, boxes, crop_rule(table), stamps.tobytes())
    return digest(b"".join(digest(part) for part in parts))
