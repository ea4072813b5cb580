"""The leaderboard: a pure function of the records, without torch. One entry per task, method, backbone and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.ranking.metric_names import headline_metric
from condsim.harness.results import csv_file, formats
from condsim.harness.results.entry import Entry, entry_of, metric_names, with_reported
from condsim.harness.results.headline_means import headline_entries
from condsim.harness.results.order import newest, older_set, question_sets, short_id
from condsim.harness.results.published import Published
from condsim.harness.results.seeds import first_seeds
from condsim.harness.results.significance import standings
from condsim.harness.results.spread import Spread, spread_table
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.results.table import IDENTITY, Table, legend, newest_sets, overview, task_tables
from condsim.harness.terminal.console import warn

if TYPE_CHECKING:
    import pandas as pd

BY = ("benchmark", "task", "backbone")


@dataclass(frozen=True)
class Leaderboard:
    """Entries in a fixed order. Everything that shows them is here; nothing here reads or changes a file."""

    entries: tuple[Entry, ...]
    spreads: tuple[Spread, ...] = ()
    """Over seeds and wordings, of runs that are all among the entries."""

    def __len__(self) -> int:
        return len(self.entries)

    def select(self, metric: str | Sequence[str] | None = None, **columns: object) -> Leaderboard:
        """The entries with these values: ``select(method="clay", rank=[5, 10], metric="recall@1")``.

        Columns: benchmark, task ("task" or "benchmark/task"), method, backbone, settings, rank, queries, question_set.
        ``metric`` keeps these metrics and the entries that have one of them. Raises CondsimError, naming the nearest
        valid ones, for a column or value that does not exist and where nothing fits all of them.
        """
        known = (*csv_file.LEADING, csv_file.QUESTION_SET)
        kept = list(self.entries)
        for column, wanted in columns.items():
            texts = _texts(wanted)
            if column not in known:
                raise CondsimError(
                    f"{column}={','.join(texts)}: no column {column!r}. {did_you_mean(column, (*known, 'metric'))}"
                )
            names = {value for entry in self.entries for value in _names(entry, column)}
            for value in texts:
                if value not in names:
                    raise CondsimError(f"no record has {column}={value}. {did_you_mean(value, names - {''})}")
            kept = [entry for entry in kept if set(texts) & _names(entry, column)]
        if metric is not None:
            kept = _with_metrics(kept, _texts(metric), metric_names(self.entries))
        if not kept:
            shown = [f"{name}={','.join(_texts(value))}" for name, value in (*columns.items(), ("metric", metric))]
            raise CondsimError(f"no record fits {' '.join(shown)} at the same time")
        return self._only(kept)

    def of_runs(self, runs: Container[str]) -> Leaderboard:
        """The entries of these runs (their hashes), and the headline means over these runs alone."""
        return self._only(entry for entry in self.entries if all(run in runs for run in entry.runs))

    def _only(self, entries: Iterable[Entry]) -> Leaderboard:
        entries = tuple(entries)
        shown = {run for entry in entries for run in entry.runs}
        return Leaderboard(entries, tuple(spread for spread in self.spreads if shown.issuperset(spread.runs)))

    def best(self, task: str) -> Entry:
        """The best entry on the headline metric of ``task`` ("benchmark/task"), among its newest question set."""
        own = [entry for entry in newest_sets(self.entries) if entry.full_task == task and entry.headline is not None]
        if not own:
            raise CondsimError(f"no record of task {task!r}. {did_you_mean(task, {e.full_task for e in self.entries})}")
        return max(own, key=lambda entry: entry.headline.value if entry.headline else 0.0)

    def tied(self, entry: Entry) -> list[Entry]:
        """The entries of its task and question set, but seeds of its training, that do not differ significantly."""
        from condsim.harness.statistics.letters import share_letter

        return [
            other
            for other in self.entries
            if other.training != entry.training
            and (other.full_task, other.question_set) == (entry.full_task, entry.question_set)
            and share_letter(other.letters, entry.letters)
        ]

    def by(self, *columns: str) -> list[Table]:
        """One table per combination of these columns: runs down, metrics across."""
        for column in columns:
            if column not in IDENTITY:
                raise CondsimError(f"no column {column!r}. {did_you_mean(column, IDENTITY)}")
        return task_tables(self.entries, columns or BY)

    def overview(self) -> list[Table]:
        """One table per benchmark and backbone: methods down, the headline metric of each task across.

        A benchmark with a single task has that task's table instead.
        """
        newest = newest_sets(self.entries)
        tasks: dict[tuple[str, str], set[str]] = {}
        for entry in newest:
            tasks.setdefault((entry.benchmark, entry.backbone), set()).add(entry.task)
        alone = [entry for entry in newest if len(tasks[entry.benchmark, entry.backbone]) == 1]
        return [*overview(newest), *task_tables(alone)]

    def left_out_of_overview(self) -> list[str]:
        """One message per question set that the overview does not show."""
        shown = {(entry.full_task, entry.question_set) for entry in newest_sets(self.entries)}
        others = [e for e in self.entries if not e.is_mean and (e.full_task, e.question_set) not in shown]
        counts = Counter((entry.full_task, entry.set_name, entry.queries) for entry in others)
        return [older_set(task, name, runs, queries) for (task, name, queries), runs in counts.items()]

    def to_csv(self) -> str:
        """One row per entry, metrics in percent."""
        return csv_file.to_csv(self.entries)

    def to_long_csv(self) -> str:
        """One row per metric of each entry."""
        return csv_file.to_long_csv(self.entries)

    def to_markdown(self, by: Sequence[str] = BY, names: Mapping[str, str] | None = None) -> str:
        """Markdown tables. ``names``: method -> the name to show."""
        return formats.to_markdown(self._for_papers(by, names or {}))

    def to_latex(self, by: Sequence[str] = BY, names: Mapping[str, str] | None = None) -> str:
        """Tables for the `booktabs` package. ``names``: method -> the name to show."""
        return formats.to_latex(self._for_papers(by, names or {}))

    def _for_papers(self, by: Sequence[str], names: Mapping[str, str]) -> list[Table]:
        """Every table with its own caption, since one alone may be copied."""
        return formats.renamed([*self.tables(by), *spread_table(self.spreads)], names)

    def to_frame(self) -> pd.DataFrame:
        """The columns of the CSV as a pandas data frame; missing numbers are NaN."""
        import pandas as pd

        columns, rows = csv_file.wide_rows(self.entries)
        numbers = columns[len(csv_file.leading_columns(self.entries)) : -len(csv_file.TRAILING)]
        frame = pd.DataFrame(rows, columns=pd.Index(columns))
        for name in (*numbers, "queries", "seconds"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        return frame

    def tables(self, by: Sequence[str] = BY) -> list[Table]:
        """Every table: those of :meth:`by`, then the overview of benchmarks with several tasks."""
        return [*self.by(*by), *overview(self.entries)]

    def print(self, tables: Sequence[Table] | None = None) -> None:
        """Print ``tables`` (default: all of them) with one legend, and the spreads."""
        shown = formats.captions_once(self.tables() if tables is None else tables, legend(self.entries))
        formats.print_tables([*shown, *spread_table(self.spreads)])

    def print_overview(self) -> None:
        """Print the overview, and which question sets it does not show."""
        self.print(self.overview())
        warn(*(f"not in the overview: {note}" for note in self.left_out_of_overview()))


def make_leaderboard(
    runs: Iterable[StoredRun], letters: Mapping[str, str] | None = None, published: Published | None = None
) -> Leaderboard:
    """Of runs alike in task, question set, method, backbone and settings, the newest counts.

    ``letters``: run -> letters, shared by runs of a question set that do not differ significantly. ``published``: what
    others reported.
    """
    runs = list(runs)
    first = {key: sets[0] for key, sets in question_sets(runs).items()}
    counted = newest(runs)
    trainings = {run.run: of.run for run, of in first_seeds(counted).items()}
    is_newest = {run.run: run.question_set == first[run.record.benchmark, run.record.task] for run in counted}
    entries = [entry_of(run, (letters or {}).get(run.run, "")) for run in counted] + headline_entries(counted)
    entries = [
        replace(
            with_reported(entry, published or {}),
            training=tuple(trainings[run] for run in entry.runs),
            is_newest=all(is_newest[run] for run in entry.runs),
        )
        for entry in entries
    ]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, entry in enumerate(entries):
        key = (entry.benchmark, entry.task, entry.question_set, entry.backbone)
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        for place, standing in zip(places, standings([entries[place] for place in places]), strict=True):
            entries[place] = replace(entries[place], standing=standing)
    return Leaderboard(tuple(entries))


def parse_filters(texts: Iterable[str]) -> dict[str, list[str]]:
    """``column=value,value`` texts as the arguments of :meth:`Leaderboard.select`."""
    filters: dict[str, list[str]] = {}
    for text in texts:
        column, equals, values = text.partition("=")
        if not equals:
            raise CondsimError(f"{text!r} should be COLUMN=VALUE, as in method=clay")
        if column == "results":
            raise CondsimError(f"{text}: this command has the folder of results as an option: --results {values}")
        filters.setdefault(column, []).extend(values.split(","))
    return filters


def _with_metrics(entries: Iterable[Entry], metrics: Sequence[str], known: Sequence[str]) -> list[Entry]:
    for name in metrics:
        if name not in known:
            raise CondsimError(f"no record has metric {name!r}. {did_you_mean(name, known)}")
    kept = []
    for entry in entries:
        own = {name: metric for name, metric in entry.metrics.items() if name in metrics}
        tested = headline_metric(entry.metrics) in metrics  # letters are about this metric alone
        kept += [replace(entry, metrics=own, letters=entry.letters if tested else "")] if own else []
    return kept


def _texts(wanted: object) -> list[str]:
    return [str(value) for value in wanted] if isinstance(wanted, (list, tuple)) else [str(wanted)]


def _names(entry: Entry, column: str) -> set[str]:
    """What a filter may call the entry's value in this column."""
    value = str(csv_file.column_of(entry, column))
    if column == "task":
        return {value, entry.full_task}
    if column == csv_file.QUESTION_SET:
        return {value, short_id(entry.question_set), entry.question_set, entry.variant} - {""}
    return {value}
