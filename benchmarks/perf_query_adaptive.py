"""Exact factored scores of query-adaptive transforms against scores by the transforms in full."""

from __future__ import annotations

import torch
from measuring import Row, gain, in_turn, scaled
from torch import Tensor

from condsim.harness.memory import all_freed_memory_kept
from condsim.harness.one_vector import unit
from condsim.methods.shared.low_rank import Factors, Transforms

ITEMS, WIDTH, RANK, QUERIES = scaled(100_000, 10_000), 512, 64, 4


def dense(transforms: Transforms, items: Tensor) -> Tensor:
    """T is formed for each query and applied to every item."""
    scores = []
    for query, transform in zip(unit(transforms.query), transforms.dense(), strict=True):
        moved = items @ transform.T
        scores.append((moved @ query) / moved.norm(dim=1))
    return torch.stack(scores)


def factored(transforms: Transforms, items: Tensor) -> Tensor:
    return Factors.of(transforms).cosines(items)


def measure() -> list[Row]:
    torch.manual_seed(0)
    items = unit(torch.randn(ITEMS, WIDTH))
    u, v = (torch.randn(QUERIES, WIDTH, RANK) for _ in range(2))
    u, v = (x / x.norm(dim=(1, 2), keepdim=True) for x in (u, v))
    query = torch.randn(QUERIES, WIDTH)
    rows = []
    for form, anchor, scale in (("T = U V^T (paper)", 0.0, 1.0), ("T = I + 0.8 U V^T (code)", 1.0, 0.8)):
        transforms = Transforms(query, u, v, anchor, scale)
        error = float((factored(transforms, items) - dense(transforms, items)).abs().max())
        with all_freed_memory_kept():  # as in a ranking
            times = in_turn(lambda t=transforms: factored(t, items), lambda t=transforms: dense(t, items))
        what = f"query-adaptive, {form}: {QUERIES} queries, N = {ITEMS:,}, D = {WIDTH}, r = {RANK}, factored"
        against = f"T computed in full and applied (largest difference {error:.0e}), {torch.get_num_threads()} threads"
        rows.append(gain(what, against, *times, 5))
    return rows
