"""Make the gallery that a method is prepared with. Runs and validations during training use the same function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from condsim.harness.files.memory_map import is_mapped
from condsim.harness.method import Gallery, TrainFeatures
from condsim.harness.task import ImageTable, Rows, Task


def make_gallery(
    task: Task,
    images: Tensor | None,
    condition_features: Tensor,
    encode_texts: Callable[[Sequence[str]], Tensor],
    train: Callable[[], TrainFeatures],
    *,
    reads_mapped: bool = False,
    encode_images: Callable[[ImageTable], Tensor] | None = None,
    encode_texts_with: Callable[[Sequence[str], Tensor], Tensor] | None = None,
    encode_jointly: Callable[[Rows, Sequence[str]], Tensor] | None = None,
) -> Gallery:
    """The task's gallery of N items, from ``images`` [len(task.images), D] and ``condition_features`` [C, D].

    Its features are a view of ``images`` if the gallery is its first N rows, else a copy. ``images`` None: a gallery
    without items, whose items are in parts elsewhere.
    """
    if images is None:
        features, table, rows = condition_features[:0], ImageTable(task.images.root, ()), np.zeros(0, dtype=np.int64)
    else:
        features, table, rows = _features(images, task.gallery_rows, reads_mapped), task.images, task.gallery_rows
    return Gallery(
        features=features,
        conditions=task.conditions,
        condition_features=condition_features,
        encode_texts=encode_texts,
        train=train,
        table=table,
        rows=rows,
        texts=task.texts,
        encode_images=encode_images,
        encode_texts_with=encode_texts_with,
        encode_jointly=encode_jointly,
        query_names=task.query_names,
    )


def _features(images: Tensor, rows: Rows, reads_mapped: bool) -> Tensor:
    """The rows of ``images``. A memory-mapped file is copied for a method that does not read mapped features."""
    if np.array_equal(rows, np.arange(len(rows))) and (reads_mapped or not is_mapped(images)):
        return images[: len(rows)]
    return images.index_select(0, torch.from_numpy(rows).to(images.device)).float()
