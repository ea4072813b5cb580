"""Training data whose features are computed in every step, because the backbone is trained too (as in GeneCIS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condsim.harness.backbone import Backbone
from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable, Rows
from condsim.harness.trainable import Trainable, TrainableEncoder
from condsim.methods.training.data import Joined
from condsim.methods.training.method import Batch

_ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Finetuned:
    """Features of a backbone in training; the counterpart of ``data.Frozen``."""

    encoder: TrainableEncoder
    width: int
    device: torch.device

    @classmethod
    def of(cls, backbone: Backbone) -> Finetuned:
        """Features of a copy of the backbone's encoder. Raises CondsimError where its weights cannot be trained."""
        if not isinstance(backbone, Trainable):
            raise CondsimError(f"training.backbone=true: the weights of {backbone.name} cannot be trained")
        return cls(backbone.trainable(), backbone.width, backbone.device)

    def batch(self, data: Joined, triplets: Rows) -> Batch:
        """The features of these triplets, with gradients; each distinct image and text is encoded once."""
        image_rows, image_places = np.unique(
            np.concatenate([data.reference[triplets], data.target[triplets]]), return_inverse=True
        )
        text_rows, text_places = np.unique(data.text[triplets], return_inverse=True)
        images = self._image_features(image_rows, data)[torch.from_numpy(image_places).to(self.device)]
        text = self._text_features(text_rows, data)[torch.from_numpy(text_places).to(self.device)]
        reference, target = images.chunk(2)
        return Batch(reference, text, target, torch.from_numpy(data.target[triplets]).to(self.device))

    def encode_images(self, table: ImageTable) -> Tensor:
        """[len(table), D] of a whole table."""
        rows = np.arange(len(table))
        starts = range(0, len(rows), _ENCODED_AT_ONCE)
        return torch.cat([self.encoder.images(table, rows[start : start + _ENCODED_AT_ONCE]) for start in starts])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), D]"""
        starts = range(0, len(texts), _ENCODED_AT_ONCE)
        return torch.cat([self.encoder.texts(texts[start : start + _ENCODED_AT_ONCE]) for start in starts])

    def _image_features(self, rows: Rows, data: Joined) -> Tensor:
        """[len(rows), D] for sorted rows of the joined numbering; zeros for -1, which comes first."""
        parts, first = [self._zeros(int((rows < 0).sum()))], 0
        for source in data.sources:
            own = rows[(rows >= first) & (rows < first + len(source.images))] - first
            if len(own):
                parts.append(self.encoder.images(source.images, own))
            first += len(source.images)
        return torch.cat(parts)

    def _text_features(self, rows: Rows, data: Joined) -> Tensor:
        """[len(rows), D], as ``_image_features``."""
        texts = [text for source in data.sources for text in source.texts]
        known = rows[rows >= 0]
        parts = [self._zeros(len(rows) - len(known))]
        if len(known):
            parts.append(self.encoder.texts([texts[row] for row in known]))
        return torch.cat(parts)

    def _zeros(self, count: int) -> Tensor:
        return torch.zeros(count, self.width, device=self.device)
