"""Strict schemas of annotation files: a fault is one message that names the file, the entry and the expectation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from condsim.harness.errors import CondsimError, require_one_of
from condsim.harness.files.json_files import read_json, read_text
from condsim.harness.names import clean_label, unusable_character
from condsim.harness.task import OnError

Handling = OnError | Literal["survey"]
"""What happens to a faulty entry or a missing image: ``on_error`` as the user sets it, or "survey" (``condsim check``):
faulty entries are left out as with "skip", missing images stay in the task."""
Raw = TypeVar("Raw")
Read = TypeVar("Read")
Schema = TypeVar("Schema", bound="Entry")


def _one_line(text: object) -> object:
    if isinstance(text, str) and (fault := unusable_character(text)):
        raise ValueError(f"Input should be text on one line without {fault}")
    return text


def _words(text: object) -> object:
    return clean_label(text) if isinstance(text, str) else text


Line = Annotated[str, BeforeValidator(_one_line)]
"""Text on one line, unchanged. It may be blank: entry 1387 of CIRR's test1 is captioned " "."""
Text = Annotated[str, BeforeValidator(_words), BeforeValidator(_one_line), Field(min_length=1)]
"""Words, such as a condition, in the spelling of ``clean_label``; not blank."""
ImageName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""An image's id as part of a file name: it cannot lead out of the image folder."""


class Entry(BaseModel):
    """One entry of an annotation file. Types are strict (no "3" for 3); keys that we do not read are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def read_list(path: Path, what: str) -> list[Any]:
    """The entries of a JSON file that is one list, at least one of them."""
    value = read_json(path, what)
    if not isinstance(value, list):
        raise CondsimError(f"{path}: expected {what}, found {shown(value)}")
    if not value:
        raise CondsimError(f"{path}: the list is empty (expected {what})")
    return value


def read_name_lists(path: Path, count: int, names: str, entry: str) -> list[list[str]]:
    """A JSON file with one list of ``names`` ("labels") for each of ``count`` entries, which are a ``entry`` each."""
    value = read_json(path, f"a list of lists of {names}, one list per {entry}")
    if not isinstance(value, list) or len(value) != count:
        raise CondsimError(f"{path}: expected {count} lists of {names}, one per {entry}, found {shown(value)}")
    for i, own in enumerate(value):
        if not isinstance(own, list) or not all(isinstance(name, str) and name.strip() for name in own):
            raise CondsimError(f"{path}: entry {i}: expected a list of {names}, found {shown(own)}")
    return value


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
    raws: Iterable[Raw], read: Callable[[int, Raw], Read], on_error: Handling
) -> tuple[list[Read], tuple[str, ...]]:
    """``read(index, raw)`` of every entry, and one message per entry that is left out.

    Raises CondsimError for the first entry that ``read`` refuses if ``on_error`` is "raise".
    """
    if on_error != "survey":
        require_one_of("benchmark.on_error", on_error, get_args(OnError))
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


def keep_some(
    raws: Iterable[Raw], read: Callable[[int, Raw], Read], on_error: Handling, path: Path, what: str = "query"
) -> tuple[list[Read], tuple[str, ...]]:
    """``keep_valid`` of the entries of the file ``path``. Raises CondsimError if none is left."""
    kept, skipped = keep_valid(raws, read, on_error)
    if not kept:
        reason = f"; the first fault: {skipped[0]}" if skipped else ""
        raise CondsimError(f"{path}: no {what} of it can be used{reason}")
    return kept, skipped


def read_each_line(
    path: Path, what: str, read: Callable[[str, str], Read], on_error: Handling
) -> tuple[list[Read], tuple[str, ...]]:
    """``read(where, line)`` of the lines of a text file that are not blank, and one message per line that is left out.

    ``where`` is file and number, from 1, for messages. Raises CondsimError if no line is left, else as ``keep_valid``.
    """
    numbered = enumerate(read_text(path, what).splitlines(), 1)
    raws = [(f"{path}, line {number}", line) for number, line in numbered if line.strip()]
    lines, skipped = keep_valid(raws, lambda _, raw: read(*raw), on_error)
    if not lines:
        raise CondsimError(
            f"{path}: there is no line to use (expected {what})" + (f"; {skipped[0]}" if skipped else "")
        )
    return lines, skipped


def shown(value: object, limit: int = 80) -> str:
    """``value`` for a message: its type where it is a container, plain ASCII, never long."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
