"""Tables of entries: the same cells for the terminal, Markdown, LaTeX and the report's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from condsim.harness.ranking.metric_names import headline_metric
from condsim.harness.results.entry import Entry, metric_names
from condsim.harness.results.percent import difference, interval_text, percent
from condsim.harness.results.significance import TIED, compared_values, standings
from condsim.harness.run.record import Measurement

IDENTITY = ("benchmark", "task", "question_set", "method", "settings", "backbone")
"""The columns that tables can be split by."""
SECONDS = "seconds"
GROUP = "group"
"""The column of letters of significance."""
GENECIS = "genecis"
MOST_TASKS = 6
"""Tasks that are put side by side; more of them go down."""
LEGEND = "Percent; ± is half the 95 % interval, brackets hold its ends where it is lopsided. Bold: best of its task"
TESTED = (
    "~: not significantly different from the best in the task's headline metric (the first that the benchmark lists; "
    "paired sign-flip test on the same queries, Holm-corrected over the task's runs, 5 %). Runs that share a letter in "
    "group are not significantly different from each other; letters are given to all runs of the task, also to runs "
    "that are not shown"
)
SEEDS = "Seeds of one training are one run here, with the mean over them"
NOT_TESTED = "No significance test: it needs two runs on the same queries"
SERVED = "server: measured by the benchmark's own server on that date, not by condsim; no interval, not tested"
REPORTED = "reported: published by others, not run here; in parentheses our value minus theirs"


@dataclass(frozen=True)
class Cell:
    """A measurement in a table."""

    measurement: Measurement
    compared: float | None = None
    """What counts where cells are compared: of several seeds the mean; None: it is not compared."""
    best: bool = False
    tied: bool = False
    """Not significantly different from the best."""

    @property
    def value(self) -> float:
        """In percent."""
        return percent(self.measurement.value)

    @property
    def interval(self) -> str:
        return interval_text(self.measurement)

    @property
    def reported(self) -> str:
        """The reported value and our difference from it: ``47.5 (+2.5)``; "" where nothing was reported."""
        points = difference(self.measurement)
        return "" if points is None else f"{percent(self.measurement.reported or 0.0):.1f} ({points:+.1f})"


@dataclass(frozen=True)
class RunName:
    """The name of a row: a method with its settings."""

    method: str
    settings: str = ""
    backbone: str = ""
    """"" where all rows have the same."""
    reported_in: str = ""
    server: str = ""
    """The benchmark's own server that measured the row, and the date."""

    def __str__(self) -> str:
        server = f"({self.server})" if self.server else ""
        return " ".join(part for part in (self.method, self.settings, self.backbone, server) if part)


Item = str | Cell | RunName


@dataclass(frozen=True)
class Column:
    name: str
    note: str = ""
    """A second line of the head: the metric of a task."""
    number: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.note}".strip()


@dataclass(frozen=True)
class Table:
    title: str
    head: tuple[Column, ...]
    rows: tuple[tuple[Item, ...], ...]
    caption: str = ""


def task_tables(entries: Sequence[Entry], by: Sequence[str] = ("benchmark", "task", "backbone")) -> list[Table]:
    """One table per combination of the columns ``by``: runs down, metrics across, published numbers under ours.

    Question sets are never mixed: where tables are split by task, each has its own table, the newest first.
    """
    keys = (*by, "question_set") if "task" in by and "question_set" not in by else tuple(by)
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: not entry.is_newest):
        groups.setdefault(tuple(str(getattr(entry, name)) for name in keys), []).append(entry)
    places = {
        tuple(str(getattr(entry, name)) for name in by): place for place, entry in reversed([*enumerate(entries)])
    }
    ordered = sorted(groups.items(), key=lambda item: places[item[0][: len(by)]])
    return [_runs_by_metrics(by, group, entries) for _, group in ordered]


