"""Numbers as published by others (`results/reference/published.csv`), to show beside ours."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from condsim.harness.errors import CondsimError

COLUMNS = ("paper", "table", "benchmark", "task", "method", "backbone", "metric", "value")
Key = tuple[str, str, str, str]
"""(benchmark, task, method, backbone)"""


@dataclass(frozen=True)
class Reported:
    """What one table of one paper says, in percent."""

    paper: str
    table: str
    values: Mapping[str, float]
    """Metric -> percent."""

    @property
    def source(self) -> str:
        return f"{self.paper}, {self.table}" if self.table else self.paper


Published = Mapping[Key, Sequence[Reported]]


def find_published(results: Path) -> Path | None:
    """The file of published numbers: in the results folder, else in the repository condsim runs from."""
    places = (results, Path(__file__).resolve().parents[2] / "results")
    return next((path for path in (place / "reference/published.csv" for place in places) if path.is_file()), None)


def read_published(path: Path | None) -> Published:
    """Published numbers by (benchmark, task, method, backbone), in the order of the file; none where ``path`` is None.

    Raises CondsimError naming the line that is wrong.
    """
    if path is None:
        return {}
    try:
        return _parsed(path, path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CondsimError(f"{path}: the published numbers cannot be read: {error}") from None


@lru_cache(maxsize=1)
def _parsed(path: Path, text: str) -> Published:
    found: dict[Key, dict[tuple[str, str], dict[str, float]]] = {}
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise CondsimError(f"{path}: the columns {', '.join(sorted(missing))} are missing")
    for row in reader:
        key = (row["benchmark"], row["task"], row["method"], row["backbone"])
        try:
            value = float(row["value"])
        except (TypeError, ValueError):
            raise CondsimError(
                f"{path}, line {reader.line_num}: value {row['value']!r} is not a number (percent)"
            ) from None
        found.setdefault(key, {}).setdefault((row["paper"], row["table"]), {})[row["metric"]] = value
    return {
        key: [Reported(paper, table, values) for (paper, table), values in tables.items()]
        for key, tables in found.items()
    }
