"""Sources of captions: a table, a folder, or a streamed Hugging Face dataset, read one caption at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

from condsim.datasets.image_files import image_suffix, relative_file, shown_path
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.json_files import read_text
from condsim.harness.files.tables import (
    JSON_LINES,
    PARQUET,
    is_missing,
    read_json_lines,
    read_rows,
    require_columns,
    unreadable_parquet,
)
from condsim.harness.images import IMAGE_SUFFIXES
from condsim.harness.names import clean_label, clean_path, unusable_character


@dataclass(frozen=True)
class Captioned:
    """One caption and its image."""

    image: str
    """Path relative to the source's image folder, or the key under which ``content`` is saved."""
    caption: str
    content: bytes | None = None
    """The encoded image, if the source contains it; None if it is a file already."""


class CaptionSource(Protocol):
    """Captions in a fixed order. Rows without a caption (None, NaN, blanks) are left out and counted in ``blank``."""

    blank: int
    """Number of rows without a caption that the last ``read`` has passed."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings that identify this source; an interrupted run resumes only if they are the same."""
        ...

    @property
    def images(self) -> Path | None:
        """The folder that image paths start from; None if the source contains the images."""
        ...

    def read(self, start: int = 0) -> Iterator[Captioned]:
        """Yield the captions from number ``start`` on."""
        ...


class TableCaptions:
    """A CSV, TSV, JSON-lines or parquet table with a column of image paths and one of captions.

    In a TSV file a quote is an ordinary character.
    """

    def __init__(
        self, table: str | Path, images: str | Path | None = None, image: str = "image", caption: str = "caption"
    ) -> None:
        self.table = Path(table).expanduser()
        self.images = Path(images).expanduser() if images else self.table.parent
        self.columns = (clean_label(image), clean_label(caption))
        self.blank = 0
        if not self.table.is_file():
            raise CondsimError(f"{self.table} does not exist (expected {TABLE})")

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"table": str(self.table), "columns": list(self.columns), "bytes": self.table.stat().st_size}

    def read(self, start: int = 0) -> Iterator[Captioned]:
        return islice(self._captioned(), start, None)

    def _captioned(self) -> Iterator[Captioned]:
        self.blank = 0
        for row, (image, caption) in enumerate(self._rows(), 1):
            where = f"{self.table}: row {row}"
            if text := _caption(caption, f"{where}: {self.columns[1]}"):
                yield Captioned(relative_file(image, f"{where}: {self.columns[0]}", self.images), text)
            else:
                self.blank += 1

    def _rows(self) -> Iterator[tuple[Any, Any]]:
        suffix = self.table.suffix.lower()
        if suffix in PARQUET:
            return self._parquet()
        if suffix in JSON_LINES:
            return self._json_lines()
        return self._delimited()

    def _delimited(self) -> Iterator[tuple[Any, Any]]:
        rows = read_rows(self.table, TABLE)
        image, caption = self._places(next(rows))
        for row in rows:
            yield row[image], row[caption]

    def _json_lines(self) -> Iterator[tuple[Any, Any]]:
        image, caption = self.columns
        for number, row in read_json_lines(self.table, TABLE, constants=True):
            cells = {clean_label(name): value for name, value in row.items()}
            require_columns(cells, self.columns, f"{self.table}, line {number}")
            yield cells[image], cells[caption]

    def _parquet(self) -> Iterator[tuple[Any, Any]]:
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.table)
            names = file.schema_arrow.names
        except Exception as error:  # pyarrow raises many unrelated types; all mean that the file cannot be read
            raise unreadable_parquet(self.table, TABLE, error) from None
        columns = [names[place] for place in self._places([clean_label(name) for name in names])]
        batches = file.iter_batches(batch_size=8192, columns=columns)
        for batch in _guarded(batches, lambda _, error: unreadable_parquet(self.table, TABLE, error)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)

    def _places(self, names: list[str]) -> list[int]:
        require_columns(names, self.columns, str(self.table))
        return [names.index(column) for column in self.columns]


TABLE = "a CSV, TSV, JSON-lines or parquet table of image paths and captions"


