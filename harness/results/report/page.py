"""The report's sections as plain data for the template. Everything shown comes from the results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

from markupsafe import Markup

from condsim.harness.errors import CondsimError
from condsim.harness.results.breakdown import (
    FEW_QUERIES,
    GroupRow,
    Values,
    by_condition,
    by_label,
    conditions_repeat,
    fooled,
    kind_shares,
)
from condsim.harness.results.composition import GAP_NOTE, run_gaps
from condsim.harness.results.costs import cost_plots
from condsim.harness.results.entry import Entry
from condsim.harness.results.kept import Remember
from condsim.harness.results.percent import percent
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.report.charts import chart
from condsim.harness.results.spread import find_spreads, spread_table
from condsim.harness.results.sweeps import find_sweeps
from condsim.harness.results.table import (
    GENECIS,
    SEEDS,
    Cell,
    Column,
    Item,
    RunName,
    Table,
    genecis_tasks,
    methods_by_tasks,
    metric_cells,
    newest_sets,
    task_columns,
    with_seeds,
)
from condsim.harness.run.record import Measurement
from condsim.harness.task import Task

CONDITIONS_SHOWN = 40
GAPS, MEANS, BARS = "composition gaps, 10,000 resamples, seed 0", "means 1", "kinds of distractors 1"
"""Part of what kept parts of a page are valid for: change it whenever their computation changes."""


@dataclass(frozen=True)
class Board:
    """A benchmark's leaderboard: methods down, each task's headline metric across."""

    benchmark: str
    table: Table
    chance: tuple[float | None, ...]
    """Of each task, in percent."""


@dataclass(frozen=True)
class TaskTable:
    """Every metric of one question set of one task."""

    name: str
    anchor: str
    facts: str
    """Its sample, and what was tested."""
    table: Table
    """Columns: the run, every metric, seconds."""
    headline: int
    """The column of the headline metric."""
    letters: tuple[str, ...]
    """Of each row; empty where nothing was tested."""
    scale: float
    """The right end, in percent, of the interval bars."""
    chance: float | None


@dataclass(frozen=True)
class PageFigure:
    title: str
    chart: Markup
    note: str = ""
    numbers: Table | None = None
    """The numbers of the chart."""


@dataclass(frozen=True)
class Heat:
    """Conditions or labels down, runs across."""

    name: str
    metric: str
    runs: tuple[str, ...]
    rows: tuple[GroupRow, ...]
    total: int
    reach: float
    """The largest mean: it gets the full colour."""


@dataclass(frozen=True)
class KindBars:
    """What wrong answers are: of each run the shares of right answers and of each kind of distractor, in percent."""

    name: str
    kinds: tuple[str, ...]
    bars: tuple[tuple[str, tuple[float, ...]], ...]
    """(run, (right, each kind, unknown))"""
    guess: tuple[float, ...]
    """Each kind's share among all distractors."""

    @property
    def unknown(self) -> bool:
        return any(shares[-1] > 0 for _, shares in self.bars)


def context(
    groups: Sequence[QuestionSet], entries: Sequence[Entry], notes: list[str], remember: Remember
) -> dict[str, Any]:
    """All that the template reads, except the page of queries. ``notes`` gets what cannot be shown."""
    first = {benchmark: genecis_tasks(own) for benchmark, own in _by_benchmark(entries).items()}

    def place(group: QuestionSet) -> tuple[bool, str, int]:
        tasks = first.get(group.benchmark, [])
        return group.benchmark != GENECIS, group.benchmark, [*tasks, group.name].index(group.name)

    groups = sorted(groups, key=place)
    shown = [group for group in groups if group.is_newest]
    return {
        "boards": boards(entries),
        "tasks": task_tables(groups, entries, notes, remember),
        "spreads": spread_table(find_spreads(groups, notes)),
        "sweeps": sweep_figures(shown, remember),
        "few_queries": FEW_QUERIES,
        "heats": heat_maps(shown, notes, remember),
        "labels": label_maps(shown, notes, remember),
        "kinds": kind_bars(shown, notes, remember),
        "costs": cost_figures(shown, remember),
        "without_task": [group.full_name for group in shown if group.task_path is None],
        "versions": versions(groups),
        "records": sum(len(group.runs) for group in groups),
        "newest": max((run.record.created for group in groups for run in group.runs), default=""),
    }


