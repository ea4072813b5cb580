"""The leaderboard as CSV: wide (one row per run) and long (one row per metric). Metrics are in percent."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from condsim.harness.names import escaped
from condsim.harness.results.entry import Entry, metric_names
from condsim.harness.results.percent import difference, percent
from condsim.harness.run.record import Measurement

LEADING = ("benchmark", "task", "method", "backbone", "settings", "rank", "queries")
TRAILING = ("standing", "letters", "reported_in", "seconds", "run")
QUESTION_SET = "question_set"
"""A column only where some task has several question sets, or another than its usual one: see ``set_name``."""
SERVER = "server"
"""A column only where a benchmark's own server measured some row: it and the date."""
LONG = ("value", "low", "high", "chance", "reported", "difference")
WIDE = ("value", "low", "high", "reported", "difference")
_FORMULA = ("=", "+", "-", "@")
"""A cell that starts like this is a formula for a spreadsheet."""

Rows = list[list[Any]]


def to_csv(entries: Sequence[Entry]) -> str:
    """Wide CSV: identity, every metric with the ends of its interval, standing, seconds of scoring, run.

    ``_reported`` and ``_difference`` follow a metric only where something was published.
    """
    return _csv(*wide_rows(entries))


def to_long_csv(entries: Sequence[Entry]) -> str:
    """Long CSV: one row per metric, with its interval, chance level and published value."""
    leading = leading_columns(entries)
    rows = [
        [*_leading(entry, leading), name, *(part_of(entry.metrics[name], part) for part in LONG), *_trailing(entry)]
        for entry in entries
        for name in metric_names([entry])
    ]
    return _csv([*leading, "metric", *LONG, *TRAILING], rows)


def wide_rows(entries: Sequence[Entry]) -> tuple[list[str], Rows]:
    """The columns and rows of the wide CSV; "" where an entry has no value."""
    leading = leading_columns(entries)
    columns = [
        (name, part)
        for name in metric_names(entries)
        for part in WIDE
        if any(name in entry.metrics and part_of(entry.metrics[name], part) != "" for entry in entries)
    ]
    rows = [
        [
            *_leading(entry, leading),
            *(part_of(entry.metrics[name], part) if name in entry.metrics else "" for name, part in columns),
            *_trailing(entry),
        ]
        for entry in entries
    ]
    return [*leading, *(name if part == "value" else f"{name}_{part}" for name, part in columns), *TRAILING], rows


def leading_columns(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The columns that identify a row."""
    sets = {(entry.benchmark, entry.task, entry.question_set) for entry in entries}
    several = len(sets) > len({(benchmark, task) for benchmark, task, _ in sets})
    with_sets = several or any(entry.variant for entry in entries)
    return (*LEADING, *[QUESTION_SET] * with_sets, *[SERVER] * any(entry.server for entry in entries))


def part_of(measurement: Measurement, part: str) -> float | str:
    """A part of a measurement in percent; "" where it has none."""
    if part == "difference":
        points = difference(measurement)
        return "" if points is None else points
    number = getattr(measurement, part)
    return "" if number is None else percent(number)


def _leading(entry: Entry, columns: Sequence[str]) -> list[Any]:
    return [column_of(entry, name) for name in columns]


def column_of(entry: Entry, name: str) -> Any:
    """What the column ``name`` of LEADING or QUESTION_SET shows of this entry."""
    if name == QUESTION_SET:
        return entry.set_name
    value = getattr(entry, name)
    return "" if value is None else value


def _trailing(entry: Entry) -> list[Any]:
    seconds = "" if entry.seconds is None else entry.seconds
    return [entry.standing, entry.letters, entry.reported_in, seconds, entry.run]


def _csv(columns: Sequence[str], rows: Rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_safe(name) for name in columns])
    writer.writerows([_safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def _safe(cell: Any) -> Any:
    """Numbers stay numbers. Text that a spreadsheet would compute gets a leading apostrophe, which marks text there;
    control characters become escapes, since not every reader of CSV accepts them inside a cell."""
    if isinstance(cell, (int, float)):
        return cell
    text = escaped(str(cell)).replace("\n", "\\n").replace("\t", "\\t")
    return f"'{text}" if text.startswith(_FORMULA) else text
