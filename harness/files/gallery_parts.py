"""A gallery as a folder of parts, for more items than fit in the memory of one process or one machine.

    part-00000.npy, part-00001.npy, ...   [n, D] float16 or float32
    names.arrow                           the items' names, one column "name" (Arrow IPC, read where it is)
    manifest.json                         rows, width, type, the parts in order; the rows of zeros, if any

The order of the items is that of the parts. Nothing is looked up by name, and no Python object is made per item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from condsim.harness.errors import CondsimError
from condsim.harness.files.memory_map import gather, map_npy
from condsim.harness.files.name_list import NameList, NameWriter
from condsim.harness.files.writing import atomic_folder
from condsim.harness.process.tensors import Tensor

GRAIN = 1 << 16
"""Parts of a gallery begin at multiples of this number of items. A method that computes its items in blocks chooses a
block size that divides it: then all blocks of a part are blocks of the whole gallery, and give the same bits."""
MANIFEST, NAMES = "manifest.json", "names.arrow"
TYPES = ("float16", "float32")
_ROWS_PER_PART = 1 << 20
_HEADER = 128
_SCHEMA = 1
_HOW = "write the folder with condsim.write_parts"


@dataclass(frozen=True)
class Parts:
    """A folder of parts with N items of width D."""

    folder: Path
    files: tuple[str, ...]
    sizes: tuple[int, ...]
    """Items of each file; all but the last are multiples of ``GRAIN``."""
    width: int
    zero: tuple[int, ...] = ()
    """Rows whose features are all zeros, as far as the manifest lists them."""

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def starts(self) -> tuple[int, ...]:
        """The position of each file's first item."""
        return tuple(np.cumsum([0, *self.sizes[:-1]]).tolist())

    @cached_property
    def names(self) -> NameList:
        return NameList.read(self.folder / NAMES)

    @property
    def paths(self) -> list[Path]:
        """All files of the folder."""
        return [self.folder / name for name in (*self.files, NAMES, MANIFEST)]

    def features(self, part: int) -> Tensor:
        """[n, D] raw features of one part, mapped."""
        return map_npy(self.folder / self.files[part])

    def gather(self, rows: Tensor) -> Tensor:
        """float32 [len(rows), D] the raw features of the items ``rows``."""
        out = torch.empty(len(rows), self.width)
        for part, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            here = ((rows >= start) & (rows < start + size)).nonzero()[:, 0]
            if len(here):
                out[here] = gather(self.features(part), rows[here] - start).float()
        return out