def boards(entries: Sequence[Entry]) -> list[Board]:
    """One board per benchmark, GeneCIS first, of the newest question set of each task."""
    entries = newest_sets(entries)
    made = []
    for benchmark, own in sorted(_by_benchmark(entries).items(), key=lambda item: item[0] != GENECIS):
        chances = {
            task: next((e.metrics[metric].chance for e in own if e.task == task and metric in e.metrics), None)
            for task, metric in task_columns(own).items()
        }
        shown = tuple(None if chance is None else percent(chance) for chance in chances.values())
        if chances:
            made.append(Board(benchmark, methods_by_tasks(benchmark, own, seconds=True), shown))
    return made


def _by_benchmark(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.benchmark, []).append(entry)
    return groups


def task_tables(
    groups: Sequence[QuestionSet], entries: Sequence[Entry], notes: list[str], remember: Remember
) -> list[TaskTable]:
    """One table per question set: runs down, best first, every metric across, and the composition gap."""
    by_run = {entry.run: entry for entry in entries if entry.run}
    tables = []
    for number, group in enumerate(groups):
        own = [by_run[run.run] for run in group.runs if run.run in by_run]
        if group.headline is None or not own:
            continue
        headline = str(group.headline)
        own.sort(key=lambda entry: entry.metrics[headline].value if headline in entry.metrics else -1.0, reverse=True)
        letters = tuple(entry.letters for entry in own)
        chance = next((e.metrics[headline].chance for e in own if headline in e.metrics), None)
        gaps = _gaps(group, notes, remember)
        tables.append(
            TaskTable(
                name=group.title if group.is_newest else f"{group.title} (older)",
                anchor=f"task-{number}",
                facts=f"{_facts(group, own)} {f'{GAP_NOTE}, on {headline}.' if gaps else ''}".rstrip(),
                table=_every_metric(group, own, gaps),
                headline=1 + group.metrics.index(headline),
                letters=letters if any(letters) else (),
                scale=_scale(own, headline),
                chance=None if chance is None else percent(chance),
            )
        )
    return tables


def sweep_figures(groups: Sequence[QuestionSet], remember: Remember) -> list[PageFigure]:
    """One chart per swept setting, one curve per task."""
    page_figures = []
    for sweep in find_sweeps(groups):
        lines = {task: {x: Cell(metric) for x, metric in line} for task, line in sweep.lines.items()}
        values = sorted({x for line in lines.values() for x in line})
        head = (Column(sweep.setting, number=False), *map(Column, lines))
        rows = tuple((f"{x:g}", *(line.get(x, "") for line in lines.values())) for x in values)
        name = f"{sweep.title}: {', '.join(lines)} against {sweep.setting}"
        page_figures.append(
            PageFigure(sweep.title, chart("sweep_curve", sweep, name, remember), numbers=Table(sweep.title, head, rows))
        )
    return page_figures


def cost_figures(groups: Sequence[QuestionSet], remember: Remember) -> list[PageFigure]:
    """Seconds against quality, one or more plots per benchmark."""
    page_figures = []
    for plot in cost_plots(groups):
        head = (Column("run", number=False), Column("seconds"), Column(plot.y_name.removesuffix(", percent")))
        rows = tuple((point.label, f"{point.seconds:.2f}", Cell(point.mean)) for point in plot.points)
        drawn = chart("cost_scatter", plot, f"{plot.title}: {plot.y_name} against seconds", remember)
        page_figures.append(PageFigure(plot.title, drawn, plot.note, Table(plot.title, head, rows)))
    return page_figures


def heat_maps(groups: Sequence[QuestionSet], notes: list[str], remember: Remember) -> list[Heat]:
    """One heat map per task that has several conditions, each with several queries."""
    repeated = [group for group in groups if group.task is not None and conditions_repeat(group.task)]
    return [heat for group in repeated for heat in _heat(group, by_condition, notes, remember)]


def label_maps(groups: Sequence[QuestionSet], notes: list[str], remember: Remember) -> list[Heat]:
    """One heat map per task whose queries have labels."""
    labelled = [group for group in groups if group.task is not None and group.task.labels is not None]
    return [heat for group in labelled for heat in _heat(group, by_label, notes, remember)]


