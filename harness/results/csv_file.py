"""The leaderboard's rows as columns: which there are, in which order, filtered, and written as CSV, wide or long."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.ranking.metrics import metric_order

LEADING = ("benchmark", "task", "method", "backbone", "settings", "rank", "queries")
TRAILING = ("standing", "letters", "reported_in", "seconds", "run")
SUFFIXES = ("_low", "_high", "_chance", "_reported", "_difference")
"""What may stand behind a metric's name: ends of its 95 % interval, chance level, published value, ours less that."""
LONG = ("benchmark", "task", "method", "backbone", "settings", "rank", "queries", "metric", "value",
        *(suffix.removeprefix("_") for suffix in SUFFIXES), *TRAILING)  # fmt: skip
Row = dict[str, Any]


def filter_rows(rows: Sequence[Row], filters: Mapping[str, Sequence[str]]) -> list[Row]:
    """Rows whose column holds one of the values asked for, for every filter; "task" also takes "benchmark/task".

    Raises CondsimError, naming the nearest valid ones, for a column or a value that does not exist.
    """
    kept = list(rows)
    for column, wanted in filters.items():
        if column not in LEADING:
            raise CondsimError(f"{column}={','.join(wanted)}: no column {column!r}. {did_you_mean(column, LEADING)}")
        names = {value for row in rows for value in _names(row, column)}
        for value in wanted:
            if value not in names:
                raise CondsimError(f"there is no record with {column}={value}. {did_you_mean(value, names - {''})}")
        kept = [row for row in kept if set(wanted) & _names(row, column)]
    return kept


def keep_metrics(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """The rows with these metrics only; rows that have none of them are left out."""
    known = metric_names(rows)
    for name in metrics:
        if name not in known:
            raise CondsimError(f"there is no record with metric {name!r}. {did_you_mean(name, known)}")
    dropped = {f"{name}{suffix}" for name in known if name not in metrics for suffix in ("", *SUFFIXES)}
    return [{k: v for k, v in row.items() if k not in dropped} for row in rows if set(metrics) & row.keys()]


def to_csv(rows: Sequence[Row]) -> str:
    """Wide CSV: leading columns, metric columns (value, _low, _high) in percent, standing, seconds of scoring, run.

    ``_reported`` and ``_difference`` stand behind a metric only where something was published.
    """
    return _csv(rows, [*LEADING, *metric_columns(rows), *TRAILING])


def to_long_csv(rows: Sequence[Row]) -> str:
    """Long CSV: a row a metric, with its interval, chance level and published value."""
    long = [
        {
            **{key: row.get(key, "") for key in (*LEADING, *TRAILING)},
            "metric": name,
            "value": row[name],
            **{suffix.removeprefix("_"): row.get(name + suffix, "") for suffix in SUFFIXES},
        }
        for row in rows
        for name in metric_names([row])
    ]
    return _csv(long, LONG)


def metric_columns(rows: Iterable[Iterable[str]]) -> list[str]:
    """Metric columns of these rows, recall@2 before recall@10, each followed by its interval's ends."""
    names = {key for row in rows for key in row} - {*LEADING, *TRAILING}
    return sorted((name for name in names if not name.endswith("_chance")), key=_column_order)


def metric_names(rows: Iterable[Iterable[str]]) -> list[str]:
    """The metrics of these rows, recall@2 before recall@10."""
    return [name for name in metric_columns(rows) if not name.endswith(SUFFIXES)]


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _names(row: Row, column: str) -> set[str]:
    value = str(row.get(column, ""))
    return {value, f"{row['benchmark']}/{value}"} if column == "task" else {value}


def _column_order(name: str) -> tuple[tuple[bool, str, int], int]:
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return metric_order(name.removesuffix(suffix)), ("", *SUFFIXES).index(suffix)