def is_parts(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def read_parts(folder: Path) -> Parts:
    """Raises CondsimError, naming the file and the fault, for a folder that does not hold what its manifest says."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema"] != _SCHEMA:
            raise CondsimError(f"{path}: schema {manifest['schema']!r}, expected {_SCHEMA}; {_HOW}")
        files = tuple(str(part["file"]) for part in manifest["parts"])
        sizes = tuple(int(part["rows"]) for part in manifest["parts"])
        zero = tuple(int(row) for row in manifest.get("zero", ()))
        if zero and not 0 <= min(zero) <= max(zero) < sum(sizes):
            raise ValueError(f"zero: a row is not among the {sum(sizes):,} rows")
        parts = Parts(folder, files, sizes, int(manifest["width"]), zero)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CondsimError(f"{path}: not the manifest of a gallery in parts ({error!r}); {_HOW}") from None
    for i, (file, size) in enumerate(zip(files, sizes, strict=True)):
        if (size % GRAIN and i < len(sizes) - 1) or size < 1:
            raise CondsimError(
                f"{path}: {file} has {size} rows. All parts but the last need a multiple of {GRAIN}; {_HOW}"
            )
        try:
            features = parts.features(i)
        except (OSError, ValueError, EOFError) as error:
            raise CondsimError(f"{folder / file}: cannot be read as features: {error}") from None
        kind = str(features.dtype).removeprefix("torch.")
        if tuple(features.shape) != (size, parts.width) or kind not in TYPES:
            raise CondsimError(
                f"{folder / file}: {kind} of shape {tuple(features.shape)}, expected {' or '.join(TYPES)} of shape "
                f"{(size, parts.width)}, as {MANIFEST} says"
            )
    if not sizes:
        raise CondsimError(f"{path}: the gallery has no parts; {_HOW}")
    try:
        names = len(parts.names)
    except (OSError, ValueError, KeyError) as error:
        raise CondsimError(f"{folder / NAMES}: cannot be read as names: {error}") from None
    if names != len(parts):
        raise CondsimError(f"{folder}: {len(parts):,} rows of features, but {names:,} names in {NAMES}")
    return parts


def write_parts(
    folder: str | Path,
    blocks: Iterable[tuple[Sequence[str], ArrayLike]],
    *,
    dtype: str = "float16",
    rows_per_part: int = _ROWS_PER_PART,
) -> Parts:
    """Write a gallery in parts: ``blocks`` of names and raw features [n, D], in order, of any number of items each.

    Only one block is in memory at a time. The folder appears when it is complete.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as scratch:
    ...     blocks = [(["a", "b"], [[1.0, 0.0], [0.0, 1.0]]), (["c"], [[1.0, 1.0]])]
    ...     parts = write_parts(Path(scratch) / "gallery", blocks)
    ...     len(parts), parts.width, parts.names[2]
    (3, 2, 'c')

    Raises CondsimError, naming the row, for features that are not finite in ``dtype`` or do not fit their names, and
    where the folder exists.
    """
    folder = Path(folder).expanduser()
    if dtype not in TYPES:
        raise CondsimError(f"dtype={dtype}: expected {' or '.join(TYPES)}")
    if rows_per_part < 1 or rows_per_part % GRAIN:
        raise CondsimError(f"rows_per_part={rows_per_part}: expected a multiple of {GRAIN}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CondsimError(f"{folder}: there is something already; choose another folder, or remove it")
    with atomic_folder(folder) as scratch:
        names = NameWriter(scratch / NAMES)
        try:
            sizes, width, zero = _write_features(scratch, blocks, names, np.dtype(dtype), rows_per_part)
        finally:
            names.close()
        if not sizes:
            raise CondsimError(f"{folder}: there is nothing to write, the blocks have no row")
        manifest = {
            "schema": _SCHEMA,
            "rows": sum(sizes),
            "width": width,
            "dtype": dtype,
            "parts": [{"file": _file(i), "rows": size} for i, size in enumerate(sizes)],
        } | ({"zero": zero} if zero else {})
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return read_parts(folder)


def _write_features(
    folder: Path,
    blocks: Iterable[tuple[Sequence[str], ArrayLike]],
    names: NameWriter,
    dtype: np.dtype[Any],
    rows_per_part: int,
) -> tuple[list[int], int, list[int]]:
    """The number of rows of each part, the width, and the rows that are all zeros."""
    sizes: list[int] = []
    zero: list[int] = []
    width = row = 0
    for block_names, values in blocks:
        given = np.asarray(values)
        if given.ndim != 2 or len(given) != len(block_names) or (row and given.shape[1] != width):
            expected = f"[{len(block_names)}, {width or 'D'}]"
            raise CondsimError(
                f"the block from row {row} on: features of shape {list(given.shape)}, expected {expected}"
            )
        width = given.shape[1]
        with np.errstate(over="ignore"):
            features = np.ascontiguousarray(given, dtype=dtype)
        if not (finite := np.isfinite(features).all(axis=1)).all():
            bad = int(np.flatnonzero(~finite)[0])
            raise CondsimError(
                f"row {row + bad} ({block_names[bad]}): its features contain NaN, infinity or a number beyond {dtype}"
            )
        starts_with_zero = np.flatnonzero((features[:, :1] == 0).all(axis=1))
        zero += (row + starts_with_zero[~features[starts_with_zero].any(axis=1)]).tolist()
        names.write(block_names)
        done = 0
        while done < len(features):
            if not sizes or sizes[-1] == rows_per_part:
                (folder / _file(len(sizes))).write_bytes(bytes(_HEADER))
                sizes.append(0)
            piece = features[done : done + rows_per_part - sizes[-1]]
            with (folder / _file(len(sizes) - 1)).open("ab") as file:
                piece.tofile(file)
            sizes[-1] += len(piece)
            done += len(piece)
        row += len(features)
    for i, size in enumerate(sizes):
        with (folder / _file(i)).open("r+b") as file:
            file.write(_header(dtype, (size, width)))
    return sizes, width, zero


def _file(part: int) -> str:
    return f"part-{part:05d}.npy"


def _header(dtype: np.dtype[Any], shape: tuple[int, int]) -> bytes:
    """The header of an .npy file (version 1.0), ``_HEADER`` bytes for every shape: the rows are known at the end."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    length = _HEADER - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode("ascii") + b"\n"
