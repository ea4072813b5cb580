"""Where captions come from: a table, a folder, or a streamed Hugging Face dataset. Always one caption at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from condsim.harness.errors import CondsimError, did_you_mean

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Captioned:
    """One caption and the image that it is of."""

    image: str
    """Path relative to the source's image folder, or the key under which ``content`` is saved."""
    caption: str
    content: bytes | None = None
    """The encoded image, where the source carries it and the image is in no folder yet."""


class CaptionSource(Protocol):
    """Captions in a fixed order."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells this source from another, for resuming."""
        ...

    @property
    def images(self) -> Path | None:
        """The folder that image paths start from; None where each caption carries its image."""
        ...

    def read(self, start: int = 0) -> Iterator[Captioned]:
        """Every caption from number ``start`` on, read as it is asked for."""
        ...


class TableCaptions:
    """A CSV, TSV, JSON-lines or parquet table with a column of image paths and one of captions."""

    def __init__(
        self, table: str | Path, images: str | Path | None = None, image: str = "image", caption: str = "caption"
    ) -> None:
        self.table = Path(table).expanduser()
        self.images = Path(images).expanduser() if images else self.table.parent
        self.columns = (image, caption)
        if not self.table.is_file():
            raise CondsimError(f"{self.table} does not exist (expected a table of image paths and captions)")

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"table": str(self.table), "columns": list(self.columns), "bytes": self.table.stat().st_size}

    def read(self, start: int = 0) -> Iterator[Captioned]:
        for row, (image, caption) in enumerate(islice(self._rows(), start, None), start):
            if not isinstance(image, str) or not isinstance(caption, str):
                raise CondsimError(f"{self.table}: row {row}: expected an image path and a caption as texts")
            yield Captioned(image, caption)

    def _rows(self) -> Iterator[tuple[Any, Any]]:
        suffix = self.table.suffix.lower()
        if suffix in (".parquet", ".pq"):
            return self._parquet()
        if suffix in (".jsonl", ".ndjson"):
            return self._json_lines()
        return self._delimited("\t" if suffix == ".tsv" else ",")

    def _delimited(self, delimiter: str) -> Iterator[tuple[Any, Any]]:
        with self.table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            self._require(rows.fieldnames or ())
            image, caption = self.columns
            for row in rows:
                yield row[image], row[caption]

    def _json_lines(self) -> Iterator[tuple[Any, Any]]:
        image, caption = self.columns
        with self.table.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file):
                try:
                    row = json.loads(line)
                    yield row[image], row[caption]
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    raise CondsimError(
                        f"{self.table}: line {number + 1}: expected an object with {image!r} and {caption!r}: {error}"
                    ) from None

    def _parquet(self) -> Iterator[tuple[Any, Any]]:
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.table)
        except Exception as error:  # pyarrow raises many unrelated types; the file cannot be read whatever it was
            raise CondsimError(f"{self.table} is no readable parquet table: {error}") from None
        self._require(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=8192, columns=list(self.columns)):
            image, caption = (batch.column(name).to_pylist() for name in self.columns)
            yield from zip(image, caption, strict=True)

    def _require(self, names: Iterable[str]) -> None:
        names = list(names)
        for column in self.columns:
            if column not in names:
                raise CondsimError(f"{self.table}: there is no column {column!r}. {did_you_mean(column, names)}")


class FolderCaptions:
    """Images with their caption in a text file of the same name beside them: ``a/7.jpg`` and ``a/7.txt``."""

    def __init__(self, folder: str | Path) -> None:
        self.images = Path(folder).expanduser()
        if not self.images.is_dir():
            raise CondsimError(f"{self.images} is no folder (expected images with a .txt caption beside each)")

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"folder": str(self.images)}

    def read(self, start: int = 0) -> Iterator[Captioned]:
        paths = sorted(path for path in self.images.rglob("*.txt") if path.is_file())
        for path in paths[start:]:
            image = next((p for s in sorted(IMAGE_SUFFIXES) if (p := path.with_suffix(s)).is_file()), None)
            if image is None:
                raise CondsimError(f"{path}: there is no image of the same name beside this caption")
            yield Captioned(image.relative_to(self.images).as_posix(), path.read_text(encoding="utf-8").strip())


class HubCaptions:
    """A Hugging Face dataset, streamed: WebDataset shards, parquet, or a data set of the hub.

    ``dataset`` holds the arguments of ``datasets.load_dataset`` (path: "webdataset", "parquet" or a hub name;
    data_files; split). The image column may hold images or the paths of images under ``images``; images that the
    data set carries are saved only where a relation of theirs is kept.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any],
        image: str = "jpg",
        caption: str = "txt",
        images: str | Path | None = None,
    ) -> None:
        self.dataset = {key: value for key, value in dataset.items() if value is not None}
        self.image, self.caption = image, caption
        self.images = Path(images).expanduser() if images else None

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"dataset": self.dataset, "columns": [self.image, self.caption]}

    def read(self, start: int = 0) -> Iterator[Captioned]:
        hugging_face: Any = import_module("datasets")  # by name: type checkers take our own folder for it
        try:
            data = hugging_face.load_dataset(**{"split": "train", **self.dataset}, streaming=True)
            names = data.column_names or list(next(iter(data)))
        except Exception as error:  # the library raises whatever its builders and the network raise
            raise CondsimError(f"Hugging Face datasets cannot stream {self.dataset}: {error}") from None
        for column in (self.image, self.caption):
            if column not in names:
                raise CondsimError(f"{self.dataset}: there is no column {column!r}. {did_you_mean(column, names)}")
        if isinstance((data.features or {}).get(self.image), hugging_face.Image):
            data = data.cast_column(self.image, hugging_face.Image(decode=False))
        data = data.select_columns([c for c in (self.image, self.caption, "__key__") if c in names])
        for row, example in enumerate(data.skip(start), start):
            yield self._captioned(row, example)

    def _captioned(self, row: int, example: Mapping[str, Any]) -> Captioned:
        cell, caption = example[self.image], example[self.caption]
        caption = caption.decode("utf-8", "replace") if isinstance(caption, bytes) else caption
        if isinstance(cell, str):
            return Captioned(cell, str(caption))
        content = cell if isinstance(cell, bytes) else (cell or {}).get("bytes")
        if content is None:
            raise CondsimError(f"{self.dataset}: row {row}: the column {self.image!r} holds neither image nor path")
        return Captioned(f"{row // 10_000:05d}/{row:09d}.{_format(content)}", str(caption), content)


def _format(content: bytes) -> str:
    """The file suffix of an encoded image, by its first bytes."""
    for magic, suffix in ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"), (b"GIF8", "gif")):
        if content.startswith(magic):
            return suffix
    return "img"