def overview(entries: Sequence[Entry]) -> list[Table]:
    """One table per benchmark and backbone with several tasks, see :func:`methods_by_tasks`.

    Where there are many tasks, and more than methods, the tasks go down and the methods across.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in newest_sets(entries):
        groups.setdefault((entry.benchmark, entry.backbone), []).append(entry)
    tables = []
    for (benchmark, backbone), group in groups.items():
        if len({entry.task for entry in group if entry.headline is not None}) > 1:
            table = methods_by_tasks(f"{benchmark}, backbone {backbone}", group)
            tables.append(transposed(table) if len(table.head) - 1 > max(MOST_TASKS, len(table.rows)) else table)
    return tables


def transposed(table: Table) -> Table:
    """Columns as rows, for a table whose first column has the names of its rows."""
    head = (Column("task", number=False), *(Column(str(row[0])) for row in table.rows))
    rows = tuple((str(column), *(row[i] for row in table.rows)) for i, column in enumerate(table.head) if i)
    return Table(table.title, head, rows, table.caption)


def methods_by_tasks(title: str, entries: Sequence[Entry], *, seconds: bool = False) -> Table:
    """Methods down, the headline metric of each task across: headline means first, methods ordered by the first one.

    ``entries``: of one benchmark, one question set per task.
    """
    tasks = task_columns(entries)
    several = len({entry.backbone for entry in entries}) > 1
    by_method: dict[tuple[str, str, str], dict[str, Entry]] = {}
    for entry in entries:
        by_method.setdefault((entry.method, entry.settings, entry.backbone), {})[entry.task] = entry
    compared = {
        task: compared_values((entry for entry in entries if entry.task == task), metric)
        for task, metric in tasks.items()
    }
    tied = _tied(entries)
    rows: list[tuple[list[float | None], tuple[Item, ...]]] = []
    for (method, settings, backbone), by_task in by_method.items():
        cells = [
            _cell(by_task[task], metric, compared[task], tied)
            if task in by_task and metric in by_task[task].metrics
            else None
            for task, metric in tasks.items()
        ]
        sources = dict.fromkeys(entry.reported_in for entry in by_task.values() if entry.reported_in)
        servers = dict.fromkeys(entry.server for entry in by_task.values() if entry.server)
        name = RunName(method, settings, backbone if several else "", "; ".join(sources), "; ".join(servers))
        times = [entry.seconds for entry in by_task.values() if entry.seconds is not None]
        total = [f"{sum(times):.2f}" if times else ""] if seconds else []
        values = [None if cell is None else cell.measurement.value for cell in cells]
        rows.append((values, (name, *("" if cell is None else cell for cell in cells), *total)))
    first_is_mean = any(entry.is_mean and entry.task == next(iter(tasks), None) for entry in entries)
    rows.sort(key=lambda row: _quality(row[0], first_is_mean), reverse=True)
    head = [Column("method", number=False), *(Column(task, metric) for task, metric in tasks.items())]
    head += [Column(SECONDS, "scoring")] if seconds else []
    return Table(title, tuple(head), tuple(row for _, row in rows), legend(entries))


def task_columns(entries: Iterable[Entry]) -> dict[str, str]:
    """Task -> the metric shown: headline means first, and GeneCIS's mean and tasks before the others."""
    entries = list(entries)
    means = {entry.task for entry in entries if entry.is_mean}
    by_task: dict[str, list[Entry]] = {}
    for entry in entries:
        by_task.setdefault(entry.task, []).append(entry)
    metrics = {
        task: headline_metric(name for entry in group for name in entry.metrics) for task, group in by_task.items()
    }
    first = genecis_tasks(entries)
    rank = {task: place for place, task in enumerate(first)}
    order = sorted(metrics, key=lambda task: (task not in means, rank.get(task, len(rank))))
    return {task: metric for task in order if (metric := metrics[task]) is not None}


def genecis_tasks(entries: Iterable[Entry]) -> list[str]:
    """The headline mean of GeneCIS and its tasks, in the order of the paper: they come before all others."""
    entries = list(entries)
    tasks = {entry.run: entry.task for entry in entries if not entry.is_mean}
    means = [e for e in entries if e.is_mean and (e.task.startswith(GENECIS) or e.benchmark == GENECIS)]
    parts = (tasks[run] for mean in means for run in mean.runs if run in tasks)
    return [*dict.fromkeys([*(mean.task for mean in means), *parts])]


