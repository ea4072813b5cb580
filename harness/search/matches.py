"""The results of a search: a small table with one row per picture found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from condsim.harness.ranking.counting import Floats
from condsim.harness.results.output import write_text
from condsim.harness.task import Condition, ImageTable, Rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Match:
    """A picture that was found."""

    query: int
    """The query's number, from 0 on."""
    rank: int
    """From 1 on."""
    path: str
    score: float
    why: str = ""
    """What the score is made of; "" where it was not requested or the method has no explanation."""


@dataclass(frozen=True)
class Matches:
    """The best pictures for each of Q queries, best first. A notebook shows it with the pictures."""

    table: ImageTable
    queries: tuple[tuple[str | None, Condition], ...]
    """Picture and condition of each query."""
    pictures: tuple[ImageTable | None, ...]
    """The picture of each query, a table with one row."""
    rows: Rows
    """int64 [Q, k] rows of ``table``; -1: no picture left."""
    scores: Floats
    """[Q, k]"""
    reasons: Sequence[Sequence[str]] | None
    """[Q, k] texts; None: no reason was requested, or the method has none."""
    method: str
    backbone: str

    def __len__(self) -> int:
        return int((self.rows >= 0).sum())

    def __iter__(self) -> Iterator[Match]:
        for query in range(len(self.queries)):
            yield from self.of(query)

    def __getitem__(self, place: int) -> Match:
        return list(self)[place]

    def of(self, query: int) -> list[Match]:
        """The pictures for one query, best first."""
        return [
            Match(
                query,
                place + 1,
                str(self.table.path(row)),
                float(self.scores[query, place]),
                "" if self.reasons is None else self.reasons[query][place],
            )
            for place, row in enumerate(self.rows[query].tolist())
            if row >= 0
        ]

    @property
    def paths(self) -> list[str]:
        return [match.path for match in self]

    def to_pandas(self) -> pd.DataFrame:
        """The columns path and score, before them query with several queries, after them why with reasons."""
        import pandas as pd

        columns = ["query"] * (len(self.queries) > 1) + ["path", "score"] + ["why"] * (self.reasons is not None)
        return pd.DataFrame([[getattr(match, column) for column in columns] for match in self], columns=columns)

    def to_json(self) -> str:
        """One object per query with its picture, its conditions and its results."""
        queries = [
            {
                "picture": picture,
                "conditions": list(condition),
                "results": [
                    {"rank": match.rank, "path": match.path, "score": match.score}
                    | ({} if self.reasons is None else {"why": match.why})
                    for match in self.of(i)
                ],
            }
            for i, (picture, condition) in enumerate(self.queries)
        ]
        return json.dumps({"method": self.method, "backbone": self.backbone, "queries": queries}, indent=1) + "\n"

    def to_html(self, path: str | Path, thumbnail: int = 192) -> Path:
        """Write a contact sheet, one HTML file that holds its thumbnails (``thumbnail`` pixels wide or high)."""
        from condsim.harness.search.sheet import sheet

        write_text(Path(path), sheet(self, thumbnail))
        return Path(path)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The table as text: a line per picture, and above them a line per query."""
        lines = []
        for i, (picture, condition) in enumerate(self.queries):
            lines.append(f"{picture or 'no picture'}{' | ' * bool(condition)}{' + '.join(condition)} ({self.method})")
            lines += [f"{m.rank:>4}  {m.score:>8.4f}  {m.path}{'  ' * bool(m.why)}{m.why}" for m in self.of(i)]
        return lines

    def _repr_html_(self) -> str:
        from condsim.harness.search.sheet import sheet

        return sheet(self, 128, page=False)
