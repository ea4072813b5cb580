"""Conditional image similarity: every method, every benchmark, its exact protocol. These are the public names.

`import condsim` imports nothing slow: a name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condsim.harness.backbone import Backbone
    from condsim.harness.commands.bench import bench
    from condsim.harness.errors import CondsimError, NotApplicable
    from condsim.harness.files.gallery_parts import write_parts
    from condsim.harness.images import pictures_of
    from condsim.harness.index import Index
    from condsim.harness.method import Gallery, Method, Queries, Scorer, TwoSided
    from condsim.harness.one_vector import OneVector
    from condsim.harness.ranking.engine import rank_task
    from condsim.harness.results.entry import Entry
    from condsim.harness.results.leaderboard import Leaderboard
    from condsim.harness.results.results import Results
    from condsim.harness.run.record import Measurement, Record
    from condsim.harness.search.matches import Matches
    from condsim.harness.task import Benchmark, ImageTable, Ragged, Task

_PUBLIC = {
    "Backbone": "backbone",
    "Benchmark": "task",
    "CondsimError": "errors",
    "Entry": "results.entry",
    "Gallery": "method",
    "ImageTable": "task",
    "Index": "index",
    "Leaderboard": "results.leaderboard",
    "Matches": "search.matches",
    "Measurement": "run.record",
    "Method": "method",
    "NotApplicable": "errors",
    "OneVector": "one_vector",
    "Queries": "method",
    "Ragged": "task",
    "Record": "run.record",
    "Results": "results.results",
    "Scorer": "method",
    "Task": "task",
    "TwoSided": "method",
    "bench": "commands.bench",
    "pictures_of": "images",
    "rank_task": "ranking.engine",
    "write_parts": "files.gallery_parts",
}
"""Public name -> its module under ``condsim.harness``."""

__all__ = [
    "Backbone", "Benchmark", "CondsimError", "Entry", "Gallery", "ImageTable", "Index", "Leaderboard", "Matches",
    "Measurement", "Method", "NotApplicable", "OneVector", "Queries", "Ragged", "Record", "Results", "Scorer", "Task",
    "TwoSided", "bench", "pictures_of", "rank_task", "write_parts",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("condsim")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'condsim' has no attribute {name!r}")
    return getattr(import_module(f"condsim.harness.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
