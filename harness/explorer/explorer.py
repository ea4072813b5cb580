"""What the page of `condsim explore` does: searches, thumbnails, marks, and the benchmark that the marks make."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from condsim.harness.errors import CondsimError, counted
from condsim.harness.explorer.search import Search, Target
from condsim.harness.explorer.task import Question
from condsim.harness.results.report.thumbnails import thumbnail
from condsim.harness.search.marks import Mark, Marks
from condsim.harness.search.pictures import row_of

SIDE = 256
"""Pixels of a thumbnail."""
SIGNS = {"right": "✓ ", "wrong": "✗ "}
TRUTH = "◎ "
"""Right in the benchmark."""


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
        """The results; the pictures in the order of their names where the query is empty.

        A query of the benchmark ranks what it ranks there. Raises what ``Index.search`` raises.
        """
        question = self._question(search)
        if search.is_empty:
            return tuple(Result(name, name, "") for name in self.target.index.pictures.table.keys[:k])
        most = k if question is None else k + len(question.excluded)
        if question is not None and question.candidates is not None:
            most = len(self.target.index)
        with self._lock:
            matches = search.run(self.target, most)
        found = (
            (matches.table.keys[row], match)  # the last rows may be -1: no picture left
            for row, match in zip(matches.rows[0].tolist(), matches.of(0), strict=False)
        )
        ranked = [(key, match) for key, match in found if question is None or question.admits(key)][:k]
        return tuple(
            Result(key, f"{rank}: {match.score:.3f}", match.why) for rank, (key, match) in enumerate(ranked, 1)
        )

    def grid(self, results: Sequence[Result], search: Search) -> list[tuple[str, str]]:
        """Thumbnails with captions that show the marks, and what is right in the benchmark."""
        marks = self.marks.of(search.picture or "", search.conditions)
        question = self._question(search)
        right = frozenset() if question is None else question.right
        return [
            (
                self.thumbnail(result.name),
                TRUTH * (result.name in right) + SIGNS.get(marks.get(result.name, ""), "") + result.label,
            )
            for result in results
        ]

    def is_question(self, ident: str, picture: str | None, conditions: Sequence[str]) -> bool:
        """Whether the benchmark's query ``ident`` has this picture and these conditions."""
        questions = self.target.questions
        if questions is None or ident not in questions:
            return False
        question = questions.of(ident)
        return (question.picture, question.conditions) == (picture, tuple(conditions))

    def _question(self, search: Search) -> Question | None:
        questions = self.target.questions
        return questions.of(search.question) if questions and search.question else None

    def mark(self, result: Result, search: Search, mark: Mark) -> str:
        """Mark a result, or take the same mark back, and say what was done. Raises CondsimError where it cannot."""
        if search.is_empty:
            raise CondsimError("choose a picture or a condition first: a mark belongs to a query")
        if self.target.images.boxes is not None or self.target.images.files:
            raise CondsimError(
                "marks are for whole pictures in one folder; this benchmark has crops or several folders"
            )
        query, condition = search.picture or "", search.conditions
        if query and not self.has(query):
            raise CondsimError("marks need a query picture of the folder: copy this one into it")
        mark = "none" if self.marks.of(query, condition).get(result.name) == mark else mark
        with self._lock:
            self.marks.add(query, condition, result.name, mark)
        count = len(self.marks)
        now = "no mark" if mark == "none" else mark
        return f"{result.name}: {now}. {counted(count, 'mark')} in {self.marks.file}"

    def save(self, searches: Sequence[Search]) -> str:
        """Write the tables of the marks; the commands that measure the methods on them, and show the leaderboard."""
        table = self.target.index.pictures.table
        queries, gallery = self.marks.save_tables(table.names, self.target.images.names)
        chosen = ["benchmark=instance", f"benchmark.queries={queries}", f"benchmark.gallery={gallery}"]
        chosen.append(f"benchmark.images={table.root}")
        commands = dict.fromkeys(self._bench(search, chosen) for search in searches)
        return "\n".join([*commands, "condsim leaderboard task=instance/test"])

    def command(self, search: Search, k: int) -> str:
        """What repeats a search, or measures its method on the benchmark. "" for an empty query in a folder."""
        if self.target.questions:
            return self._bench(search, self.target.source)
        return "" if search.is_empty else search.command(self.target, k)

    def _bench(self, search: Search, benchmark: Sequence[str]) -> str:
        return search.bench_command(self.target, benchmark, self.marks.folder)

    def sheet(self, search: Search, k: int) -> str:
        """The path of a contact sheet."""
        if search.is_empty:
            raise CondsimError("choose a picture or a condition first")
        with self._lock:
            matches = search.run(self.target, k)
        return str(matches.to_html(Path(tempfile.mkdtemp(dir=self._files.name)) / f"{matches.method}.html"))

    def has(self, name: str) -> bool:
        return row_of(self.target.images, name) >= 0

    def thumbnail(self, name: str) -> str:
        """The path of a file with the picture's thumbnail; a gray one where the picture does not decode any more."""
        if name not in self._thumbnails:
            shown = thumbnail(self.target.images, row_of(self.target.images, name), SIDE) if self.has(name) else None
            path = Path(self._files.name) / f"{len(self._thumbnails)}.webp"
            (Image.new("RGB", (SIDE, SIDE), "gray") if shown is None else shown).save(path, quality=80)
            self._thumbnails[name] = str(path)
        return self._thumbnails[name]

    def close(self) -> None:
        """Remove the thumbnails and sheets."""
        self._files.cleanup()
