"""Encoding a table of images in segments, on the workers of an engine, into one feature store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from condsim.harness.engine.engine import Engine, Lost
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.cache.store import FeatureStore, ImageKeys, describe_images
from condsim.harness.features.cache.table import FeatureTable, one_of_many, segment_name
from condsim.harness.task import ImageTable
from condsim.harness.terminal.progress import track

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT = 4096
"""Images per segment, at most: some seconds of a GPU, against the milliseconds that it takes to send a segment."""
_SEGMENTS_PER_WORKER = 4


@runtime_checkable
class StoresImages(Protocol):
    """A backbone whose image features are in a feature store; one without it is encoded in one process."""

    name: str

    @property
    def store(self) -> FeatureStore: ...

    @property
    def rows_at_once(self) -> int:
        """Images go through the model in batches of this number, or of a divisor. Parts are multiples of it, so that
        every batch has the same shape as in one process, and every feature the same bits."""
        ...

    def stored_images(self, table: ImageTable) -> tuple[FeatureTable, ImageKeys]:
        """Where the features of ``table`` are stored, and their keys. Raises BackboneError, and UnusableRowsError for
        files that are missing."""
        ...

    def encode_images(self, table: ImageTable) -> Tensor: ...


@dataclass(frozen=True)
class SegmentImages:
    """The images of one segment, which one worker encodes."""

    table: ImageTable
    digests: list[bytes]
    """Of each row's file."""
    rows: NDArray[np.int64]
    """Where they are in the whole table."""


@dataclass(frozen=True)
class EncodedSegment:
    """What a worker says of its segment. The features are in the store."""

    name: str
    """Its file name; "" where no image could be read."""
    owner: str
    """Which backbone and kind of input the segment belongs to."""
    faults: Mapping[int, str]
    """Row of the segment -> why it cannot be encoded."""
    skippable: bool


def encode_in_segments(
    engine: Engine, make: Callable[[], StoresImages], backbone: StoresImages, table: ImageTable, most: int = SEGMENT
) -> int:
    """Encode the images that the store lacks; the number that was missing.

    ``make`` gives each worker its own ``backbone``. Raises UnusableRowsError after all other images are encoded and
    stored. A killed worker loses one segment, and so does a killed driver per worker: the same command continues.
    """
    features, content = backbone.stored_images(table)
    faults: dict[int, str] = {}
    skippable = True
    with features.encoded_elsewhere(content.keys) as missing:
        if not len(missing):
            return 0
        segments = _segments(
            table, content, missing, segment_size(len(missing), engine.workers, backbone.rows_at_once, most)
        )
        with track(len(missing), f"{backbone.name}: encoding images") as advance:
            for segment, encoded in engine.work(partial(_start, make), segments):
                if isinstance(encoded, Lost):
                    faults |= dict.fromkeys(
                        segment.rows.tolist(), f"the workers that encoded it died: {encoded.reason}"
                    )
                    skippable = False
                elif encoded.name and encoded.owner != features.owner:
                    raise CondsimError(
                        f"a worker encodes with another {backbone.name}, so its features would not be those of this "
                        "one: give all machines the same weights and the same version of condsim"
                    )
                else:
                    if encoded.name:
                        features.announce(encoded.name)
                    faults |= {int(segment.rows[row]): fault for row, fault in encoded.faults.items()}
                    skippable &= encoded.skippable
                advance(len(segment.rows))
    if faults:
        by_key = {content.keys[row]: fault for row, fault in faults.items()}
        every = {row: by_key[key] for row, key in enumerate(content.keys) if key in by_key}
        kept = f"the other {len(missing) - len(faults)} are encoded and stored." if len(missing) > len(faults) else ""
        raise UnusableRowsError(len(table), every, describe_images(table), kept, skippable)
    return len(missing)


def segment_size(missing: int, workers: int, rows_at_once: int, most: int = SEGMENT) -> int:
    """Images per segment: a multiple of ``rows_at_once``, at most ``most``, and several segments per worker."""
    even = -(-missing // (workers * _SEGMENTS_PER_WORKER))
    return max(1, min(most, even + rows_at_once - 1) // rows_at_once) * rows_at_once


def _segments(table: ImageTable, content: ImageKeys, rows: NDArray[np.int64], size: int) -> Iterator[SegmentImages]:
    for start in range(0, len(rows), size):
        here = rows[start : start + size]
        taken = table.take(here)
        files = {name: table.files[name] for name in taken.names if name in table.files}
        yield SegmentImages(replace(taken, files=files), [content.digests[row] for row in here], here)


def _start(make: Callable[[], StoresImages]) -> Callable[[SegmentImages], EncodedSegment]:
    return partial(_encode, make())


def _encode(backbone: StoresImages, segment: SegmentImages) -> EncodedSegment:
    """Encode the images of a segment and store it."""
    faults: dict[int, str] = {}
    rows = np.arange(len(segment.table))
    with one_of_many():
        while len(rows):
            table = segment.table.take(rows)
            try:
                backbone.store.trust(table, [segment.digests[row] for row in rows])
                features, content = backbone.stored_images(table)
            except UnusableRowsError as error:  # files that this machine does not see
                faults |= {int(rows[row]): fault for row, fault in error.faults.items()}
                rows = np.delete(rows, list(error.faults))
                continue
            skippable = True
            try:
                backbone.encode_images(table)
            except UnusableRowsError as error:
                faults |= {int(rows[row]): fault for row, fault in error.faults.items()}
                skippable = error.skippable
            return EncodedSegment(segment_name(content.keys), features.owner, faults, skippable)
    return EncodedSegment("", "", faults, skippable=True)
