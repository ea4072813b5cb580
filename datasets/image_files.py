"""Where a user's files lie: the folders that options name, and the image files in them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


def folder_of(value: str | Path | None, option: str, what: str) -> Path:
    """The existing folder that ``option`` names."""
    if value is None or str(value) == "":
        raise CondsimError(f"{option} is not set: it should name {what}")
    path = Path(value).expanduser()
    if not path.is_dir():
        raise CondsimError(f"{option}={path} is not a folder: it should be {what}")
    return path


def image_index(root: Path, subfolders: Sequence[str] = ()) -> dict[str, str]:
    """File name -> path relative to ``root``, of the image files in ``root`` and in those ``subfolders`` that exist.

    One listing a folder, because asking for each of 100,000 files by name is slow on a network disk.
    """
    found: dict[str, str] = {}
    for prefix in ("", *(f"{name}/" for name in subfolders)):
        if not (root / prefix).is_dir():
            continue
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_SUFFIXES):
                    found.setdefault(entry.name, prefix + entry.name)
    return found


def require_image(name: str, index: Mapping[str, str] | None, root: Path, where: str) -> None:
    """Raises CondsimError where ``name`` is not in the ``index`` of ``root``; None looks nothing up."""
    if index is not None and name not in index:
        raise CondsimError(f"{where}: the image {name} is not in {root}. `condsim check` lists every missing image")


def moved(names: Iterable[str], index: Mapping[str, str] | None) -> dict[str, str]:
    """Those of ``names`` whose file is elsewhere than its name says, and where (``ImageTable.files``)."""
    return {name: index[name] for name in names if index.get(name, name) != name} if index else {}


def missing_images(images: ImageTable, named: Mapping[str, int], table: str) -> dict[int, str]:
    """Row -> what is wrong, of the images without a file that are ``named`` (image -> its row in the ``table``)."""
    return {
        row: f"there is no such file (row {named[name]} of {table})"
        for row, name in enumerate(images.names)
        if name in named and not images.path(row).is_file()
    }


def relative_file(file: object, where: str) -> str:
    """The relative path of an image file in plain form (``./dev/x.png`` as ``dev/x.png``), never out of its root."""
    if not isinstance(file, str) or not file.isprintable() or not file.lower().endswith(IMAGE_SUFFIXES):
        raise CondsimError(f"{where}: expected the path of an image file, found {ascii(file)[:80]}")
    path = posixpath.normpath(file)
    if path.startswith(("/", "../")) or "\\" in path or ":" in path:
        raise CondsimError(f"{where}: the path {file!a} leads out of the image folder")
    return path
