"""Words as integer codes, the rows with each code, and what queries have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from condsim.harness.task import Labels, Ragged, Rows


def word_codes(words: Iterable[str]) -> tuple[tuple[str, ...], Rows]:
    """The distinct words, sorted, and the index of each word among them."""
    words = list(words)
    names = tuple(sorted(set(words)))
    numbers = {word: number for number, word in enumerate(names)}
    return names, np.array([numbers[word] for word in words], dtype=np.int64)


def composed(texts: Iterable[str], reference: Iterable[int]) -> dict[str, Any]:
    """The fields of a ``Task`` whose queries are a text and a reference each: those of one reference are a cluster."""
    words, condition = word_codes(texts)
    rows = np.array(list(reference), dtype=np.int64)
    conditions = tuple((text,) for text in words)
    return {
        "conditions": conditions, "condition": condition, "reference": rows, "clusters": rows,
        "cluster_name": "reference",
    }  # fmt: skip


def rows_by_code(codes: Rows, count: int) -> Ragged:
    """``count`` lists: the rows with each code, in order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))]).astype(np.int64)
    return Ragged(offsets, np.argsort(codes, kind="stable").astype(np.int64))


def label_lists(of_query: Sequence[Iterable[str]]) -> Labels:
    """The labels of each query as ``Labels``: the names sorted, a repeated label of a query once."""
    names = sorted({name for own in of_query for name in own})
    code = {name: i for i, name in enumerate(names)}
    return Labels(tuple(names), Ragged.of(sorted({code[name] for name in own}) for own in of_query))
