"""Validation while training: the present network ranks a task, through the same engine as a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condsim.harness.condition_features import condition_features
from condsim.harness.errors import NotApplicable
from condsim.harness.method import TrainFeatures
from condsim.harness.ranking.engine import rank_task
from condsim.harness.ranking.gallery import make_gallery
from condsim.harness.ranking.metrics import per_query
from condsim.harness.task import ImageTable, Task
from condsim.methods.training.method import EncodeWords, TrainedMethod

EncodeImages = Callable[[ImageTable], Tensor]
EncodeTexts = Callable[[Sequence[str]], Tensor]
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Validation:
    """A task, one of its metrics, and how much it counts."""

    task: Task
    metric: str
    weight: float = 1.0


def validate(
    method: TrainedMethod,
    network: nn.Module,
    validations: Sequence[Validation],
    encode_images: EncodeImages,
    encode_texts: EncodeTexts,
    encode_words: EncodeWords | None = None,
) -> float:
    """The weighted mean of the metrics, in [0, 1]."""
    total = sum(validation.weight for validation in validations)
    values = (v.weight * _measure(method, network, v, encode_images, encode_texts, encode_words) for v in validations)
    return sum(values) / total


def _measure(
    method: TrainedMethod,
    network: nn.Module,
    validation: Validation,
    encode_images: EncodeImages,
    encode_texts: EncodeTexts,
    encode_words: EncodeWords | None = None,
) -> float:
    task = validation.task
    method.check(task)
    images = encode_images(task.images)
    texts = condition_features(task, encode_texts)
    gallery = make_gallery(
        task, images, texts, encode_texts, _no_train_split, encode_texts_with=encode_words and _frozen(encode_words)
    )
    ranking = rank_task(task, method.score_with(network, gallery), images, texts, pointwise=method.pointwise)
    return float(per_query(validation.metric, ranking.ranks, ranking.subset_ranks, task.clusters).mean())


def _frozen(encode: EncodeWords) -> EncodeWords:
    """Without gradients, in small batches, and no rows for no texts."""

    def frozen(texts: Sequence[str], vectors: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [
                encode(texts[start : start + _TEXTS_AT_ONCE], vectors[start : start + _TEXTS_AT_ONCE])
                for start in range(0, len(texts), _TEXTS_AT_ONCE)
            ]
        return torch.cat(parts) if parts else vectors

    return frozen


def _no_train_split() -> TrainFeatures:
    raise NotApplicable("while a method is trained it has no training split to look things up in")
