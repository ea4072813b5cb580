"""What is computed from records and kept in a file beside them, so that it is not computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from condsim.harness.files.hashing import json_digest
from condsim.harness.files.writing import atomic

Remember = Callable[[object, Callable[[], Any]], Any]
"""(everything that a result depends on, the function that computes it) -> the result. Both are values of JSON."""


@contextmanager
def kept_in(path: Path, notes: list[str]) -> Iterator[Remember]:
    """Give the function that reads results from the file ``path``, and computes those that it lacks.

    Afterwards the file holds the results that were used, and no others. A result is computed every time if computing it
    adds to ``notes``, or if the folder cannot be written to.
    """
    kept, used = _read(path), dict[str, Any]()

    def remember(depends_on: object, compute: Callable[[], Any]) -> Any:
        key = json_digest(depends_on)
        if key in kept:
            used[key] = kept[key]
            return used[key]
        before = len(notes)
        result = compute()
        if len(notes) == before:
            used[key] = result
        return result

    yield remember
    if used != kept:
        with suppress(OSError), atomic(path) as scratch:
            scratch.write_text(json.dumps({"digest": json_digest(used), "kept": used}), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """The kept results by key; nothing where the file is missing, damaged or of another form."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kept = content["kept"]
        return dict(kept) if content["digest"] == json_digest(kept) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
