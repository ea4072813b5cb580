"""Images and labels through Hugging Face ``datasets``: written once as files, since an image table holds paths."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from condsim.datasets.annotations import require_columns
from condsim.harness.errors import CondsimError
from condsim.harness.paths import default_cache_dir

TABLE = "table.parquet"
hugging_face: Any = import_module("datasets")  # by name, since type checkers take our own folder for it


def export_images(
    arguments: Mapping[str, str], image_column: str = "image", cache_dir: str | None = None
) -> tuple[Path, pd.DataFrame]:
    """(folder, table) of a dataset: its images as files of the folder, its other columns beside their names.

    ``arguments`` are those of ``datasets.load_dataset``; ``split`` has to be among them. The folder is filled beside
    its place in the cache and renamed into it, so a killed export leaves nothing that could be taken for a whole one.
    """
    data = _load(arguments)
    require_columns(pd.DataFrame(columns=data.column_names), [image_column], f"dataset {arguments.get('path')}")
    key = hashlib.blake2b(f"{data._fingerprint}|{image_column}".encode(), digest_size=8).hexdigest()
    cache = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    folder = cache / "images" / key
    if not (folder / TABLE).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            _export(data, image_column, scratch, f"dataset {arguments.get('path')}")
            scratch.chmod(0o755)
            os.replace(scratch, folder)
        except OSError:
            if not (folder / TABLE).is_file():  # else another process has just finished the same export
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
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
        told = ", ".join(f"{key}={value}" for key, value in given.items())
        raise CondsimError(f"Hugging Face datasets cannot load {told}: {error}") from None


def _export(data: Any, image_column: str, folder: Path, where: str) -> None:
    if not isinstance(data.features[image_column], hugging_face.Image):
        raise CondsimError(f"{where}: the column {image_column!r} holds no images but {data.features[image_column]}")
    cells = data.cast_column(image_column, hugging_face.Image(decode=False))[image_column]
    columns: dict[str, list[Any]] = {
        image_column: [_write_image(cell, folder, i, f"{where}: row {i}") for i, cell in enumerate(cells)]
    }
    for column, feature in data.features.items():
        if isinstance(feature, hugging_face.ClassLabel):
            columns[column] = [
                feature.int2str(value) if value is not None and value >= 0 else None for value in data[column]
            ]
        elif not isinstance(feature, hugging_face.Image):
            columns[column] = list(data[column])
    pd.DataFrame(columns).to_parquet(folder / TABLE)


def _write_image(cell: Any, folder: Path, number: int, where: str) -> str:
    """Write the image's bytes as they are; returns the file's name."""
    try:
        content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        suffix = str(Image.open(io.BytesIO(content)).format).lower()
    except (TypeError, OSError, Image.DecompressionBombError) as error:
        raise CondsimError(f"{where}: no image that can be read: {error}") from None
    name = f"{number:08d}.{suffix}"
    (folder / name).write_bytes(content)
    return name
