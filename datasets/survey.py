"""What is found of a benchmark's files, part by part, beside what is expected: the answer of a loader's survey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from condsim.datasets.image_files import moved
from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable, Task

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
    name: str = ""
    """The benchmark's, where the survey has loaded it."""


def images_part(what: str, names: Sequence[str], root: Path | None, index: Mapping[str, str] | None) -> Part:
    """How many of the images ``names`` are in the ``index`` of the folder ``root``; None: there is no such folder."""
    if root is None or index is None:
        place = f"{root} is not a folder" if root else "benchmark.images is not set"
        return Part(what, place, None, len(names) or None)
    return Part(what, str(root), len(set(names) & index.keys()), len(names))


def located(names: Sequence[str], root: Path, index: Mapping[str, str]) -> ImageTable:
    """``names`` with the places of their files."""
    return ImageTable(root, names, files=moved(names, index))


def survey_lists(
    options: Options,
    read: Callable[[Path, Path | None], Sequence[Task]],
    expected: Mapping[str, int | None],
    index_images: Callable[[Path, tuple[str, ...]], Mapping[str, str]],
) -> Survey:
    """The survey of a benchmark whose lists are in the folder ``annotations``, or else in the folder ``images``.

    ``read``: (that folder, image folder or None) -> tasks, with no image looked up and faulty entries left out.
    ``expected``: published numbers by "queries" and "gallery" (of the largest task), "<task>: queries", or the name of
    the clusters ("instances"); None: not known. ``index_images``: (image folder, image names) -> where each image is.
    """
    folder, value = options.get("annotations") or options.get("images"), options.get("images")
    root = Path(value).expanduser() if value else None
    tasks: Sequence[Task] = ()
    problems: tuple[str, ...] = ()
    if folder:
        try:
            tasks = read(Path(folder).expanduser(), root if root is not None and root.is_dir() else None)
        except CondsimError as error:
            problems = (str(error),)
    found = {f"{task.name}: queries": len(task) for task in tasks}
    if tasks:
        found |= {
            "queries": max(len(task) for task in tasks),
            "gallery": max(len(task.gallery_rows) for task in tasks),
            **{f"{task.cluster_name}s": len(np.unique(task.clusters)) for task in tasks if task.clusters is not None},
        }
    place = str(Path(folder).expanduser()) if folder else "benchmark.annotations is not set"
    parts = tuple(Part(what, place, found.get(what), count) for what, count in expected.items())
    names = tuple(dict.fromkeys(name for task in tasks for name in task.images.names))
    index = index_images(root, names) if root is not None and root.is_dir() else None
    tables: tuple[ImageTable, ...] = ()
    if root is not None and index is not None:
        distinct = {id(task.images): task.images for task in tasks}.values()
        tables = tuple(replace(table, root=root, files=moved(table.names, index)) for table in distinct)
    problems += tuple(dict.fromkeys(message for task in tasks for message in task.skipped))
    return Survey((*parts, images_part("images", names, root, index)), tables, problems)
