"""What the C library does with memory that is let go."""

from __future__ import annotations

import ctypes
from functools import cache

LARGEST_KEPT = 32 << 20
"""Bytes: glibc keeps no block above this, whatever it is told."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names, from glibc's malloc.h
_KEPT = 256 << 20


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB that were let go, for blocks of up to ``LARGEST_KEPT``; elsewhere nothing happens.

    Else it hands a batch's scores, or a layer's activations, back to the system, which clears their pages for the next
    batch one by one: a tenth of the time of a product. Concerns the whole process, and is done once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(_TRIM_THRESHOLD, _KEPT)
