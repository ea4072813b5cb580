"""The report's sections as plain data for the template. Everything shown comes from the results folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from condsim.harness.ranking.metrics import headline_metric
from condsim.harness.results.breakdown import ConditionRow, by_condition, conditions_repeat, fooled, kind_shares, sweeps
from condsim.harness.results.collection import TaskRuns, run_label, values_of
from condsim.harness.results.csv_file import Row, metric_names
from condsim.harness.results.leaderboard import mean_of_tasks
from condsim.harness.results.report.charts import SERIES, Line, Point, line_chart, scatter
from condsim.harness.results.significance import TIED
from condsim.harness.results.table import interval_text
from condsim.harness.run.record import MetricValue, Record

CONDITIONS_SHOWN = 40
COST_PLOTS = 4


@dataclass(frozen=True)
class Cell:
    """A number of a table in percent, with all that the page says about it."""

    value: float
    low: float | None = None
    high: float | None = None
    best: bool = False
    tied: bool = False
    reported: float | None = None
    difference: float | None = None

    @property
    def interval(self) -> str:
        return interval_text(self.value, self.low, self.high)


@dataclass(frozen=True)
class Entry:
    """A line of a table: a run, or a run's settings over several tasks."""

    method: str
    settings: str
    backbone: str
    cells: tuple[Cell | None, ...]
    seconds: float | None
    letters: str = ""
    reported_in: str = ""


@dataclass(frozen=True)
class Board:
    """A benchmark's leaderboard: methods down, each task's headline metric across."""

    benchmark: str
    columns: tuple[tuple[str, str, float | None], ...]
    """(task, metric, chance level in percent)"""
    entries: tuple[Entry, ...]
    several_backbones: bool


@dataclass(frozen=True)
class TaskTable:
    """Every metric of one task."""

    name: str
    anchor: str
    queries: int
    clusters: str
    metrics: tuple[str, ...]
    headline: str
    entries: tuple[Entry, ...]
    scale: float
    """The right end, in percent, of the interval bars."""
    chance: float | None
    stale: int
    several_backbones: bool
    letters: bool


@dataclass(frozen=True)
class Figure:
    title: str
    chart: Markup
    legend: tuple[tuple[int, str], ...] = ()
    """(colour, name)"""
    note: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...] = ()
    """The numbers of the chart as a table, for those who cannot point at it."""


@dataclass(frozen=True)
class Heat:
    """Conditions down, runs across."""

    name: str
    metric: str
    runs: tuple[str, ...]
    rows: tuple[ConditionRow, ...]
    total: int
    reach: float
    """The largest mean: it gets the full colour."""


@dataclass(frozen=True)
class KindBars:
    """Who fools whom: for every run the shares of right answers and of each kind of distractor, in percent."""

    name: str
    kinds: tuple[str, ...]
    bars: tuple[tuple[str, tuple[float, ...]], ...]
    """(run, (right, each kind, unknown))"""
    guess: tuple[float, ...]
    """Each kind's share among all distractors."""

    @property
    def unknown(self) -> bool:
        return any(shares[-1] > 0 for _, shares in self.bars)


def boards(rows: Sequence[Row]) -> list[Board]:
    """A board a benchmark from the leaderboard's rows."""
    made = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        own = [row for row in rows if row["benchmark"] == benchmark]
        tasks = {row["task"]: headline_metric(metric_names([row])) for row in own}
        means = {row["task"] for row in own if row["queries"] == ""}  # the field's headline means come first
        ordered = sorted(tasks.items(), key=lambda item: item[0] not in means)
        columns = [(task, metric) for task, metric in ordered if metric is not None]
        groups: dict[tuple[str, str, str], dict[str, Row]] = {}
        for row in own:
            groups.setdefault((row["method"], row["settings"], row["backbone"]), {})[row["task"]] = row
        best = {
            task: max(row[metric] for row in own if row["task"] == task and metric in row) for task, metric in columns
        }
        entries = []
        for (method, settings, backbone), by_task in groups.items():
            cells = tuple(
                _cell(by_task[task], metric, best[task], metric) if metric in by_task.get(task, {}) else None
                for task, metric in columns
            )
            times = [row["seconds"] for row in by_task.values() if isinstance(row["seconds"], (int, float))]
            sources = dict.fromkeys(row["reported_in"] for row in by_task.values() if row.get("reported_in"))
            entries.append(
                Entry(method, settings, backbone, cells, sum(times) if times else None, "", "; ".join(sources))
            )
        chances = {row["task"]: row.get(f"{tasks[row['task']]}_chance") for row in own}
        several = len({row["backbone"] for row in own}) > 1
        entries.sort(key=_mean_of_cells, reverse=True)
        made.append(Board(benchmark, tuple((t, m, chances[t]) for t, m in columns), tuple(entries), several))
    return made


