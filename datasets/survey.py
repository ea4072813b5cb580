"""What ``condsim check`` finds of a benchmark's files, part by part, beside what is published.

A benchmark is surveyed by loading it with ``on_error="survey"``: what is faulty is reported, and every image that a
task names is counted, whether it is there or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_method

from condsim.datasets.sources import PUBLISHED
from condsim.harness.errors import CondsimError
from condsim.harness.task import Benchmark, ImageTable, Task

_LISTS = ("annotations", "templates", "table", "queries", "images")
"""Settings that name a benchmark's lists."""


@dataclass(frozen=True)
class Part:
    """A file or folder: how many entries it has, and how many are expected."""

    what: str
    place: str
    found: int | None
    """None: it is missing or cannot be read."""
    expected: int | None = None
    """None: nothing is published, or it is the user's own."""

    @property
    def complete(self) -> bool:
        return self.found is not None and (self.expected is None or self.found == self.expected)


@dataclass(frozen=True)
class Survey:
    name: str
    """The benchmark's."""
    parts: tuple[Part, ...]
    tables: tuple[ImageTable, ...]
    """Every image that the benchmark needs, found or not, where its folder is set."""
    problems: tuple[str, ...]
    """What the loader refuses."""
    notes: tuple[str, ...]
    """``Benchmark.notes``, and what the loader says of a whole task, such as how many queries have no answer in it."""


def survey(config: Mapping[str, Any]) -> Survey:
    """Survey the files of the benchmark that ``config`` describes. Raises nothing: every error becomes a problem."""
    name = str(config.get("name") or "")
    published = _published(name, config)
    named = dict.fromkeys(what.split(": ")[0] for what in published if ": " in what)
    chosen = list(config.get("tasks") or ([config["split"]] if config.get("split") in named else named))
    loaded, problems = _load(config, chosen)
    name = loaded[0].name if loaded else name
    published = _published(name, config)
    tasks = [task for benchmark in loaded for task in benchmark.tasks]
    found = _counts(tasks)
    place = next((_place(config, setting) for setting in _LISTS if setting in config), str(config.get("_target_")))
    expected: dict[str, int | None] = {
        what: count for what, count in published.items() if ": " not in what or what.split(": ")[0] in chosen
    }
    for task in tasks:
        for counted in ("queries", *(["gallery"] if task.candidates is None else [])):
            if not expected.keys() & {counted, f"{task.name}: {counted}"}:
                expected[f"{task.name}: {counted}"] = None
    parts = [Part(what, place, found.get(what), count) for what, count in expected.items()]
    trained = [benchmark.train.images for benchmark in loaded if benchmark.train is not None]
    tables = tuple({id(table): table for table in (*(task.images for task in tasks), *trained)}.values())
    roots = dict.fromkeys(table.root for table in tables)
    parts += [_images(root, [table for table in tables if table.root == root]) for root in roots]
    skipped = dict.fromkeys(
        (message, message.startswith(f"{task.name}: ")) for task in tasks for message in task.skipped
    )
    return Survey(
        name,
        tuple(parts),
        tuple(table for table in tables if not _is_unset(table.root)),
        tuple(dict.fromkeys((*(message for message, of_task in skipped if not of_task), *problems))),
        (*(note for benchmark in loaded for note in benchmark.notes), *(note for note, of_task in skipped if of_task)),
    )


def _published(name: str, config: Mapping[str, Any]) -> Mapping[str, int]:
    return PUBLISHED.get(f"{name}, gallery {config.get('gallery')}", PUBLISHED.get(name, {}))


def _load(config: Mapping[str, Any], tasks: Sequence[str]) -> tuple[list[Benchmark], list[str]]:
    """The benchmark, or where it cannot be loaded whole those of ``tasks`` that can; and what is refused."""
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    target = str(config.get("_target_", ""))
    if not target:
        return [], ["the benchmark's config has no _target_: set it to the function that loads the benchmark"]
    loaded: list[Benchmark] = []
    problems: list[str] = []

    def attempt(**more: object) -> None:
        try:
            loader = get_method(target)
            if "on_error" in signature(loader).parameters:
                arguments["on_error"] = "survey" if target.startswith("condsim.datasets.") else "skip"
            loaded.append(loader(**arguments | more))
        except CondsimError as error:
            problems.append(str(error))
        except Exception as error:  # a user's loader may raise anything, and the survey reports it
            problems.append(f"{target}: {type(error).__name__}: {error}")

    attempt()
    if problems and "tasks" in arguments and len(tasks) > 1:
        for task in tasks:
            attempt(tasks=[task])
    return loaded, problems


def _counts(tasks: Iterable[Task]) -> dict[str, int]:
    """What is counted, by the names that ``PUBLISHED`` has."""
    counts: dict[str, int] = {}
    clusters: dict[str, set[int]] = {}
    sizes: Mapping[str, Callable[[Task], int]] = {"queries": len, "gallery": lambda task: task.gallery_size}
    for task in tasks:
        for what, size in sizes.items():
            counts[f"{task.name}: {what}"] = count = size(task)
            counts[what] = max(count, counts.get(what, 0))
        if task.clusters is not None:
            clusters.setdefault(f"{task.cluster_name}s", set()).update(np.unique(task.clusters).tolist())
    return counts | {name: len(distinct) for name, distinct in clusters.items()}


def _place(config: Mapping[str, Any], setting: str) -> str:
    return str(Path(config[setting]).expanduser()) if config[setting] else f"benchmark.{setting} is not set"


def _images(root: Path, tables: Sequence[ImageTable]) -> Part:
    paths = {path for table in tables for path in files_of(table).values()}
    if not root.is_dir():
        place = str(root) if _is_unset(root) else f"{root} is not a folder"
        return Part("images", place, None, len(paths))
    return Part("images", str(root), sum(path.is_file() for path in paths), len(paths))


def files_of(table: ImageTable) -> dict[str, Path]:
    """Name -> file of each picture of a table. Most tables have several rows per picture."""
    return {name: table.root / table.file(name) for name in dict.fromkeys(table.names)}


def _is_unset(root: Path) -> bool:
    """Whether ``image_files.required_images`` had no folder."""
    return str(root).endswith(" is not set")
