"""Training data for the loop: one numbering over all sources, batches that depend on seed and step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError
from condsim.harness.task import Ragged, Rows, Task
from condsim.harness.triplets import Triplets
from condsim.methods.training.method import Batch


@dataclass(frozen=True)
class Joined:
    """Several sources as one: their images and texts one after another, and T triplets that point into them."""

    sources: tuple[Triplets, ...]
    reference: Rows
    text: Rows
    target: Rows

    @classmethod
    def of(cls, sources: Sequence[Triplets]) -> Joined:
        if not sources:
            raise CondsimError("no source of triplets to train on: choose one, as in triplets=cirr")
        columns: dict[str, list[Rows]] = {"reference": [], "text": [], "target": []}
        images = texts = 0
        for source in sources:
            for label, offset in (("reference", images), ("text", texts), ("target", images)):
                rows: Rows = getattr(source, label)
                columns[label].append(np.where(rows < 0, -1, rows + offset))
            images += len(source.images)
            texts += len(source.texts)
        return cls(tuple(sources), **{label: np.concatenate(parts) for label, parts in columns.items()})

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Frozen:
    """Raw features encoded before the training: [M, D] of all images and [K, D] of all texts."""

    images: Tensor
    texts: Tensor

    def batch(self, data: Joined, which: Rows) -> Batch:
        rows = {label: torch.from_numpy(getattr(data, label)[which]) for label in ("reference", "text", "target")}
        return Batch(
            _taken(self.images, rows["reference"]),
            _taken(self.texts, rows["text"]),
            _taken(self.images, rows["target"]),
            rows["target"].to(self.images.device),
            rows["text"],
        )


def _taken(features: Tensor, rows: Tensor) -> Tensor:
    """The rows; zeros where -1."""
    rows = rows.to(features.device)
    if len(features) == 0:
        return features.new_zeros(len(rows), features.shape[1])
    return features[rows.clamp(min=0)] * (rows >= 0).to(features.dtype)[:, None]


class Batches:
    """Triplet numbers of every step: from each source its share of the batch, each triplet once per epoch.

    A step's batch depends on ``seed`` and the step's number alone, so a killed training resumes exactly.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], batch_size: int, seed: int) -> None:
        self.sizes, self.seed = tuple(sizes), seed
        self.starts = np.cumsum([0, *sizes[:-1]])
        exact = np.array(shares, dtype=np.float64) / sum(shares) * batch_size
        self.counts = np.floor(exact).astype(np.int64)
        # The largest remainders get the rest of the batch.
        self.counts[np.argsort(self.counts - exact, kind="stable")[: batch_size - self.counts.sum()]] += 1
        self._epochs: dict[int, tuple[int, Rows]] = {}

    def __call__(self, step: int) -> Rows:
        """int64 [batch_size]"""
        parts = [self._part(i, step) for i in range(len(self.sizes)) if self.counts[i]]
        return np.concatenate(parts)

    def _part(self, source: int, step: int) -> Rows:
        positions = step * self.counts[source] + np.arange(self.counts[source])
        epochs, places = np.divmod(positions, self.sizes[source])
        out = np.empty(len(positions), dtype=np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            out[inside] = self._epoch(source, int(epoch))[places[inside]]
        out += self.starts[source]
        return out

    def _epoch(self, source: int, epoch: int) -> Rows:
        if source not in self._epochs or self._epochs[source][0] != epoch:
            order = np.random.default_rng([self.seed, source, epoch]).permutation(self.sizes[source])
            self._epochs[source] = (epoch, order.astype(np.int64))
        return self._epochs[source][1]


def hold_out(source: Triplets, share: float, most: int, seed: int, metric: str) -> tuple[Triplets, Task]:
    """(the triplets to train on, a task of held-out triplets).

    A share of the target images is drawn by ``seed``; the triplets with such a target are the task (at most ``most``
    of them), and no triplet with such an image is trained on. The gallery is all held-out targets.
    """
    rng = np.random.default_rng(seed)
    targets = np.unique(source.target)
    held = rng.permutation(targets)[: max(1, round(share * len(targets)))]
    chosen = np.flatnonzero(np.isin(source.target, held))
    touched = np.isin(source.target, held) | np.isin(source.reference, held)
    if touched.all() or len(held) < 2:
        raise CondsimError(
            f"triplets {source.name}: {len(source)} triplets are too few to hold a share of {share} out for validation"
        )
    queries = np.sort(rng.permutation(chosen)[:most])
    gallery = np.unique(source.target[queries])
    reference = source.reference[queries]
    task = Task(
        benchmark="held_out",
        name=source.name,
        images=source.images,
        conditions=tuple((text,) for text in source.texts),
        condition=source.text[queries],
        reference=reference,
        relevant=Ragged.of(source.target[queries][:, None]),
        metrics=(metric,),
        gallery=gallery,
        excluded=Ragged.of(
            [row] if row in gallery and row != t else []
            for row, t in zip(reference, source.target[queries], strict=True)
        ),
    )
    return source.take(np.flatnonzero(~touched)), task
