"""YAML files of conditions and their values, read as words: `on`, `yes`, `12:30` and `3` are the text as written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from condsim.harness.errors import CondsimError

Values = tuple[str, ...]
_EXPECTED = "condition: [value, value, ...]"
_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


def read_entries(file: Path) -> dict[str, Values]:
    """Condition -> values. Raises CondsimError naming file, line and entry."""
    return _entries(file, _root(file))


def read_sections(file: Path) -> dict[str, dict[str, Values]]:
    """Section -> condition -> values, for a file of condsim's own with one more level."""
    quick = getattr(
        yaml, "CBaseLoader", yaml.BaseLoader
    )  # quicker, but not safe for a user's file: deep nesting may crash it
    return {name: _entries(file, node) for name, node in _pairs(file, _root(file, quick))}


def spelling(condition: str) -> str:
    """The form in which conditions are compared: lower case, single spaces."""
    return " ".join(condition.casefold().split())


def without_repeats(values: Iterable[str]) -> Values:
    """The values trimmed, in their order, without empty ones and repeats (upper and lower case are the same)."""
    first: dict[str, str] = {}
    for value in values:
        trimmed = " ".join(value.split())
        if trimmed:
            first.setdefault(trimmed.casefold(), trimmed)
    return tuple(first.values())


def _root(file: Path, loader: Any = yaml.BaseLoader) -> yaml.Node:  # with which every scalar is text
    try:
        root = yaml.compose(file.read_text(encoding="utf-8-sig"), loader)
    except FileNotFoundError:
        raise CondsimError(f"{file}: there is no such file; it should contain {_EXPECTED}") from None
    except RecursionError:
        raise CondsimError(f"{file}: nested too deep; expected {_EXPECTED}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CondsimError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())[:300]}") from None
    if root is None:
        raise CondsimError(f"{file}: is empty; expected {_EXPECTED}")
    return root


def _entries(file: Path, root: yaml.Node) -> dict[str, Values]:
    return {name: _values(file, name, node) for name, node in _pairs(file, root)}


def _pairs(file: Path, node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """The entries of a mapping, as nodes: an alias is never expanded, whatever it refers to."""
    if not isinstance(node, yaml.MappingNode) or node.tag not in _PLAIN:
        raise CondsimError(f"{_place(file, node)}: expected {_EXPECTED}, found {_found(node)}")
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = spelling(_text(file, "a condition", key))
        if name in lines:
            raise CondsimError(f"{_place(file, key)}: duplicate condition {name!r}, first in line {lines[name]}")
        lines[name] = key.start_mark.line + 1
        yield name, value


def _values(file: Path, name: str, node: yaml.Node) -> Values:
    if not isinstance(node, yaml.SequenceNode) or node.tag not in _PLAIN:
        raise CondsimError(f"{_place(file, node)}: {name!r}: expected a list of values, found {_found(node)}")
    values = without_repeats(_text(file, f"{name!r}: a value", value) for value in node.value)
    if len(values) < 2:
        raise CondsimError(
            f"{_place(file, node)}: {name!r}: expected at least two distinct values, found {len(values)}"
        )
    return values


def _text(file: Path, what: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN:
        raise CondsimError(f"{_place(file, node)}: {what} must be text, found {_found(node)}")
    text = " ".join(str(node.value).split())
    if not text or not text.isprintable():
        raise CondsimError(f"{_place(file, node)}: {what} must be printable text, found {node.value!r:.60}")
    return text


def _found(node: yaml.Node) -> str:
    if node.tag not in _PLAIN:
        return f"the tag {node.tag.removeprefix('tag:yaml.org,2002:')!r:.60}"
    if isinstance(node, yaml.ScalarNode):
        return f"the text {node.value!r:.60}"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _place(file: Path, node: yaml.Node) -> str:
    return f"{file}, line {node.start_mark.line + 1}"
