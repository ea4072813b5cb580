"""Backbones: frozen encoders of pictures and texts, with the feature store in front of the model."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condsim.harness.errors import BackboneError, CondsimError, did_you_mean
from condsim.harness.features.cache.file_digests import available_cores, digest
from condsim.harness.features.cache.store import FeatureStore, describe_images, open_store, text_keys
from condsim.harness.features.cache.table import Encoded, FeatureTable
from condsim.harness.features.open_clip.batches import InPieces, Load, encode_pictures
from condsim.harness.features.open_clip.model import PRECISIONS, ClipModel, ModelSpec, load_model, uses_quick_gelu
from condsim.harness.features.open_clip.trainable import TrainableClip
from condsim.harness.features.open_clip.transforms import TRANSFORMS, Transform
from condsim.harness.images import crop_to_square, decode
from condsim.harness.memory import keep_freed_memory
from condsim.harness.paths import default_cache_dir, resolve
from condsim.harness.progress import track
from condsim.harness.task import ImageTable

AUTO: Final = "auto"
BATCH_SIZES = {"cuda": 512, "mps": 128}
_PIECE = 10 << 20
"""Bytes of float32 pixels that a core takes at once, where the model runs on the processor; 16 to 64 pictures."""


class OpenClip:
    """A model of open_clip. It is loaded only when something has to be encoded that the feature store does not hold."""

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        *,
        transform: str = "stock",
        precision: str = "fp32",
        device: str = AUTO,
        batch_size: int | Literal["auto"] = AUTO,
        workers: int | Literal["auto"] = AUTO,
        cache_dir: str | Path | None = None,
        model_config: str | Path | None = None,
        weights: str | Path | None = None,
        quick_gelu: bool = False,
        name: str | None = None,
    ) -> None:
        """
        ``model``: an open_clip model name, or one for the architecture in the file ``model_config``. ``pretrained``: a
        tag of open_clip's; ``weights``: a file instead (safetensors, or tensors saved by PyTorch), with ``quick_gelu``
        where they were trained so, as OpenAI's were (tags know this themselves). ``transform``: "stock" or "targetpad"
        (1.25). ``precision``: "fp32", or "bf16" or "fp16" autocast. ``workers``: threads that read pictures.
        ``cache_dir``: None is the default cache. Files may be named as ``pkg://package/file``.
        """
        if (pretrained is None) == (weights is None):
            raise CondsimError(
                f"backbone {model}: give either backbone.pretrained (a tag such as openai) or backbone.weights (a file)"
            )
        for label, value, known in (("transform", transform, TRANSFORMS), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise CondsimError(f"backbone.{label}={value}: there is no such {label}. {did_you_mean(value, known)}")
        for label, count in (("batch_size", batch_size), ("workers", workers)):
            if count != AUTO and (not isinstance(count, int) or count < 1):
                raise CondsimError(f"backbone.{label}={count}: must be auto or at least 1")
        config, file = resolve(model_config) if model_config else None, resolve(weights) if weights else None
        self.spec = ModelSpec(model, pretrained, config, file, quick_gelu)
        self.transform, self.precision = transform, precision
        source = pretrained if pretrained is not None else Path(str(weights)).stem
        marks = [mark for mark, usual in ((transform, "stock"), (precision, "fp32")) if mark != usual]
        self.name = "+".join([name or f"{model}/{source}", *marks])
        self.width = int(self.spec.architecture()["embed_dim"])
        self._failure: BackboneError | None = None
        self._device, self._batch_size, self._workers = device, batch_size, workers
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()

    @cached_property
    def identity(self) -> dict[str, str]:
        marks = {"transform": TRANSFORMS[self.transform], "precision": self.precision}
        try:
            return self.spec.identity(self.store.digests.digest_file) | marks
        except CondsimError as error:
            raise BackboneError(str(error)) from error

    @cached_property
    def device(self) -> torch.device:
        if self._device != AUTO:
            try:
                return torch.device(self._device)
            except RuntimeError as error:
                raise CondsimError(f"backbone.device={self._device}: {error}") from None
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    @property
    def store(self) -> FeatureStore:
        return open_store(self._cache_dir)

    @property
    def loaded(self) -> ClipModel:
        """The model itself, loaded on first use. Raises BackboneError; after a failure nothing is tried again."""
        if self._failure is not None:
            raise self._failure
        try:
            weights = self.identity["architecture"] + self.identity.get("weights", "")
            return load_model(self.spec, str(self.device), weights)
        except CondsimError as error:
            self._failure = BackboneError(str(error))
            raise self._failure from error

    @property
    def batch_size(self) -> int:
        if self._batch_size != AUTO:
            return int(self._batch_size)
        return BATCH_SIZES.get(self.device.type, self._rows_per_core * max(2, torch.get_num_threads()))

    @property
    def workers(self) -> int:
        if self._workers != AUTO:
            return int(self._workers)
        # A model on the processor keeps every core busy: more readers than it takes would only get in its way.
        return min(16, available_cores() if self.device.type != "cpu" else max(1, available_cores() // 2))

    def encode_images(self, table: ImageTable) -> Tensor:
        if not len(table):
            raise CondsimError(f"the image table of {table.root} is empty: there is nothing to encode")
        keep_freed_memory()
        content = self.store.image_keys(table)

        def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
            clip = self.loaded
            transform = clip.transform(self.transform)
            load, pinned = _loader(table, content.digests, transform), self.device.type == "cuda"

            def features(pixels: Tensor) -> Tensor:
                return clip.image_features(pixels, transform, self.precision)

            with self._pieces as pieces, track(len(rows), f"{self.name}: encoding images") as advance:
                model = partial(pieces, features)
                for batch in encode_pictures(rows, load, model, clip.size, self.batch_size, self.workers, pinned):
                    yield batch
                    advance(len(batch.rows) + len(batch.faults))

        return torch.from_numpy(self._folder("image").fetch(content.keys, encode, describe_images(table)))

    def images_digest(self, table: ImageTable) -> str:
        """A digest of every picture's content and crop, in the order of the table."""
        return digest(b"".join(self.store.image_keys(table).keys)).hex()

    def forget_features(self) -> None:
        for kind in ("image", "text"):
            self._folder(kind).forget_recent()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a sequence of texts, not one text")
        size = self.batch_size

        def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
            clip = self.loaded

            def features(part: list[str]) -> Tensor:
                return clip.text_features(part, self.precision)

            with self._pieces as pieces, track(len(rows), f"{self.name}: encoding texts") as advance:
                for start in range(0, len(rows), size):
                    part = rows[start : start + size]
                    yield Encoded(part, pieces(features, [texts[row] for row in part]).numpy())
                    advance(len(part))

        folder = self._folder("text")
        return torch.from_numpy(folder.fetch(text_keys(texts), encode, lambda row: f"text {row}, {texts[row]!r}"))

    def trainable(self) -> TrainableClip:
        return TrainableClip(self.loaded, self.loaded.transform(self.transform), self.workers)

    def settings_with(self, weights: Path) -> dict[str, Any]:
        quick_gelu = self.spec.quick_gelu or uses_quick_gelu(self.spec.model, self.spec.pretrained)
        return {"weights": str(weights), "pretrained": None, "quick_gelu": quick_gelu}

    def _folder(self, kind: str) -> FeatureTable:
        return self.store.folder(self.identity, kind, self.width)

    @cached_property
    def _pieces(self) -> InPieces:
        if self.device.type == "cpu":
            return InPieces(self._rows_per_core, torch.get_num_threads())
        return InPieces(self.batch_size)

    @cached_property
    def _rows_per_core(self) -> int:
        """A power of two: as many rows as fill the layers' products, but not more than the caches bear."""
        size = self.spec.architecture()["vision_cfg"].get("image_size", 224)
        pixels = size * size if isinstance(size, int) else math.prod(size)
        return 1 << max(16, min(64, _PIECE // (12 * pixels))).bit_length() - 1


def _loader(table: ImageTable, digests: list[bytes], transform: Transform) -> Load:
    """Row -> its pixels. What is read has to be what was digested, or features would be stored under a wrong key."""

    def load(row: int) -> NDArray[np.uint8]:
        try:
            with open(os.path.join(table.root, table.file(table.names[row])), "rb") as file:
                data = file.read()
        except OSError as error:
            raise CondsimError(str(error.strerror or error)) from None
        if digest(data) != digests[row]:
            raise CondsimError("the file changed while it was being encoded")
        image = decode(data)
        if (box := table.box(row)) is not None:
            image = crop_to_square(image, box, table.dilation)
        try:
            return transform.pixels(image)
        except (OSError, ValueError, MemoryError) as error:
            raise CondsimError(f"does not go through the transform ({error})") from error

    return load
