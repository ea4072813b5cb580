"""What a setting may be: checks of values against types as annotations have them, and these types in words."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

LISTS, MAPPINGS = (list, tuple, Sequence), (dict, Mapping)
"""The origins of annotations such as ``list[int]`` and ``Mapping[str, Any]``."""


@dataclass(frozen=True)
class Range:
    """Bounds of a number."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    """As ``least``, but this bound itself is refused."""

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most and value > self.above

    def __str__(self) -> str:
        if self.above > -math.inf:
            return f" above {self.above:g}"
        if self.most < math.inf:
            return f" from {self.least:g} to {self.most:g}"
        return f" of at least {self.least:g}"


class NotEmpty:
    """A list with at least one entry."""


class MismatchError(Exception):
    """A value is not of the expected type; the message is what was expected."""


def convert(value: Any, expected: Any) -> Any:
    """``value`` as ``expected``, a type as annotations have it. Raises MismatchError."""
    for exact in (True, False):
        for member in members(expected):
            try:
                return _convert(value, member, exact)
            except MismatchError:
                continue
    raise MismatchError(describe(expected))


def _convert(value: Any, expected: Any, exact: bool) -> Any:
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is Any:
        return value
    if origin is Annotated:
        converted = convert(value, arguments[0])
        for bound in arguments[1:]:
            if isinstance(bound, Range) and not bound.holds(converted):
                raise MismatchError
            if isinstance(bound, NotEmpty) and not converted:
                raise MismatchError
        return converted
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif expected is type(None) or expected is None:
        if value is None:
            return None
    elif expected in (bool, int, str):
        if type(value) is expected:
            return value
    elif expected is float:
        if type(value) in (int, float) and math.isfinite(value):
            return value
    elif expected is Path:
        if isinstance(value, str) and value:
            return str(Path(value).expanduser()) if value.startswith("~") else value
    elif origin in LISTS:
        element = arguments[0] if arguments else Any
        if isinstance(value, list):
            return [convert(entry, element) for entry in value]
        if not exact and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return [convert(value, element)]
    elif origin in MAPPINGS:
        if isinstance(value, dict):
            return value
    else:
        return value  # a class of its own: what makes it checks it
    raise MismatchError


def describe(expected: Any) -> str:
    """A type in words: "a whole number of at least 1"."""
    parts = [_describe(member) for member in members(expected)]
    parts = list(dict.fromkeys(part for part in parts if part != "null")) + ["null"] * ("null" in parts)
    return " or ".join(parts)


def _describe(expected: Any) -> str:
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        words = describe(arguments[0])
        for bound in arguments[1:]:
            is_range = isinstance(bound, Range)
            words = f"{words}{bound}" if is_range else words.replace("list", "list with at least one entry", 1)
        return words
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in MAPPINGS:
        return "names with values, such as {a: b}"
    if origin is not None:
        element = describe(arguments[0]) if arguments else "value"
        example = "[1,2]" if {int, float} & set(members(arguments[0] if arguments else Any)) else "[a,b]"
        entries = {"a whole number": " of whole numbers", "a number": " of numbers"}.get(element, "")
        return f"a list{entries}, such as {example}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return "null" if expected in (None, type(None)) else names.get(expected, "a value")


def is_text(expected: Any) -> bool:
    """Whether a setting can only be text or a path (or null), so that its value is taken as typed."""
    kinds = set(members(expected)) - {type(None)}
    return bool(kinds) and kinds <= {str, Path}


def members(expected: Any) -> tuple[Any, ...]:
    """The types that a union allows, flat."""
    if get_origin(expected) in (Union, types.UnionType):
        return tuple(flat for member in get_args(expected) for flat in members(member))
    return (expected,)


def is_mapping(expected: Any) -> bool:
    return any(get_origin(member) in MAPPINGS for member in members(expected))


def is_list(expected: Any) -> bool:
    return element_of(expected) is not None


def element_of(expected: Any) -> Any:
    """The type of a list's entries; None where no list is expected."""
    for member in members(expected):
        while get_origin(member) is Annotated:
            member = get_args(member)[0]
        if get_origin(member) in LISTS:
            return (get_args(member) or (Any,))[0]
    return None


def inside(expected: Any, depth: int) -> Any:
    """The type of a value ``depth`` mappings deep."""
    for _ in range(depth):
        mapping = next((m for m in members(expected) if get_origin(m) in MAPPINGS), None)
        expected = get_args(mapping)[1] if mapping is not None and get_args(mapping) else Any
    return expected