def _heat(
    group: QuestionSet, split: Callable[[Task, Values], list[GroupRow]], notes: list[str], remember: Remember
) -> list[Heat]:
    """The heat map of a group whose task is there; none where no run has the headline metric."""

    def compute() -> list[Any]:
        values = {run.label: value for run, value in group.values(group.headline, notes).items()}
        rows = split(group.task, values) if group.task is not None and values else []
        return [len(rows), [[row.name, row.queries, row.means] for row in rows[:CONDITIONS_SHOWN]]]

    total, rows = remember([MEANS, split.__name__, CONDITIONS_SHOWN, *group.shown_state], compute)
    shown = tuple(GroupRow(*row) for row in rows)
    if not shown:
        return []
    reach = max(mean for row in shown for mean in row.means.values())
    return [Heat(group.title, str(group.headline), tuple(shown[0].means), shown, total, reach or 1.0)]


def kind_bars(groups: Sequence[QuestionSet], notes: list[str], remember: Remember) -> list[KindBars]:
    """Bars for the tasks whose distractors are of known kinds."""
    charts = []
    for group in groups:
        if group.task is None or group.task.kinds is None or group.task.candidates is None:
            continue
        bars, guess = remember([BARS, *group.shown_state], partial(_kind_bars, group, group.task, notes))
        if bars:
            shares = tuple((label, tuple(own)) for label, own in bars)
            charts.append(KindBars(group.full_name, group.task.kinds.names, shares, tuple(guess)))
    return charts


def _kind_bars(group: QuestionSet, task: Task, notes: list[str]) -> list[Any]:
    """[(run, shares of each), share of each kind among all distractors], in percent."""
    bars = []
    for run in group.runs:
        try:
            top = run.top
        except CondsimError as error:
            notes.append(f"left out: {error}")
            continue
        if top is not None and top.shape[1]:
            shares = fooled(task, top[:, 0])
            bars.append([run.label, [*map(percent, (shares.right, *shares.by_kind.values(), shares.unknown))]])
    return [bars, [*map(percent, kind_shares(task).values())]]


def versions(groups: Sequence[QuestionSet]) -> list[str]:
    """Every package version that made a record: "torch 2.4.0"."""
    return sorted(
        {f"{name} {version}" for group in groups for run in group.runs for name, version in run.record.versions.items()}
    )


def _facts(group: QuestionSet, entries: Sequence[Entry]) -> str:
    record = group.runs[0].record
    sample = f"{record.queries} queries"
    if record.clusters != record.queries:
        sample += f" in {record.clusters} clusters (by {record.cluster_name})"
    if not any(entry.letters for entry in entries):
        return f"{sample}. No significance test: it needs two runs on the same queries."
    return (
        f"{sample}. Tested: {group.headline}, every pair of runs on the same queries (paired sign-flip test, "
        "Holm-corrected, 5 %). Runs that share a letter in “group” do not differ significantly; ~ marks those that "
        "do not differ from the best."
    ) + f" {SEEDS}." * with_seeds(entries)


def _gaps(group: QuestionSet, notes: list[str], remember: Remember) -> dict[str, Cell]:
    """Run -> its composition gap on the headline metric; none where its interval cannot be computed."""

    def compute() -> dict[str, Any]:
        gaps = run_gaps(group, group.values(group.headline, notes))
        ends = {run: (gap.low, gap.high) if isfinite(gap.low) else (None, None) for run, gap in gaps.items()}
        return {run.run: [gap.value, *ends[run]] for run, gap in gaps.items()}

    try:
        gaps = remember([GAPS, *group.state], compute)
    except CondsimError:  # the file of a clustered task is missing, which `notes` says already
        return {}
    return {run: Cell(Measurement(*gap)) for run, gap in gaps.items()}


def _every_metric(group: QuestionSet, entries: Sequence[Entry], gaps: Mapping[str, Cell]) -> Table:
    several = len({entry.backbone for entry in entries}) > 1
    rows: list[tuple[Item, ...]] = []
    for entry, cells in zip(entries, metric_cells(entries, group.metrics), strict=True):
        run = RunName(entry.method, entry.settings, entry.backbone if several else "", entry.reported_in)
        gap = (gaps.get(entry.run, ""),) if gaps else ()
        rows.append((run, *cells, *gap, "" if entry.seconds is None else f"{entry.seconds:.2f}"))
    columns = (*group.metrics, *(("gap",) if gaps else ()), "seconds")
    head = (Column("method", number=False), *map(Column, columns))
    return Table(group.title, head, tuple(rows))


def _scale(entries: Sequence[Entry], metric: str) -> float:
    """The next ten percent above every interval's end."""
    reach = max(percent(entry.metrics[metric].ends[1]) for entry in entries if metric in entry.metrics)
    return min(100.0, 10 * (reach // 10 + 1))
