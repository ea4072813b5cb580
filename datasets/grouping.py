"""Words as integer codes, and the rows with each code."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from condsim.harness.task import Ragged, Rows


def word_codes(words: Iterable[str]) -> tuple[tuple[str, ...], Rows]:
    """The distinct words, sorted, and the index of each word among them."""
    words = list(words)
    names = tuple(sorted(set(words)))
    numbers = {word: number for number, word in enumerate(names)}
    return names, np.array([numbers[word] for word in words], dtype=np.int64)


def rows_by_code(codes: Rows, count: int) -> Ragged:
    """``count`` lists: the rows with each code, in order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))]).astype(np.int64)
    return Ragged(offsets, np.argsort(codes, kind="stable").astype(np.int64))
