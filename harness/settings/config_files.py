"""The YAML files of the config groups: their names, and the comments that describe them and their settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

PARTS = {"method": ("phrases",)}
"""Folders within a group that hold parts of its choices, and no choices."""
_DEFAULT = re.compile(r"^(?:defaults: \[|  - )(/?[\w/-]+)(?:@_here_)?(?:,.*)?$", re.M)
"""A config that another one starts from."""
_ENTRY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+): ?(?P<value>[^#]*?)(?:\s+#\s*(?P<comment>.*))?$")


def config_roots(folders: Sequence[str] = ()) -> list[Path]:
    """Where configs are searched, in order: the user's folders, then condsim's own."""
    return [*map(Path, folders), Path(str(files("condsim.conf")))]


def groups(folders: Sequence[str] = ()) -> list[str]:
    """Every config group, "method/phrases" among them."""
    names = set()
    for root in config_roots(folders):
        for folder in (path for path in root.iterdir() if path.is_dir() and path.name not in ("hydra", "__pycache__")):
            if next(folder.rglob("*.yaml"), None) is not None:
                names |= {folder.name, *(f"{folder.name}/{part}" for part in PARTS.get(folder.name, ()))}
    return sorted(names)


def choices_of(group: str, folders: Sequence[str] = ()) -> dict[str, Path]:
    """Choice -> its file, in the order of their names; choices in folders are "folder/choice"."""
    choices: dict[str, Path] = {}
    for root in config_roots(folders):
        for path in sorted((root / group).rglob("*.yaml")):
            name = path.relative_to(root / group).with_suffix("")
            if len(name.parts) == 1 or name.parts[0] not in PARTS.get(group, ()):
                choices.setdefault(name.as_posix(), path)
    return dict(sorted(choices.items(), key=lambda pair: ("/" in pair[0], pair[0].lower())))


def description(path: Path) -> str:
    """The comment at the head of a YAML file, one line per line; "" where there is none."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    return "\n".join(lines)


@cache
def comments(path: Path) -> dict[str, str]:
    """Setting, by its name within the file ("statistics.seed") -> the comment behind it, there or in its defaults."""
    text = path.read_text(encoding="utf-8", errors="replace")
    comment_of: dict[str, str] = {}
    for name in _DEFAULT.findall(text):
        places = (path.parent / f"{name}.yaml", *(root / f"{name.strip('/')}.yaml" for root in config_roots()))
        inherited = next((place for place in places if place.is_file() and place != path), None)
        comment_of |= comments(inherited) if inherited is not None else {}
    return comment_of | dict(_comments(text))


def _comments(text: str) -> Iterator[tuple[str, str]]:
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            continue
        indent = len(entry["indent"])
        above = [(depth, key) for depth, key in above if depth < indent]
        above.append((indent, entry["key"]))
        if entry["comment"]:
            yield ".".join(key for _, key in above), entry["comment"]
