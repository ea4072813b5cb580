"""What the page of `condsim explore` does: searches, thumbnails, marks, and the benchmark that the marks make."""

from __future__ import annotations

import tempfile
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from condsim.harness.commands.explore_search import Search, Target
from condsim.harness.errors import CondsimError
from condsim.harness.results.report.thumbnails import thumbnail
from condsim.harness.search.marks import Mark, Marks

SIDE = 256
"""Pixels of a thumbnail."""
SIGNS = {"right": "✓ ", "wrong": "✗ "}


@dataclass(frozen=True)
class Result:
    """A picture in a grid."""

    name: str
    label: str
    why: str


class Explorer:
    """What the page's controls do. One call at a time: an index serves one search at once."""

    def __init__(self, target: Target, marks: Marks) -> None:
        self.target = target
        self.marks = marks
        self._lock = threading.Lock()
        self._files = tempfile.TemporaryDirectory(prefix="condsim-explore-")
        self._thumbnails: dict[str, str] = {}

    def search(self, search: Search, k: int) -> tuple[Result, ...]:
        """The results; the pictures of the folder in the order of their names where the query is empty.

        Raises what ``Index.search`` raises.
        """
        with self._lock:
            if search.is_empty:
                return tuple(Result(name, name, "") for name in self.target.index.pictures.table.names[:k])
            matches = search.run(self.target, k)
        rows = matches.rows[0].tolist()
        return tuple(
            Result(matches.table.names[row], f"{match.rank}: {match.score:.3f}", match.why)
            for row, match in zip(rows, matches.of(0), strict=False)  # the last rows may be -1: no picture left
        )

    def grid(self, results: Sequence[Result], search: Search) -> list[tuple[str, str]]:
        """Thumbnails with captions that show the marks."""
        marks = self.marks.of(search.picture or "", search.conditions)
        return [
            (self.thumbnail(result.name), SIGNS.get(marks.get(result.name, ""), "") + result.label)
            for result in results
        ]

    def mark(self, result: Result, search: Search, mark: Mark) -> str:
        """Mark a result, or take the same mark back, and say what was done. Raises CondsimError where it cannot."""
        if search.is_empty:
            raise CondsimError("choose a picture or a condition first: a mark belongs to a query")
        query, condition = search.picture or "", search.conditions
        if query and not self.has(query):
            raise CondsimError("marks need a query picture of the folder: copy this one into it")
        mark = "none" if self.marks.of(query, condition).get(result.name) == mark else mark
        with self._lock:
            self.marks.add(query, condition, result.name, mark)
        return f"{result.name}: {'no mark' if mark == 'none' else mark}. {len(self.marks):,} marks in {self.marks.file}"

    def save(self, searches: Sequence[Search]) -> str:
        """Write the tables of the marks; the commands that measure the methods on them, and show the leaderboard."""
        tables = self.marks.save_tables(self.target.index.pictures.table.names)
        commands = dict.fromkeys(search.bench_command(self.target, tables) for search in searches)
        return "\n".join([*commands, "condsim leaderboard task=instance/test"])

    def sheet(self, search: Search, k: int) -> str:
        """The path of a contact sheet."""
        if search.is_empty:
            raise CondsimError("choose a picture or a condition first")
        with self._lock:
            matches = search.run(self.target, k)
        return str(matches.to_html(Path(tempfile.mkdtemp(dir=self._files.name)) / f"{matches.method}.html"))

    def has(self, name: str) -> bool:
        names = self.target.index.pictures.table.names
        place = bisect_left(names, name)
        return place < len(names) and names[place] == name

    def thumbnail(self, name: str) -> str:
        """The path of a file with the picture's thumbnail; a gray one where the picture does not decode any more."""
        if name not in self._thumbnails:
            table = self.target.index.pictures.table
            shown = thumbnail(table, bisect_left(table.names, name), SIDE) if self.has(name) else None
            path = Path(self._files.name) / f"{len(self._thumbnails)}.webp"
            (Image.new("RGB", (SIDE, SIDE), "gray") if shown is None else shown).save(path, quality=80)
            self._thumbnails[name] = str(path)
        return self._thumbnails[name]

    def close(self) -> None:
        """Remove the thumbnails and sheets."""
        self._files.cleanup()
