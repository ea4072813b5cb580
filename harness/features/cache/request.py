"""What a table of features exchanges with its callers: the rows that are requested, and the batches of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from condsim.harness.features.cache.segment import Features, Keys, Notes
from condsim.harness.files.hashing import DIGEST


@dataclass(frozen=True)
class Encoded:
    """One batch from an encoder: the encoded rows with their features [n, D], and an error message per failed row."""

    rows: NDArray[np.int64]
    features: Features
    faults: Mapping[int, str] = field(default_factory=dict)
    notes: Notes | None = None
    """[n] one byte of bits per encoded row that is stored with its features; None: all zero."""


Encode = Callable[[NDArray[np.int64]], Generator[Encoded]]
"""Rows -> their batches; each is stored before the next one is encoded."""


class Request:
    """Distinct keys, the first row of each, and their features as far as they are known."""

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
