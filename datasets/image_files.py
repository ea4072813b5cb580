"""The user's image files: the folders that options name, and the files in them that tables name."""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from condsim.datasets.annotations import Handling
from condsim.harness.errors import CondsimError
from condsim.harness.files.tables import is_missing
from condsim.harness.images import IMAGE_SUFFIXES
from condsim.harness.names import clean_path, unusable_character
from condsim.harness.task import ImageTable, Task
from condsim.harness.variants.without_images import without_images

_FORMAT_SUFFIXES = {"MPO": "jpeg", "JPEG2000": "jp2"}


def folder_of(value: str | Path | None, option: str, what: str) -> Path:
    """The existing folder that ``option`` names."""
    if value is None or str(value) == "":
        raise CondsimError(f"{option} is not set: it should name {what}")
    path = Path(value).expanduser()
    if not path.is_dir():
        raise CondsimError(f"{option}={path} is not a folder: it should be {what}")
    return path


def inner(folder: Path, *names: str) -> Path:
    """The first of its subfolders ``names`` that exists, else ``folder`` itself."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def required_images(value: str | None, what: str, on_error: Handling, option: str = "benchmark.images") -> Path:
    """The existing folder of images that ``option`` names.

    With "survey" it need not exist, and where it is not set the path says so.
    """
    if on_error == "survey":
        return Path(value).expanduser() if value else Path(f"{option} is not set")
    return folder_of(value, option, what)


def image_folder(value: str | None, what: str, on_error: Handling) -> Path | None:
    """``required_images``; None where it is not set: then no image is looked up, to run from precomputed features."""
    return required_images(value, what, on_error) if value or on_error == "survey" else None


class ImageIndex(dict[str, str]):
    """File name -> path relative to a folder, of the image files in it."""

    @cached_property
    def by_folded_name(self) -> Mapping[str, str]:
        return {name.casefold(): name for name in self}


def image_index(root: Path, subfolders: Sequence[str] = ()) -> ImageIndex:
    """The image files in ``root`` and in those ``subfolders`` that exist.

    One listing per folder, because a look-up of each of 100,000 files is slow on a network disk.
    """
    found = ImageIndex()
    for prefix in ("", *(f"{name}/" for name in subfolders)):
        if not (root / prefix).is_dir():
            continue
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_SUFFIXES):
                    found.setdefault(entry.name, prefix + entry.name)
    return found


def require_image(name: str, index: Mapping[str, str] | None, root: Path, where: str, on_error: Handling) -> None:
    """Raises CondsimError where ``name`` is not in the ``index`` of ``root``; None and "survey" skip the look-up."""
    if index is None or name in index or on_error == "survey":
        return
    twin = index.by_folded_name.get(name.casefold()) if isinstance(index, ImageIndex) else None
    hint = f" (there is {twin}, which differs in case)" if twin else ""
    raise CondsimError(f"{where}: the image {name} is not in {root}{hint}. `condsim check` lists every missing image")


def moved(names: Iterable[str], index: Mapping[str, str] | None) -> dict[str, str]:
    """Those of ``names`` whose file is at another place than its name says, and where (``ImageTable.files``)."""
    return {name: index[name] for name in names if index.get(name, name) != name} if index else {}


def missing_images(images: ImageTable, named: Mapping[str, int], table: str) -> dict[int, str]:
    """Row -> what is wrong, of the images without a file that are ``named`` (image -> its row in the ``table``)."""
    return {
        row: f"there is no such file (row {named[name] + 1} of {table})"
        for row, name in enumerate(images.names)
        if name in named and not images.path(row).is_file()
    }


def files_below(root: Path) -> dict[str, str]:
    """Every file below ``root``: its relative path in the spelling of ``clean_path`` -> the relative path on disk.

    One listing per folder, because a look-up of each of 750,000 files is slow on a network disk.
    """
    found: dict[str, str] = {}
    for folder, _, names in os.walk(root, followlinks=True):
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for name in names:
            path = posixpath.normpath(prefix + name)
            found.setdefault(clean_path(path), path)
    return found


def index_below(root: Path, *folders: str) -> dict[str, str]:
    """Every file below the first of ``folders`` that exists in ``root``, else below ``root``: its path there -> its
    path below ``root``."""
    folder = next((f"{folder}/" for folder in folders if (root / folder).is_dir()), "")
    return {name: folder + path for name, path in files_below(root / folder).items()}


def with_files(task: Task, index: Mapping[str, str] | None, on_error: Handling, expected: str) -> Task:
    """``task`` if every image of it is in ``index`` (None: none is looked up); with "skip" the task without the others.

    ``expected``: what the image folder should be, for the message.
    """
    if index is None or on_error == "survey":
        return task
    missing = [row for row, name in enumerate(task.images.names) if name not in index]
    if missing and on_error == "raise":
        raise CondsimError(
            f"{task.full_name}: {len(missing):,} of its {len(task.images):,} images are not in {task.images.root}; the "
            f"first: {task.images.names[missing[0]]} (expected {expected}). `condsim check` lists every missing image, "
            "and with benchmark.on_error=skip they are left out"
        )
    return without_images(task, dict.fromkeys(missing, "there is no such file")) if missing else task


class NamedFiles:
    """The files below ``root`` that a table names, where the two spell a name differently.

    A name with "é" as one letter finds the file whose "é" is a letter and an accent (macOS), and ``a/b.png`` finds a
    file of the one name ``a\\b.png`` (an archive from Windows, unpacked elsewhere). Each folder is listed at most once,
    and only where a name is not there as it is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, str] = {}
        """Name -> path relative to ``root``, of those that differ (``ImageTable.files``)."""
        self._listings: dict[str, tuple[dict[str, str], dict[str, str]]] = {}

    def require(self, name: str, where: str) -> None:
        """Raises CondsimError where there is no file ``name``; the message names one that differs in case."""
        if not self.find(name):
            twin = self._resolve(name, folded=True)
            hint = f"; there is {twin}, which differs in case" if twin else ""
            raise CondsimError(f"{where}: the image {name} is not in {self.root}{hint}")

    def find(self, name: str) -> bool:
        """Whether there is a file ``name``, in whatever spelling (see ``files``)."""
        if (self.root / name).is_file():
            return True
        file = self._resolve(name)
        if file is not None:
            self.files[name] = file
        return file is not None

    def _resolve(self, name: str, folded: bool = False) -> str | None:
        place, rest = "", name
        while True:
            listing = self._listing(place)[folded]
            whole = listing.get(rest.casefold() if folded else rest)
            if whole is not None and (self.root / place / whole).is_file():
                return place + whole
            head, slash, rest = rest.partition("/")
            entry = listing.get(head.casefold() if folded else head)
            if not slash or entry is None:
                return None
            place += f"{entry}/"

    def _listing(self, place: str) -> tuple[dict[str, str], dict[str, str]]:
        """The entries of a folder by their plain names and by those without case."""
        if place not in self._listings:
            folder = self.root / place
            entries = sorted(os.listdir(folder)) if folder.is_dir() else []
            plain = {clean_path(entry): entry for entry in entries}
            self._listings[place] = plain, {name.casefold(): entry for name, entry in plain.items()}
        return self._listings[place]


