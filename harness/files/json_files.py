"""Strict reading of UTF-8 text and JSON. Each fault is one message that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from condsim.harness.errors import CondsimError, reading


def read_json(path: Path, what: str) -> Any:
    """The value of a JSON file. Refuses what the json module accepts: NaN, Infinity, and a duplicate key."""

    def refuse(message: str) -> NoReturn:
        raise CondsimError(f"{path}: {message} (expected {what})")

    return parse_json(read_text(path, what), refuse)


def parse_json(text: str, refuse: Callable[[str], NoReturn], constants: bool = False) -> Any:
    """The value of a JSON text. ``refuse`` raises an error with the given reason; ``constants``: NaN is a value."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            keys = [key for key, _ in pairs]
            refuse(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!a} in one object")
        return out

    try:
        return json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=float if constants else lambda name: refuse(f"{name} is not a JSON number"),
        )
    except json.JSONDecodeError as error:
        refuse(f"malformed or truncated JSON at line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        refuse("the JSON is nested too deeply")
    except ValueError as error:  # a number of thousands of digits
        refuse(f"malformed JSON: {error}")


def read_text(path: Path, what: str) -> str:
    """The text of a UTF-8 file."""
    try:
        with reading(path, what):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CondsimError(f"{path}: byte {error.start} is not UTF-8 text (expected {what})") from None
