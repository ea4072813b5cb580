"""Texts with the vectors of words in them, through the frozen text tower: what phi is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch import Tensor

from condsim.harness.trainable import Trainable, TrainableEncoder
from condsim.methods.training.method import TrainingData
from condsim.methods.training.plan import Plan


def training_data(plan: Plan, images: Tensor, keep: Path | None = None) -> TrainingData:
    """The training data of a plan, whose images have the features ``images``. The text tower is loaded on first use.

    ``keep``: as in ``TrainingData``.
    """
    texts = [text for source in plan.data.sources for text in source.texts]
    backbone = plan.backbone
    if not isinstance(backbone, Trainable):
        return TrainingData(images, texts)

    @cache
    def encoder() -> TrainableEncoder:
        return backbone.trainable().requires_grad_(False)

    def encode(marked: Sequence[str], vectors: Tensor) -> Tensor:
        return encoder().texts_with(marked, vectors).to(vectors.device)

    def plain(texts: Sequence[str]) -> Tensor:
        return backbone.encode_texts(texts).to(images.device, copy=True)

    return TrainingData(images, texts, encode, plain, keep)