def relative_file(file: object, where: str, root: Path | None = None) -> str:
    """The relative path of an image file in the spelling of ``clean_path`` (``./dev/x.png`` is ``dev/x.png``).

    An absolute path below ``root`` is made relative. Raises CondsimError for a path that leads out of the image folder,
    and for characters that no name may hold. Any suffix is allowed: what Pillow cannot open is reported by its decoder.
    """
    if not isinstance(file, (str, os.PathLike)) or is_missing(file):
        found = "an empty cell" if is_missing(file) else ascii(file)[:80]
        raise CondsimError(f"{where}: expected the path of an image file, found {found}")
    text = str(file)
    if fault := unusable_character(text.strip()):
        raise CondsimError(f"{where}: the path {text!a} holds {fault}, which no image path may hold: rename the file")
    path = clean_path(text)
    if path.startswith("/") and root is not None:
        for base in (root, root.resolve()):
            prefix = clean_path(os.path.abspath(base)).rstrip("/") + "/"
            if posixpath.normpath(path).startswith(prefix):
                path = posixpath.normpath(path).removeprefix(prefix)
                break
    if path.startswith("/") or re.match("[A-Za-z]:/", path):
        raise CondsimError(
            f"{where}: the absolute path {text!a} is not below the image folder{f' {root}' if root else ''}: expected "
            "a path relative to it"
        )
    path = posixpath.normpath(path)
    if path == ".." or path.startswith("../"):
        raise CondsimError(f"{where}: the path {text!a} leads out of the image folder")
    if path == ".":
        raise CondsimError(f"{where}: expected the path of an image file, found {text!a}")
    return path


def shown_path(path: Path) -> str:
    """A path for a message, in ASCII where it holds what a terminal or a file of UTF-8 cannot show."""
    return ascii(str(path)) if unusable_character(str(path)) else str(path)


def image_suffix(content: bytes) -> str:
    """The usual suffix, without its dot, of an encoded image; "img" where Pillow does not know the format."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = str(image.format)
    except Exception:  # what is no image can raise nearly anything
        return "img"
    return _FORMAT_SUFFIXES.get(kind, kind.lower())
