"""Where things are kept, and how a file that ships inside a package is named."""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files
from pathlib import Path

PACKAGE = "pkg://"
BESIDE_IMAGES = "images://"


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The folder of features and generated data: ``chosen``, else CONDSIM_CACHE, else ``~/.cache/condsim``."""
    return Path(chosen or os.environ.get("CONDSIM_CACHE") or "~/.cache/condsim").expanduser()


def safe_name(name: str, longest: int = 100) -> str:
    """``name`` as one part of a path that stays in its folder.

    Letters and digits of any script and ``-_=.,+`` stay. Names with anything else, a dot at the start, or more than
    ``longest`` bytes are cut and get a digest of the whole name, so that different names stay different.
    """
    safe = "".join(letter if letter.isalnum() or letter in "-_=.,+" else "_" for letter in name)
    safe = "_" + safe[1:] if safe.startswith(".") else safe
    if safe and safe == name and len(safe.encode()) <= longest:
        return safe
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{safe.encode()[: longest - 9].decode(errors='ignore')}-{digest}"


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
