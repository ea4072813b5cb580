"""The pictures of a folder with their features; what cannot be read is left out and named."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from condsim.harness.backbone import Backbone
from condsim.harness.encoding import encode_images
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.files.gallery_parts import Parts
from condsim.harness.images import IMAGE_SUFFIXES
from condsim.harness.task import ImageTable

Stamps = Mapping[str, int]
"""Folder -> time of its last change: of a file that was added, removed or renamed in it."""


@dataclass(frozen=True)
class Pictures:
    """N pictures with their features."""

    table: ImageTable
    """The keys are sorted, each once."""
    features: Tensor
    """[N, D] raw float32, on the backbone's device."""
    unreadable: Mapping[str, str]
    """Name -> what is wrong, of the pictures that are left out."""
    parts: Parts | None = None
    """Where the features are, if not in memory: then ``features`` is [0, D], and the keys are not sorted."""

    def row_of(self, key: str) -> int:
        """The row with this key; -1: there is none."""
        return row_of(self.table, key) if self.parts is None else self.parts.names.places([key]).get(key, -1)


def pictures_below(root: Path) -> tuple[tuple[str, ...], Stamps]:
    """The image files in ``root`` and its subfolders, as sorted paths relative to it. Hidden ones are left out.

    Raises CondsimError where there is none.
    """
    names: list[str] = []
    stamps: dict[str, int] = {}
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        stamps[folder] = os.stat(folder).st_mtime_ns
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        names += [prefix + name for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    if not names:
        raise CondsimError(
            f"{root}: there is no picture in this folder or its subfolders (files that end in "
            f"{', '.join(IMAGE_SUFFIXES[:5])}, ...)"
        )
    return tuple(sorted(names)), stamps


def sorted_by_key(table: ImageTable) -> ImageTable:
    """``table`` with its rows in the order of their keys, each once."""
    rows = {key: row for row, key in enumerate(table.keys)}
    return table.take(np.array([rows[key] for key in sorted(rows)], dtype=np.int64))


def row_of(table: ImageTable, key: str) -> int:
    """The row with this key, in a table sorted by its keys; -1: there is none."""
    row = bisect_left(table.keys, key)
    return row if row < len(table) and table.keys[row] == key else -1


def changed(stamps: Stamps) -> bool:
    """Whether a file was added, removed or renamed since ``stamps`` were taken."""
    try:
        return any(os.stat(folder).st_mtime_ns != stamp for folder, stamp in stamps.items())
    except FileNotFoundError:
        return True


def encode_readable(table: ImageTable, backbone: Backbone) -> Pictures:
    """The pictures of ``table`` that can be encoded. Raises CondsimError where none can."""
    unreadable: dict[str, str] = {}
    while True:
        try:
            features = encode_images(backbone, table)
            break
        except UnusableRowsError as error:
            if not error.skippable:
                raise
            unreadable |= {table.names[row]: fault for row, fault in error.faults.items()}
            if len(error.faults) == len(table):
                name, fault = next(iter(unreadable.items()))
                raise CondsimError(
                    f"{table.root}: none of its {len(unreadable):,} pictures can be read; the first: {name}: {fault}"
                ) from None
            table = table.take(np.setdiff1d(np.arange(len(table)), list(error.faults)))
    return Pictures(table, features, unreadable)


def encode_one(picture: ImageTable, backbone: Backbone) -> Tensor:
    """[D] raw features of the only row of ``picture``. Raises CondsimError naming it if it cannot be encoded."""
    try:
        return encode_images(backbone, picture)[0]
    except UnusableRowsError as error:
        raise CondsimError(f"the query picture {picture.path(0)}: {next(iter(error.faults.values()))}") from None