def task_tables(groups: Sequence[TaskRuns], rows: Sequence[Row]) -> list[TaskTable]:
    """A table a task."""
    by_run = {row["run"]: row for row in rows}
    made = []
    for number, group in enumerate(groups):
        headline = group.headline
        if headline is None:
            continue
        own = [by_run[run.record.run] for run in group.runs if run.record.run in by_run]
        best = {name: max(row[name] for row in own if name in row) for name in group.metrics}
        entries = tuple(
            Entry(
                row["method"], row["settings"], row["backbone"],
                tuple(_cell(row, name, best[name], headline) if name in row else None for name in group.metrics),
                row["seconds"] if isinstance(row["seconds"], (int, float)) else None,
                row["letters"], row.get("reported_in", ""),
            )
            for row in sorted(own, key=lambda row: row.get(headline, -1.0), reverse=True)
        )  # fmt: skip
        record = group.runs[0].record
        clusters = "" if record.clusters == record.queries else f"{record.clusters} {record.cluster_name} clusters"
        several = len({row["backbone"] for row in own}) > 1
        chance = next((metric.chance for run in group.runs for metric in _metric(run.record, headline)), None)
        made.append(
            TaskTable(
                name=group.full_name, anchor=f"task-{number}", queries=record.queries, clusters=clusters,
                metrics=group.metrics, headline=headline, entries=entries, scale=_scale(own, headline),
                chance=None if chance is None else 100 * chance, stale=group.stale, several_backbones=several,
                letters=any(entry.letters for entry in entries),
            )
        )  # fmt: skip
    return made


def sweep_figures(groups: Sequence[TaskRuns]) -> list[Figure]:
    """A chart a swept setting, a curve a task."""
    headline = {(group.benchmark, group.name): group.headline for group in groups if group.headline is not None}
    records = [run.record for group in groups for run in group.runs]
    figures = []
    for sweep in sweeps(records, headline):
        title = f"{sweep.benchmark}: {sweep.method} {sweep.fixed}".strip() + f", {sweep.backbone}"
        metrics = set(sweep.metrics.values())
        y_name = f"{metrics.pop()}, percent" if len(metrics) == 1 else "headline metric, percent"
        lines = [
            Line(task, tuple(_point(x, metric, f"{task}, {sweep.setting} {x:g}") for x, metric in line))
            for task, line in sweep.lines.items()
        ]
        legend = tuple((i % SERIES, line.name) for i, line in enumerate(lines))
        numbers = {task: {x: Cell(100 * m.value, 100 * m.low, 100 * m.high) for x, m in line}
                   for task, line in sweep.lines.items()}  # fmt: skip
        values = sorted({x for line in numbers.values() for x in line})
        rows = tuple((f"{x:g}", tuple(line.get(x) for line in numbers.values())) for x in values)
        chart = line_chart(lines, sweep.setting, y_name)
        figures.append(Figure(title, chart, legend, columns=(sweep.setting, *numbers), rows=rows))
    return figures


def cost_figures(groups: Sequence[TaskRuns]) -> list[Figure]:
    """A scatter plot a benchmark: seconds of preparing and scoring against the mean headline metric of its tasks.

    A mean over fewer tasks is of another thing: a plot shows the runs that saw all of its tasks. The first has the
    tasks that make it the fullest, each further one those of runs that are on none yet.
    """
    figures = []
    for benchmark in dict.fromkeys(group.benchmark for group in groups):
        own = [group for group in groups if group.benchmark == benchmark and group.headline is not None]
        several = len({run.record.backbone for group in own for run in group.runs}) > 1
        found: dict[tuple[str, str], dict[str, tuple[float, MetricValue]]] = {}
        for group in own:
            for run in group.runs:
                for metric in _metric(run.record, group.headline or ""):
                    seconds = run.record.seconds.get("score", 0.0) + run.record.seconds.get("prepare", 0.0)
                    label = run_label(run.record, with_backbone=several)
                    found.setdefault((run.record.method, label), {})[group.name] = (seconds, metric)
        everything = [group.name for group in own]
        left = dict.fromkeys(found)
        for _ in range(COST_PLOTS):
            choices = dict.fromkeys(tuple(name for name in everything if name in found[key]) for key in left)
            if not choices:
                break
            shown = {tasks: [key for key in found if set(tasks) <= found[key].keys()] for tasks in choices}
            tasks = max(choices, key=lambda tasks: len(tasks) * len(shown[tasks]))
            title, note = benchmark, ""
            if len(tasks) < len(everything):
                title += f", {tasks[0]}" if len(tasks) == 1 else f", {len(tasks)} of {len(everything)} tasks"
                note = "The runs that saw " + ", ".join(tasks) + "." if len(tasks) > 1 else ""
            headline = next(group.headline or "" for group in own if group.name == tasks[0])
            figures.append(_cost(title, found, tasks, headline, note))
            left = {key: None for key in left if key not in shown[tasks]}
    return figures


