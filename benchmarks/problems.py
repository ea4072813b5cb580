"""Problems of the real benchmarks' sizes with random content, and stand-ins that need no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from condsim.harness.method import Gallery, Queries
from condsim.harness.task import ImageTable, Ragged, Task

MIT_STATES = (82_732, 10_546, 640)
"""Queries, images, width."""


def images(n: int) -> ImageTable:
    return ImageTable(Path(), tuple(str(i) for i in range(n)))


class Cosine:
    """The cheapest composed query, so that most of the time is ranking."""

    def __init__(self, gallery: Tensor) -> None:
        self.gallery = normalize(gallery, dim=1)

    def __call__(self, queries: Queries, rows: Tensor | None = None) -> Tensor:
        query = normalize(queries.reference + queries.text, dim=1)
        if rows is None:
            return query @ self.gallery.T
        if rows.ndim == 2:
            return torch.bmm(self.gallery[rows.clamp(min=0)], query.unsqueeze(2)).squeeze(2)
        return query @ self.gallery[rows].T


@dataclass
class Held:
    """A backbone whose features are in memory: image features by width of the table, random text features."""

    features: dict[int, Tensor]
    width: int
    name: str = "held"
    identity: dict[str, str] = field(default_factory=lambda: {"model": "held"})
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def encode_images(self, table: ImageTable) -> Tensor:
        return self.features[len(table)]

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.randn(len(texts), self.width, generator=torch.Generator().manual_seed(len(texts)))


def mit_states(queries: int, items: int, metrics: tuple[str, ...]) -> Task:
    """25 relevant images per query, its own image excluded, 115 conditions."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, items, queries)
    block = (reference[:, None] + rng.integers(1, items - 25, (queries, 1)) + np.arange(25)) % items
    relevant = [row[row != own] for row, own in zip(block, reference, strict=True)]
    return Task(
        "mit_states",
        "size",
        images(items),
        tuple((str(i),) for i in range(115)),
        rng.integers(0, 115, queries),
        reference,
        Ragged.of(relevant),
        metrics,
        gallery=np.arange(items),
        excluded=Ragged.of(reference[:, None]),
    )


def search(names: tuple[str, ...], queries: int, condition: str = "") -> Task:
    """Queries by image against all images but their own; only the ten best are needed."""
    items = len(names)
    reference = np.random.default_rng(4).integers(0, items, queries)
    return Task(
        "search",
        "size",
        ImageTable(Path(), names),
        ((condition,),) if condition else (),
        np.full(queries, 0 if condition else -1),
        reference,
        Ragged(np.zeros(queries + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)),
        (),
        gallery=np.arange(items),
        excluded=Ragged.of(reference[:, None]),
    )


def gallery_of(features: Tensor) -> Gallery:
    """A gallery with the one condition "color"; texts are encoded at random around one direction, as CLIP's are."""
    width = features.shape[1]

    def encode_texts(texts: Sequence[str]) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return torch.randn(width, generator=generator) + torch.randn(len(texts), width, generator=generator)

    def train() -> None:
        raise AssertionError("there is no training split")

    items = len(features)
    table = ImageTable(Path(), ("",) * items)
    condition = encode_texts(["color"])
    return Gallery(features, (("color",),), condition, encode_texts, train, table, np.arange(items))  # type: ignore[arg-type]


def write_features(path: Path, items: int, width: int) -> None:
    """A float16 .npy file of ``items`` different rows, and their names beside it, without keeping it in memory."""
    block: NDArray[np.float16] = np.random.default_rng(5).normal(size=(1 << 16, width)).astype(np.float16)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(items, width))
    out.flush()
    del out
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size - items * width * 2)
        for turn, start in enumerate(range(0, items, len(block))):
            file.write(np.roll(block, turn, axis=1)[: items - start].tobytes())
    with open(path.with_suffix(".txt"), "w") as names:
        for start in range(0, items, 1 << 20):
            names.writelines(f"{i:08d}\n" for i in range(start, min(items, start + (1 << 20))))
