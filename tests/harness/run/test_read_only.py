"""Writes into features are noticed, whoever makes them."""

from __future__ import annotations

import pytest
import torch

from condsim.harness.run.read_only import Watch


@pytest.mark.parametrize("where", [(1, slice(None)), (slice(None), 400)], ids=["one row", "one column"])
def test_a_write_by_numpy_into_a_row_or_a_column_of_a_large_tensor_is_noticed(where: tuple[int | slice, ...]) -> None:
    features = torch.randn(5_000, 512, generator=torch.Generator().manual_seed(0))
    watch = Watch()
    watch.add("gallery.features", features)
    assert watch.changed() is None
    features.numpy()[where] = 0
    assert watch.changed() == "gallery.features"
