"""The backbone as part of what is trained, as in GeneCIS: features are computed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from condsim.harness.errors import CondsimError
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.images import crop_to_square, decode
from condsim.harness.task import ImageTable, Rows
from condsim.methods.training.data import Joined
from condsim.methods.training.method import Batch


class TunedBackbone(nn.Module):
    """A copy of a backbone's model whose weights take gradients. Its running statistics stay as they are."""

    def __init__(self, backbone: OpenClip, workers: int = 8) -> None:
        super().__init__()
        if not isinstance(backbone, OpenClip):
            raise CondsimError("training.backbone=true needs a backbone of open_clip")
        clip = backbone.loaded
        self.model = deepcopy(clip.model).requires_grad_(True)
        for name, parameter in self.model.named_parameters():
            if name in ("logit_scale", "logit_bias"):  # the training loss has its own temperature
                parameter.requires_grad_(False)
        self._width = backbone.width
        if clip.device.type == "cuda":
            self.model.set_grad_checkpointing(True)  # type: ignore[operator]
        self._tokenizer = clip.tokenizer
        self._transform = clip.transform(backbone.transform)
        self._device = clip.device
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="train")
        self.eval()

    def train(self, mode: bool = True) -> TunedBackbone:
        """Batch norm keeps its statistics and nothing drops out, whatever the mode: only weights change."""
        super().train(False)
        return self

    def images(self, table: ImageTable, rows: Rows) -> Tensor:
        """Raw [len(rows), D] features."""

        def load(row: int) -> Tensor:
            try:
                picture = decode(table.path(row).read_bytes())
            except OSError as error:
                raise CondsimError(f"{table.path(row)}: {error.strerror or error}") from None
            if (box := table.box(row)) is not None:
                picture = crop_to_square(picture, box, table.dilation)
            return torch.from_numpy(np.array(self._transform.pixels(picture)))

        pixels = torch.stack(list(self._pool.map(load, rows.tolist()))).to(self._device)
        features: Tensor = self.model.encode_image(self._transform.normalise(pixels))  # type: ignore[operator]
        return features.float()

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Raw [len(texts), D] features."""
        tokens = self._tokenizer(list(texts)).to(self._device)
        features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return features.float()

    def encode_images(self, table: ImageTable, batch: int = 256) -> Tensor:
        rows = np.arange(len(table))
        return torch.cat([self.images(table, rows[start : start + batch]) for start in range(0, len(rows), batch)])

    def encode_texts(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        return torch.cat([self.texts(texts[start : start + batch]) for start in range(0, len(texts), batch)])

    def batch(self, data: Joined, which: Rows) -> Batch:
        """Every distinct image and text of the batch goes through the model once."""
        image_rows, image_place = np.unique(
            np.concatenate([data.reference[which], data.target[which]]), return_inverse=True
        )
        text_rows, text_place = np.unique(data.text[which], return_inverse=True)
        images = self._with_zeros(image_rows, data, "images")
        texts = self._with_zeros(text_rows, data, "texts")
        reference, target = images[torch.from_numpy(image_place).to(images.device)].chunk(2)
        text = texts[torch.from_numpy(text_place).to(texts.device)]
        return Batch(reference, text, target, torch.from_numpy(data.target[which]).to(images.device))

    def _with_zeros(self, rows: Rows, data: Joined, kind: str) -> Tensor:
        """Features of rows of the joined numbering; zeros where -1."""
        known, parts, first = rows[rows >= 0], [], 0
        for source in data.sources:
            size = len(source.images if kind == "images" else source.texts)
            here = known[(known >= first) & (known < first + size)] - first
            if len(here):
                parts.append(
                    self.images(source.images, here)
                    if kind == "images"
                    else self.texts([source.texts[i] for i in here])
                )
            first += size
        features = torch.cat(parts) if parts else torch.zeros(0, self._width, device=self._device)
        missing = features.new_zeros(len(rows) - len(known), features.shape[1])
        return torch.cat([missing, features])  # rows are sorted, so -1 comes first
