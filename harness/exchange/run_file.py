"""Rankings as files: TREC run files, and JSON lines. Either may be compressed (.gz).

A TREC run has one line per query and item: ``query Q0 item rank score tag``. Blanks, percent signs and control
characters in ids are percent-encoded. A line of JSON lines is ``{"query": id, "ranking": [[item, score], ...]}``;
``[item, ...]``, best first, is read too. Scores decide the order, as in trec_eval, and equal scores are ties.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from sys import intern
from typing import IO, Any
from urllib.parse import unquote

from condsim.harness.errors import CondsimError
from condsim.harness.files.writing import atomic

FORMATS = ("trec", "jsonl")
_ENCODED = re.compile(r"[\s%\x00-\x1f\x7f]")


@dataclass(frozen=True)
class QueryRanking:
    """The ranking of one query, in the order of its file."""

    query: str
    items: tuple[str, ...]
    scores: tuple[float, ...]
    where: str
    """File and line, for messages."""


def write_rankings(path: Path, form: str, rankings: Iterable[tuple[str, Iterable[tuple[str, float]]]], tag: str) -> int:
    """Write one ranking per query, best first, whole or not at all. Returns the number of lines.

    Scores are written so that they are read back exactly.
    """
    lines = 0
    with atomic(path) as scratch, _open(scratch, "wt", compressed=path.suffix == ".gz") as file:
        for query, ranking in rankings:
            for line in _trec(query, ranking, tag) if form == "trec" else _json(query, ranking):
                file.write(line)
                lines += 1
    return lines


def read_rankings(paths: Iterable[Path]) -> dict[str, QueryRanking]:
    """Query id -> its ranking, from all files together. Raises CondsimError naming file and line of what is wrong."""
    rankings: dict[str, QueryRanking] = {}
    for path in paths:
        for ranking in _read(path):
            first = rankings.setdefault(ranking.query, ranking)
            if first is not ranking:
                raise CondsimError(f"{ranking.where}: query {ranking.query!r} has a ranking in {first.where} already")
    return rankings


def _trec(query: str, ranking: Iterable[tuple[str, float]], tag: str) -> Iterator[str]:
    for place, (item, score) in enumerate(ranking, start=1):
        yield f"{_encoded(query)} Q0 {_encoded(item)} {place} {float(score)!r} {_encoded(tag)}\n"


def _json(query: str, ranking: Iterable[tuple[str, float]]) -> Iterator[str]:
    pairs = [[item, float(score)] for item, score in ranking]
    yield json.dumps({"query": query, "ranking": pairs}, ensure_ascii=False) + "\n"


def _encoded(text: str) -> str:
    return _ENCODED.sub(lambda letter: "".join(f"%{byte:02X}" for byte in letter[0].encode()), text) or "%00"


def _open(path: Path, mode: str, *, compressed: bool) -> IO[Any]:
    if compressed:
        return io.TextIOWrapper(gzip.GzipFile(path, mode[0] + "b"), encoding="utf-8", newline="\n")
    return path.open(mode, encoding="utf-8-sig" if "r" in mode else "utf-8", newline="\n")


def _read(path: Path) -> Iterator[QueryRanking]:
    try:
        with _open(path, "rt", compressed=path.suffix == ".gz") as file:
            stripped = ((number, line.strip()) for number, line in enumerate(file, start=1))
            lines = ((number, line) for number, line in stripped if line)
            if (first := next(lines, None)) is None:
                raise CondsimError(f"{path}: the file holds no ranking")
            read = _json_lines if first[1].startswith("{") else _trec_lines
            yield from read(path, chain([first], lines))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CondsimError(f"{path}: the ranking cannot be read: {reason}") from None


def _trec_lines(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[QueryRanking]:
    rankings: dict[str, tuple[list[str], list[float], str]] = {}
    for number, line in lines:
        where = f"{path}, line {number}"
        columns = line.split()
        if len(columns) != 6:
            expected = "expected six columns: query Q0 item rank score tag"
            raise CondsimError(f"{where}: {len(columns)} columns, {expected}. Or give JSON lines")
        items, scores, _ = rankings.setdefault(unquote(columns[0]), ([], [], where))
        items.append(intern(unquote(columns[2])))
        scores.append(_score(columns[4], where))
    for query, (items, scores, where) in rankings.items():
        yield QueryRanking(query, tuple(items), tuple(scores), where)


def _json_lines(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[QueryRanking]:
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
            query, ranking = entry["query"], list(entry["ranking"])
            with_scores = all(isinstance(pair, list) and len(pair) == 2 for pair in ranking)
            if not (isinstance(query, (str, int)) and (with_scores or all(isinstance(item, str) for item in ranking))):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            expected = '{"query": id, "ranking": [[item, score], ...]}'
            raise CondsimError(f"{where}: expected a line such as {expected}") from None
        items = [pair[0] if with_scores else pair for pair in ranking]
        scores = [_score(pair[1], where) for pair in ranking] if with_scores else [float(-i) for i in range(len(items))]
        yield QueryRanking(str(query), tuple(intern(str(item)) for item in items), tuple(scores), where)


def _score(value: Any, where: str) -> float:
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise CondsimError(f"{where}: the score {str(value)[:40]!r} is not a finite number")
    return score
