"""Cosine scores under a linear transform per query, T = a I + b U V^T, from its factors: T is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from condsim.harness.one_vector import taken, unit
from condsim.harness.process.tensors import Tensor

_ELEMENTS_AT_ONCE = 1 << 22
"""Elements (16 MiB of float32) of a block of gathered candidates."""
_PROJECTED_AT_ONCE = 1 << 19
"""Elements (2 MiB) of a block of projections: it is still in the processor's cache when it is squared and summed."""
_ON_GPU = 1 << 26
"""Both of these on a GPU, which needs large products to be busy (256 MiB)."""
_QUERIES_TOGETHER = 8
"""Queries that share a block of projections, so that it is many items long and wide enough for a quick product."""


@dataclass(frozen=True)
class Transforms:
    """B queries, each with its own transform of the items: T_i = anchor I + scale U_i V_i^T."""

    query: Tensor
    """[B, D] q', of any length."""
    u: Tensor
    """[B, D, r]"""
    v: Tensor
    """[B, D, r]"""
    anchor: float
    scale: float

    def dense(self) -> Tensor:
        """[B, D, D] the transforms themselves, for tests and inspection."""
        eye = torch.eye(self.u.shape[1], dtype=self.u.dtype, device=self.u.device)
        return self.anchor * eye + self.scale * self.u @ self.v.mT


@dataclass(frozen=True)
class Factors:
    """The parts of ``Transforms`` that scores depend on.

    q'.T d = pull.d and ||T d||^2 = a^2 ||d||^2 + sum over r of (left^T d) (right^T d).

    With G = U^T U: pull = a q' + b V U^T q', left = V, right = 2ab U + b^2 V G. Without an anchor U = QR gives
    ||U z|| = ||R z||, so left = right = b V R^T and one product does for both.
    """

    pull: Tensor
    """[B, D], scaled by 1 / ||q'||."""
    sides: tuple[Tensor, ...]
    """left and right, [B, D, r] each; once where they are the same."""
    anchor: float

    @classmethod
    def of(cls, transforms: Transforms) -> Factors:
        a, b, u, v = transforms.anchor, transforms.scale, transforms.u, transforms.v
        query = unit(transforms.query)
        pull = a * query + b * (v @ (u.mT @ query[:, :, None]))[:, :, 0]
        if a == 0:
            triangle = torch.linalg.qr(u, mode="r").R
            return cls(pull, (b * v @ triangle.mT,), a)
        return cls(pull, (v, 2 * a * b * u + b * b * v @ (u.mT @ u)), a)

    def cosines(self, items: Tensor, rows: Tensor | None = None) -> Tensor:
        """cos(q'_i, T_i d_j) for the unit ``items`` [N, D], ``rows`` as in ``harness.method.Scorer``.

        Differentiable, exact, in O(D r) per score, and never a [B, N, D] or [D, D] array. An item that T takes to zero
        scores 0.
        """
        if rows is not None and rows.ndim == 2:
            return _lists(self, items, rows)
        return _shared(self, items if rows is None else taken(items, rows))


def _shared(factors: Factors, items: Tensor) -> Tensor:
    """[B, N]"""
    anchor = factors.anchor**2
    lengths = torch.linalg.vector_norm(items, dim=1).square() if anchor else None
    size, rank = len(factors.pull), factors.sides[0].shape[2]
    projected = _PROJECTED_AT_ONCE if items.device.type == "cpu" else _ON_GPU
    columns = max(1, min(len(items), projected // (rank * min(max(1, size), _QUERIES_TOGETHER))))
    together = max(1, projected // (rank * columns))
    blocks = []
    for start in range(0, size, together):
        which = slice(start, start + together)
        parts = [part[which].mT.reshape(-1, items.shape[1]) for part in factors.sides] + [factors.pull[which]]
        directions, heights = torch.cat(parts), [len(part) for part in parts]
        row = []
        for first in range(0, len(items), columns):
            *sides, numerator = torch.split(directions @ items[first : first + columns].T, heights)
            squared = (sides[0] * sides[-1]).view(len(numerator), rank, -1).sum(dim=1)
            if lengths is not None:
                squared = squared + anchor * lengths[first : first + columns]
            row.append(_cosine(numerator, squared))
        blocks.append(torch.cat(row, dim=1))
    return torch.cat(blocks) if blocks else items.new_zeros((0, len(items)))


def _lists(factors: Factors, items: Tensor, rows: Tensor) -> Tensor:
    """[B, C]"""
    elements = _ELEMENTS_AT_ONCE if items.device.type == "cpu" else _ON_GPU
    together = max(1, elements // max(1, rows.shape[1] * items.shape[1]))
    blocks = []
    for start in range(0, len(rows), together):
        which = slice(start, start + together)
        some = items[rows[which].clamp(min=0)]
        sides = [some @ side[which] for side in factors.sides]
        squared = (sides[0] * sides[-1]).sum(dim=2) + factors.anchor**2 * some.square().sum(dim=2)
        blocks.append(_cosine((some @ factors.pull[which, :, None])[:, :, 0], squared))
    return torch.cat(blocks) if blocks else items.new_zeros(rows.shape)


def _cosine(numerator: Tensor, squared: Tensor) -> Tensor:
    # Rounding leaves up to about 1e-7 where T d = 0, and dividing by its root would turn rounding into a score.
    sized = squared > 1e-6
    return torch.where(sized, numerator * torch.where(sized, squared, torch.ones_like(squared)).rsqrt(), 0.0)
