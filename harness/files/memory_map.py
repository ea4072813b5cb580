"""Matrices in memory-mapped files: they may be larger than memory and are read directly from the file."""

from __future__ import annotations

import mmap
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch

from condsim.harness.process.tensors import Tensor

_ROWS_AT_ONCE = 64

_maps: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""First address of a matrix -> its map, while it is open."""


def map_npy(path: Path) -> Tensor:
    """The array of an .npy file, memory-mapped. For reading only: the map is private, and writes may be lost."""
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    matrix = torch.from_numpy(array)
    _maps[matrix.untyped_storage().data_ptr()] = array._mmap
    return matrix


def is_mapped(matrix: Tensor) -> bool:
    """Whether ``matrix`` is one of ``map_npy``, or a view of one."""
    return matrix.device.type == "cpu" and matrix.untyped_storage().data_ptr() in _maps


def gather(matrix: Tensor, rows: Tensor) -> Tensor:
    """``matrix[rows]`` for ``rows`` [C]. A mapped matrix is read a few rows at a time: reading a row may load megabytes
    around it."""
    if not is_mapped(matrix):
        return matrix.index_select(0, rows)
    out = matrix.new_empty(len(rows), *matrix.shape[1:])
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        torch.index_select(matrix, 0, rows[part], out=out[part])
        free_pages(matrix)
    return out


def free_pages(matrix: Tensor) -> None:
    """Free the memory that reading a mapped matrix took; the next read comes from the system's file cache.

    Does nothing if the matrix is not mapped or the system has no ``madvise``.
    """
    mapped = _maps.get(matrix.untyped_storage().data_ptr())
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
