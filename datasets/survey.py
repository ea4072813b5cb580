"""What is found of a benchmark's files, part by part, beside what is expected: the answer of a loader's survey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condsim.datasets.image_files import moved
from condsim.harness.task import ImageTable

Options = Mapping[str, Any]
"""A benchmark's config, as its YAML and the user's overrides make it."""


@dataclass(frozen=True)
class Part:
    """A file or folder: how many entries it has, and how many are expected."""

    what: str
    place: str
    found: int | None
    """None: it is missing or cannot be read."""
    expected: int | None = None
    """None: nothing is published, or it is the user's own."""
    note: str = ""

    @property
    def complete(self) -> bool:
        return self.found is not None and (self.expected is None or self.found == self.expected)


@dataclass(frozen=True)
class Survey:
    """``tables``: every image that the benchmark needs, found or not. ``problems``: what a loader refuses."""

    parts: tuple[Part, ...]
    tables: tuple[ImageTable, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """``Benchmark.notes``."""


def images_part(what: str, names: tuple[str, ...], root: Path | None, index: Mapping[str, str] | None) -> Part:
    """How many of the images ``names`` are in the ``index`` of the folder ``root``; None: there is no such folder."""
    if root is None or index is None:
        place = f"{root} is not a folder" if root else "benchmark.images is not set"
        return Part(what, place, None, len(names) or None)
    return Part(what, str(root), len(set(names) & index.keys()), len(names))


def located(names: tuple[str, ...], root: Path, index: Mapping[str, str]) -> ImageTable:
    """``names`` with the places of their files."""
    return ImageTable(root, names, files=moved(names, index))
