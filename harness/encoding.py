"""Features from a backbone, checked and on its device: runs, searches and training splits get them here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from condsim.harness.backbone import Backbone, EncodesJointly, EncodesPseudoWords, ForgetsFeatures
from condsim.harness.errors import CondsimError
from condsim.harness.returned import float_rows
from condsim.harness.task import ImageTable, Rows, Task


def encode_images(backbone: Backbone, table: ImageTable) -> Tensor:
    """[len(table), D] raw features, for reading only. Raises CondsimError for anything else."""
    return _checked(backbone, "encode_images", backbone.encode_images(table), table.keys)


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """[len(texts), D] raw features of distinct texts, for reading only; no text gives no row. Raises CondsimError for
    anything else."""
    if not texts:
        return torch.zeros(0, backbone.width, device=backbone.device)
    return _checked(backbone, "encode_texts", backbone.encode_texts(texts), texts)


def pseudo_words(backbone: Backbone) -> Callable[[Sequence[str], Tensor], Tensor] | None:
    """``Gallery.encode_texts_with`` of this backbone."""
    if not isinstance(backbone, EncodesPseudoWords):
        return None
    encode = backbone.encode_texts_with
    return lambda texts, vectors: _checked(backbone, "encode_texts_with", encode(texts, vectors), texts).clone()


def jointly(backbone: Backbone, task: Task) -> Callable[[Rows, Sequence[str]], Tensor] | None:
    """``Gallery.encode_jointly`` of this backbone."""
    if not isinstance(backbone, EncodesJointly):
        return None
    encode = backbone.encode_jointly
    return lambda rows, texts: _checked(
        backbone, "encode_jointly", encode(task.images.take(rows), texts), texts
    ).clone()


def _checked(backbone: Backbone, part: str, features: object, names: Sequence[str]) -> Tensor:
    """``features`` on the backbone's device; a copy where the backbone may keep what it returns.

    ``names``: what each row belongs to, for messages.
    """
    made_by = f"{type(backbone).__qualname__}.{part}"
    meaning = f"one row per {'image' if part == 'encode_images' else 'text'}, `width` columns"
    encoded = float_rows(features, made_by, (len(names), backbone.width), meaning).to(backbone.device)
    if isinstance(backbone, ForgetsFeatures):  # ours, which check what they store
        return encoded
    # Sums show every NaN and infinity, twenty times as fast. Those of large finite numbers may overflow.
    for row in (~torch.isfinite(encoded.sum(dim=1))).nonzero().flatten().tolist():
        if not torch.isfinite(encoded[row]).all():
            raise CondsimError(f"{made_by} returned NaN or infinity for {names[row]!r}")
    return encoded.clone()