def newest_sets(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of one question set per task: of the newest one, of the first where that is not among them."""
    chosen: dict[tuple[str, str], str] = {}
    for entry in sorted(entries, key=lambda entry: not entry.is_newest):
        chosen.setdefault((entry.benchmark, entry.task), entry.question_set)
    return [entry for entry in entries if chosen[entry.benchmark, entry.task] == entry.question_set]


def legend(entries: Iterable[Entry]) -> str:
    """What the marks of a table of these entries mean, and what was tested."""
    entries = list(entries)
    parts = [LEGEND, TESTED if any(entry.letters for entry in entries) else NOT_TESTED]
    if with_seeds(entries):
        parts.append(SEEDS)
    if any(entry.server for entry in entries):
        parts.append(SERVED)
    if any(entry.reported_in for entry in entries):
        parts.append(REPORTED)
    return ". ".join(parts) + "."


def with_seeds(entries: Iterable[Entry]) -> bool:
    """Whether some of these entries are seeds of one training."""
    return any(entry.training != entry.runs for entry in entries)


def metric_cells(entries: Sequence[Entry], metrics: Sequence[str]) -> list[list[Item]]:
    """For each entry its cells of ``metrics``; the best of a column is the best on the same question set."""
    sets = _by_question_set(entries)
    compared = {(key, name): compared_values(own, name) for key, own in sets.items() for name in metrics}
    tied = _tied(entries)
    return [
        [
            _cell(entry, name, compared[(entry.full_task, entry.question_set), name], tied, fewest=2)
            if name in entry.metrics
            else ""
            for name in metrics
        ]
        for entry in entries
    ]


def _runs_by_metrics(by: Sequence[str], entries: Sequence[Entry], all_entries: Sequence[Entry]) -> Table:
    metrics = metric_names(entries)
    varying = [name for name in (*IDENTITY, "server") if name not in by and _varies(name, entries)]
    with_seconds = any(entry.seconds is not None for entry in entries)
    one_set = len({(entry.full_task, entry.question_set) for entry in entries}) == 1
    with_letters = one_set and any(entry.letters for entry in entries)
    rows: list[tuple[Item, ...]] = []
    for entry, cells in zip(entries, metric_cells(entries, metrics), strict=True):
        seconds = ["" if entry.seconds is None else f"{entry.seconds:.2f}"] if with_seconds else []
        letters = [entry.letters] if with_letters else []
        rows.append((*(_identity_text(entry, name) for name in varying), *letters, *cells, *seconds))
        if entry.reported_in:
            reported = [cell.reported if isinstance(cell, Cell) else "" for cell in cells]
            source = f"reported: {entry.reported_in}"
            rows.append((source, *("" for _ in (*varying[1:], *letters)), *reported, *("" for _ in seconds)))
    head = [*(Column(name, number=False) for name in (*varying, *[GROUP] * with_letters)), *map(Column, metrics)]
    head += [Column(SECONDS)] if with_seconds else []
    return Table(_title(by, entries, all_entries), tuple(head), tuple(rows), legend(entries))


def _title(by: Sequence[str], entries: Sequence[Entry], all_entries: Sequence[Entry]) -> str:
    first = entries[0]
    named = {name: _identity_text(first, name) for name in by}
    parts = [f"{named.pop('benchmark')}/{named.pop('task')}"] if {"benchmark", "task"} <= named.keys() else []
    if "task" in by and "question_set" not in by:
        others = {other.question_set for other in all_entries if other.full_task == first.full_task}
        if len(others) > 1 or not first.is_newest:
            parts.append(f"{'' if first.is_newest else 'other '}question set {first.set_name}")
        elif first.variant:
            parts.append(first.variant)
    labels = {"backbone": "backbone ", "question_set": "question set "}
    parts += [f"{labels.get(name, '')}{value}" for name, value in named.items()]
    queries = {entry.queries for entry in entries if entry.queries is not None}
    if len(queries) == 1:
        parts.append(f"{queries.pop()} queries")
    return ", ".join(parts)


def _identity_text(entry: Entry, name: str) -> str:
    return entry.set_name if name == "question_set" else str(getattr(entry, name))


def _varies(name: str, entries: Sequence[Entry]) -> bool:
    """Whether the rows need this column: the method always, the question set where a task has several, the server where
    one measured a row."""
    if name == "question_set":
        sets = {(entry.full_task, entry.question_set) for entry in entries}
        return len(sets) > len({task for task, _ in sets})
    if name == "server":
        return any(entry.server for entry in entries)
    return name == "method" or len({getattr(entry, name) for entry in entries}) > 1


def _tied(entries: Iterable[Entry]) -> set[int]:
    """The ids of those entries that are not separable from the best one of their question set among these."""
    return {
        id(entry)
        for group in _by_question_set(entries).values()
        for entry, standing in zip(group, standings(group), strict=True)
        if standing == TIED
    }


def _by_question_set(entries: Iterable[Entry]) -> dict[tuple[str, str], list[Entry]]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.full_task, entry.question_set), []).append(entry)
    return groups


def _cell(entry: Entry, name: str, compared: Mapping[tuple[str, ...], float], tied: set[int], fewest: int = 1) -> Cell:
    """``compared``: :func:`compared_values` of its column; the best is marked where there are ``fewest`` of them."""
    value = compared[entry.training]
    best = value == max(compared.values()) and len(compared) >= fewest
    is_headline = name == headline_metric(entry.metrics)
    return Cell(entry.metrics[name], value, best, is_headline and id(entry) in tied)


def _quality(values: Sequence[float | None], first_is_mean: bool) -> tuple[float, int, float]:
    """Sort key of methods: the first headline mean; then the number of tasks, then the mean over them."""
    known = [value for value in values if value is not None]
    first = values[0] if first_is_mean and values else None
    return (-1.0 if first is None else first, len(known), sum(known) / len(known) if known else 0.0)
