"""Where things are kept, and how a file that ships inside a package is named."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

PACKAGE = "pkg://"
BESIDE_IMAGES = "images://"


def default_cache_dir() -> Path:
    """The folder of features and generated data: what CONDSIM_CACHE says, else ``~/.cache/condsim``."""
    return Path(os.environ.get("CONDSIM_CACHE") or "~/.cache/condsim").expanduser()


def resolve(name: str | Path, images: Path | None = None) -> Path:
    """The file that ``name`` means.

    A path (``~`` allowed), ``pkg://package.name/file`` for one inside a package, or ``images://file`` for one in the
    folder ``images`` of a task's images.
    """
    text = str(name)
    if images is not None and text.startswith(BESIDE_IMAGES):
        return images / text.removeprefix(BESIDE_IMAGES)
    if not text.startswith(PACKAGE):
        return Path(text).expanduser()
    package, _, file = text.removeprefix(PACKAGE).partition("/")
    return Path(str(files(package) / file))
