"""Marks of search results as right or wrong, and the benchmark that they make."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from condsim.harness.errors import CondsimError
from condsim.harness.files.tables import read_rows
from condsim.harness.files.writing import atomic
from condsim.harness.names import unusable_character
from condsim.harness.task import Condition
from condsim.harness.terminal.console import warn

Mark = Literal["right", "wrong", "none"]
"""none: the mark was taken back."""
COLUMNS = ("query", "condition", "image", "mark")
_MARKS = "a CSV table of marks that condsim explore wrote, with the columns query, condition, image and mark"


class Marks:
    """The marks in ``folder``/marks.csv, one line per mark; of several on the same result the last one counts.

    Several conditions of one query are joined by "|".

    Every mark is on disk before :meth:`add` returns. Raises CondsimError where the file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "marks.csv"
        self._marks: dict[tuple[str, Condition], dict[str, Mark]] = {}
        if self.file.is_file():
            self._read()

    def __len__(self) -> int:
        return sum(map(len, self._marks.values()))

    def of(self, query: str, condition: Condition) -> Mapping[str, Mark]:
        """Picture -> its mark, as a result of a query: a picture's name or "", with conditions."""
        return self._marks.get((query, condition), {})

    def add(self, query: str, condition: Condition, image: str, mark: Mark) -> None:
        """Append a mark to the file. Raises CondsimError for what a table cannot hold."""
        names = [(name, "picture's name", "rename the file") for name in (query, image)]
        names += [(text, "condition", "write it in another way") for text in condition]
        for name, what, cure in names:
            if fault := "'|'" if "|" in name else unusable_character(name):
                raise CondsimError(f"the {what} {name!a} holds {fault}, which no table can hold: {cure}")
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow((query, "|".join(condition), image, mark))
        self.folder.mkdir(parents=True, exist_ok=True)
        place = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            head = "" if os.fstat(place).st_size else ",".join(COLUMNS) + "\n"
            os.write(place, (head + line.getvalue()).encode())
            os.fsync(place)
        finally:
            os.close(place)
        self._keep(query, condition, image, mark)

    def save_tables(self, gallery: Sequence[str], references: Sequence[str] = ()) -> tuple[Path, Path]:
        """Write queries.csv and gallery.csv, the tables of `benchmark=instance`, and return their paths.

        A query is a picture with its conditions that has a right result; ``gallery`` are all pictures that are
        searched, ``references`` those that are queries alone. A picture without a mark counts as wrong (pooling, as in
        TREC). Raises CondsimError without a right result.
        """
        here = set(gallery)
        known = here.union(references)
        rows = []
        for (query, condition), marks in sorted(self._marks.items()):
            right = sorted(image for image, mark in marks.items() if mark == "right" and image in here)
            if right and (not query or query in known):
                name = ", ".join(filter(None, (query, " + ".join(condition))))
                rows.append((name, query, "|".join(condition), "|".join(right)))
        if not rows:
            raise CondsimError("no result is marked as right yet: mark some, then save")
        _write(self.folder / "queries.csv", ("id", "image", "conditions", "positives"), rows)
        _write(self.folder / "gallery.csv", ("image",), [(name,) for name in gallery])
        return self.folder / "queries.csv", self.folder / "gallery.csv"

    def _read(self) -> None:
        content = self.file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            warn(f"{self.file}: the last line is incomplete and is removed: {content[whole:]!r}")
            os.truncate(self.file, whole)
        rows = read_rows(self.file, _MARKS)
        if whole and tuple(next(rows)) != COLUMNS:
            raise CondsimError(f"{self.file}: expected {_MARKS}")
        for i, (query, condition, image, mark) in enumerate(rows, 1):
            if mark not in get_args(Mark):
                raise CondsimError(f"{self.file}: row {i}: mark {mark!a}: expected right, wrong or none")
            self._keep(query, tuple(filter(None, condition.split("|"))), image, cast(Mark, mark))

    def _keep(self, query: str, condition: Condition, image: str, mark: Mark) -> None:
        marks = self._marks.setdefault((query, condition), {})
        if mark == "none":
            marks.pop(image, None)
        else:
            marks[image] = mark


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with atomic(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
