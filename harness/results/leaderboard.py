"""The leaderboard: a pure function of the records, without torch. One row a task x method x backbone x settings."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from condsim.harness.console import console
from condsim.harness.results.collection import method_identity, newest, record_order, settings_text
from condsim.harness.results.csv_file import Row, metric_names, to_csv
from condsim.harness.results.published import Published, find_published, read_published
from condsim.harness.results.significance import significance_letters, standings
from condsim.harness.run.record import MetricValue, Record, find_records


def leaderboard_rows(
    records: Iterable[Record], letters: Mapping[str, str] | None = None, published: Published | None = None
) -> list[Row]:
    """Rows in a fixed order; metrics in percent, each with the ends of its interval.

    Of records alike in task, method, backbone and settings (an earlier version, another sample of queries) the newest
    counts. ``letters``: run -> letters, shared by runs of a task that are not separable. ``published``: what others
    reported.
    """
    ordered = newest(records)
    rows = [_row(record) for record in ordered] + [row for group in _alike(ordered) for row in _headline_rows(group)]
    for row in rows:
        row["letters"] = (letters or {}).get(row["run"], "")
        _put_reported_beside(row, published or {})
    _put_standing(rows)
    return rows


def read_leaderboard(results: Path, published: Path | None = None) -> list[Row]:
    """The rows of all records under ``results``; the corrupt records are named and left out.

    ``published``: the file of published numbers; None: the one in the results folder, else the repository's.
    """
    found: dict[str, Path] = {}
    records = []
    for folder, record in find_records(results):
        if isinstance(record, Record):
            records.append(record)
            found[record.run] = folder
        else:
            console.print(f"left out: {record}", style="yellow", markup=False)
    letters = significance_letters(results, ((found[record.run], record) for record in newest(records)))
    return leaderboard_rows(records, letters, read_published(published or find_published(results)))


def write_leaderboard(results: Path, published: Path | None = None) -> list[Row]:
    """Write ``leaderboard.csv`` from all records under ``results``, atomically; name the corrupt ones. The rows."""
    rows = read_leaderboard(results, published)
    results.mkdir(parents=True, exist_ok=True)
    scratch = results / f".leaderboard-{os.getpid()}.csv"
    scratch.write_text(to_csv(rows), encoding="utf-8")
    os.replace(scratch, results / "leaderboard.csv")
    return rows


def rows_of_runs(rows: Sequence[Row], runs: Container[str]) -> list[Row]:
    """The rows of these runs, and the headline means that one of them is part of."""
    kept = {_kin(row) for row in rows if row["run"] in runs}
    return [row for row in rows if row["run"] in runs or (not row["run"] and _kin(row) in kept)]


def _kin(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("benchmark", "method", "backbone", "settings"))


def _row(record: Record) -> Row:
    row: Row = {
        "benchmark": record.benchmark,
        "task": record.task,
        "method": record.method,
        "backbone": record.backbone,
        "settings": settings_text(record.settings),
        "rank": record.config.get("method_config", {}).get("rank", ""),
        "queries": record.queries,
        "seconds": record.seconds.get("score", ""),
        "run": record.run,
    }
    for name, metric in record.metrics.items():
        row[name] = round(100 * metric.value, 4)
        row[f"{name}_low"], row[f"{name}_high"] = round(100 * metric.low, 4), round(100 * metric.high, 4)
        if metric.chance is not None:
            row[f"{name}_chance"] = round(100 * metric.chance, 4)
    return row


def _headline_rows(records: Sequence[Record]) -> list[Row]:
    """The field's headline means, where every (task, metric) pair of one has been run under these settings.

    The mean of metrics on the same queries has no interval: they are not independent.
    """
    values = {(record.task, name): metric for record in records for name, metric in record.metrics.items()}
    headlines: dict[str, list[list[str]]] = {}
    for record in records:
        headlines |= record.headlines
    rows = []
    for name, pairs in sorted(headlines.items()):
        found = [values.get((task, metric)) for task, metric in pairs]
        means = [metric for metric in found if metric is not None]
        if not found or len(means) < len(found):
            continue
        row = {key: _row(records[0])[key] for key in ("benchmark", "method", "backbone", "settings", "rank")}
        of_tasks = {record.task: record for record in records if record.task in {task for task, _ in pairs}}
        samples = {(record.queries, record.clusters) for record in of_tasks.values()}
        # tasks alike in queries and clusters are one sample asked several things (one label or another of its images)
        mean, low, high = (round(100 * end, 4) for end in mean_of_tasks(means, independent=len(samples) > 1))
        metrics = {metric for _, metric in pairs}
        column = metrics.pop() if len(metrics) == 1 else "mean"
        row |= {"task": name, column: mean}
        if len({task for task, _ in pairs}) == len(pairs):
            row |= {f"{column}_low": low, f"{column}_high": high}
        rows.append(row | {"queries": "", "seconds": "", "run": ""})
    return rows


def mean_of_tasks(metrics: Sequence[MetricValue], *, independent: bool) -> tuple[float, float, float]:
    """Mean of one metric a task, and the ends of its 95 % interval.

    ``independent``: each task has its own sample of queries, so that errors partly cancel. Otherwise the interval is as
    wide as if they never did, which holds whatever the tasks have in common.
    """
    power = 2 if independent else 1
    mean = sum(metric.value for metric in metrics) / len(metrics)
    below = sum((metric.value - metric.low) ** power for metric in metrics) ** (1 / power) / len(metrics)
    above = sum((metric.high - metric.value) ** power for metric in metrics) ** (1 / power) / len(metrics)
    return mean, mean - below, mean + above


def _put_standing(rows: Sequence[Row]) -> None:
    """Who is best on the headline metric of a task with a backbone, and who is not separable from it."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["benchmark"], row["task"], row["backbone"]), []).append(row)
    for group in groups.values():
        for row, standing in zip(group, standings(group), strict=True):
            row["standing"] = standing


def _put_reported_beside(row: Row, published: Published) -> None:
    """Only beside the method's own defaults: with other settings it is not what was published."""
    if row["settings"]:
        return
    sources = []
    for reported in published.get((row["benchmark"], row["task"], row["method"], row["backbone"]), ()):
        for name in metric_names([row]):
            if name in reported.values and f"{name}_reported" not in row:
                row[f"{name}_reported"] = reported.values[name]
                row[f"{name}_difference"] = round(row[name] - reported.values[name], 4)
                sources.append(reported.source)
    if sources:
        row["reported_in"] = "; ".join(dict.fromkeys(sources))


def _alike(records: Iterable[Record]) -> list[list[Record]]:
    """Records of one method, backbone and settings on all tasks of a benchmark; in the order of rows."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(method_identity(record), []).append(record)
    return sorted(groups.values(), key=lambda group: (group[0].benchmark, *record_order(group[0])[2:]))
