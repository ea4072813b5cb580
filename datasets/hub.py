"""Images and labels through Hugging Face ``datasets``, written once as files, because an image table holds paths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from condsim.datasets.image_files import image_suffix
from condsim.harness.errors import CondsimError
from condsim.harness.files.hashing import stamp_of
from condsim.harness.files.paths import cache_folder
from condsim.harness.files.tables import require_columns
from condsim.harness.files.writing import atomic_folder

TABLE = "table.parquet"
hugging_face: Any = import_module("datasets")  # by name, since type checkers take our own folder for it


def export_images(
    arguments: Mapping[str, str], image_column: str = "image", cache_dir: str | None = None
) -> tuple[Path, pd.DataFrame]:
    """(folder, table) of a dataset: its images as files of the folder, its other columns beside their names.

    ``arguments`` are those of ``datasets.load_dataset``; ``split`` is required. A cell without an image is None in the
    table; bytes that do not decode are written as they are, so that they are reported like any damaged file. The folder
    is filled beside its place in the cache and renamed into it, so a killed export leaves no incomplete folder there.
    """
    data = _load(arguments)
    require_columns(data.column_names, [image_column], f"dataset {arguments.get('path')}")
    cells = _image_cells(data, image_column, f"dataset {arguments.get('path')}")
    content = f"{data._fingerprint}|{image_column}|{_stamps(cells)}"
    key = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    cache = cache_folder(cache_dir)
    folder = cache / "images" / key
    if not (folder / TABLE).is_file():
        with atomic_folder(folder) as scratch:
            _export(data, image_column, cells, scratch, f"dataset {arguments.get('path')}")
    return folder, pd.read_parquet(folder / TABLE)


def _load(arguments: Mapping[str, str]) -> Any:
    given = {key: value for key, value in arguments.items() if value is not None}
    if "path" not in given or "split" not in given:
        raise CondsimError(
            "benchmark.dataset needs a path (a hub name, imagefolder or parquet) and a split (test, ...)"
        )
    try:
        return hugging_face.load_dataset(**given)
    except Exception as error:  # the library raises whatever its builders and the network raise
        options = ", ".join(f"{key}={value}" for key, value in given.items())
        raise CondsimError(f"Hugging Face datasets cannot load {options}: {error}") from None


def _image_cells(data: Any, image_column: str, where: str) -> Any:
    """The images, not decoded: each cell has "bytes" or the "path" of a file."""
    if not isinstance(data.features[image_column], hugging_face.Image):
        raise CondsimError(f"{where}: the column {image_column!r} holds no images but {data.features[image_column]}")
    return data.select_columns([image_column]).cast_column(image_column, hugging_face.Image(decode=False))


def _stamps(cells: Any) -> list[object]:
    """Path and stamp of every image that is a file of its own: the dataset's fingerprint does not depend on it."""
    (column,) = cells.with_format("arrow")[:].columns
    paths = pc.struct_field(column, "path").filter(pc.is_null(pc.struct_field(column, "bytes"))).to_pylist()
    stamps: list[object] = []
    for path in filter(None, paths):
        with suppress(OSError, ValueError):  # where it cannot be read, the export says why
            stamps.append((path, stamp_of(path)))
    return stamps


def _export(data: Any, image_column: str, cells: Any, folder: Path, where: str) -> None:
    columns: dict[str, list[Any]] = {
        image_column: [
            _write_image(cell, folder, i, f"{where}: row {i + 1}") for i, cell in enumerate(cells[image_column])
        ]
    }
    for column, feature in data.features.items():
        if isinstance(feature, hugging_face.ClassLabel):
            columns[column] = [
                feature.int2str(value) if value is not None and value >= 0 else None for value in data[column]
            ]
        elif not isinstance(feature, hugging_face.Image):
            columns[column] = list(data[column])
    pd.DataFrame(columns).to_parquet(folder / TABLE)


def _write_image(cell: Any, folder: Path, number: int, where: str) -> str | None:
    """Write the image's bytes as they are; returns the file's name, None where the cell holds no image.

    Raises CondsimError for a path that cannot be read: a later export may find it, so none is kept without it.
    """
    content = cell.get("bytes") if isinstance(cell, Mapping) else None
    if content is None and isinstance(cell, Mapping) and cell.get("path"):
        try:
            content = Path(cell["path"]).read_bytes()
        except (OSError, ValueError) as error:
            raise CondsimError(f"{where}: the image {cell['path']!a} cannot be read: {error}") from None
    if content is None:
        return None
    name = f"{number:08d}.{image_suffix(content)}"
    (folder / name).write_bytes(content)
    return name
