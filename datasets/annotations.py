"""Strict reading of annotation files: a fault is one message that names the file, the entry and the expectation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.task import OnError

Raw = TypeVar("Raw")
Read = TypeVar("Read")
Schema = TypeVar("Schema", bound="Entry")


def _printable(text: object) -> object:
    if isinstance(text, str) and not text.isprintable():
        raise ValueError("Input should be printable text on one line")
    return text


Line = Annotated[str, BeforeValidator(_printable)]
"""Printable text on one line. It may be blank: entry 1387 of CIRR's test1 is captioned " "."""
Text = Annotated[str, BeforeValidator(_printable), Field(pattern=r"\S")]
"""Words, such as a condition: printable and not blank."""
ImageName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""An image's id as it stands in a file name: nothing in it can lead out of the image folder."""


class Entry(BaseModel):
    """One entry of an annotation file. Types are strict (no "3" for 3); keys that we do not read are left alone."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def read_json(path: Path, what: str) -> Any:
    """The value of a JSON file. Refuses what the json module lets pass: NaN, Infinity, and a key that stands twice."""

    def refuse(message: str) -> NoReturn:
        raise CondsimError(f"{path}: {message} (expected {what})")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            keys = [key for key, _ in pairs]
            refuse(f"the key {next(key for key in keys if keys.count(key) > 1)!a} stands twice in one object")
        return out

    text = read_text(path, what)
    try:
        return json.loads(
            text, object_pairs_hook=unique, parse_constant=lambda name: refuse(f"{name} is not a JSON number")
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
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CondsimError(f"{path} does not exist (expected {what})") from None
    except OSError as error:
        raise CondsimError(f"{path} cannot be read: {error.strerror or error} (expected {what})") from None
    except UnicodeDecodeError as error:
        raise CondsimError(f"{path}: byte {error.start} is not UTF-8 text (expected {what})") from None


def read_list(path: Path, what: str) -> list[Any]:
    """The entries of a JSON file that is one list, at least one of them."""
    value = read_json(path, what)
    if not isinstance(value, list):
        raise CondsimError(f"{path}: expected {what}, found {shown(value)}")
    if not value:
        raise CondsimError(f"{path}: the list is empty (expected {what})")
    return value


def read_frame(path: Path, what: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV (every cell as text, an empty cell stays empty text) or parquet table that has ``columns``."""
    if path.suffix.lower() in (".parquet", ".pq") and path.is_file():
        try:
            frame = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises a dozen unrelated types; whatever it was, this file cannot be read
            reason = str(error).splitlines()[0]
            raise CondsimError(f"{path} is no readable parquet table: {reason} (expected {what})") from None
    else:
        frame = _read_csv(path, what)
    frame.columns = frame.columns.map(str)
    require_columns(frame, columns, str(path))
    if frame.empty:
        raise CondsimError(f"{path}: the table has no rows (expected {what})")
    return frame


def _read_csv(path: Path, what: str) -> pd.DataFrame:
    """Every cell as text. Pandas' own reader would quietly drop what a row has too much."""
    reader = csv.reader(io.StringIO(read_text(path, what), newline=""), strict=True)
    try:
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise CondsimError(f"{path}: malformed CSV at line {reader.line_num}: {error} (expected {what})") from None
    if not rows:
        raise CondsimError(f"{path} is empty (expected {what})")
    header, *body = rows
    for i, row in enumerate(body):
        if len(row) != len(header):
            raise CondsimError(f"{path}: row {i} has {len(row)} cells, but the header has {len(header)}")
    return pd.DataFrame(body, columns=header, dtype=object)


def require_columns(frame: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    for column in columns:
        count = int((frame.columns == column).sum())
        if count == 0:
            raise CondsimError(f"{where}: there is no column {column!r}. {did_you_mean(column, frame.columns)}")
        if count > 1:
            raise CondsimError(f"{where}: the column {column!r} stands {count} times")


def validate(schema: type[Schema], raw: object, where: str) -> Schema:
    """``raw`` as a ``schema``, or one message: ``where``, the place in the entry, the expectation, what was found."""
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).lstrip(".")
        message = first["msg"].removeprefix("Value error, ")
        raise CondsimError(
            f"{where}: {place + ': ' if place else ''}{message}, found {shown(first['input'])}"
        ) from None


def keep_valid(
    raws: Iterable[Raw], read: Callable[[int, Raw], Read], on_error: OnError
) -> tuple[list[Read], tuple[str, ...]]:
    """``read(index, raw)`` of every entry, and the messages of those left out.

    The first entry that ``read`` refuses ends it, unless the user asked for ``on_error="skip"``.
    """
    if on_error not in ("raise", "skip"):
        raise CondsimError(f"on_error is {on_error!r}. {did_you_mean(str(on_error), ('raise', 'skip'))}")
    kept: list[Read] = []
    skipped: list[str] = []
    for index, raw in enumerate(raws):
        try:
            kept.append(read(index, raw))
        except CondsimError as error:
            if on_error == "raise":
                raise CondsimError(f"{error}. With benchmark.on_error=skip such entries are left out") from None
            skipped.append(str(error))
    return kept, tuple(skipped)


def shown(value: object, limit: int = 80) -> str:
    """``value`` for a message: its type where it is a container, plain ASCII, never long."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
