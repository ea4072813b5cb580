"""The backbone of open_clip's models: a frozen encoder of pictures and texts behind the feature cache."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from condsim.harness.errors import BackboneError, CondsimError, NotApplicable, did_you_mean
from condsim.harness.features.cache.request import Encoded
from condsim.harness.features.cache.store import (
    FeatureStore,
    ImageKeys,
    describe_images,
    describe_texts,
    open_store,
    pseudo_word_keys,
    text_keys,
)
from condsim.harness.features.cache.table import FeatureTable
from condsim.harness.features.open_clip.batches import InPieces, Load, encode_pictures
from condsim.harness.features.open_clip.model import PRECISIONS, ClipModel, ModelSpec, load_model
from condsim.harness.features.open_clip.preprocessing import TRANSFORMS, GivenPreprocessing
from condsim.harness.files.paths import cache_folder, resolve
from condsim.harness.images import ImageNote, read_picture
from condsim.harness.process.cores import available_cores
from condsim.harness.process.devices import AUTO, device_of
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import ImageTable
from condsim.harness.terminal.progress import track

if TYPE_CHECKING:
    from condsim.harness.features.open_clip.trainable import TrainableClip
    from condsim.harness.features.open_clip.transforms import Transform

BATCH_SIZES = {"cuda": 512, "mps": 128}
_PIECE = 10 << 20
"""Bytes of float32 pixels that a core takes at once if the model runs on the processor; 16 to 64 pictures."""
_TEXT_CUT = 1
"""The note of a text that has more tokens than the model reads."""


class OpenClip:
    """A model of open_clip. It is loaded only when something has to be encoded that is not in the feature cache."""

    reads_images = True

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
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        interpolation: str | None = None,
        resize_mode: str | None = None,
        quick_gelu: bool | None = None,
        name: str | None = None,
    ) -> None:
        """
        ``model``: an open_clip model name, or any name for the architecture in the file ``model_config``.
        ``pretrained``: a tag of open_clip's. ``weights``: a file (safetensors, or tensors saved by PyTorch) in place of
        the tag's own; ``pretrained`` then names the tag whose preprocessing the file needs.
        ``mean``, ``std`` (three numbers each), ``interpolation`` ("bicubic", "bilinear"), ``resize_mode`` ("shortest",
        "longest", "squash"), ``quick_gelu``: None is what the tag says, else an ``open_clip_config.json`` beside the
        weights, else what all tags of the model agree on, else OpenAI's preprocessing.
        ``transform``: "stock" or "targetpad" (1.25). ``precision``: "fp32", or "bf16" or "fp16" autocast. ``workers``:
        threads that read pictures. ``cache_dir``: None is the default cache. Files may be ``pkg://package/file``.
        """
        if pretrained is None and weights is None:
            raise CondsimError(
                f"backbone {model}: set backbone.pretrained (a tag such as openai) or backbone.weights (a file)"
            )
        for label, value, known in (("transform", transform, TRANSFORMS), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise CondsimError(f"backbone.{label}={value}: there is no such {label}. {did_you_mean(value, known)}")
        for label, count in (("batch_size", batch_size), ("workers", workers)):
            if count != AUTO and (not isinstance(count, int) or count < 1):
                raise CondsimError(f"backbone.{label}={count}: must be auto or at least 1")
        config, file = resolve(model_config) if model_config else None, resolve(weights) if weights else None
        given = GivenPreprocessing.checked(mean, std, interpolation, resize_mode, quick_gelu)
        self.spec = ModelSpec(model, pretrained, config, file, given)
        self.transform, self.precision = transform, precision
        source = Path(str(weights)).stem if weights is not None else pretrained
        marks = [mark for mark, usual in ((transform, "stock"), (precision, "fp32")) if mark != usual]
        self.name = "+".join([name or f"{model}/{source}", *marks])
        self.width = int(self.spec.architecture()["embed_dim"])
        self._device, self._batch_size, self._workers = device, batch_size, workers
        self._cache_dir = cache_folder(cache_dir)
        self._failure: str | None = None

    @cached_property
    def identity(self) -> dict[str, str]:
        marks = {"transform": TRANSFORMS[self.transform], "precision": self.precision}
        try:
            return self.spec.identity(self.store.digests.digest_file) | marks
        except CondsimError as error:
            raise BackboneError(str(error)) from error

    @cached_property
    def device(self) -> torch.device:
        return device_of(self._device)

    @property
    def store(self) -> FeatureStore:
        return open_store(self._cache_dir)

    @property
    def loaded(self) -> ClipModel:
        """The model itself, loaded now if it is not yet. Raises BackboneError, the second time without trying again."""
        if self._failure is not None:
            raise BackboneError(self._failure)
        try:
            content = json.dumps(self.identity, sort_keys=True)
            return load_model(self.spec, str(self.device), content)
        except BackboneError as error:
            self._failure = str(error)
            raise

    @property
    def batch_size(self) -> int:
        if self._batch_size != AUTO:
            return int(self._batch_size)
        return BATCH_SIZES.get(self.device.type, self._rows_per_core * max(2, torch.get_num_threads()))

    @property
    def workers(self) -> int:
        if self._workers != AUTO:
            return int(self._workers)
        if self.device.type == "cpu":
            # The model keeps every core busy: more readers than it takes would only get in its way.
            return min(16, max(1, available_cores() // 2))
        # More than eight wait for Python's lock: with 16 on 16 cores an H200 got fewer pictures than with 8.
        return min(8, available_cores())

    def encode_images(self, table: ImageTable) -> Tensor:
        if not len(table):
            raise CondsimError(f"the image table of {table.root} is empty: there is nothing to encode")
        features_table, content = self.stored_images(table)

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

        return torch.from_numpy(features_table.fetch(content.keys, encode, describe_images(table)))

    def stored_images(self, table: ImageTable) -> tuple[FeatureTable, ImageKeys]:
        features_table = self._table("image")
        if features_table.is_empty:
            self.loaded  # noqa: B018 - a backbone that cannot be loaded fails before every picture is read
        return features_table, self.store.image_keys(table)

    @property
    def rows_at_once(self) -> int:
        own = 1 if self._batch_size == AUTO else int(self._batch_size)
        return math.lcm(self._rows_per_core, own)  # whether workers have a GPU or not

    def images_digest(self, table: ImageTable) -> str:
        """A digest of every picture's content and crop, in the order of the table."""
        return self.store.images_digest(table).hex()

    def forget_features(self) -> None:
        for kind in ("image", "text"):
            self._table(kind).forget_recent()

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
                    part_texts = [texts[row] for row in part]
                    notes = clip.cut_texts(part_texts).astype(np.uint8) * _TEXT_CUT
                    yield Encoded(part, pieces(features, part_texts).numpy(), notes=notes)
                    advance(len(part))

        return torch.from_numpy(self._table("text").fetch(text_keys(texts), encode, describe_texts(texts)))

    def encode_texts_with(self, texts: Sequence[str], vectors: Tensor) -> Tensor:
        from condsim.harness.features.open_clip.pseudo_words import word_width

        width, size = word_width(self.spec.architecture()), self.batch_size
        if width is None:
            raise NotApplicable(
                f"the text tower of {self.name} is none of open_clip's own: no word of it can be a vector"
            )
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError(f"{len(texts)} texts need as many vectors, not the shape {tuple(vectors.shape)}")
        if vectors.shape[1] != width:
            raise CondsimError(
                f"the word vectors have width {vectors.shape[1]}, but those of {self.name} have width {width}: use the "
                "weights that were made for this backbone"
            )
        words = vectors.detach().to("cpu", torch.float32)

        def encode(rows: NDArray[np.int64]) -> Generator[Encoded, None, None]:
            clip = self.loaded

            def features(part: NDArray[np.int64]) -> Tensor:
                return clip.text_features_with([texts[row] for row in part], words[part], self.precision)

            with self._pieces as pieces, track(len(rows), f"{self.name}: encoding texts with pseudo-words") as advance:
                for start in range(0, len(rows), size):
                    part = rows[start : start + size]
                    yield Encoded(part, pieces(features, part).numpy())
                    advance(len(part))

        keys = pseudo_word_keys(texts, words.numpy())
        return torch.from_numpy(self._table("text").fetch(keys, encode, describe_texts(texts)))

    def trainable(self) -> TrainableClip:
        from condsim.harness.features.open_clip.trainable import TrainableClip

        return TrainableClip(self.loaded, self.loaded.transform(self.transform), self.workers)

    def settings_with(self, weights: Path) -> dict[str, Any]:
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.spec.preprocessing()).items()}
        return {"weights": str(weights), "pretrained": None, **values}

    def notes(self, table: ImageTable, texts: Sequence[str]) -> list[str]:
        """One sentence per kind of input that was not read as it is, with how many there are; all are encoded."""
        rows = self._table("image").notes(self.store.image_keys(table).keys)
        notes = [
            f"{_counted(rows & note > 0, len(table), 'images')} {sentence}"
            for note, sentence in _IMAGE_NOTES
            if (rows & note).any()
        ]
        cut = self._table("text").notes(text_keys(texts)) & _TEXT_CUT > 0
        if cut.any():
            example = texts[int(cut.argmax())]
            notes.append(
                f"{_counted(cut, len(texts), 'texts')} have more tokens than the model reads, so their ends are cut "
                f"off, such as {example[:80]!r}"
            )
        return notes

    def _table(self, kind: str) -> FeatureTable:
        return self.store.table(self.identity, kind, self.width)

    @cached_property
    def _pieces(self) -> InPieces:
        if self.device.type == "cpu":
            return InPieces(self._rows_per_core, torch.get_num_threads())
        return InPieces(self.batch_size)

    @cached_property
    def _rows_per_core(self) -> int:
        """A power of two: enough rows for efficient matrix products, few enough for the processor's caches."""
        size = self.spec.architecture()["vision_cfg"].get("image_size", 224)
        pixels = size * size if isinstance(size, int) else math.prod(size)
        return 1 << max(16, min(64, _PIECE // (12 * pixels))).bit_length() - 1


_IMAGE_NOTES = (
    (ImageNote.ROTATED, "have an EXIF rotation, which is not applied (open_clip does not apply it either)"),
    (ImageNote.TRANSPARENT, "have transparent pixels, which show the colour below, often black"),
    (ImageNote.SCALED, "have more than 8 bits per channel and are scaled to 8"),
)


def _counted(marks: NDArray[np.bool_], total: int, what: str) -> str:
    return f"{int(marks.sum()):,} of {total:,} {what}"


def _loader(table: ImageTable, digests: list[bytes], transform: Transform) -> Load:
    """Row -> its pixels and note."""

    def load(row: int) -> tuple[NDArray[np.uint8], int]:
        image, note = read_picture(table, row, digests[row])
        try:
            return transform.pixels(image), int(note)
        except (OSError, ValueError, MemoryError) as error:
            raise CondsimError(f"cannot be transformed for the model ({error})") from error

    return load
