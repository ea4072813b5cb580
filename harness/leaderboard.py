"""The leaderboard: a pure function of the records, without torch. One row a task x method x backbone x settings."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from condsim.harness.console import console
from condsim.harness.record import Record, find_records

LEADING = ("benchmark", "task", "method", "backbone", "settings", "rank", "queries")
TRAILING = ("seconds", "run")
Row = dict[str, Any]


def leaderboard_rows(records: Iterable[Record]) -> list[Row]:
    """Rows in a fixed order; metrics in percent, each with the ends of its interval.

    Of records alike in task, method, backbone and settings (an earlier version, another sample of queries) the newest
    counts.
    """
    newest = {(record.task, *_identity(record)): record for record in sorted(records, key=lambda r: (r.created, r.run))}
    ordered = sorted(newest.values(), key=_order)
    return [_row(record) for record in ordered] + [
        row
        for _, group in groupby(sorted(ordered, key=_identity), key=_identity)
        for row in _headline_rows(list(group))
    ]


def write_leaderboard(results: Path) -> list[Row]:
    """Write ``leaderboard.csv`` from all records under ``results``, atomically; name the corrupt ones. The rows."""
    records = []
    for _, record in find_records(results):
        if isinstance(record, Record):
            records.append(record)
        else:
            console.print(f"left out: {record}", style="yellow", markup=False)
    rows = leaderboard_rows(records)
    results.mkdir(parents=True, exist_ok=True)
    scratch = results / f".leaderboard-{os.getpid()}.csv"
    scratch.write_text(to_csv(rows), encoding="utf-8")
    os.replace(scratch, results / "leaderboard.csv")
    return rows


def to_csv(rows: Sequence[Row]) -> str:
    """Wide CSV: leading columns, metric columns (value, _low, _high) in percent, seconds of scoring, run."""
    columns = [*LEADING, *metric_columns(rows), *TRAILING]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def metric_columns(rows: Iterable[Row]) -> list[str]:
    """Metric columns of these rows, recall@2 before recall@10, each followed by its interval's ends."""
    names = {key for row in rows for key in row} - {*LEADING, *TRAILING}
    return sorted(names, key=_metric_order)


def print_leaderboard(rows: Sequence[Row]) -> None:
    """A table a benchmark: methods down, tasks across, every Recall@K (or the first metric); the best in bold."""
    for (benchmark, backbone), group in _grouped(rows, ("benchmark", "backbone")):
        console.print(_pivot(f"{benchmark}, backbone {backbone}: percent", group))


def _pivot(title: str, rows: Sequence[Row]) -> Table:
    cells: dict[tuple[str, str], dict[str, float]] = {}
    tasks: dict[str, list[str]] = {}
    methods: list[str] = []
    for row in rows:
        method = f"{row['method']} {row['settings']}".strip()
        if method not in methods:
            methods.append(method)
        shown = [name for name in metric_columns([row]) if not name.endswith(("_low", "_high"))]
        tasks.setdefault(row["task"], shown)
        cells[method, row["task"]] = {name: row[name] for name in shown}
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    table.add_column("metric")
    for method in methods:
        table.add_column(method, justify="right", overflow="fold")
    for task, names in tasks.items():
        for name in names:
            values = [cells.get((method, task), {}).get(name) for method in methods]
            best = max((value for value in values if value is not None), default=None)
            shown = ["" if v is None else f"[bold]{v:.1f}[/bold]" if v == best else f"{v:.1f}" for v in values]
            table.add_row(task if name == names[0] else "", name, *shown, end_section=name == names[-1])
    return table


def _row(record: Record) -> Row:
    row: Row = {
        "benchmark": record.benchmark,
        "task": record.task,
        "method": record.method,
        "backbone": record.backbone,
        "settings": " ".join(f"{name}={_plain(value)}" for name, value in sorted(record.settings.items())),
        "rank": record.config.get("method_config", {}).get("rank", ""),
        "queries": record.queries,
        "seconds": record.seconds.get("score", ""),
        "run": record.run,
    }
    for name, metric in record.metrics.items():
        row[name] = round(100 * metric.value, 4)
        row[f"{name}_low"], row[f"{name}_high"] = round(100 * metric.low, 4), round(100 * metric.high, 4)
    return row


def _headline_rows(records: Sequence[Record]) -> list[Row]:
    """The field's headline means, where every (task, metric) pair of one has been run under these settings."""
    values = {(record.task, name): metric.value for record in records for name, metric in record.metrics.items()}
    headlines: dict[str, list[list[str]]] = {}
    for record in records:
        headlines |= record.headlines
    rows = []
    for name, pairs in sorted(headlines.items()):
        found = [values.get((task, metric)) for task, metric in pairs]
        if not found or any(value is None for value in found):
            continue
        row = {key: _row(records[0])[key] for key in ("benchmark", "method", "backbone", "settings", "rank")}
        mean = sum(value for value in found if value is not None) / len(found)
        metrics = {metric for _, metric in pairs}
        row |= {"task": name, metrics.pop() if len(metrics) == 1 else "mean": round(100 * mean, 4)}
        rows.append(row | {"queries": "", "seconds": "", "run": ""})
    return rows


def _identity(record: Record) -> tuple[str, ...]:
    return (record.benchmark, record.backbone, record.method, repr(sorted(record.settings.items())))


def _order(record: Record) -> tuple[Any, ...]:
    rank = record.config.get("method_config", {}).get("rank")
    settings = repr(sorted((name, value) for name, value in record.settings.items() if name != "rank"))
    number = rank if isinstance(rank, (int, float)) else -1
    return (record.benchmark, record.task, record.backbone, record.method, settings, number, record.run)


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> Iterable[tuple[tuple[Any, ...], list[Row]]]:
    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    return ((value, list(group)) for value, group in groupby(sorted(rows, key=key), key=key))


def _metric_order(name: str) -> tuple[str, int, int]:
    base = re.sub(r"_(low|high)$", "", name)
    family, _, k = base.partition("@")
    return family, int(k) if k.isdigit() else 0, 0 if base == name else 1 + name.endswith("_high")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
