"""A mapped matrix gives the numbers of its file, whatever memory is freed meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from condsim.harness.files.memory_map import free_pages, gather, is_mapped, map_npy


def test_rows_of_a_mapped_matrix_are_those_of_the_file(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", stored)
    matrix = map_npy(tmp_path / "features.npy")
    rows = torch.from_numpy(np.random.default_rng(1).integers(300, size=170))
    for source in (matrix, torch.from_numpy(stored)):
        assert np.array_equal(gather(source, rows).numpy(), stored[rows.numpy()])
        free_pages(source)
        assert np.array_equal(source.numpy(), stored)


def test_views_are_mapped_and_copies_are_not(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.ones((4, 2), dtype=np.float32))
    matrix = map_npy(tmp_path / "features.npy")
    assert is_mapped(matrix)
    assert is_mapped(matrix[:2])
    assert not is_mapped(matrix.clone())
    assert not is_mapped(gather(matrix, torch.tensor([0, 3])))
