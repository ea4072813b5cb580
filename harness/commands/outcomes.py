"""What becomes of the runs of one command: events, which are plain data, and their collection on the terminal."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from condsim.harness.errors import CondsimError, UserCodeError, counted, described, first_line
from condsim.harness.files.hashing import content_digest
from condsim.harness.files.paths import safe_name
from condsim.harness.files.writing import atomic
from condsim.harness.results.leaderboard import Leaderboard
from condsim.harness.results.percent import ends_text, percent
from condsim.harness.results.results import Results
from condsim.harness.run.record import RECORD, Record, settings_text
from condsim.harness.task import ImageTable
from condsim.harness.terminal.console import console, print_note
from condsim.harness.tracker import Tracker


@dataclass(frozen=True)
class Noted:
    """Something that a reader of the results should know about a benchmark."""

    text: str


@dataclass(frozen=True)
class Damaged:
    """The record of an earlier run cannot be used, so the run is made again."""

    why: str


@dataclass(frozen=True)
class Pending:
    """A run that still has to be made."""

    task: str
    tables: tuple[ImageTable, ...] = field(default=(), compare=False)
    """Whose features it needs."""
    in_parts: bool = field(default=False, compare=False)
    """Whether its gallery is in parts, which the workers of an engine share."""


@dataclass(frozen=True)
class Kept:
    """A run whose record is written."""

    record: Record
    folder: Path
    submission: bool
    """Whether ``folder`` also has files for the benchmark's own server."""


@dataclass(frozen=True)
class Finished(Kept):
    """An earlier command made the run."""


@dataclass(frozen=True)
class Ran(Kept):
    """This command made the run."""

    spare: Path | None = None
    """The folder of results that holds the record, where the chosen one could not be written."""


@dataclass(frozen=True)
class Inapplicable:
    """The method does not apply to the task."""

    method: str
    task: str
    why: str


@dataclass(frozen=True)
class Failed:
    """``what`` failed on ``task`` ("": no task was reached)."""

    what: str
    task: str
    why: str

    @classmethod
    def by(cls, error: BaseException, what: str, results: Path, task: str = "") -> Failed:
        """The failure that ``error``, the current exception, is. A traceback of what nobody expected goes to a file."""
        if isinstance(error, CondsimError) and not isinstance(error, UserCodeError):
            return cls(what, task, str(error))
        why = described(error)
        if isinstance(error, UserCodeError):
            why = str(error)
        if isinstance(error, SystemExit):
            why = "it called sys.exit"
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which a finished run does not import
            why = f"the GPU's memory is full; backbone.device=cpu uses the computer's memory. {first_line(error)}"
        return cls(what, task, f"{why} ({_log_traceback(results, failure(what, [task]))})")


@dataclass(frozen=True)
class Unloadable:
    """A backbone cannot be loaded."""

    backbone: str
    why: str


@dataclass(frozen=True)
class Unwritable:
    """The folder of results cannot be written, so nothing is run."""

    results: Path
    why: str


Event = Noted | Damaged | Pending | Finished | Ran | Inapplicable | Failed | Unloadable | Unwritable


