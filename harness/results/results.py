"""A results folder: what commands and notebooks read runs with."""

from __future__ import annotations

import shlex
from collections.abc import Container, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condsim.harness.errors import CondsimError, counted, did_you_mean
from condsim.harness.results.leaderboard import Leaderboard, make_leaderboard
from condsim.harness.results.order import hidden_runs, is_misdated, short_id, tell_pictures_apart
from condsim.harness.results.output import write_text
from condsim.harness.results.published import find_published, read_published
from condsim.harness.results.question_set import QuestionSet, group_runs, keep_runs, older_sets
from condsim.harness.results.server import ServerAnswer, read_server_answer
from condsim.harness.results.significance import significance_letters
from condsim.harness.results.spread import Spread, find_spreads
from condsim.harness.results.stored_run import StoredRun
from condsim.harness.run.record import Record, find_records

if TYPE_CHECKING:
    from condsim.harness.results.comparison import TaskComparison


class Results:
    """The runs under a results folder. The folder is read once, when it is first needed.

    ``published``: a CSV of published numbers; None: ``reference/published.csv`` in the folder, else in the repository.

        results = Results("results")
        results.leaderboard().select(method="clay").print()
        results.compare("shapes/focus_attribute").print()
        results.report("report.html")
    """

    def __init__(self, folder: str | Path = "results", published: str | Path | None = None) -> None:
        self.folder = Path(folder)
        self.published = None if published is None else Path(published)
        self.notes: list[str] = []
        """What is left out, or was not used as it is: one message per damaged record or file."""

    @cached_property
    def runs(self) -> list[StoredRun]:
        """Every run whose record is sound; the others are in ``notes``."""
        runs = []
        for folder, found in find_records(self.folder):
            if isinstance(found, Record):
                runs.append(StoredRun(folder, found, answer=self._server_answer(folder, found)))
            else:
                self.notes.append(f"left out: {found}")
        self.notes += [
            f"{run.folder}: its date {run.record.created} is in the future, so it counts as older than all other runs"
            for run in runs
            if is_misdated(run)
        ]
        runs = tell_pictures_apart(runs)
        if hidden := hidden_runs(runs):
            self.notes.append(
                f"not shown: {counted(len(hidden), 'run')}, such as {hidden[0].folder}. A newer run has the same task, "
                "method, backbone and settings, with other content of its files or code"
            )
        return runs

    @cached_property
    def hidden(self) -> list[StoredRun]:
        """Of ``runs``, those that no table shows: a newer run has the same name and settings."""
        return hidden_runs(self.runs)

    def _server_answer(self, folder: Path, record: Record) -> ServerAnswer | None:
        try:
            return read_server_answer(folder, record)
        except CondsimError as error:
            self.notes.append(f"left out: {error}")
            return None

    @cached_property
    def question_sets(self) -> list[QuestionSet]:
        """The runs by task and question set: of each task the newest set first."""
        return group_runs(self.runs)

    @cached_property
    def spreads(self) -> list[Spread]:
        """Over seeds and wordings."""
        return find_spreads(self.question_sets, self.notes)

    @cached_property
    def _leaderboard(self) -> Leaderboard:
        letters = significance_letters(self.question_sets, self.notes)
        board = make_leaderboard(self.runs, letters, read_published(self.published or find_published(self.folder)))
        return replace(board, spreads=tuple(self.spreads))

    def leaderboard(self) -> Leaderboard:
        """All entries, with letters of significance and published numbers."""
        return self._leaderboard

    def write_leaderboard(self) -> Leaderboard:
        """Write ``leaderboard.csv`` in the folder, whole or not at all."""
        leaderboard = self.leaderboard()
        write_text(self.folder / "leaderboard.csv", leaderboard.to_csv())
        return leaderboard

    def compare(
        self, task: str, metric: str | None = None, runs: Sequence[str] | None = None, question_set: str | None = None
    ) -> TaskComparison:
        """Test all pairs of runs on ``task`` ("benchmark/task"), or of ``runs`` (methods, or labels: "clay rank=5").

        Runs that differ in the seed of their training alone are one run, unless ``runs`` has the label of one of them.
        ``question_set``: its first digits; None: the newest. Raises CondsimError for names that do not
        exist.
        """
        from condsim.harness.results.comparison import compare_runs

        return compare_runs(self.question_set(task, question_set), self.notes, metric, runs, self.spreads)

    def question_set(self, task: str, digits: str | None = None) -> QuestionSet:
        """The newest question set of ``task`` ("benchmark/task", or "task" if no other benchmark has one of this name),
        or the one that starts with these digits."""
        self.require_runs()
        tasks = dict.fromkeys(group.full_name for group in self.question_sets)
        named = [task] if task in tasks else [name for name in tasks if name.partition("/")[2] == task]
        own = [group for group in self.question_sets if [group.full_name] == named]
        if len(named) > 1:
            raise CondsimError(f"several benchmarks have a task {task!r}: choose {' or '.join(named)}")
        if not own:
            raise CondsimError(f"there are no records of task {task!r}. {did_you_mean(task, tasks)}")
        fitting = [group for group in own if digits is None or group.id.startswith(digits)]
        if not fitting:
            ids = [short_id(group.id) for group in own]
            raise CondsimError(f"{task} has no question set {digits!r}. {did_you_mean(str(digits), ids)}")
        return fitting[0]

    def report(self, path: str | Path, **settings: Any) -> dict[str, Any]:
        """Write one self-contained HTML page of everything. Returns what it holds, in numbers.

        ``settings``: see :class:`condsim.harness.results.report.write.ReportSettings`.
        """
        from condsim.harness.results.report.write import ReportSettings, write_report

        self.require_runs()
        entries = self.leaderboard().entries
        return write_report(self.question_sets, entries, Path(path), ReportSettings(**settings), self.notes)

    def plots(
        self, folder: str | Path, formats: Sequence[str] = ("png", "svg"), runs: Container[str] | None = None,
        **filters: Any,
    ) -> list[Path]:  # fmt: skip
        """Write every figure of the newest question set of each task, in every format.

        ``runs``: hashes of the runs to show (default: all). ``filters``: as in :meth:`Leaderboard.select`, at most one
        ``metric``.
        """
        try:
            from condsim.harness.results.plots import write_plots
        except ImportError as error:
            raise CondsimError(f"plots need matplotlib ({error}): pip install 'condsim[plot]'") from None

        return write_plots(self.chosen(runs, **filters), Path(folder), formats, self.notes)

    def chosen(
        self, runs: Container[str] | None = None, metric: str | Sequence[str] | None = None, **filters: Any
    ) -> list[QuestionSet]:
        """Of each task the newest question set that has some of these runs, to be shown by ``metric``."""
        self.require_runs()
        metrics = [metric] if isinstance(metric, str) else list(metric or ())
        if len(metrics) > 1:
            raise CondsimError(f"metric={','.join(metrics)}: a plot shows one metric")
        groups = self.question_sets if runs is None else keep_runs(self.question_sets, runs)
        if filters or metrics:
            fitting = self.leaderboard().select(metrics or None, **filters)
            groups = keep_runs(groups, {entry.run for entry in fitting.entries})
        newest: dict[str, QuestionSet] = {}
        for group in groups:
            newest.setdefault(group.full_name, group)
        self.notes += [f"not shown: {note}" for note in older_sets(groups, newest.values())]
        wanted = metrics[0] if metrics else None
        return [replace(group, chosen=wanted if wanted in group.metrics else None) for group in newest.values()]

    def require_runs(self) -> None:
        """Raise CondsimError where there is nothing to read."""
        if not self.runs:
            reason = f": {self.notes[0]}" if self.notes else ": run `condsim bench` first"
            raise CondsimError(f"there are no records under {self.folder / 'runs'}{reason}")

    @property
    def option(self) -> str:
        """What to add to a command so that it reads this folder: " --results FOLDER", "" for the default."""
        return "" if self.folder == Path("results") else f" --results {shlex.quote(str(self.folder))}"
