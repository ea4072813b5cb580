"""What the C library does with memory that is let go."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_LARGEST_KEPT = 32 << 20
"""Bytes: glibc keeps no block above this, but where it is told to map none at all."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt's names, from glibc's malloc.h
_BLOCKS_MAPPED = 1 << 16  # glibc's default
_KEPT, _ALL = 256 << 20, (1 << 31) - 1


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB that were let go, for blocks of up to 32 MiB; elsewhere nothing happens.

    Else it hands a batch's scores, or a layer's activations, back to the system, which clears their pages for the next
    batch one by one: a tenth of the time of a product. Concerns the whole process, and is done once.
    """
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)


@contextmanager
def all_freed_memory_kept() -> Iterator[None]:
    """While it lasts, the same for blocks of any size, and all of what is let go."""
    keep_freed_memory()
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _ALL)
    try:
        yield
    finally:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_MAX, _BLOCKS_MAPPED)


def _mallopt() -> Any:
    """The C library's function; None where it has none."""
    try:
        return ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return None