@dataclass
class Outcomes:
    """The events of one command, collected; ``add`` also shows each of them."""

    done: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)
    not_applicable: dict[str, dict[str, str]] = field(default_factory=dict)
    """Method -> task -> why the method does not apply to it."""
    failures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(what failed, why) -> the tasks on which it failed in this way; none where no task was reached."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Backbone that cannot be loaded -> why."""
    results: Path = Path("results")
    trackers: list[Tracker] = field(default_factory=list)
    writable: bool = True
    """Whether ``results`` can be written, as far as it was tried."""
    spare: list[Path] = field(default_factory=list)
    """Where records are that could not be written to ``results``."""
    submitted: int = 0
    """Jobs that were submitted and that this command does not wait for."""

    @property
    def nothing(self) -> bool:
        return not (self.done or self.skipped or self.not_applicable or self.failures or self.submitted)

    @property
    def only_one_failure(self) -> bool:
        """Whether the only outcome is one failure, which was shown when it was added."""
        others = self.done or self.skipped or self.not_applicable or self.submitted
        return self.writable and not others and [len(tasks) < 2 for tasks in self.failures.values()] == [True]

    @property
    def failed(self) -> list[str]:
        """One line per kind of failure: what failed, on which tasks, why."""
        return [failure(what, tasks, why) for (what, why), tasks in self.failures.items()]

    def leaderboard(self, results: Results) -> Leaderboard:
        """The entries of this command's runs."""
        return results.leaderboard().of_runs({record.run for record in (*self.done, *self.skipped)})

    def summary(self) -> str:
        parts = [f"{counted(len(self.done), 'run')} finished", f"{len(self.skipped)} already done"]
        if self.submitted:
            parts.append(f"{counted(self.submitted, 'job')} submitted")
        if self.not_applicable:
            parts.append(f"{sum(map(len, self.not_applicable.values()))} not applicable")
        if self.failures:
            parts.append(f"{sum(max(1, len(tasks)) for tasks in self.failures.values())} FAILED")
        return ", ".join(parts)

    def collect(self, events: Iterable[Event], tracker: Tracker | None = None) -> None:
        """Add the events of one job as they come, and report its new runs to ``tracker``."""
        for event in events:
            self.add(event)
            if isinstance(event, Ran) and tracker is not None:
                tracker.log(event.record)

    def add(self, event: Event) -> None:
        """Show an event, and remember it for the summary. What is the same for many runs is shown once."""
        match event:
            case Noted(text):
                print_note(text)
            case Damaged(why):
                console.print(f"run again: {why}", style="yellow")
            case Finished(record, folder, submission):
                self.skipped.append(record)
                _report_submission(folder, submission)
            case Ran(record, folder, submission, spare):
                self.done.append(record)
                if spare is not None and spare not in self.spare:
                    self.spare.append(spare)
                report_run(record)
                for note in record.notes:
                    print_note(note)
                if record.skipped:
                    more = f" and {len(record.skipped) - 1} more" if len(record.skipped) > 1 else ""
                    console.print(f"skipped: {record.skipped[0]}{more}; full list: {folder / RECORD}")
                _report_submission(folder, submission)
            case Inapplicable(method, task, why):
                self.not_applicable.setdefault(method, {})[task] = why
            case Failed(what, task, why):
                if (what, why) not in self.failures:
                    console.print(f"failed: {failure(what, [task], why)}", style="red")
                self.failures.setdefault((what, why), []).extend([task] * bool(task))
            case Unloadable(backbone, why):
                if backbone not in self.unusable:
                    self.unusable[backbone] = why
                    self.failures[f"backbone {backbone} cannot be loaded (see above)", "its runs were not made"] = []
                    console.print(f"backbone {backbone} cannot be loaded: {why}", style="red")
            case Unwritable(results, why):
                self.writable = False
                where = f"results={results} cannot be written ({why})"
                self.failures[where, "nothing was run. Choose another folder with results=FOLDER"] = []


def failure(what: str, tasks: Sequence[str], why: str = "") -> str:
    """One line: what failed, on which tasks, why."""
    place = ", ".join(filter(None, tasks))
    return what + f" on {place}" * bool(place) + f": {why}" * bool(why)


def report_run(record: Record) -> None:
    """One line for one finished run: its first metric with the interval, and its time."""
    first = next(iter(record.metrics.items()), None)
    line = f"{record.full_task:<28} {record.method} {settings_text(record.settings)}".rstrip()
    if first is not None:
        name, metric = first
        line += f"  {name} {percent(metric.value):.1f} {ends_text(*metric.ends)}"
    console.print(f"{line}  {record.seconds.get('score', 0):.2f} s")


def _report_submission(folder: Path, submission: bool) -> None:
    if submission:
        console.print(f"files for the benchmark's own server: {folder / 'submission'}")


def _log_traceback(results: Path, label: str) -> str:
    """Write the traceback of the current exception to a file. Where it is, in words."""
    text = traceback.format_exc()
    name = f"{safe_name(label, 120)}-{content_digest(text.encode('utf-8', 'backslashreplace'))[:8]}.txt"
    try:
        with atomic(results / "errors" / name) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return f"its traceback could not be written: {error.strerror or error}"
    return f"traceback in {results / 'errors' / name}"
