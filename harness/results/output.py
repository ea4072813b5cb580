"""Writing the files that a user chose a name for."""

from __future__ import annotations

from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.files import atomic


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all. Raises CondsimError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CondsimError(f"{path} cannot be written: {error.strerror or error}") from None
