"""The report's sections as plain data for the template. Everything shown comes from the results folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from condsim.harness.errors import CondsimError
from condsim.harness.results.breakdown import (
    FEW_QUERIES,
    GroupRow,
    by_condition,
    by_label,
    conditions_repeat,
    fooled,
    kind_shares,
)
from condsim.harness.results.composition import GAP_NOTE, run_gaps
from condsim.harness.results.costs import cost_plots
from condsim.harness.results.entry import Entry
from condsim.harness.results.percent import percent
from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.spread import find_spreads, spread_table
from condsim.harness.results.sweeps import find_sweeps
from condsim.harness.results.table import (
    GENECIS,
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
)
from condsim.harness.run.record import Measurement

CONDITIONS_SHOWN = 40


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


def context(groups: Sequence[QuestionSet], entries: Sequence[Entry], notes: list[str]) -> dict[str, Any]:
    """All that the template reads, except the page of queries. ``notes`` gets what cannot be shown."""
    first = {benchmark: genecis_tasks(own) for benchmark, own in _by_benchmark(entries).items()}

    def place(group: QuestionSet) -> tuple[bool, str, int]:
        tasks = first.get(group.benchmark, [])
        return group.benchmark != GENECIS, group.benchmark, [*tasks, group.name].index(group.name)

    groups = sorted(groups, key=place)
    shown = [group for group in groups if group.is_newest]
    return {
        "boards": boards(entries),
        "tasks": task_tables(groups, entries, notes),
        "spreads": spread_table(find_spreads(groups, notes)),
        "sweeps": sweep_figures(shown),
        "few_queries": FEW_QUERIES,
        "heats": heat_maps(shown, notes),
        "labels": label_maps(shown, notes),
        "kinds": kind_bars(shown, notes),
        "costs": cost_figures(shown),
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


def task_tables(groups: Sequence[QuestionSet], entries: Sequence[Entry], notes: list[str]) -> list[TaskTable]:
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
        gaps = _gaps(group, notes)
        tables.append(
            TaskTable(
                name=group.title if group.is_newest else f"{group.title} (older)",
                anchor=f"task-{number}",
                facts=f"{_facts(group, any(letters))} {f'{GAP_NOTE}, on {headline}.' if gaps else ''}".rstrip(),
                table=_every_metric(group, own, gaps),
                headline=1 + group.metrics.index(headline),
                letters=letters if any(letters) else (),
                scale=_scale(own, headline),
                chance=None if chance is None else percent(chance),
            )
        )
    return tables


def sweep_figures(groups: Sequence[QuestionSet]) -> list[PageFigure]:
    """One chart per swept setting, one curve per task."""
    page_figures = []
    for sweep in find_sweeps(groups):
        lines = {task: {x: Cell(metric) for x, metric in line} for task, line in sweep.lines.items()}
        values = sorted({x for line in lines.values() for x in line})
        head = (Column(sweep.setting, number=False), *map(Column, lines))
        rows = tuple((f"{x:g}", *(line.get(x, "") for line in lines.values())) for x in values)
        name = f"{sweep.title}: {', '.join(lines)} against {sweep.setting}"
        page_figures.append(
            PageFigure(sweep.title, _chart("sweep_curve", sweep, name), numbers=Table(sweep.title, head, rows))
        )
    return page_figures


def cost_figures(groups: Sequence[QuestionSet]) -> list[PageFigure]:
    """Seconds against quality, one or more plots per benchmark."""
    page_figures = []
    for plot in cost_plots(groups):
        head = (Column("run", number=False), Column("seconds"), Column(plot.y_name.removesuffix(", percent")))
        rows = tuple((point.label, f"{point.seconds:.2f}", Cell(point.mean)) for point in plot.points)
        chart = _chart("cost_scatter", plot, f"{plot.title}: {plot.y_name} against seconds")
        page_figures.append(PageFigure(plot.title, chart, plot.note, Table(plot.title, head, rows)))
    return page_figures


def heat_maps(groups: Sequence[QuestionSet], notes: list[str]) -> list[Heat]:
    """One heat map per task that has several conditions, each with several queries."""
    maps = []
    for group in groups:
        if group.task is None or group.headline is None or not conditions_repeat(group.task):
            continue
        values = {run.label: value for run, value in group.values(group.headline, notes).items()}
        if values:
            maps.append(_heat(group, by_condition(group.task, values), tuple(values)))
    return maps


def label_maps(groups: Sequence[QuestionSet], notes: list[str]) -> list[Heat]:
    """One heat map per task whose queries have labels."""
    maps = []
    for group in groups:
        if group.task is None or group.task.labels is None or group.headline is None:
            continue
        values = {run.label: value for run, value in group.values(group.headline, notes).items()}
        if values:
            maps.append(_heat(group, by_label(group.task, values), tuple(values)))
    return maps


def _heat(group: QuestionSet, rows: Sequence[GroupRow], runs: tuple[str, ...]) -> Heat:
    shown = tuple(rows[:CONDITIONS_SHOWN])
    reach = max((mean for row in shown for mean in row.means.values()), default=0.0)
    return Heat(group.title, str(group.headline), runs, shown, len(rows), reach or 1.0)


def kind_bars(groups: Sequence[QuestionSet], notes: list[str]) -> list[KindBars]:
    """Bars for the tasks whose distractors are of known kinds."""
    charts = []
    for group in groups:
        task = group.task
        if task is None or task.kinds is None or task.candidates is None:
            continue
        bars = []
        for run in group.runs:
            try:
                top = run.top
            except CondsimError as error:
                notes.append(f"left out: {error}")
                continue
            if top is not None and top.shape[1]:
                shares = fooled(task, top[:, 0])
                bars.append((run.label, tuple(map(percent, (shares.right, *shares.by_kind.values(), shares.unknown)))))
        if bars:
            guess = tuple(map(percent, kind_shares(task).values()))
            charts.append(KindBars(group.full_name, task.kinds.names, tuple(bars), guess))
    return charts


def versions(groups: Sequence[QuestionSet]) -> list[str]:
    """Every package version that made a record: "torch 2.4.0"."""
    return sorted(
        {f"{name} {version}" for group in groups for run in group.runs for name, version in run.record.versions.items()}
    )


def _chart(drawing: str, content: object, name: str) -> Markup:
    """The drawing of :mod:`condsim.harness.results.figures` with this name; without matplotlib, what it needs."""
    try:
        from condsim.harness.results import figures
        from condsim.harness.results.report.inline_svg import inline_svg
    except ImportError:  # the extra condsim[plot]
        return Markup("<p class=\"facts\">The chart needs matplotlib: pip install 'condsim[plot]'.</p>")
    return inline_svg(lambda: getattr(figures, drawing)(content), name)


def _facts(group: QuestionSet, tested: bool) -> str:
    record = group.runs[0].record
    sample = f"{record.queries} queries"
    if record.clusters != record.queries:
        sample += f" in {record.clusters} clusters (by {record.cluster_name})"
    if not tested:
        return f"{sample}. No significance test: it needs two runs on the same queries."
    return (
        f"{sample}. Tested: {group.headline}, every pair of runs on the same queries (paired sign-flip test, "
        "Holm-corrected, 5 %). Runs that share a letter in “group” do not differ significantly; ≈ marks those that "
        "do not differ from the best."
    )


def _gaps(group: QuestionSet, notes: list[str]) -> dict[str, Cell]:
    """Run -> its composition gap on the headline metric; none where its interval cannot be computed."""
    try:
        gaps = run_gaps(group, group.values(group.headline, notes))
    except CondsimError:  # the file of a clustered task is missing, which `notes` says already
        return {}
    return {run.run: Cell(Measurement(gap.value, gap.low, gap.high)) for run, gap in gaps.items()}


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
