"""Where things are kept, and how a file that ships inside a package is named."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

PACKAGE = "pkg://"


def default_cache_dir() -> Path:
    """The folder of features and generated data: what CONDSIM_CACHE says, else ``~/.cache/condsim``."""
    return Path(os.environ.get("CONDSIM_CACHE") or "~/.cache/condsim").expanduser()


def resolve(name: str | Path) -> Path:
    """The file that ``name`` means: a path (``~`` allowed), or ``pkg://package.name/file`` for one inside a package."""
    text = str(name)
    if not text.startswith(PACKAGE):
        return Path(text).expanduser()
    package, _, file = text.removeprefix(PACKAGE).partition("/")
    return Path(str(files(package) / file))
