"""Features that others encoded and published as files: a backbone without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condsim.harness.errors import CondsimError, UnusableRowsError, did_you_mean
from condsim.harness.features.cache.store import describe_images, describe_texts, open_store
from condsim.harness.features.published.file import FeatureFile
from condsim.harness.memory_map import free_pages, is_mapped
from condsim.harness.names import clean_path, clean_text
from condsim.harness.paths import default_cache_dir, resolve
from condsim.harness.task import ImageTable

CHUNK = 1 << 16
"""Rows converted and checked at once."""
Files = str | Path | Sequence[str | Path]
_UNKNOWN, _AMBIGUOUS = -1, -2
"""In place of a row: no name, or more than one name, has this spelling."""


class Precomputed:
    """Looks features up by name, in memory-mapped files. Whole images only: published features know no crops."""

    def __init__(
        self,
        images: Files,
        texts: Files | None = None,
        *,
        image_names: Files | None = None,
        text_names: Files | None = None,
        name: str | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        """
        ``images``, ``texts``: [N, D] features as .npy, .safetensors (the tensor "features", or its only one) or
        .parquet (a column of names and one of lists), or a list of such files, such as queries and database.
        ``image_names``, ``text_names``: their N names in order, a .txt file with one name per line or a .json list;
        None: the file beside the features with the same stem. A name is that of an image in the benchmark's image
        table, or the text itself; names that are written differently are compared in the spelling of ``names.py``.
        ``cache_dir``: where the digests of the files are stored.
        """
        self._images = PublishedFeatures(images, image_names, clean_path)
        self._texts = None if texts is None else PublishedFeatures(texts, text_names, clean_text)
        self.name = name or self._images.files[0].path.stem
        self.width = self._images.width
        self.device = torch.device("cpu")
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        if self._texts is not None and self._texts.width != self.width:
            raise CondsimError(
                f"{self._images} has features of width {self.width}, but {self._texts} of {self._texts.width}: they "
                "belong to different backbones"
            )

    @cached_property
    def identity(self) -> dict[str, str]:
        index = open_store(self._cache_dir).digests
        parts = {"images": self._images, "texts": self._texts}
        paths = {label: [path for file in part.files for path in file.paths] for label, part in parts.items() if part}
        return {"model": f"precomputed {self.name}"} | {
            f"{label} {i}": index.digest_file(path).hex() for label in paths for i, path in enumerate(paths[label])
        }

    def encode_images(self, table: ImageTable) -> Tensor:
        return self._images_of(table, half=False)

    def mapped_images(self, table: ImageTable) -> Tensor:
        """``encode_images``, but float16 in the mapped file where that is how they are published."""
        return self._images_of(table, half=True)

    def _images_of(self, table: ImageTable, half: bool) -> Tensor:
        if not len(table):
            raise CondsimError(f"the image table of {table.root} is empty: there is nothing to look up")
        if table.boxes is not None and not np.isnan(table.boxes).all():
            raise CondsimError(f"{self._images} has features of whole images, but this benchmark needs crops")
        return self._images.look_up(table.names, describe_images(table), half)

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
        return self._texts.look_up(tuple(texts), describe_texts(texts))


class PublishedFeatures:
    """One matrix in one or several files, whose rows are looked up by name."""

    def __init__(self, files: Files, names: Files | None, clean: Callable[[str], str]) -> None:
        """``clean`` gives the spelling in which names are compared. Raises CondsimError for files that do not fit."""
        self._clean = clean
        paths, beside = _paths(files), None if names is None else _paths(names)
        if not paths:
            raise CondsimError("backbone.images and backbone.texts need at least one file of features")
        if beside is not None and len(beside) != len(paths):
            raise CondsimError(f"there are {len(paths)} files of features for {len(beside)} files of names")
        self._paths, self._beside = paths, beside
        self.read_again()
        self.width = self.files[0].width
        for file in self.files:
            if file.width != self.width:
                raise CondsimError(f"{file.path} has features of width {file.width}, and {self} of {self.width}")

    def __str__(self) -> str:
        return str(self.files[0].path)

    def read_again(self) -> None:
        """Open the files, or open them again: what was written into their features in memory is lost."""
        beside: Sequence[Path | None] = self._beside or [None] * len(self._paths)
        self.files = [FeatureFile(path, names) for path, names in zip(self._paths, beside, strict=True)]

    def look_up(self, names: Sequence[str], describe: Callable[[int], str], half: bool = False) -> Tensor:
        """float32 [len(names), D]; the file itself, memory-mapped, if it has this order and is float32, or float16 with
        ``half``.

        Raises UnusableRowsError for names that no file has and for features that are not finite.
        """
        first = self.files[0].features
        in_order = len(self.files) == 1 and tuple(names) == self.files[0].names
        if in_order and (first.dtype == torch.float32 or (half and first.dtype == torch.float16 and is_mapped(first))):
            features = first
        else:
            features = self._gather(torch.arange(len(self._names)) if in_order else self._places(names, describe))
        if faults := dict.fromkeys(_not_finite(features), "its features contain NaN or infinity"):
            raise UnusableRowsError(len(names), faults, describe, f"as read from {self}", skippable=False)
        return features

    def _places(self, names: Sequence[str], describe: Callable[[int], str]) -> Tensor:
        """int64 [len(names)] rows of all the files, one after another."""
        places = [self._place.get(name, _UNKNOWN) for name in names]
        for row in [row for row, place in enumerate(places) if place == _UNKNOWN]:
            places[row] = self._place_in_clean_spelling.get(self._clean(names[row]), _UNKNOWN)
        faults = {row: "has no features" for row, place in enumerate(places) if place == _UNKNOWN}
        faults |= {row: "several rows have its name" for row, place in enumerate(places) if place == _AMBIGUOUS}
        if faults:
            unknown, known = names[next(iter(faults))], self.files[0].names
            hint = did_you_mean(unknown, known) if len(known) < 10_000 else f"A name is {known[0]!r}."
            raise UnusableRowsError(len(names), faults, describe, f"looked up by name in {self}. {hint}")
        return torch.tensor(places)

    def _gather(self, places: Tensor) -> Tensor:
        features = torch.empty((len(places), self.width))
        begin = 0
        for file in self.files:
            here = ((places >= begin) & (places < begin + len(file.names))).nonzero().flatten()
            for part in torch.split(here, CHUNK):
                features[part] = file.features[places[part] - begin].to(torch.float32)
            begin += len(file.names)
        return features

    @cached_property
    def _names(self) -> list[str]:
        """Of the rows of all the files, one after another. Raises CondsimError for a duplicate name."""
        names = [name for file in self.files for name in file.names]
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise CondsimError(f"{self}: duplicate name {twice!r} in the files of names")
        return names

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names)}

    @cached_property
    def _place_in_clean_spelling(self) -> dict[str, int]:
        """Needed only where a name is not written in the same way on both sides."""
        places: dict[str, int] = {}
        for i, name in enumerate(self._names):
            clean = self._clean(name)
            places[clean] = _AMBIGUOUS if clean in places else i
        return places


def _not_finite(features: Tensor) -> Iterator[int]:
    """The rows that contain NaN or infinity."""
    for start in range(0, len(features), CHUNK):
        part = features[start : start + CHUNK]
        # A finite sum has finite terms, and is quicker to check; another sum may also come from large terms.
        for row in (~torch.isfinite(part.sum(dim=1, dtype=torch.float32))).nonzero().flatten().tolist():
            if not torch.isfinite(part[row]).all():
                yield start + row
        free_pages(features)


def _paths(files: Files) -> list[Path]:
    return [resolve(files)] if isinstance(files, str | Path) else [resolve(file) for file in files]