class FolderCaptions:
    """Images, each with its caption in a text file of the same name in the same folder: ``a/7.jpg``, ``a/7.txt``."""

    def __init__(self, folder: str | Path) -> None:
        self.images = Path(folder).expanduser()
        self.blank = 0
        if not self.images.is_dir():
            raise CondsimError(f"{self.images} is not a folder (expected images with a .txt caption beside each)")

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"folder": str(self.images)}

    def read(self, start: int = 0) -> Iterator[Captioned]:
        return islice(self._captioned(), start, None)

    def _captioned(self) -> Iterator[Captioned]:
        self.blank = 0
        files = sorted(path for path in self.images.rglob("*") if path.is_file())
        by_suffix = sorted(files, key=lambda path: path.suffix.lower(), reverse=True)
        images = {_beside(path): path for path in by_suffix if path.suffix.lower() in IMAGE_SUFFIXES}
        for path in files:
            if path.suffix.lower() != ".txt":
                continue
            image = images.get(_beside(path))
            if image is None:
                raise CondsimError(f"{shown_path(path)}: there is no image of the same name beside this caption")
            name = image.relative_to(self.images).as_posix()
            if fault := unusable_character(name):
                raise CondsimError(f"{shown_path(image)}: the name holds {fault}: rename the file")
            if text := _caption(read_text(path, "the caption of the image of the same name"), str(path)):
                yield Captioned(name, text)
            else:
                self.blank += 1


def _beside(path: Path) -> tuple[Path, str]:
    """A key that an image and its caption share."""
    return path.parent, clean_path(path.stem)


class HubCaptions:
    """A streamed Hugging Face dataset: WebDataset shards, parquet, or a dataset of the hub.

    ``dataset`` holds the arguments of ``datasets.load_dataset`` (path: "webdataset", "parquet" or a hub name;
    data_files; split). The image column holds images, or paths of images under ``images``. Images from the dataset are
    saved only if a relation of their caption is kept.
    """

    def __init__(
        self, dataset: Mapping[str, Any], image: str = "jpg", caption: str = "txt", images: str | Path | None = None
    ) -> None:
        self.dataset = {key: value for key, value in dataset.items() if value is not None}
        self.image, self.caption = image, caption
        self.blank = 0
        self.images = Path(images).expanduser() if images else None

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"dataset": self.dataset, "columns": [self.image, self.caption]}

    def read(self, start: int = 0) -> Iterator[Captioned]:
        return islice(self._captioned(), start, None)

    def _captioned(self) -> Iterator[Captioned]:
        self.blank = 0
        hugging_face: Any = import_module("datasets")  # by name: type checkers would find our own folder datasets/
        try:
            data = hugging_face.load_dataset(**{"split": "train", **self.dataset}, streaming=True)
            names = data.column_names or list(next(iter(data), {}))
        except Exception as error:  # the library raises whatever its builders and the network raise
            raise CondsimError(f"Hugging Face datasets cannot stream {self.dataset}: {error}") from None
        for column in (self.image, self.caption):
            if column not in names:
                raise CondsimError(f"{self.dataset}: there is no column {column!r}. {did_you_mean(column, names)}")
        if isinstance((data.features or {}).get(self.image), hugging_face.Image):
            data = data.cast_column(self.image, hugging_face.Image(decode=False))
        data = data.select_columns([c for c in (self.image, self.caption, "__key__") if c in names])
        for row, example in enumerate(_guarded(data, self._unreadable)):
            where = f"{self.dataset}: row {row + 1}"
            if text := _caption(example[self.caption], f"{where}: {self.caption}"):
                image, content = self._image(row, example[self.image], where)
                yield Captioned(image, text, content)
            else:
                self.blank += 1

    def _unreadable(self, row: int, error: Exception) -> CondsimError:
        return CondsimError(f"{self.dataset}: row {row + 1} cannot be read: {error}")

    def _image(self, row: int, cell: object, where: str) -> tuple[str, bytes | None]:
        """The name of an image and, if the dataset contains it, its bytes."""
        if isinstance(cell, str):
            return relative_file(cell, f"{where}: {self.image}", self.images), None
        content = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if not isinstance(content, bytes):
            raise CondsimError(f"{where}: the column {self.image!r} holds neither an image nor a path")
        return f"{row // 10_000:05d}/{row:09d}.{_suffix(content)}", content


def _guarded(items: Iterable[Any], fault: Callable[[int, Exception], CondsimError]) -> Iterator[Any]:
    """The items; raises the ``fault`` of an item's number where a library raises anything while it reads."""
    iterator = iter(items)
    for number in count():
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise fault(number, error) from None
        yield item


def _caption(cell: object, where: str) -> str:
    """The caption in a cell; empty if there is none. Raises CondsimError for a cell that is not text."""
    if isinstance(cell, bytes):
        try:
            cell = cell.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CondsimError(f"{where}: byte {error.start} of the caption is not UTF-8 text") from None
    if is_missing(cell):
        return ""
    if not isinstance(cell, str):
        raise CondsimError(f"{where}: expected a caption as text, found {ascii(cell)[:80]}")
    if any("\ud800" <= letter <= "\udfff" for letter in cell):
        raise CondsimError(f"{where}: the caption is not UTF-8 text")
    return cell.strip()


def _suffix(content: bytes) -> str:
    """The usual suffix for an encoded image, from its first bytes."""
    return "jpg" if content.startswith(b"\xff\xd8") else image_suffix(content)
