"""Matrices in files that are mapped into memory: larger than memory, read where they lie."""

from __future__ import annotations

import mmap
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

_ROWS_AT_ONCE = 64

_maps: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""First address of a matrix -> its map, for as long as it is open."""


def map_npy(path: Path) -> Tensor:
    """The array of an .npy file, mapped. It is for reading only: what is written to it is lost or is not, by chance."""
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    matrix = torch.from_numpy(array)
    _maps[matrix.untyped_storage().data_ptr()] = array._mmap
    return matrix


def is_mapped(matrix: Tensor) -> bool:
    """Whether this is a matrix of ``map_npy``, or a view of one."""
    return matrix.device.type == "cpu" and matrix.untyped_storage().data_ptr() in _maps


def gather(matrix: Tensor, rows: Tensor) -> Tensor:
    """``matrix[rows]`` for ``rows`` [C]. Of a mapped matrix only a few rows at a time: a row that is read may bring the
    megabytes around it into memory."""
    if not is_mapped(matrix):
        return matrix.index_select(0, rows)
    out = matrix.new_empty(len(rows), *matrix.shape[1:])
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        here = slice(start, start + _ROWS_AT_ONCE)
        torch.index_select(matrix, 0, rows[here], out=out[here])
        let_go(matrix)
    return out


def let_go(matrix: Tensor) -> None:
    """Give the memory back that reading a mapped matrix took; what is read again comes from the system's file cache.

    Does nothing to a matrix that is not mapped, nor where the system cannot be told.
    """
    held = _maps.get(matrix.untyped_storage().data_ptr())
    if held is not None and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)
