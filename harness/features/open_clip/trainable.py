"""An open_clip model whose weights are trained: the same transforms and tokenizer, features with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from condsim.harness.features.open_clip.model import ClipModel
from condsim.harness.features.open_clip.pseudo_words import place_pseudo_words, with_word_vectors, without_padding
from condsim.harness.features.open_clip.transforms import Transform
from condsim.harness.images import picture_of
from condsim.harness.task import ImageTable, Rows
from condsim.harness.trainable import TrainableEncoder

_FIXED = ("logit_scale", "logit_bias")
"""Parameters of CLIP's own loss; the training loss has its own temperature."""
_TEXTS_KEPT = 1 << 16
"""Tokens of this many texts are kept, since a training reads the same texts again and again: 50 MB at most."""


class TrainableClip(TrainableEncoder):
    """A copy of ``clip`` in fp32 whose weights, but not batch norm's running statistics, are trained."""

    def __init__(self, clip: ClipModel, transform: Transform, workers: int) -> None:
        super().__init__()
        self.model = deepcopy(clip.model).requires_grad_(True)
        for name, parameter in self.model.named_parameters():
            if name in _FIXED:
                parameter.requires_grad_(False)
        if clip.device.type == "cuda":
            checkpointing: Callable[[bool], None] = self.model.set_grad_checkpointing  # type: ignore[assignment]
            checkpointing(True)
        self._tokenizer, self._transform, self._device = clip.tokenizer, transform, clip.device
        self._placed = lru_cache(_TEXTS_KEPT)(lambda text: place_pseudo_words([text], self._tokenizer, every=True))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="train")
        self.eval()

    def train(self, mode: bool = True) -> TrainableClip:
        """Always in evaluation mode: batch norm keeps its statistics and there is no dropout."""
        super().train(False)
        return self

    def images(self, table: ImageTable, rows: Rows) -> Tensor:
        def load(row: int) -> Tensor:
            return torch.from_numpy(np.array(self._transform.pixels(picture_of(table, row))))

        pixels = torch.stack(list(self._pool.map(load, rows.tolist()))).to(self._device)
        features: Tensor = self.model.encode_image(self._transform.normalise(pixels))  # type: ignore[operator]
        return features.float()

    def texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts)).to(self._device)
        features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return features.float()

    def texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        tokens, places = (torch.cat(parts) for parts in zip(*map(self._placed, texts), strict=True))
        short, tokens = without_padding(self.model, tokens)
        model = with_word_vectors(short, places[:, : tokens.shape[1]].to(self._device), vectors)
        features: Tensor = model.encode_text(tokens.to(self._device))  # type: ignore[operator]
        return features.float()
