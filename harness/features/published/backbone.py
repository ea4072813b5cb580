"""Features that others encoded and published as files: a backbone without a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from condsim.harness.backbone import ImageParts
from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.features.cache.store import describe_images, describe_texts, open_store
from condsim.harness.files.feature_files import Files, PublishedFeatures
from condsim.harness.files.name_list import same_names
from condsim.harness.files.paths import cache_folder
from condsim.harness.names import clean_path, clean_text
from condsim.harness.process.devices import device_of
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import ImageTable


class Precomputed:
    """Looks features up by name, in memory-mapped files. Crops have names of their own (``ImageTable.keys``)."""

    def __init__(
        self,
        images: Files,
        texts: Files | None = None,
        *,
        image_names: Files | None = None,
        text_names: Files | None = None,
        name: str | None = None,
        device: str = "cpu",
        cache_dir: str | Path | None = None,
    ) -> None:
        """
        ``images``, ``texts``: [N, D] features as .npy, .npz (arrays "names" and "features"), .safetensors (the tensor
        "features", or its only one) or .parquet (a column of names and one of lists), or a list of such files, such as
        queries and database. The first of ``images`` may be a gallery in parts (``harness.files.gallery_parts``).
        ``image_names``, ``text_names``: their N names in order, a .txt file with one name per line or a .json list;
        None: those in the file itself, or the file beside it with the same stem. A name is that of an image in the
        benchmark's image table (``ImageTable.keys``; `condsim queries` lists them), or the text itself; names that are
        written differently are compared in the spelling of ``names.py``.
        ``device``: where the features are ranked. On a GPU all images of a task are in its memory.
        ``cache_dir``: where the digests of the files are stored.
        """
        self._images = PublishedFeatures(images, image_names, clean_path, "backbone.image_names")
        self._texts = None
        if texts is not None:
            self._texts = PublishedFeatures(texts, text_names, clean_text, "backbone.text_names")
        self.name = name or self._images.files[0].path.stem
        self.width = self._images.width
        self._device = device
        self._cache_dir = cache_folder(cache_dir)
        if self._texts is not None and self._texts.width != self.width:
            raise CondsimError(
                f"{self._images} has features of width {self.width}, but {self._texts} of {self._texts.width}: they "
                "belong to different backbones"
            )

    @cached_property
    def device(self) -> torch.device:
        return device_of(self._device)

    @cached_property
    def identity(self) -> dict[str, str]:
        index = open_store(self._cache_dir).digests
        parts = {"images": self._images, "texts": self._texts}
        paths = {label: part.paths for label, part in parts.items() if part}
        return {"model": f"precomputed {self.name}"} | {
            f"{label} {i}": index.digest_file(path).hex() for label in paths for i, path in enumerate(paths[label])
        }

    def encode_images(self, table: ImageTable) -> Tensor:
        return self._images_of(table, half=False)

    def mapped_images(self, table: ImageTable) -> Tensor:
        """``encode_images``, but float16 in the mapped file where that is how they are published. On a GPU, a copy."""
        features = self._images_of(table, half=True)
        return features if self.device.type == "cpu" else features.to(self.device).float()

    def _images_of(self, table: ImageTable, half: bool) -> Tensor:
        if not len(table):
            raise CondsimError(f"the image table of {table.root} is empty: there is nothing to look up")
        keys, path = table.keys, describe_images(table)

        def describe(row: int) -> str:
            return path(row) if keys[row] == table.names[row] else f"{path(row)}, named {keys[row]!r}"

        return self._images.look_up(keys, describe, half)

    def image_parts(self, table: ImageTable) -> ImageParts | None:
        parts = self._images.parts
        if (
            self.device.type != "cpu"
            or parts is None
            or table.boxes is not None
            or not same_names(table.names[: len(parts)], parts.names)
        ):
            return None
        others = table.keys[len(parts) :]
        if not len(others):
            return ImageParts(parts, torch.zeros(0, self.width))
        if (files := self._images.after_parts()) is None:
            return None
        path = describe_images(table)
        return ImageParts(parts, files.look_up(others, lambda row: path(len(parts) + row)))

    def images_digest(self, table: ImageTable) -> str:
        """Empty: ``identity`` holds the digests of all files, so it says which features each name has."""
        return ""

    def forget_features(self) -> None:
        for part in filter(None, (self._images, self._texts)):
            part.read_again()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        if not len(texts):
            return torch.zeros((0, self.width))
        if self._texts is None:
            raise CondsimError(
                f"backbone {self.name} has no text features, which this method needs: set backbone.texts=FILE"
            )
        try:
            return self._texts.look_up(tuple(texts), describe_texts(texts))
        except UnusableRowsError as error:  # no image is at fault, so none can be skipped
            advice = (
                f"{error.advice}\nthe method reads the features of these texts: encode them with the same model, and "
                "add them to backbone.texts (`condsim queries` with the method lists all of them)"
            )
            raise UnusableRowsError(len(texts), error.faults, describe_texts(texts), advice, skippable=False) from None
