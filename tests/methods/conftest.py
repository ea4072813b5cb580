"""Random features with the traits of a vision-language space: texts and images in two narrow cones, of any length."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condsim.harness.method import Gallery, Queries, TrainFeatures
from condsim.harness.task import Condition, ImageTable, Ragged, Rows, Task

CONDITIONS: tuple[Condition, ...] = (("color",), ("shape",), ("material",), ("color", "shape"))


@dataclass(frozen=True)
class Space:
    """Features of width ``width`` for any text and for any number of images, the same every time."""

    width: int = 24
    word_width: int = 10

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        rows = [self._near(zlib.crc32(text.encode()), cone=1) for text in texts]
        return torch.stack(rows) if rows else torch.zeros(0, self.width)

    def encode_texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        """The features of the texts, moved by their word vectors [len, word_width]."""
        assert vectors.shape == (len(texts), self.word_width)
        assert all("$" in text for text in texts)
        move = torch.randn(self.word_width, self.width, generator=torch.Generator().manual_seed(3))
        return self.encode_texts(texts) + vectors @ move

    def encode_jointly(self, rows: Rows, texts: Sequence[str]) -> Tensor:
        return torch.stack(
            [self._near(zlib.crc32(f"{row} {text}".encode()), cone=3) for row, text in zip(rows, texts, strict=True)]
        )

    def encode_images(self, n: int, seed: int = 0) -> Tensor:
        return torch.stack([self._near(1000 * seed + i, cone=2) for i in range(n)])

    def _near(self, seed: int, cone: int) -> Tensor:
        middle = torch.randn(self.width, generator=torch.Generator().manual_seed(cone))
        own = torch.Generator().manual_seed(seed + 7)
        length = 0.5 + 10 * torch.rand(1, generator=own)
        return length * (middle + torch.randn(self.width, generator=own))

    def gallery(
        self, n: int = 40, conditions: tuple[Condition, ...] = CONDITIONS, names: Sequence[str] | None = None
    ) -> Gallery:
        train = TrainFeatures(self.encode_images(30, seed=5), table(30), tuple(f"phrase {i}" for i in range(50)))
        return Gallery(
            features=self.encode_images(n),
            conditions=conditions,
            condition_features=self.encode_texts([" and ".join(condition) for condition in conditions]),
            encode_texts=self.encode_texts,
            train=lambda: train,
            table=table(n) if names is None else ImageTable(Path("images"), tuple(names)),
            rows=np.arange(n),
            encode_texts_with=self.encode_texts_with,
            encode_jointly=self.encode_jointly,
            query_names=tuple(f"toy/{i}" for i in range(n)),
        )

    def queries(self, gallery: Gallery, reference: Sequence[int], condition: Sequence[int]) -> Queries:
        """Queries whose references are gallery items (each item's row is its place)."""
        return Queries(
            gallery.features[torch.tensor(reference)],
            gallery.condition_features[torch.tensor(condition)],
            torch.tensor(condition),
            torch.tensor(reference),
            torch.arange(len(reference)),
        )


def table(n: int) -> ImageTable:
    return ImageTable(Path("images"), tuple(f"{i}.jpg" for i in range(n)))


@pytest.fixture
def space() -> Space:
    return Space()


@pytest.fixture
def make_task() -> Callable[..., Task]:
    def make(*conditions: Condition, name: str = "toy", reference: int = 0) -> Task:
        """One query a condition, on five images; the second image is relevant."""
        n = len(conditions)
        return Task(
            benchmark="bench",
            name=name,
            images=table(5),
            conditions=conditions or (("color",),),
            condition=np.arange(n) if n else np.array([-1]),
            reference=np.full(max(n, 1), reference),
            relevant=Ragged.of([[1]] * max(n, 1)),
            metrics=("recall@1",),
            gallery=np.arange(5),
        )

    return make
