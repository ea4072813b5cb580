"""Semi-positives (QuARI): images near a target are targets with a smaller weight: they often show the same thing."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from condsim.harness.one_vector import unit
from condsim.harness.process.tensors import Tensor
from condsim.methods.shared.nearest import nearest

POOL = 100
"""Nearest images over whose similarities the weights are a softmax."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest other images of each of M images, the nearest first, and their weights as targets."""

    rows: Tensor
    """int64 [M, k]"""
    weights: Tensor
    """[M, k]"""


def nearest_images(images: Tensor, count: int) -> Neighbours:
    """The ``count`` nearest of ``images`` [M, D] for each of them, weighted by the softmax over the nearest 100.

    Similarities are cosines, at temperature 1 (ours: no source states one).
    """
    items = unit(images)
    own = torch.arange(len(items), device=items.device)
    values, rows = nearest(items, items, min(POOL, len(items) - 1), hidden=own)
    return Neighbours(rows[:, :count], values.softmax(dim=1)[:, :count])


def with_semi_positives(
    target: Tensor, target_row: Tensor, images: Tensor, neighbours: Neighbours | None
) -> tuple[Tensor, Tensor]:
    """(columns [M, D], weights [B, M]): the distinct target images of a batch, and the weight of each for each query.

    ``target`` [B, D] are the targets' raw features and ``target_row`` [B] their rows of ``images`` (not read without
    ``neighbours``). The weight of a query's own target is 1, and of its neighbours theirs; an image that several
    queries seek is one column.
    """
    wanted = target_row[:, None]
    amounts = torch.ones_like(wanted, dtype=target.dtype)
    if neighbours is not None:
        wanted = torch.cat([wanted, neighbours.rows[target_row]], dim=1)
        amounts = torch.cat([amounts, neighbours.weights[target_row].to(target)], dim=1)
    distinct, column = torch.unique(wanted, return_inverse=True)
    weights = target.new_zeros(len(target), len(distinct)).scatter_add(1, column, amounts)
    columns = target.new_zeros(len(distinct), target.shape[1]) if neighbours is None else images[distinct]
    return columns.index_copy(0, column[:, 0], target), weights
