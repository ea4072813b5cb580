"""Exact nearest neighbours by inner product, with bounded memory."""

from __future__ import annotations

import torch

from condsim.harness.process.tensors import Tensor

_ELEMENTS_AT_ONCE = 1 << 23
"""Similarities at a time: 32 MiB of float32."""


def nearest(queries: Tensor, items: Tensor, k: int, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inner products and rows of the ``k`` best of ``items`` [N, D] for each of ``queries`` [B, D], best first.

    Both results are [B, min(k, N)]. ``hidden``: int64 [B] a row of ``items`` that is no neighbour of the query (-1:
    none); its product is -inf where fewer than ``k`` others exist.
    """
    k = min(k, len(items))
    values = queries.new_empty(len(queries), k)
    rows = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    step = max(1, _ELEMENTS_AT_ONCE // max(1, len(items)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        products = queries[part] @ items.T
        if hidden is not None:
            owner = (hidden[part] >= 0).nonzero()[:, 0]
            products[owner, hidden[part][owner]] = -torch.inf
        values[part], rows[part] = products.topk(k, dim=1)
    return values, rows
