"""Millions of names without a Python object for each: one Arrow column, in memory or in a mapped file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # half a second to import, and only large galleries need it
    import pyarrow as pa

_AT_ONCE = 1 << 16
"""Names that are Python strings at the same time."""
_COLUMN = "name"


class NameList(Sequence[str]):
    """Names in order. A name takes about as many bytes as it has letters, and 8 more.

    >>> names = NameList.of(["a.jpg", "b.jpg", "c.jpg"])
    >>> names[1], len(names[1:]), names == NameList.of(iter(names))
    ('b.jpg', 2, True)
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        """``column``: of Arrow's type large_string, without nulls."""
        self._column = column
        self._batches: list[Any] = column.chunks
        self._offsets = np.cumsum([0, *map(len, self._batches)])

    @classmethod
    def of(cls, names: Iterable[str]) -> NameList:
        import pyarrow as pa

        left = iter(names)
        batches = []
        while batch := list(islice(left, _AT_ONCE)):
            batches.append(pa.array(batch, pa.large_string()))
        return cls(pa.chunked_array(batches, pa.large_string()))

    @classmethod
    def read(cls, path: Path) -> NameList:
        """The names in a file of ``NameWriter``, which stays on disk and is read where it is used.

        Raises OSError and pyarrow's errors (ValueError) where it is not such a file.
        """
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return cls(table.column(_COLUMN))

    @classmethod
    def split(cls, data: bytes) -> NameList:
        """The names that ``joined`` wrote."""
        return cls.of(_between(data, b"\0"))

    def joined(self) -> bytes:
        """All names in UTF-8, each with a zero byte after it."""
        return b"".join(f"{name}\0".encode() for name in self)

    def __add__(self, others: Iterable[str]) -> NameList:
        import pyarrow as pa

        return NameList(pa.chunked_array([*self._batches, *NameList.of(others)._batches], pa.large_string()))

    def __len__(self) -> int:
        return int(self._offsets[-1])

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> NameList: ...
    def __getitem__(self, place: int | slice) -> str | NameList:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            return NameList(self._column.slice(start, max(0, stop - start)))
        index = int(place) + (len(self) if place < 0 else 0)
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} names, and none at {place}")
        batch = int(np.searchsorted(self._offsets, index, side="right")) - 1
        name: str = self._batches[batch][index - int(self._offsets[batch])].as_py()
        return name

    def __iter__(self) -> Iterator[str]:
        for batch in self._batches:
            for start in range(0, len(batch), _AT_ONCE):
                yield from batch.slice(start, _AT_ONCE).to_pylist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NameList):
            return NotImplemented
        equal: bool = self._column.equals(other._column)
        return equal

    def __hash__(self) -> int:
        return hash((len(self), *(self[place] for place in (0, -1) if len(self))))

    def __repr__(self) -> str:
        return f"NameList({len(self):,} names)"

    def __reduce__(self) -> tuple[Any, ...]:
        return NameList, (self._column,)

    def take(self, rows: NDArray[np.int64]) -> NameList:
        import pyarrow as pa

        return NameList(self._column.take(pa.array(rows)))

    def repeated(self) -> str | None:
        """The first name that is in the list more than once; None if there is none."""
        hashes = np.fromiter(map(hash, self), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        alike = np.flatnonzero(np.diff(hashes[order]) == 0)  # different names with one hash are rare
        pairs = sorted(zip(order[alike].tolist(), order[alike + 1].tolist(), strict=True))
        return next((self[first] for first, second in pairs if self[first] == self[second]), None)

    def places(self, wanted: Iterable[str]) -> dict[str, int]:
        """The first place of each of the ``wanted`` names that is in the list, found in one pass."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pa.array(list(dict.fromkeys(wanted)), pa.large_string())
        found: dict[str, int] = {}
        for batch, first in zip(self._batches, self._offsets.tolist(), strict=False):
            for start in range(0, len(batch), _AT_ONCE):
                part = batch.slice(start, _AT_ONCE)
                for place in np.flatnonzero(pc.is_in(part, value_set=known).to_numpy(zero_copy_only=False)).tolist():
                    found.setdefault(part[place].as_py(), first + start + place)
        return found


def same_names(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether both have the same names in the same order."""
    if isinstance(names, NameList) and isinstance(others, NameList):
        return names == others
    return len(names) == len(others) and all(name == other for name, other in zip(names, others, strict=True))


def _between(data: bytes, mark: bytes) -> Iterator[str]:
    """The texts that end with ``mark``."""
    start = 0
    while (end := data.find(mark, start)) >= 0:
        yield data[start:end].decode()
        start = end + len(mark)


class NameWriter:
    """Writes names, a batch at a time, to an Arrow file that ``NameList.read`` maps."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._schema = pa.schema([(_COLUMN, pa.large_string())])
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)

    def write(self, names: Sequence[str]) -> None:
        import pyarrow as pa

        self._writer.write_batch(pa.record_batch([pa.array(names, pa.large_string())], schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        self._file.close()
