"""Writing the files that a user chose a name for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.files.writing import atomic


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """``atomic``. Raises CondsimError where the file cannot be written."""
    try:
        with atomic(path) as scratch:
            yield scratch
    except OSError as error:
        raise CondsimError(f"{path} cannot be written: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all. Raises CondsimError where it cannot be written."""
    with written(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