def _cost(
    title: str, found: Mapping[tuple[str, str], Mapping[str, tuple[float, MetricValue]]], tasks: Sequence[str],
    metric: str, note: str = "",
) -> Figure:  # fmt: skip
    """``found``: (method, label) -> task -> (seconds, metric). A method has one colour in all plots."""
    lines: dict[str, list[Point]] = {method: [] for method, _ in found}
    for (method, label), by_task in found.items():
        if not set(tasks) <= by_task.keys():
            continue
        mean, low, high = (100 * end for end in mean_of_tasks([by_task[task][1] for task in tasks], independent=False))
        seconds = max(1e-4, sum(by_task[task][0] for task in tasks))
        lines[method].append(Point(seconds, mean, low, high, label))
    series = [Line(name, tuple(points)) for name, points in lines.items()]
    y_name = f"mean of {len(tasks)} tasks, percent" if len(tasks) > 1 else f"{metric}, percent"
    legend = tuple((i % SERIES, line.name) for i, line in enumerate(series) if line.points)
    return Figure(title, scatter(series, "seconds to prepare and score", y_name), legend, note)


def heat_maps(groups: Sequence[TaskRuns]) -> list[Heat]:
    """A heat map a task that has several conditions, each of several queries."""
    made = []
    for group in groups:
        metric = group.headline
        if group.task is None or metric is None or not conditions_repeat(group.task):
            continue
        values = values_of(group.runs, metric)
        rows = by_condition(group.task, values)
        shown = tuple(rows[:CONDITIONS_SHOWN])
        reach = max((mean for row in shown for mean in row.means.values()), default=0.0)
        made.append(Heat(group.full_name, metric, tuple(values), shown, len(rows), reach or 1.0))
    return made


def kind_bars(groups: Sequence[TaskRuns]) -> list[KindBars]:
    """Bars a task whose distractors are of known kinds."""
    made = []
    for group in groups:
        task = group.task
        if task is None or task.kinds is None or task.candidates is None:
            continue
        bars = []
        for run in group.runs:
            if run.top is not None and run.top.shape[1]:
                found = fooled(task, run.top[:, 0])
                shares = (found.right, *found.by_kind.values(), found.unknown)
                bars.append((run.label, tuple(100 * share for share in shares)))
        guess = tuple(100 * share for share in kind_shares(task).values())
        if bars:
            made.append(KindBars(group.full_name, task.kinds.names, tuple(bars), guess))
    return made


def versions(groups: Sequence[TaskRuns]) -> list[str]:
    """ "torch 2.4.0" and the like, every one that made a record."""
    found = {f"{name} {value}" for group in groups for run in group.runs for name, value in run.record.versions.items()}
    return sorted(found)


def context(groups: Sequence[TaskRuns], rows: Sequence[Row]) -> dict[str, Any]:
    """All that the template reads besides the page of queries."""
    return {
        "boards": boards(rows),
        "tasks": task_tables(groups, rows),
        "sweeps": sweep_figures(groups),
        "heats": heat_maps(groups),
        "kinds": kind_bars(groups),
        "costs": cost_figures(groups),
        "without_task": [group.full_name for group in groups if group.task is None],
        "versions": versions(groups),
        "records": sum(len(group.runs) for group in groups),
        "newest": max((run.record.created for group in groups for run in group.runs), default=""),
    }


def _metric(record: Record, name: str) -> Iterator[MetricValue]:
    if name in record.metrics:
        yield record.metrics[name]


def _scale(rows: Sequence[Row], metric: str) -> float:
    """The next ten percent above every interval's end."""
    reach = max(float(row[end]) for row in rows for end in (metric, f"{metric}_high") if end in row)
    return min(100.0, 10 * (reach // 10 + 1))


def _mean_of_cells(entry: Entry) -> tuple[int, float]:
    """Runs on all tasks come before runs on some."""
    values = [cell.value for cell in entry.cells if cell is not None]
    return len(values), sum(values) / len(values) if values else 0.0


def _cell(row: Row, name: str, best: float, headline: str) -> Cell:
    return Cell(
        row[name], row.get(f"{name}_low"), row.get(f"{name}_high"), row[name] == best,
        name == headline and row["standing"] == TIED, row.get(f"{name}_reported"), row.get(f"{name}_difference"),
    )  # fmt: skip


def _point(x: float, metric: MetricValue, label: str) -> Point:
    value, low, high = 100 * metric.value, 100 * metric.low, 100 * metric.high
    return Point(x, value, low, high, f"{label}: {value:.1f} [{low:.1f}, {high:.1f}]")
